"""Answers of v1: one envelope that suits clients written from the code or from its documentation.

Business errors are HTTP 200 with `success: no` unless `api.v1.http_errors`; wrong credentials,
parameters and limits have statuses of their own.  Spec: rest-api.md A.1 and A.3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from ecpds.model.errors import EcpdsError, Unauthenticated
from ecpds.web.call import Call
from ecpds.web.errors import Refused, problem

BASE: Final = "/ecpds/v1"
REALM: Final = 'Basic realm="ecpds", charset="UTF-8"'
_WRONG: Final = frozenset({400, 422})  # told as 412, as the original does


def success(**facts: Any) -> web.Response:
    """Answer that it is done."""
    return _envelope({"success": "yes", "status": "ok"} | facts, 200, {})


def refusal(error: EcpdsError | Refused, request_id: str, *, http_errors: bool) -> web.Response:
    """Answer what went wrong."""
    status, document, headers = problem(error, request_id)
    message = document["detail"]
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = REALM
    elif isinstance(error, EcpdsError) and status < 500 and not http_errors:
        status, headers = 200, {}
    elif isinstance(error, Refused) and status in _WRONG:
        status = 412
    facts = {"success": "no", "status": "error", "error": message, "message": message}
    return _envelope(facts, status, headers)


def _envelope(facts: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> web.Response:
    text = json.dumps(facts, ensure_ascii=False, indent=2)
    return web.Response(
        text=text, status=status, content_type="application/json", headers=dict(headers)
    )


def missing(name: str) -> Refused:
    """Return the error of a parameter that has to be there."""
    return Refused(412, "parameter", f"missing parameter: {name}")


def required(call: Call, name: str) -> str:
    """Return a query parameter that has to be there."""
    found = call.text(name)
    if not found:
        raise missing(name)
    return found


def number(call: Call, name: str, *, low: int = 0, high: int = 2**62) -> int:
    """Return a query parameter that is a number and has to be there."""
    text = required(call, name)
    if not (text.isascii() and text.isdigit() and low <= int(text[:19]) <= high):
        raise Refused(412, "parameter", f"bad parameter: {name} is no number from {low} to {high}")
    return int(text)


def yes(call: Call, name: str) -> bool:
    """Return a flag; anything but yes and true is no."""
    return call.text(name).lower() in {"yes", "true", "1", "on"}
