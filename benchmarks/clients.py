"""Neutral clients: the same program, options and files for us and for every peer.

Each function does one piece of work, checks that all of it was done, and returns the seconds it
took. Received bytes go to /dev/null or to memory, so that the client's disk is not measured.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import MeasurementFailed

CIPHER = "aes128-gcm@openssh.com"
TIMEOUT = 300.0
"""Seconds after which a client is stopped and its run counts as failed."""


def timed(command: Sequence[str], *, text: str | None = None) -> tuple[float, str]:
    """Run a program to its end; return the seconds and its standard output.

    Raises:
        MeasurementFailed: it is missing, returned an error, or took longer than TIMEOUT.
    """
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except FileNotFoundError as error:
        raise MeasurementFailed(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise MeasurementFailed(f"{command[0]}: not done after {TIMEOUT:.0f} s") from error
    seconds = time.monotonic() - began
    if done.returncode:
        tail = (done.stderr or done.stdout).strip()[-300:]
        raise MeasurementFailed(f"{Path(command[0]).name}: exit {done.returncode}: {tail}")
    return seconds, done.stdout


def flush(folder: Path) -> float:
    """Write the filesystem of `folder` to its disk; return the seconds.

    What a peer acknowledges is in memory only; ours is on the disk. Adding this time to a peer's
    makes the two comparable.
    """
    return timed(["sync", "-f", str(folder)])[0]


# -- HTTP ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSite:
    """Where a server answers: `read` and `write` are the addresses below which files live."""

    read: str
    write: str
    login: str = ""
    password: str = ""

    def curl(self) -> list[str]:
        """The start of every curl command: silent, errors are errors, HTTP/1.1, any certificate."""
        user = ["-u", f"{self.login}:{self.password}"] if self.login else []
        return ["curl", "-sS", "--fail", "--insecure", "--http1.1", *user]


def http_get(site: HttpSite, name: str, *, size: int) -> float:
    """Fetch one file with curl."""
    command = [*site.curl(), "-o", "/dev/null", "-w", "%{size_download}", f"{site.read}/{name}"]
    seconds, output = timed(command)
    _expect(int(output), size, "bytes received")
    return seconds


def http_put(site: HttpSite, name: str, source: Path) -> float:
    """Send one file with curl, without the wait for `100 Continue`."""
    command = [*site.curl(), "-H", "Expect:", "-o", "/dev/null", "-T", str(source)]
    return timed([*command, f"{site.write}/{name}"])[0]


def http_delete(site: HttpSite, names: Sequence[str], scratch: Path) -> None:
    """Remove files after a round; not measured, a missing file is no failure."""
    scratch.write_text(
        "\nnext\n".join(
            f'url = "{site.write}/{name}"\nrequest = "DELETE"\noutput = "/dev/null"\n'
            f'insecure\nsilent\nuser = "{site.login}:{site.password}"'
            for name in names
        )
    )
    timed(["curl", "-K", str(scratch)])


def http_get_many(
    site: HttpSite, names: Sequence[str], *, size: int, connections: int, scratch: Path
) -> float:
    """Fetch files over a number of kept connections with one curl."""
    lines = (f'url = "{site.read}/{name}"\noutput = "/dev/null"' for name in names)
    scratch.write_text("\n".join(lines))
    seconds, output = timed(
        [*_parallel(site, connections), "-w", "%{size_download}\n", *_k(scratch)]
    )
    _expect(sum(map(int, output.split())), size * len(names), "bytes received")
    return seconds


def http_put_many(
    site: HttpSite, files: Mapping[str, Path], *, connections: int, scratch: Path
) -> float:
    """Send files over a number of kept connections with one curl."""
    lines = (
        f'url = "{site.write}/{name}"\nupload-file = "{path}"\noutput = "/dev/null"'
        for name, path in files.items()
    )
    scratch.write_text("\n".join(lines))
    seconds, output = timed(
        [*_parallel(site, connections), "-H", "Expect:", "-w", "%{http_code}\n", *_k(scratch)]
    )
    _expect(sum(code.startswith("2") for code in output.split()), len(files), "files accepted")
    return seconds


def http_requests(site: HttpSite, name: str, *, count: int, connections: int) -> float:
    """Fetch one file `count` times with h2load, HTTP/1.1 kept alive; return requests a second."""
    header = []
    if site.login:
        header = ["-H", f"Authorization: Basic {_basic(site)}"]
    command = ["h2load", "--h1", "-t", "1", "-c", str(connections), "-n", str(count), *header]
    _, output = timed([*command, f"{site.read}/{name}"])
    good = re.search(r"status codes: (\d+) 2xx", output)
    rate = re.search(r"finished in [^,]*, ([\d.]+) req/s", output)
    if good is None or rate is None:
        raise MeasurementFailed(f"h2load: {output.strip()[-300:]}")
    _expect(int(good[1]), count, "requests answered with 2xx")
    return float(rate[1])


def _basic(site: HttpSite) -> str:
    import base64

    return base64.b64encode(f"{site.login}:{site.password}".encode()).decode()


def _parallel(site: HttpSite, connections: int) -> list[str]:
    return [*site.curl(), "--parallel", "--parallel-max", str(connections)]


def _k(scratch: Path) -> list[str]:
    return ["-K", str(scratch)]


# -- SFTP ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SftpSite:
    """An SFTP server on 127.0.0.1 and the folder to use on it, without a final slash."""

    port: int
    login: str
    key: Path
    folder: str


def sftp(site: SftpSite, commands: Sequence[str]) -> float:
    """Run OpenSSH's sftp with a batch of commands in one session.

    The login is part of the time, as it is for everybody who transfers files this way.
    """
    options = {
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
        "Ciphers": CIPHER,
        "Compression": "no",
    }
    flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    where = ["-P", str(site.port), "-i", str(site.key), f"{site.login}@127.0.0.1"]
    text = "\n".join(commands) + "\n"
    return timed(["sftp", "-q", "-b", "-", "-F", "/dev/null", *flags, *where], text=text)[0]


def sftp_get(site: SftpSite, names: Sequence[str]) -> float:
    """Fetch files in one session; a short file is an error of the client."""
    return sftp(site, [f"get {site.folder}/{name} /dev/null" for name in names])


def sftp_put(site: SftpSite, files: Mapping[str, Path]) -> float:
    """Send files in one session."""
    return sftp(site, [f"put {path} {site.folder}/{name}" for name, path in files.items()])


def sftp_remove(site: SftpSite, names: Sequence[str]) -> None:
    """Remove files after a round; not measured, a missing file is no failure."""
    sftp(site, [f"-rm {site.folder}/{name}" for name in names])


def _expect(found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise MeasurementFailed(f"{found} {what} instead of {wanted}")
