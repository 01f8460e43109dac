"""Data files: the list, and one with its metadata, transfers and digests on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.files import FileView
from ecpds.model import query
from ecpds.model.errors import EcpdsError, InputError, NotFound
from ecpds.web import shown
from ecpds.web.call import Call, cursor_of
from ecpds.web.pages import lists
from ecpds.web.pages.frame import back, refused, show
from ecpds.web.pages.rows import READ as READ_TRANSFERS
from ecpds.web.pages.rows import row_of

READ: Final = "files:read"
BATCH: Final = 250
MOST_READ: Final = 5_000  # files looked at for one page
PATIENCE: Final = 0.04  # seconds after which a search says how far it came
DIGESTS: Final = ("md5", "sha256", "sha512", "crc32c")
KEYS: Final[Mapping[str, query.Kind]] = {
    "name": "text", "source": "text", "size": "size", "ts": "number", "checksum": "text",
    "host": "text", "group": "text", "submitter": "text", "destination": "text", "id": "number",
    "stored": "flag", "deleted": "flag",
}  # fmt: skip


def _value(view: FileView, key: str) -> query.Value:
    file = view.file
    values: dict[str, query.Value] = {
        "name": file.original or file.source,
        "source": file.source,
        "size": file.size,
        "ts": file.time_step,
        "checksum": file.checksum,
        "host": file.host,
        "group": file.group_by,
        "submitter": file.submitter,
        "destination": " ".join(view.destinations),
        "id": file.id,
        "stored": file.stored,
        "deleted": file.deleted,
    }
    return values[key]


def _may_see(call: Call, view: FileView) -> bool:
    return call.caller.may_everywhere(READ) or any(
        call.caller.may_on(READ, name) for name in view.destinations
    )


async def _find(call: Call) -> tuple[Sequence[FileView], str | None, int | None]:
    """Return a page of files, the cursor of the next, and how far a search came that stopped."""
    search = query.parse(call.text("q"), KEYS, "name")
    name, limit = search.taken("name"), lists.limit_of(call)
    deleted = None if any(term.key == "deleted" for term in search.terms) else False
    since, until = lists.time_of(call, "from"), lists.time_of(call, "to")
    items: list[FileView] = []
    before, read, ends = call.before, 0, monotonic() + PATIENCE
    while read < MOST_READ:
        asked = max(BATCH if read else 0, limit + 1)
        views, below = await call.services.files.part(
            limit=asked, before=before, name=name.glob if name else None, deleted=deleted,
            since=since, until=until,
        )  # fmt: skip
        items += [
            view
            for view in views
            if _may_see(call, view) and search.matches(lambda key, view=view: _value(view, key))  # type: ignore[misc]
        ]
        if len(items) > limit:
            return items[:limit], cursor_of(items[limit - 1].file.id), None
        if below is None:
            return items, None, None
        read, before = read + len(views), below
        if monotonic() > ends:
            break
    return items, cursor_of(before or 0), before


async def index(call: Call) -> web.Response:
    """All data files that fit the filter, newest first."""
    problem, cursor, reached = "", None, None
    views: Sequence[FileView] = ()
    form = lists.wanted(call)
    try:
        views, cursor, reached = await _find(call)
    except InputError as error:
        if form != "html":
            raise
        problem = error.message
    if form != "html":
        return _table(form, views, cursor)
    return show(
        call,
        "pages/files.html",
        views=views,
        seen={name for view in views for name in view.destinations if call.caller.covers(name)},
        cursor=cursor,
        reached=reached,
        problem=problem,
        address=lambda **changes: lists.address(call, **changes),
    )


def _table(form: str, views: Sequence[FileView], cursor: str | None) -> web.Response:
    documents: list[dict[str, Any]] = [shown.file_view(view) for view in views]
    if form == "json":
        return lists.as_json(documents, cursor)
    heads = (
        "id", "name", "source", "size", "checksum", "arrived", "stored", "deleted", "host",
        "submitter",
    )  # fmt: skip
    rows = ([document[head] for head in heads] for document in documents)
    return lists.as_csv("files", heads, rows)


# --- one file -----------------------------------------------------------------------------------


async def _viewed(call: Call) -> FileView:
    number = call.number("id", "Data file")
    view = await call.services.files.view(number)
    call.caller.check_any(READ, view.destinations, f"Data file {number} not found")
    return view


async def detail(call: Call) -> web.Response:
    """One data file."""
    view = await _viewed(call)
    services, caller = call.services, call.caller
    now = services.core.clock.now()
    rows = [
        row_of(one, services.engine, caller, now)
        for one in view.transfers
        if caller.may_on(READ_TRANSFERS, one.destination)
    ]
    return show(
        call,
        "pages/file.html",
        topics=tuple(f"transfer:{row.id}" for row in rows[:20]),
        view=view,
        file=view.file,
        rows=rows,
        digests=_digests(view),
        missing=[name for name in DIGESTS if name not in view.digests],
        may_read=view.file.stored and not view.file.deleted,
    )


def _digests(view: FileView) -> dict[str, str]:
    known = {"adler32": view.file.checksum} if view.file.checksum else {}
    return known | {name: view.digests[name] for name in sorted(view.digests) if name != "etag"}


async def act(call: Call) -> web.Response:
    """Compute a digest."""
    view = await _viewed(call)
    number = view.file.id
    if call.name("verb") != "digest":
        raise NotFound(f"there is no action {call.name('verb')!r}")
    form = await call.form()
    wanted = [name for name in DIGESTS if name == form.get("algorithm")] or list(DIGESTS)
    try:
        await call.services.files.digests(number, wanted)
    except EcpdsError as error:
        return refused(call, f"/files/{number}", error)
    return back(call, f"/files/{number}")
