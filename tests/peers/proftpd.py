"""ProFTPD on loopback: FTP and FTPS with MLSD, MFMT, HASH and SITE commands.

Its logins are virtual (AuthUserFile), so it also runs without root; only then paths are the disk's,
because nothing locks the session into its directory.
"""

from __future__ import annotations

import grp
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.peers import ports
from tests.peers.certificates import Authority
from tests.peers.peer import Account, Peer, serving_account
from tests.peers.process import serving
from tests.peers.programs import find, find_file, peers_folder

LOGIN = "feed"


def _logins(path: Path, root: Path, account: Account) -> str:
    """Write the AuthUserFile; return the password."""
    password = secrets.token_urlsafe(16)
    hashed = subprocess.run(
        [find("openssl"), "passwd", "-6", "-stdin"],
        input=password,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    path.touch(mode=0o600)
    path.write_text(f"{LOGIN}:{hashed}:{account.uid}:{account.gid}:test:{root}:/bin/sh\n")
    return password


def _config(folder: Path, block: range, account: Account) -> list[str]:
    modules = find_file(peers_folder() / "usr/lib/proftpd", Path("/usr/lib/proftpd"))
    lines = [
        f"ModulePath {modules}",
        "LoadModule mod_tls.c",
        'ServerName "test peer"',
        "ServerType standalone",
        "DefaultAddress 127.0.0.1",
        "SocketBindTight on",
        "UseIPv6 off",
        "UseReverseDNS off",
        f"Port {block[0]}",
        f"PassivePorts {block[1]} {block[-1]}",
        f"User {account.name}",
        f"Group {grp.getgrgid(account.gid).gr_name}",
        f"AuthUserFile {folder}/logins",
        "AuthOrder mod_auth_file.c",
        "RequireValidShell off",
        "AllowOverwrite on",
        "AllowStoreRestart on",
        "AllowRetrieveRestart on",
        "Umask 022 022",
        "DelayEngine off",
        "TimesGMT on",
        "MaxInstances 100",
        f"PidFile {folder}/pid",
        f"ScoreboardFile {folder}/scoreboard",
        f"SystemLog {folder}/log",
        "TransferLog none",
        "WtmpLog off",
        "DebugLevel 2",
    ]
    if os.geteuid() == 0:
        lines.append("DefaultRoot ~")
    return lines


def _tls(authority: Authority, folder: Path, tls: str, *, session_reuse: bool) -> list[str]:
    issued = authority.issue("proftpd")
    options = [] if session_reuse else ["NoSessionReuseRequired"]
    if tls == "implicit":
        options.append("UseImplicitSSL")
    return [
        "TLSEngine on",
        f"TLSLog {folder}/tls-log",
        "TLSProtocol TLSv1.2 TLSv1.3",
        f"TLSECCertificateFile {issued.certificate}",
        f"TLSECCertificateKeyFile {issued.key}",
        "TLSRequired on",
        "TLSRenegotiate none",
        *([f"TLSOptions {' '.join(options)}"] if options else []),
    ]


@asynccontextmanager
async def proftpd(
    folder: Path,
    *,
    root: Path | None = None,
    tls: str = "",
    session_reuse: bool = False,
    options: Sequence[str] = (),
) -> AsyncIterator[Peer]:
    """Serve `root` (default `folder`/root) by FTP; `Peer.directory` is "/" when run by root.

    `tls`: "" plain only, "explicit" (AUTH TLS required for login and data) or "implicit".
    `session_reuse`: data connections must resume the TLS session of the control connection.
    `options` are more lines of proftpd.conf.
    """
    account, program = serving_account(), find("proftpd")
    root = root or folder / "root"
    own = folder / "proftpd"
    account.open(root)
    own.mkdir()
    account.open(own)
    password = _logins(own / "logins", root, account)
    account.own(own / "logins")
    secured: list[str] = []
    ca = None
    if tls:
        authority = Authority(own)
        secured, ca = _tls(authority, own, tls, session_reuse=session_reuse), authority.ca
    with ports.reserved() as block:
        config = own / "proftpd.conf"
        config.write_text("\n".join([*_config(own, block, account), *secured, *options]) + "\n")
        async with serving(
            "proftpd",
            [program, "-n", "-q", "-c", config],
            folder=own,
            port=block[0],
            banner=b"" if tls == "implicit" else b"220",
        ) as child:
            yield replace(
                Peer(name="proftpd", scheme="ftp", port=block[0], root=root, account=account),
                scheme="ftps" if tls == "implicit" else "ftp",
                login=LOGIN,
                password=password,
                directory="/" if os.geteuid() == 0 else str(root),
                tls=tls,
                ca=ca,
                passive_ports=block[1:],
                log=child.output,
            )
