"""`/files`: stored products, their digests and content."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.files import FileView
from ecpds.model import filequery, query
from ecpds.model.errors import InputError, NotFound
from ecpds.store import copies
from ecpds.web import shown
from ecpds.web.api import answers, batch, lists, upload
from ecpds.web.api.content import send
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import BODY_LIMIT, DRY_RUN, FIELDS, LISTED, UNLIMITED, Query, Route

READ: Final = "files:read"
WRITE: Final = "files:write"
ALL: Final = "/api/v2/files"
ONE: Final = ALL + "/{file}"
LOOK: Final = 1000  # rows of the store at a time, to be put in order or counted
MOST_LOOKS: Final = 20  # pages of the store that one page of a scoped caller may take


def tag(view: FileView) -> str:
    """Return the entity tag of a file: that of its content."""
    return f'"{view.file.etag}"'


async def _view(call: Call, right: str = READ) -> FileView:
    return await reached_file(call, call.number("file", "Data file"), right)


async def reached_file(call: Call, number: int, right: str) -> FileView:
    """Return a data file that the caller may reach; NotFound, Denied."""
    view = await call.services.files.view(number)
    what = f"Data file {number} not found"
    if right == WRITE:  # deleting it concerns all that get it
        call.caller.check_all(right, view.destinations, what)
    else:
        call.caller.check_any(right, view.destinations, what)
    return view


def _may_see(call: Call, view: FileView) -> bool:
    return call.caller.may_everywhere(READ) or any(
        call.caller.may_on(READ, name) for name in view.destinations
    )


async def index(call: Call) -> web.StreamResponse:
    """List data files, newest first, or in the order of `sort`."""
    read = _Reader(call)
    if call.texts("sort"):
        return await _sorted(call, read)
    limit, before = call.limit, call.before
    total = {}
    if call.flag("count"):
        total = lists.total_of(call, len(await _all(read, lists.MOST_COUNTED)))
    found: list[FileView] = []
    for _ in range(MOST_LOOKS):
        rows, before = await read.some(limit + 1, before)
        found += rows
        if len(found) > limit or before is None:
            break
    after = before if len(found) <= limit else found[limit - 1].file.id
    return answers.page(call, [shown.file_view(view) for view in found[:limit]], after, total)


async def _all(read: _Reader, most: int) -> list[FileView]:
    """Return all that fits, at least one more than `most` when there is more."""
    found: list[FileView] = []
    before: int | None = None
    for _ in range(most // LOOK + MOST_LOOKS):
        rows, before = await read.some(LOOK, before)
        found += rows
        if before is None or len(found) > most:
            break
    return found


class _Reader:
    """Reads what a request asks for, newest first, piece by piece."""

    def __init__(self, call: Call) -> None:
        self._call = call
        try:
            self._search = query.parse(call.text("q"), filequery.KEYS, "name")
        except InputError as error:
            raise Refused(400, "bad-parameter", f"q: {error.message}", pointer="q") from None
        self._given: dict[str, Any] = {
            "name": call.text("name") or None,
            "deleted": None if call.flag("deleted") else False,
            "since": call.time("since"),
            "until": call.time("until"),
        }

    async def some(self, limit: int, before: int | None) -> tuple[list[FileView], int | None]:
        """Return what fits of the next `limit` rows, and where to go on; None: that was all."""
        call = self._call
        rows = await call.services.files.page(limit=limit, before=before, **self._given)
        fitting = [
            row for row in rows
            if _may_see(call, row) and filequery.matches(self._search, row.file)
        ]  # fmt: skip
        return fitting, rows[-1].file.id if len(rows) == limit else None


async def _sorted(call: Call, read: _Reader) -> web.StreamResponse:
    """Put all that fits in order; Refused (400) when there is too much."""
    found = await _all(read, lists.MOST_SORTED)
    if len(found) > lists.MOST_SORTED:
        raise lists.too_many()
    chosen, after = lists.ordered(call, [shown.file_view(view) for view in found])
    return answers.page(call, chosen, after, lists.total_of(call, len(found)))


async def get(call: Call) -> web.StreamResponse:
    """Return one data file; `digests` computes the ones that nobody has asked for yet."""
    view = await _view(call)
    document = shown.file_view(view)
    wanted = call.texts("digests")
    if wanted:
        document |= await call.services.files.digests(view.file.id, wanted)
    document["transfers"] = [
        {"id": one.id, "destination": one.destination, "target": one.target,
         "status": one.status.word, "deleted": one.deleted}
        for one in view.transfers
        if call.caller.may_on("transfers:read", one.destination)
    ]  # fmt: skip
    return answers.one(call, document, "" if wanted else tag(view))


async def replicas(call: Call) -> web.StreamResponse:
    """List where the content is: on the volume here, and copies at backup and proxy hosts."""
    view, core = await _view(call), call.services.core
    file = view.file
    here = [{"place": "volume", "name": file.volume, "path": file.object_key,
             "destination": None, "state": "there", "tries": 0, "error": None}]  # fmt: skip
    found = await core.store.read(copies.of_file, file.id, now=core.clock.now())
    there = [
        {"place": one.role, "name": one.host, "path": one.place or None,
         "destination": one.destination or None, "state": one.state, "tries": one.tries,
         "error": one.error or None}
        for one in found
        if not one.destination or call.caller.may_on(READ, one.destination)
    ]  # fmt: skip
    return answers.page(call, [*(here if file.stored else []), *there], None)


async def content(call: Call) -> web.StreamResponse:
    """Return the content, as long as one of its transfers lives."""
    view = await _view(call)
    now = call.services.core.clock.now()
    if not any(not one.deleted and one.expires_at > now for one in view.transfers):
        raise NotFound(f"Data file {view.file.id} has expired or was deleted")
    return await send(call, view.file.id, view.file.original)


async def delete(call: Call) -> web.StreamResponse:
    """Delete a data file with all its transfers."""
    view = await _view(call, WRITE)
    call.check_match(tag(view))
    if not call.flag("dry_run"):
        await call.services.files.delete(view.file.id, call.caller.actor)
    return answers.nothing()


_FILTERS: Final = (
    Query(name="name", help="Only original names or sources that match that glob."),
    Query(name="since", help="Arrived at that time or later; PT6H: 6 hours ago.", type="time"),
    Query(name="until", help="Arrived before that time.", type="time"),
    Query(name="deleted", help="Deleted ones too.", type="flag"),
)
_DIGESTS: Final = Query(
    name="digests", type="list", help="Digests to compute: md5 sha1 sha256 sha512 crc32 crc32c."
)

ROUTES: Final = (
    Route(method="GET", path=ALL, right=READ, handle=index, query=(*LISTED, *_FILTERS),
          summary="Data files, newest first.", answer="[DataFile]"),
    Route(method="POST", path=ALL, right=WRITE, handle=upload.post, body="Submission",
          body_limit=UNLIMITED, status=201, answer="Submitted",
          summary="Store a file and queue it (multipart/form-data), or name a source to fetch."),
    Route(method="POST", path=ALL + "/batch", right=WRITE, handle=batch.post,
          body="RegisterBatch", body_limit=8 * BODY_LIMIT, answer="BatchAnswer",
          summary="Name many sources to fetch; each is accepted or refused alone."),
    Route(method="GET", path=ONE, right=READ, handle=get, query=(FIELDS, _DIGESTS),
          summary="One data file.", answer="DataFile"),
    Route(method="GET", path=ONE + "/content", right=READ, handle=content,
          summary="Its content; Range is honoured.", answer="bytes"),
    Route(method="GET", path=ONE + "/replicas", right=READ, handle=replicas, query=(FIELDS,),
          summary="Where its content is: here, and copies at backup and proxy hosts.",
          answer="[Replica]"),
    Route(method="DELETE", path=ONE, right=WRITE, handle=delete, needs_match=True,
          query=(DRY_RUN,), summary="Delete it with all its transfers.", status=204),
)  # fmt: skip
