"""The route table: each address with its right, its parameters and what it takes and gives.

Serving, rights, checks of the query and the OpenAPI document are all made from it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from aiohttp import web

from ecpds.model.errors import ConfigError
from ecpds.web.rights import is_right

if TYPE_CHECKING:
    from ecpds.web.call import Call

Handle = Callable[["Call"], Awaitable[web.StreamResponse]]
Kind = Literal["api", "v1", "page", "plain"]  # errors as problem+json, envelope, HTML, text

BODY_LIMIT: Final = 1024 * 1024  # bytes, unless a route says otherwise
FORM_LIMIT: Final = 256 * 1024  # bytes of a page's form
UNLIMITED: Final = -1  # the handler reads the body itself, block by block


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query parameter."""

    name: str
    help: str
    type: Literal["text", "number", "time", "flag", "list"] = "text"
    low: int = 0
    high: int = 2**62


LIMIT = Query(name="limit", help="Most items of one page.", type="number", low=1, high=1000)
CURSOR = Query(name="cursor", help="`next_cursor` of the page before.")
FIELDS = Query(name="fields", help="Only these fields, with commas.", type="list")
DRY_RUN = Query(name="dry_run", help="Check and show the effect, store nothing.", type="flag")
PAGED = (LIMIT, CURSOR, FIELDS)
FIND = Query(name="q", help="Search such as: name=ops_* active=yes.")
SORT = Query(name="sort", help="Fields with commas, - before one that falls.", type="list")
COUNT = Query(name="count", help="Add `total`; above 10,000 it is a minimum.", type="flag")
LISTED = (*PAGED, FIND, SORT, COUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method on one address; `{name}` in the path stands for one segment."""

    method: str
    path: str
    right: str  # "area:verb", rights.OPEN or rights.SIGNED_IN
    handle: Handle
    kind: Kind = "api"
    summary: str = ""
    query: tuple[Query, ...] = ()
    body: str = ""  # schema of the JSON that it takes
    answer: str = ""  # schema of the JSON that it gives; "[x]": a page of x
    tried: str = ""  # schema of the answer to a dry run, when that is another one
    status: int = 200
    body_limit: int = BODY_LIMIT
    services: tuple[str, ...] = ()  # of v1: what a user of it must be allowed
    creates: bool = False  # 201 when it was not there, 200 when it was
    needs_match: bool = False  # If-Match is required when the object exists

    @property
    def key(self) -> tuple[str, str]:
        """Return what may be there only once."""
        return self.method, self.path


def check_table(routes: Iterable[Route]) -> None:
    """Raise ConfigError for a route without a right, or one that is there twice."""
    seen: set[tuple[str, str]] = set()
    for route in routes:
        if not is_right(route.right):
            raise ConfigError(f"{route.method} {route.path} declares no right: {route.right!r}")
        if route.key in seen:
            raise ConfigError(f"{route.method} {route.path} is declared twice")
        seen.add(route.key)
