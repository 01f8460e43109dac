"""vsftpd on loopback: FTP and FTPS, a strict server that wants TLS session reuse.

It logs in through PAM and changes its user, so it runs only as root. The virtual login is mapped
to the unprivileged test account and locked into the served directory.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.peers import ports
from tests.peers.certificates import Authority
from tests.peers.openssh import SERVICE
from tests.peers.peer import Account, Peer, serving_account
from tests.peers.process import serving
from tests.peers.programs import ProgramMissing, find


def _settings(folder: Path, root: Path, block: range, account: Account) -> dict[str, object]:
    return {
        "listen": "YES",
        "listen_address": "127.0.0.1",
        "listen_port": block[0],
        "background": "NO",
        "pasv_min_port": block[1],
        "pasv_max_port": block[-1],
        "anonymous_enable": "NO",
        "local_enable": "YES",
        "guest_enable": "YES",
        "guest_username": account.name,
        "virtual_use_local_privs": "YES",
        "pam_service_name": SERVICE,
        "local_root": root,
        "chroot_local_user": "YES",
        "allow_writeable_chroot": "YES",
        "write_enable": "YES",
        "local_umask": "022",
        "file_open_mode": "0666",
        "secure_chroot_dir": folder / "empty",
        "use_localtime": "NO",
        "dual_log_enable": "NO",
        "xferlog_enable": "YES",
        "vsftpd_log_file": folder / "log",
        "log_ftp_protocol": "YES",
        "delay_failed_login": 0,
        "ftpd_banner": "test peer",
        # kernels of containers refuse these, and the server would die
        "seccomp_sandbox": "NO",
        "isolate_network": "NO",
        "isolate": "NO",
    }


def _tls(authority: Authority, tls: str, *, session_reuse: bool) -> dict[str, object]:
    issued = authority.issue("vsftpd")
    return {
        "ssl_enable": "YES",
        "rsa_cert_file": issued.certificate,  # takes every kind of key, despite its name
        "rsa_private_key_file": issued.key,
        "ssl_ciphers": "HIGH",
        "implicit_ssl": "YES" if tls == "implicit" else "NO",
        "force_local_logins_ssl": "YES",
        "force_local_data_ssl": "YES",
        "require_ssl_reuse": "YES" if session_reuse else "NO",
        "debug_ssl": "YES",
    }


@asynccontextmanager
async def vsftpd(
    folder: Path,
    *,
    root: Path | None = None,
    tls: str = "",
    session_reuse: bool = True,
    options: Mapping[str, object] | None = None,
) -> AsyncIterator[Peer]:
    """Serve `root` (default `folder`/root) by FTP, seen as "/".

    `tls`: "" plain only, "explicit" (AUTH TLS required for login and data) or "implicit".
    `session_reuse`: data connections must resume the TLS session of the control connection.
    `options` are settings of vsftpd.conf that win over those here.
    """
    if os.geteuid() != 0:
        raise ProgramMissing("vsftpd as root")
    account, program = serving_account(), find("vsftpd")
    root = root or folder / "root"
    own = folder / "vsftpd"
    account.open(root)
    (own / "empty").mkdir(parents=True)
    settings: dict[str, object] = {}
    ca = None
    if tls:
        authority = Authority(own)
        settings, ca = _tls(authority, tls, session_reuse=session_reuse), authority.ca
    with ports.reserved() as block:
        settings = _settings(own, root, block, account) | settings | dict(options or {})
        config = own / "vsftpd.conf"
        config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        (own / "log").touch()
        async with serving(
            "vsftpd",
            [program, config],
            folder=own,
            port=block[0],
            banner=b"" if tls == "implicit" else b"220",
        ) as child:
            yield replace(
                Peer(name="vsftpd", scheme="ftp", port=block[0], root=root, account=account),
                scheme="ftps" if tls == "implicit" else "ftp",
                login=account.name,
                password=account.password,
                tls=tls,
                ca=ca,
                passive_ports=block[1:],
                log=lambda: child.output() + (own / "log").read_text(errors="replace"),
            )
