"""How the hub's errors look to an SFTP client.

Version 3 knows eight codes only; whatever has no code of its own is FAILURE with a text, which
clients show.
"""

from __future__ import annotations

from collections.abc import Mapping

from ecpds.model.errors import (
    Denied,
    EcpdsError,
    Malformed,
    NotFound,
    NotStored,
    Unauthenticated,
    Unsupported,
)
from ecpds.portals.ssh import wire
from ecpds.vfs.contract import client_text

ANSWERS: Mapping[type[EcpdsError], int] = {
    NotFound: wire.NO_SUCH_FILE,
    NotStored: wire.FAILURE,  # it exists, the client should come back
    Denied: wire.PERMISSION_DENIED,
    Unauthenticated: wire.PERMISSION_DENIED,
    Unsupported: wire.OP_UNSUPPORTED,
    Malformed: wire.BAD_MESSAGE,
    EcpdsError: wire.FAILURE,  # whatever has no closer row
}


def code_of(error: EcpdsError) -> int:
    """Return the status code of the closest row."""
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)


def status_of(request: int, error: EcpdsError) -> bytes:
    """Return the status answer that tells `error`."""
    return wire.status(request, code_of(error), client_text(error))
