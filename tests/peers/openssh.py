"""OpenSSH's sshd on loopback: SFTP, SCP and commands.

As root the sessions run as the unprivileged test account, which logs in by key or password: sshd
asks PAM under its own program name, so it is started by a link whose name is the test service.
Otherwise sessions run as the account of the tests, by key only.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from tests.peers import ports
from tests.peers.peer import Account, Peer, serving_account
from tests.peers.process import serving
from tests.peers.programs import find

SERVICE = "ecpds-peers"  # of /etc/pam.d, see tests/install-peers.sh


def make_key(path: Path, *, kind: str = "ed25519") -> str:
    """Write a private key in OpenSSH format and `path`.pub; return the public line."""
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 3072)
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    path.with_name(path.name + ".pub").write_bytes(public + b"\n")
    return public.decode()


def fingerprint(public: str) -> str:
    """Return the fingerprint of a public key line as OpenSSH prints it, `SHA256:...`."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _version(sshd: Path) -> tuple[int, int]:
    text = subprocess.run([sshd, "-V"], capture_output=True, text=True, check=False).stderr
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _pam(folder: Path, sshd: Path) -> tuple[Path, list[str]]:
    """Return the program to start and the lines that make it ask our PAM service."""
    if os.geteuid() != 0:
        return sshd, ["UsePAM no", "PasswordAuthentication no"]
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # Debian's empty folder for its separation
    link = folder / SERVICE
    link.symlink_to(sshd)
    lines = ["UsePAM yes", "PasswordAuthentication yes", "PermitRootLogin no"]
    if _version(sshd) >= (9, 8):  # since then the name is an option
        return sshd, [*lines, f"PAMServiceName {SERVICE}"]
    return link, lines


def _config(folder: Path, port: int, account: Account, host_key: Path) -> list[str]:
    return [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f'HostKey "{host_key}"',
        "PidFile none",
        "StrictModes no",  # the folders of tests belong to whoever runs them
        f'AuthorizedKeysFile "{folder}/authorized_keys"',
        f"AllowUsers {account.name}",
        "KbdInteractiveAuthentication no",
        "UseDNS no",
        "PrintMotd no",
        "PrintLastLog no",
        "LogLevel VERBOSE",
        "LoginGraceTime 30",
        "MaxStartups 100:30:200",
        "MaxSessions 100",
    ]


@asynccontextmanager
async def openssh(
    folder: Path,
    *,
    root: Path | None = None,
    host_key: str = "ed25519",
    subsystem: str = "",
    options: Sequence[str] = (),
) -> AsyncIterator[Peer]:
    """Serve `root` (default `folder`/root) by SFTP; sessions start there, paths are the disk's.

    `host_key`: ed25519 or rsa. `subsystem` replaces sshd's own SFTP server by a command.
    `options`: lines of sshd_config, put first so that they win over the defaults here.
    """
    account, sshd = serving_account(), find("sshd")
    root = root or folder / "root"
    own = folder / "sshd"
    account.open(root)
    own.mkdir()
    account.open(own)
    program, pam = _pam(own, sshd)
    host_public = make_key(own / "host", kind=host_key)
    (own / "authorized_keys").write_text(make_key(own / "client") + "\n")
    served = subsystem or f'internal-sftp -d "{str(root).replace("%", "%%")}"'
    with ports.reserved() as block:
        config = _config(own, block[0], account, own / "host")
        lines = [*options, *config, *pam, f"Subsystem sftp {served}"]
        (own / "sshd_config").write_text("\n".join(lines) + "\n")
        known = own / "known_hosts"
        known.write_text(f"[127.0.0.1]:{block[0]} {host_public}\n")
        command: list[str | Path] = [program, "-D", "-e", "-f", own / "sshd_config"]
        async with serving("sshd", command, folder=own, port=block[0], banner=b"SSH-2.0-") as child:
            yield replace(
                Peer(name="openssh", scheme="sftp", port=block[0], root=root, account=account),
                login=account.name,
                password=account.password,
                directory=str(root),
                key=own / "client",
                host_key=fingerprint(host_public),
                known_hosts=known,
                log=child.output,
            )
