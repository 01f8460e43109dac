"""A token that only our own pages know, made from the session; and where a request came from."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from ecpds.base.passwords import same
from ecpds.model.errors import Denied

HEADER: Final = "X-CSRF-Token"
FIELD: Final = "csrf"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def csrf_of(session: str) -> str:
    """Return the token of a browser session; nobody can compute it without the cookie."""
    if not session:
        return ""
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()


def check_csrf(session: str, given: str) -> None:
    """Raise Denied unless the token belongs to the session."""
    if not given or not same(given, csrf_of(session)):
        raise Denied("the form is too old or not ours; load the page again")


def check_origin(request: web.Request) -> None:
    """Raise Denied for a request that a page of somebody else sent."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise Denied("the request comes from another site")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        raise Denied("the request comes from another site")
