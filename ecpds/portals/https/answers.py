"""What an error is in HTTP: status, fields, and a text for whoever reads it.

Browsers get a page, clients that ask for JSON a problem document (RFC 9457), all others one line.
Spec: portal.md 3.4; interface.md 8.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from ecpds.model import errors
from ecpds.model.errors import EcpdsError
from ecpds.portals.https import negotiate
from ecpds.portals.https.exchange import Ask, Refused
from ecpds.vfs.contract import client_text

# The closest class along the method resolution order counts.
STATUS: Mapping[type[EcpdsError], int] = {
    errors.EcpdsError: 500,
    errors.InputError: 400,
    errors.Unauthenticated: 401,
    errors.Banned: 429,
    errors.Denied: 403,
    errors.NotFound: 404,
    errors.NotStored: 503,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.Unsupported: 501,
    errors.LimitError: 429,
    errors.TooLarge: 413,
    errors.StorageFull: 507,
    errors.Expired: 404,
    errors.Incomplete: 400,
    errors.ChecksumMismatch: 400,
    errors.Stopping: 503,
    errors.StoreError: 503,
    errors.RemoteError: 502,
}
# Seconds to wait when the error itself names none.
RETRY: Mapping[type[EcpdsError], int] = {
    errors.Banned: 600,
    errors.NotStored: 10,
    errors.QuotaExceeded: 60,
    errors.TooManyConnections: 2,
    errors.TooManyPending: 30,
    errors.Stopping: 15,
    errors.StoreError: 15,
    errors.Busy: 2,
}
_KNOWN = frozenset(HTTPStatus)
_CONSTANT = {404: "There is nothing at this address.", 500: "Internal error"}
_LONGEST_WAIT = 7 * 24 * 3600  # the quota window is kept so long


def status_of(error: EcpdsError) -> int:
    """Return the status code of an error of ours."""
    if isinstance(error, Refused):
        return error.status
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def retry_after(error: EcpdsError) -> int | None:
    """Return how many seconds the client should wait; None: waiting does not help."""
    known = next((RETRY[kind] for kind in type(error).__mro__ if kind in RETRY), None)
    told = error.facts.get("retry_after")
    if known is None and told is None:
        return None
    seconds = int(told) if isinstance(told, (int, float)) and told > 0 else known
    return min(max(seconds or 1, 1), _LONGEST_WAIT)


def fields_of(error: EcpdsError, ask: Ask) -> dict[str, str]:
    """Return the fields that go with the status."""
    fields = {"Cache-Control": "no-store"}
    if isinstance(error, Refused):
        fields |= error.fields
    wait = retry_after(error)
    if wait is not None:
        fields["Retry-After"] = str(wait)
    if status_of(error) == HTTPStatus.UNAUTHORIZED:
        fields["WWW-Authenticate"] = challenge(ask)
    return fields


def challenge(ask: Ask) -> str:
    """Return WWW-Authenticate; browsers that know our form get no dialog of their own."""
    if ask.knows_login_form:
        return 'Form realm="ecpds"'
    return 'Basic realm="ecpds", charset="UTF-8"'


def text_of(error: EcpdsError) -> str:
    """Return what the client may read: our own insides are not its business.

    Whatever is missing is missing in the same words, be it absent, hidden or somebody else's.
    """
    status = status_of(error)
    if status in _CONSTANT:
        return _CONSTANT[status]
    return client_text(error) or reason(status)


def reason(status: int) -> str:
    """Return the standard phrase of a status code."""
    return HTTPStatus(status).phrase if status in _KNOWN else "Refused"


def wants_page(ask: Ask) -> bool:
    """Tell whether the error is to be a page."""
    return ask.from_browser and ask.headers.get("x-requested-with") is None


def plain(ask: Ask, status: int, text: str, code: str) -> tuple[str, bytes]:
    """Return type and content of an error answer for programs."""
    if negotiate.names(ask.headers.get("accept", ""), "application/json"):
        problem = {"type": "about:blank", "title": reason(status), "status": status}
        problem |= {"detail": text, "code": code}
        return "application/problem+json", json.dumps(problem).encode()
    return "text/plain; charset=utf-8", f"{text}\n".encode("utf-8", "replace")
