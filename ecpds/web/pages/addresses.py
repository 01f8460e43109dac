"""How a page's file declares its addresses."""

from __future__ import annotations

from ecpds.web.routes import BODY_LIMIT, Handle, Route


def get(path: str, right: str, handle: Handle, summary: str) -> Route:
    """Declare a page."""
    return Route(method="GET", path=path, right=right, handle=handle, kind="page", summary=summary)


def post(
    path: str, right: str, handle: Handle, summary: str, *, body_limit: int = BODY_LIMIT
) -> Route:
    """Declare where a form is sent to."""
    return Route(
        method="POST", path=path, right=right, handle=handle, kind="page", summary=summary,
        body_limit=body_limit,
    )  # fmt: skip
