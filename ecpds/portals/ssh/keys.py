"""Host keys of the SSH portal: made once, kept for the life of the node.

Ed25519 and ECDSA keys take milliseconds; an RSA key of 4096 bits takes seconds, so the portal makes
it after it is ready and offers it to later connections.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import asyncssh

from ecpds.model.errors import ConfigError

# File name to algorithm; clients choose in their own order of preference.
KINDS: Mapping[str, str] = {
    "ssh_host_ed25519_key": "ssh-ed25519",
    "ssh_host_ecdsa_key": "ecdsa-sha2-nistp521",
    "ssh_host_rsa_key": "ssh-rsa",
}
SLOW = "ssh_host_rsa_key"
NIST = "ssh_host_ecdsa_key"
RSA_BITS = 4096


def load(folder: Path) -> dict[str, asyncssh.SSHKey]:
    """Return the keys below `folder`, made first where missing; the slow kind only if it is there.

    Blocks for some milliseconds.  Raises ConfigError for a file that holds no key.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = {}
    for name in KINDS:
        if (folder / name).exists():
            found[name] = _read(folder / name)
        elif name != SLOW:
            found[name] = make(folder, name)
    return found


def _read(path: Path) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(str(path))
    except (asyncssh.KeyImportError, OSError) as error:
        raise ConfigError(f"no host key can be read: {error}", file=str(path)) from error


def make(folder: Path, name: str) -> asyncssh.SSHKey:
    """Generate the key `name`, write it with mode 0600 beside its public half, and return it.

    Blocks; seconds for the slow kind.
    """
    algorithm = KINDS[name]
    key = (
        asyncssh.generate_private_key(algorithm, key_size=RSA_BITS)
        if name == SLOW
        else asyncssh.generate_private_key(algorithm)
    )
    _write(folder / name, key.export_private_key(), 0o600)
    _write(folder / f"{name}.pub", key.export_public_key(), 0o644)
    return key


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write all or nothing: half a key would stop the next start."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
