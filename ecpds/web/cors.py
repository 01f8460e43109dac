"""Which pages of other origins may call the API: none, unless the settings name them.

Cookies are never allowed with it: such a page brings a token of its own.  Spec: Fetch, "CORS
protocol"; rest-api.md B.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

BASE: Final = "/api"
ANY: Final = "*"
METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
ASKED: Final = (
    "Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID, Range, "
    "X-Request-Id"
)
SHOWN: Final = (
    "ETag, Location, Link, Retry-After, X-Request-Id, Content-Range, Idempotency-Replayed, "
    "Preference-Applied"
)
KEPT_FOR: Final = "600"  # seconds a browser may remember a preflight


def fields(request: web.Request, allowed: Sequence[str]) -> dict[str, str]:
    """Return the headers that let a page read the answer; none for origins that may not."""
    if not allowed or not _is_ours(request):
        return {}
    found = {"Vary": "Origin"}
    origin = request.headers.get("Origin", "")
    if origin and (ANY in allowed or origin in allowed):
        found |= {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": SHOWN,
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
    return found


def preflight(request: web.Request, allowed: Sequence[str]) -> web.Response | None:
    """Return the answer to a browser that asks before it calls; None when nothing is allowed."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    found = fields(request, allowed)
    if "Access-Control-Allow-Origin" not in found:
        return None
    found |= {
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": ASKED,
        "Access-Control-Max-Age": KEPT_FOR,
    }
    return web.Response(status=204, headers=found)


def _is_ours(request: web.Request) -> bool:
    return request.path == BASE or request.path.startswith(f"{BASE}/")
