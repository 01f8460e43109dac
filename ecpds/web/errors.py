"""Every error of the tree as an HTTP status and as `application/problem+json` (RFC 9457).

Spec: rest-api.md B.3.  A test walks the error tree against the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ecpds.model import errors
from ecpds.model.errors import ConfigError, EcpdsError, InputError

STATUS: Final[Mapping[type[EcpdsError], int]] = {
    EcpdsError: 500,
    errors.InputError: 422,
    errors.Malformed: 400,
    errors.Unauthenticated: 401,
    errors.Banned: 403,
    errors.Denied: 403,
    errors.NotFound: 404,
    errors.NotStored: 409,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.Unsupported: 422,
    errors.LimitError: 422,
    errors.QuotaExceeded: 429,
    errors.TooLarge: 413,
    errors.TooManyPending: 409,
    errors.TooManyConnections: 429,
    errors.StorageFull: 507,
    errors.Expired: 422,
    errors.Incomplete: 422,
    errors.ChecksumMismatch: 422,
    errors.SourceBroke: 500,
    errors.StoreError: 503,
    errors.Stopping: 503,
    errors.RemoteError: 502,
    errors.RemoteTimeout: 504,
}
RETRY_AFTER: Final = 5  # seconds, when nothing better is known
TITLES: Final = {
    400: "Malformed request",
    401: "Credentials needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    408: "Too slow",
    409: "Conflict",
    412: "Changed meanwhile",
    413: "Too large",
    415: "Unsupported media type",
    416: "Range not satisfiable",
    422: "Not valid",
    428: "If-Match needed",
    429: "Too many requests",
    431: "Header too large",
    500: "Internal error",
    502: "Remote error",
    503: "Not available",
    504: "Remote timeout",
    507: "Storage full",
}


class Refused(Exception):
    """A request that HTTP itself has a word for; known to the web layer only."""

    def __init__(
        self, status: int, code: str, message: str, *, pointer: str = "", **facts: object
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.pointer = pointer
        self.headers: dict[str, str] = {}
        self.facts = facts


def status_of(error: EcpdsError | Refused) -> int:
    """Return the HTTP status of an error: that of its class or of the nearest one above."""
    if isinstance(error, Refused):
        return error.status
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def pointer_of(key: str) -> str:
    """Return the JSON pointer of a dotted key such as `aliases[0].to`; option keys stay whole."""
    if not key:
        return ""
    head, dot, rest = key.partition("options.")
    if dot and (not head or head.endswith(".")):
        return f"{pointer_of(head.rstrip('.'))}/options/{_escaped(rest)}"
    parts = key.replace("[", ".").replace("]", "").split(".")
    return "".join(f"/{_escaped(part)}" for part in parts if part)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def code_of(error: EcpdsError | Refused) -> str:
    """Return the stable code of an error; an option is told apart from other values."""
    if isinstance(error, ConfigError) and not error.file:
        return "invalid-option" if "/options/" in pointer_of(error.key) else "invalid-input"
    return error.code


def problem(
    error: EcpdsError | Refused, request_id: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return status, document and extra headers of an error."""
    status = status_of(error)
    document: dict[str, Any] = {
        "type": f"urn:problem:{code_of(error)}",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": error.message,
        "code": code_of(error),
        "request_id": request_id,
    }
    if isinstance(error, InputError) or (isinstance(error, Refused) and error.pointer):
        document["errors"] = [_member(error)]
    facts = {key: _plain(value) for key, value in error.facts.items() if key not in _HIDDEN}
    document |= {key: value for key, value in facts.items() if key not in document and value}
    return status, document, _headers(error, status)


_HIDDEN = frozenset({"pointer", "file", "line", "retry_after", "allow"})


def _member(error: InputError | Refused) -> dict[str, Any]:
    member: dict[str, Any] = {
        "pointer": pointer_of(error.pointer),
        "code": code_of(error),
        "message": error.message,
    }
    if isinstance(error, ConfigError):
        member["message"] = error.bare
        if error.nearest:
            member["nearest"] = error.nearest
        if error.line:
            member |= {"file": error.file, "line": error.line}
    return member


def _plain(value: object) -> object:
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return str(value)


def _headers(error: EcpdsError | Refused, status: int) -> dict[str, str]:
    headers = dict(error.headers) if isinstance(error, Refused) else {}
    if status in {429, 503, 507}:
        headers["Retry-After"] = str(error.facts.get("retry_after") or RETRY_AFTER)
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="ecpds"'
    if status == 405 and "allow" in error.facts:
        headers["Allow"] = str(error.facts["allow"])
    return headers
