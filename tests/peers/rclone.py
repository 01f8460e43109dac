"""`rclone serve` on loopback: one more, independent implementation of SFTP, FTP, HTTP and WebDAV.

Served by the account that runs the tests. Seen with rclone 1.75: it deadlocks with
--dir-cache-time 0, and hangs when several clients write at once.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.peers import ports
from tests.peers.certificates import Authority
from tests.peers.openssh import fingerprint, make_key
from tests.peers.peer import Account, Peer, serving_account
from tests.peers.process import serving
from tests.peers.programs import find

LOGIN = "feed"
_BANNERS = {"sftp": b"SSH-2.0-", "ftp": b"220"}


def _sftp(own: Path, port: int) -> tuple[list[str | Path], Peer]:
    host = make_key(own / "host")
    (own / "authorized_keys").write_text(make_key(own / "client") + "\n")
    (own / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}\n")
    found = replace(
        _PEER,
        key=own / "client",
        known_hosts=own / "known_hosts",
        host_key=fingerprint(host),
    )
    return ["--key", own / "host", "--authorized-keys", own / "authorized_keys"], found


_PEER = Peer(
    name="rclone",
    scheme="",
    port=0,
    root=Path(),
    account=Account(name="", uid=0, gid=0, password=""),
)


def _secured(own: Path) -> tuple[list[str | Path], Peer]:
    authority = Authority(own)
    issued = authority.issue("rclone")
    return ["--cert", issued.certificate, "--key", issued.key], replace(_PEER, ca=authority.ca)


def _login(protocol: str, password: str) -> Sequence[str]:
    if protocol == "s3":
        return ("--auth-key", f"{LOGIN},{password}")
    return ("--user", LOGIN, "--pass", password)


@asynccontextmanager
async def rclone(
    folder: Path,
    protocol: str,
    *,
    root: Path | None = None,
    tls: bool = False,
    options: Sequence[str] = (),
) -> AsyncIterator[Peer]:
    """Serve `root` (default `folder`/root) as "/" by `protocol`: sftp, ftp, http, s3 or webdav.

    `http` only reads; with `s3` the folders in `root` are buckets. `tls`: https, or FTP with AUTH
    TLS. `options`: more command line.
    """
    program, password = find("rclone"), secrets.token_urlsafe(16)
    root = root or folder / "root"
    own = folder / "rclone"
    root.mkdir(parents=True, exist_ok=True)
    own.mkdir()
    arguments: list[str | Path] = []
    with ports.reserved() as block:
        known = _PEER
        if protocol == "sftp":
            arguments, known = _sftp(own, block[0])
        elif tls:
            arguments, known = _secured(own)
        if protocol == "ftp":
            arguments += ["--passive-port", f"{block[1]}-{block[-1]}"]
        command = [
            *(program, "serve", protocol, root, "--addr", f"127.0.0.1:{block[0]}"),
            *_login(protocol, password),
            *("--config", own / "rclone.conf", "--cache-dir", own / "cache"),
            *(
                "--vfs-cache-mode",
                "writes",
                "--vfs-write-back",
                "0s",
                "--dir-cache-time",
                "1ms",
                "-v",
            ),
            *arguments,
            *options,
        ]
        (own / "rclone.conf").touch()
        banner = _BANNERS.get(protocol, b"")
        async with serving(
            f"rclone serve {protocol}", command, folder=own, port=block[0], banner=banner
        ) as child:
            web = "https" if tls else "http"
            yield replace(
                known,
                scheme=protocol if protocol in _BANNERS else web,
                port=block[0],
                root=root,
                account=serving_account(),
                login=LOGIN,
                password=password,
                tls="" if not tls else "explicit" if protocol == "ftp" else "implicit",
                passive_ports=block[1:] if protocol == "ftp" else None,
                log=child.output,
            )
