"""Which reply each of our errors becomes; the one such table of this portal.

Spec: RFC 959 section 4.2 (reply codes), portal.md 1.4 and 3.1, interface.md 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ecpds.model import errors
from ecpds.model.errors import EcpdsError, Phase, RemoteError
from ecpds.vfs.contract import client_text


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply code; whether the error's own text is for the client; whether we hang up then."""

    code: int
    shown: bool = True
    final: bool = False


LOCAL: Final = Answer(451, shown=False)

ANSWERS: Final[Mapping[type[EcpdsError], Answer]] = {
    EcpdsError: LOCAL,
    errors.InputError: Answer(501),
    errors.ConfigError: LOCAL,
    errors.OptionError: LOCAL,
    errors.RuleError: LOCAL,
    errors.TemplateError: LOCAL,
    errors.InvalidName: Answer(553),
    errors.Unauthenticated: Answer(530),
    errors.Banned: Answer(421, final=True),
    errors.Denied: Answer(550),
    errors.NotFound: Answer(550),
    errors.NotStored: Answer(450),
    errors.Conflict: Answer(550),
    errors.Busy: Answer(450),
    errors.Unsupported: Answer(504),
    errors.LimitError: Answer(452),
    errors.QuotaExceeded: Answer(552),
    errors.TooLarge: Answer(552),
    errors.StorageFull: Answer(552),
    errors.TooManyConnections: Answer(421, final=True),
    errors.Expired: Answer(550),
    errors.Incomplete: Answer(451),
    errors.ChecksumMismatch: Answer(451),
    errors.SourceBroke: Answer(451),
    errors.StoreError: LOCAL,
    errors.Stopping: Answer(421, final=True),
    RemoteError: Answer(426),  # in a portal the remote system is the client
}

LOGIN_ANSWERS: Final[Mapping[type[EcpdsError], Answer]] = {
    errors.Denied: Answer(530),
    errors.QuotaExceeded: Answer(530),
    errors.NotFound: Answer(530, shown=False),
}


def answer(error: EcpdsError, *, login: bool = False) -> Answer:
    """Return the row of the error's nearest class; that of logging in first when `login`."""
    if isinstance(error, RemoteError) and error.phase in (Phase.CONNECT, Phase.TLS):
        return Answer(425)
    for kind in type(error).__mro__:
        if login and kind in LOGIN_ANSWERS:
            return LOGIN_ANSWERS[kind]
        if kind in ANSWERS:
            return ANSWERS[kind]
    return LOCAL


def text(error: EcpdsError, row: Answer) -> str:
    """Return the text of the reply, one line."""
    if row.shown:
        return client_text(error)
    return "Login failed" if row.code == 530 else "Local error, tell the operators"
