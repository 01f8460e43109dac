"""Where the server and client programs are.

In Debian's places, in the virtual environment, or among the unpacked peers:
tests/install-peers.sh unpacks what cannot be installed side by side below $ECPDS_PEERS.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


class ProgramMissing(Exception):
    """A program that a test needs is not on this machine; `program` names it."""

    def __init__(self, program: str) -> None:
        super().__init__(f"{program} is missing: run tests/install-peers.sh as root")
        self.program = program


def peers_folder() -> Path:
    """Return the folder of unpacked packages and of the test login."""
    return Path(os.environ.get("ECPDS_PEERS", "/opt/ecpds-peers"))


def find(program: str) -> Path:
    """Return the absolute path of `program`.

    Raises:
        ProgramMissing: neither in PATH nor in the folders that only root has there.
    """
    places = [
        os.environ.get("PATH", ""),
        str(Path(sys.prefix) / "bin"),
        "/usr/local/sbin:/usr/sbin:/sbin",
        f"{peers_folder()}/usr/sbin:{peers_folder()}/usr/bin",
        f"{peers_folder()}/node_modules/.bin",
    ]
    found = shutil.which(program, path=os.pathsep.join(places))
    if found is None:
        raise ProgramMissing(program)
    return Path(found)


def find_file(*candidates: Path) -> Path:
    """Return the first of `candidates` that exists, e.g. a module that a server loads.

    Raises:
        ProgramMissing: none does; named after the last one.
    """
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise ProgramMissing(candidates[-1].name)


def missing(*programs: str) -> list[str]:
    """Return those of `programs` that are not on this machine."""
    absent = []
    for program in programs:
        try:
            find(program)
        except ProgramMissing:
            absent.append(program)
    return absent
