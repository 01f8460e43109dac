"""Options of the `exec` family.

Spec: transfer-modules-protocols.md section 10; interface.md 8 (`transfer.file_roots`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

from ecpds.model.decode import opt
from ecpds.model.names import ByteCount
from ecpds.transfer.options import HOST, NamingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOptions(NamingOptions):
    """Which command takes the files of a host, and how long it may."""

    prefix: ClassVar[str] = "exec"
    scopes: ClassVar[frozenset[str]] = HOST

    command: str = opt(
        "", "Program and arguments, as a shell splits them; the program lies below a file root."
    )
    stdin: Literal["none", "file"] = opt(
        "none", "file: the command reads the content; none: it gets its path in ECPDS_FILE."
    )
    return_code: int = opt(0, "Exit code that means success.", key="returnCode", low=0, high=255)
    acknowledgement: str = opt(
        "", "Text that the last line of its output must have; empty = none.", key="ack"
    )
    time_limit: timedelta = opt(timedelta(minutes=5), "Longest run.", key="timeLimit", low=0.001)
    output_limit: ByteCount = opt(
        ByteCount(64 * 1024), "Most output; a command that says more is ended.",
        key="outputLimit", low=256, high=16 * 1024 * 1024,
    )  # fmt: skip
    environment: tuple[str, ...] = opt((), "Further variables: NAME=value.")
    keep_file: bool = opt(
        True, "Leave the file under its final name; no = delete it after success.", key="keepFile"
    )
