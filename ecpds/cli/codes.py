"""Exit codes of all commands (cli.md section 8) and the errors they come from."""

from __future__ import annotations

from enum import IntEnum

from ecpds.model.errors import EcpdsError


class Exit(IntEnum):
    """What a command's exit code means."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    DENIED = 3
    PARTIAL = 4
    CONFLICT = 5
    NOT_FOUND = 6
    LIMIT = 7
    UNREACHABLE = 8
    TIMEOUT = 9
    INTERRUPTED = 130


class CommandError(EcpdsError):
    """A command cannot go on; says with which exit code it ends."""

    code = "command"

    def __init__(self, message: str, exit_code: Exit, **facts: object) -> None:
        super().__init__(message, **facts)
        self.exit_code = exit_code


def of_status(status: int, code: str = "") -> Exit:
    """Return the exit code of an HTTP status and problem code."""
    if code in {"limit", "quota", "too-large", "too-many-pending", "storage-full", "expired"}:
        return Exit.LIMIT
    table = {
        400: Exit.USAGE,
        401: Exit.DENIED,
        403: Exit.DENIED,
        404: Exit.NOT_FOUND,
        409: Exit.CONFLICT,
        412: Exit.CONFLICT,
        413: Exit.LIMIT,
        422: Exit.USAGE,
        429: Exit.LIMIT,
        503: Exit.UNREACHABLE,
        507: Exit.LIMIT,
    }
    return table.get(status, Exit.UNEXPECTED)
