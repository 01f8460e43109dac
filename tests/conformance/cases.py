"""What the suite runs against: a module, a real server, and the options that join them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ecpds.conformance.case import Case as Case
from ecpds.modules.ftp import FtpModule
from ecpds.modules.http import HttpModule, PlainHttp
from ecpds.modules.local import FileModule
from ecpds.modules.sftp import SftpModule
from tests.peers.nginx import nginx
from tests.peers.openssh import openssh
from tests.peers.peer import Account, Peer, serving_account
from tests.peers.proftpd import proftpd
from tests.peers.vsftpd import vsftpd


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
