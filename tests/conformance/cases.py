"""What the suite runs against: a module, a real server, and the options that join them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ecpds.modules.ftp import FtpModule
from ecpds.modules.http import HttpModule, PlainHttp
from ecpds.modules.local import FileModule
from ecpds.modules.sftp import SftpModule
from ecpds.transfer.contract import Feature, TransferModule
from tests.peers.nginx import nginx
from tests.peers.openssh import openssh
from tests.peers.peer import Account, Peer, serving_account
from tests.peers.proftpd import proftpd
from tests.peers.vsftpd import vsftpd

Server = Callable[[Path], AbstractAsyncContextManager[Peer]]

ODD_NAMES = (
    "plain.bin",
    "two words.bin",
    " leading and trailing ",
    "it's.bin",
    'say "hi".bin',
    "é-ü-漢字-😀.bin",
    ".hidden",
    "-rf",
    "100%.bin",
    "50%20off.bin",
    "a#b.bin",
    "what?.bin",
    "a&b;c=d+e,f~g$h!.bin",
    "[x]{y}(z).bin",
    "star*.bin",
    "x" * 200,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One module with one server.

    `options`: host options for a peer, beside the ones of the suite.  `wrong_trust`: options with
    which the server's identity is not the expected one, None where there is no identity.
    `features` narrows the module's where the server does less.  `refused_names`: odd names that
    this server cannot store.  `is_remote`: reached over TCP, so that connections can break.
    """

    name: str
    module: type[TransferModule[Any]]
    server: Server
    options: Callable[[Peer], Mapping[str, object]]
    wrong_trust: Mapping[str, object] | None = None
    narrowed: Feature | None = None
    refused_names: frozenset[str] = frozenset()
    is_remote: bool = True
    has_login: bool = True
    is_by_key: bool = False  # logs in with Peer.key, not with its password
    has_coarse_times: bool = False  # lists old files by day only

    @property
    def features(self) -> Feature:
        """What works with this server."""
        return self.module.features if self.narrowed is None else self.narrowed

    def __str__(self) -> str:
        """Return the name for the test report."""
        return self.name


@asynccontextmanager
async def folder(base: Path) -> AsyncIterator[Peer]:
    """Play the peer of the file module: a directory of this machine."""
    root = base / "root"
    root.mkdir()
    me = serving_account()
    account = Account(name=me.name, uid=0, gid=0, password="") if me.uid else me
    yield Peer(
        name="folder", scheme="file", port=0, root=root, account=account, directory=str(root)
    )


def sftp_options(peer: Peer) -> Mapping[str, object]:
    """Log in by key, trusting the server's own host key."""
    assert peer.key is not None
    return {
        "sftp.port": peer.port,
        "sftp.fingerPrint": peer.host_key,
        "sftp.privateKey": peer.key.read_text(),
        "sftp.keepAlive": "0s",
    }


def ftp_options(peer: Peer) -> Mapping[str, object]:
    """Trust the authority that signed the server's certificate, if it speaks TLS."""
    kinds = {"": "FTP", "explicit": "FTPES", "implicit": "FTPS"}
    options = {"ftp.port": peer.port, "ftp.connectionType": kinds[peer.tls]}
    return options | ({"ectrans.tlsCa": str(peer.ca)} if peer.ca else {})


def http_options(peer: Peer) -> Mapping[str, object]:
    """Trust the authority that signed the server's certificate, if it speaks TLS."""
    options = {"http.scheme": peer.scheme, "http.port": peer.port, "http.maxSize": "100MB"}
    return options | ({"ectrans.tlsCa": str(peer.ca)} if peer.ca else {})


CASES = [
    Case(
        name="file",
        module=FileModule,
        server=folder,
        options=lambda peer: {},
        is_remote=False,
        has_login=False,
    ),
    Case(
        name="sftp-openssh",
        module=SftpModule,
        server=openssh,
        options=sftp_options,
        wrong_trust={"sftp.fingerPrint": "SHA256:" + "A" * 43},
        is_by_key=True,
    ),
    Case(
        name="sftp-openssh-password",
        module=SftpModule,
        server=partial(openssh, host_key="rsa"),
        options=lambda peer: {"sftp.port": peer.port, "sftp.fingerPrint": peer.host_key},
        wrong_trust={"sftp.fingerPrint": "0a:" * 15 + "0b"},
    ),
    Case(
        name="ftp-vsftpd",
        module=FtpModule,
        server=vsftpd,
        options=ftp_options,
        has_coarse_times=True,
    ),
    Case(
        name="ftp-vsftpd-tls",
        module=FtpModule,
        server=partial(vsftpd, tls="explicit"),
        options=ftp_options,
        wrong_trust={"ectrans.tlsCa": ""},
        has_coarse_times=True,
    ),
    Case(name="ftp-proftpd", module=FtpModule, server=proftpd, options=ftp_options),
    Case(
        name="ftp-proftpd-tls",
        module=FtpModule,
        server=partial(proftpd, tls="implicit", session_reuse=True),
        options=ftp_options,
        wrong_trust={"ectrans.tlsPin": "0a" * 32},
    ),
    Case(name="http-nginx-dav", module=HttpModule, server=nginx, options=http_options),
    Case(
        name="http-nginx-plain",
        module=HttpModule,
        server=partial(nginx, tls=True, makes_parents=True),
        options=lambda peer: {**http_options(peer), "http.dav": "no"},
        wrong_trust={"ectrans.tlsCa": ""},
        narrowed=PlainHttp.features,
    ),
]


def having(features: Feature, *, remote: bool = False) -> list[Case]:
    """Return the cases that have all these features; with `remote` those reached over TCP."""
    return [case for case in CASES if features in case.features and (case.is_remote or not remote)]
