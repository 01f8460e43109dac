"""Which server a case ran against, for the page of results."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version

from ecpds.conformance.case import Case
from tests.peers.programs import ProgramMissing, find


def version_of(name: str, program: str, *flags: str) -> Callable[[], str]:
    """Return what tells name and version of an installed program."""

    def tell() -> str:
        try:
            path = find(program)
        except ProgramMissing:
            return f"{name} (not installed)"
        master, slave = os.openpty()  # vsftpd tells its version on its standard input
        try:
            subprocess.run(
                [path, *flags], stdin=slave, stdout=slave, stderr=slave, timeout=20, check=False
            )
            os.close(slave)
            slave = -1
            text = _all_of(master)
        except (OSError, subprocess.TimeoutExpired):
            return name
        finally:
            os.close(master)
            if slave >= 0:
                os.close(slave)
        found = re.search(r"\d+\.\d+[\w.]*", text)
        return f"{name} {found[0]}" if found else name

    return tell


def _all_of(descriptor: int) -> str:
    blocks = []
    while True:
        try:
            block = os.read(descriptor, 4096)
        except OSError:  # the other end is closed: all was read
            break
        if not block:
            break
        blocks.append(block)
    return b"".join(blocks).decode(errors="replace")


SERVERS: Mapping[str, Callable[[], str]] = {
    "openssh": version_of("OpenSSH", "ssh", "-V"),
    "vsftpd": version_of("vsftpd", "vsftpd", "-v"),
    "proftpd": version_of("ProFTPD", "proftpd", "-v"),
    "nginx": version_of("nginx", "nginx", "-v"),
    "apache": version_of("Apache httpd", "apache2", "-v"),
    "rclone": version_of("rclone serve", "rclone", "version"),
    "seaweedfs": version_of("SeaweedFS", "weed", "version"),
    "moto": lambda: f"moto {version('moto')}",
}


def with_version(case: Case) -> Case:
    """Return the case with what tells its server, found by the second word of its name."""
    if case.about is not str:
        return case
    word = case.name.partition("-")[2].partition("-")[0]
    return replace(case, about=SERVERS.get(word, lambda: "this machine"))
