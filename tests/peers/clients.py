"""Independent client programs: curl, lftp, OpenSSH's sftp and scp, and a way to run any other.

Each runs with a limit of its own, without the user's configuration, and is killed when the test
gives up.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.peers.peer import Peer
from tests.peers.programs import find

LIMIT = 60.0  # seconds that a client may run


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a client ended; `code` is negative when a signal ended it."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode(errors="replace")

    def ok(self) -> Outcome:
        """Return this outcome.

        Raises:
            AssertionError: the client failed; with all that it printed.
        """
        printed = (self.out[-4000:] + b"\n" + self.err[-4000:]).decode(errors="replace")
        assert self.code == 0, f"exit {self.code}\n{printed}"
        return self


async def run(
    program: str,
    *arguments: str | Path,
    data: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    limit: float = LIMIT,
) -> Outcome:
    """Run a client to its end with `data` as standard input.

    Raises:
        ProgramMissing: it is not on this machine.
        TimeoutError: it ran longer than `limit` seconds, and was killed.
    """
    process = await asyncio.create_subprocess_exec(
        *(find("setpriv"), "--pdeathsig", "KILL", "--", find(program)),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
        cwd=cwd,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limit):
            out, err = await process.communicate(data)
        return Outcome(process.returncode or 0, out, err)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def curl(peer: Peer, *arguments: str | Path, **options: float) -> Outcome:
    """Run curl with the peer's login and CA; name the address with `peer.url_of(...)`."""
    known: list[str | Path] = ["-q", "--silent", "--show-error", "--fail"]
    if peer.login:
        known += ["--user", f"{peer.login}:{peer.password}"]
    if peer.ca is not None:
        known += ["--cacert", peer.ca]
    if peer.tls == "explicit":
        known.append("--ssl-reqd")
    return await run("curl", *known, *arguments, limit=options.get("limit", LIMIT))


async def lftp(peer: Peer, *commands: str, limit: float = LIMIT) -> Outcome:
    """Run commands of lftp in one session; the first that fails ends it."""
    trusted = "" if peer.ca is None else f"set ssl:ca-file {peer.ca}; "
    lines = [
        "set cmd:fail-exit yes; set net:max-retries 1; set net:timeout 20; set ftp:use-mdtm yes",
        trusted + f"set ftp:ssl-force {'yes' if peer.tls else 'no'}",
        f"open -u {peer.login},{peer.password} {peer.url}",
        *commands,
    ]
    environment = {"LFTP_HOME": "/nonexistent", "HOME": "/nonexistent"}
    return await run("lftp", "--norc", "-c", "; ".join(lines), env=environment, limit=limit)


def ssh_options(peer: Peer) -> list[str]:
    """Return the options by which ssh, sftp and scp log in with the peer's key, and only so."""
    pairs = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": str(peer.key),
        "IdentityAgent": "none",
        "UserKnownHostsFile": str(peer.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "User": peer.login,
        "Port": str(peer.port),
        "ConnectTimeout": "20",
    }
    if peer.known_hosts is None:
        pairs |= {"UserKnownHostsFile": "/dev/null", "StrictHostKeyChecking": "no"}
    return [
        "-F",
        "none",
        *(word for key, value in pairs.items() for word in ("-o", f"{key}={value}")),
    ]


def ssh_by_password(peer: Peer) -> list[str]:
    """Return the options by which ssh, sftp and scp log in with a password given by sshpass."""
    kept: Sequence[str] = ssh_options(peer)
    return [
        *(word.replace("BatchMode=yes", "BatchMode=no") for word in kept),
        *("-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"),
    ]


async def sftp(peer: Peer, *commands: str, limit: float = LIMIT) -> Outcome:
    """Run OpenSSH's sftp with batch commands; the first that fails ends it."""
    batch = "\n".join(commands).encode() + b"\n"
    return await run("sftp", *ssh_options(peer), "-b", "-", peer.host, data=batch, limit=limit)
