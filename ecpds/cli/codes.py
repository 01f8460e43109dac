"""Exit codes of all commands (cli.md section 8) and the errors they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final

from ecpds.model import errors
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


MEANINGS: Final[Mapping[Exit, str]] = {
    Exit.DONE: "done; also when a duplicate was skipped",
    Exit.UNEXPECTED: "something unexpected",
    Exit.USAGE: "wrong argument, settings or site file, or a local file that cannot be read",
    Exit.DENIED: "not authenticated or not permitted",
    Exit.PARTIAL: "some of several worked",
    Exit.CONFLICT: "duplicate, or the present state forbids it",
    Exit.NOT_FOUND: "not found",
    Exit.LIMIT: "refused by a limit: quota, size, queue, storage, lifetime",
    Exit.UNREACHABLE: "the node cannot be reached",
    Exit.TIMEOUT: "waited in vain",
    Exit.INTERRUPTED: "interrupted; what was under way is not registered",
}

EXITS: Final[Mapping[type[EcpdsError], Exit]] = {
    EcpdsError: Exit.UNEXPECTED,
    errors.InputError: Exit.USAGE,
    errors.Unsupported: Exit.USAGE,
    errors.Unauthenticated: Exit.DENIED,
    errors.Denied: Exit.DENIED,
    errors.NotFound: Exit.NOT_FOUND,
    errors.NotStored: Exit.CONFLICT,
    errors.Conflict: Exit.CONFLICT,
    errors.LimitError: Exit.LIMIT,
    errors.Stopping: Exit.UNREACHABLE,
}

_STATUS: Final[Mapping[int, Exit]] = {
    400: Exit.USAGE,
    401: Exit.DENIED,
    403: Exit.DENIED,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    412: Exit.CONFLICT,
    413: Exit.LIMIT,
    415: Exit.USAGE,
    422: Exit.USAGE,
    429: Exit.LIMIT,
    503: Exit.UNREACHABLE,
    507: Exit.LIMIT,
}


class CommandError(EcpdsError):
    """A command cannot go on; says with which exit code it ends and, for machines, why."""

    code = "command"

    def __init__(
        self,
        message: str,
        exit_code: Exit = Exit.UNEXPECTED,
        *,
        reason: str = "",
        **facts: object,
    ) -> None:
        super().__init__(message, **facts)
        self.exit_code = exit_code
        self.reason = reason or exit_code.name.lower().replace("_", "-")


def exit_of(error: EcpdsError) -> Exit:
    """Return the exit code of an error: that of its class or of the nearest one above."""
    if isinstance(error, CommandError):
        return error.exit_code
    return next(EXITS[cls] for cls in type(error).__mro__ if cls in EXITS)


def of_answer(status: int, code: str) -> Exit:
    """Return the exit code of an HTTP error; its problem code is more exact than its status."""
    for cls in _tree(EcpdsError):
        if cls.code == code and cls is not EcpdsError and cls is not CommandError:
            return next(EXITS[one] for one in cls.__mro__ if one in EXITS)
    return _STATUS.get(status, Exit.UNEXPECTED)


def _tree(cls: type[EcpdsError]) -> Iterator[type[EcpdsError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from _tree(below)


def of_several(failures: list[Exit], done: int) -> Exit:
    """Return the exit code of several acts of which `done` worked."""
    if not failures:
        return Exit.DONE
    if done:
        return Exit.PARTIAL
    return failures[0] if len(set(failures)) == 1 else Exit.UNEXPECTED
