"""Transfers of all destinations: one list, its state in the query string."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, Final

from aiohttp import web

from ecpds.model import query
from ecpds.model.errors import InputError
from ecpds.model.names import nearest
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.model.transferquery import KEYS, VALUES
from ecpds.store import transferlist
from ecpds.store.transferlist import Wanted
from ecpds.web import shown
from ecpds.web.call import Call, cursor_of
from ecpds.web.pages import bulk, lists
from ecpds.web.pages.frame import show
from ecpds.web.pages.rows import READ, row_of

SORTED: Final = 1_000  # newest transfers that are sorted by something else
ORDERS: Final[Mapping[str, Callable[[Transfer], Any]]] = {
    "id": lambda one: one.id,
    "status": lambda one: one.status.label,
    "target": lambda one: one.target,
    "destination": lambda one: one.destination,
    "size": lambda one: one.size,
    "priority": lambda one: one.priority,
    "scheduled": lambda one: one.scheduled_at,
    "finished": lambda one: one.finished_at.timestamp() if one.finished_at else 0.0,
}
BATCH: Final = 500  # rows read at a time when not everything can be asked of the store
MOST_READ: Final = 10_000  # rows looked at for one page
PATIENCE: Final = 0.04  # seconds after which a search says how far it came


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What of a query the store can do, and the whole of it."""

    search: query.Search
    wanted: Wanted

    def matches(self, one: Transfer, now: datetime) -> bool:
        """Tell whether a transfer fits what the store was not asked for."""
        return self.search.matches(lambda key: VALUES[key](one, now))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One page of transfers."""

    items: Sequence[Transfer] = ()
    cursor: str | None = None  # of the next page
    next: int | None = None  # offset of the next page, when it is sorted
    is_partial: bool = False  # the search stopped before it had read everything
    reached: int | None = None  # id above which everything was looked at, when it stopped early


def filter_of(call: Call) -> Filter:
    """Return what is asked for; InputError names what is wrong."""
    search = query.parse(call.text("q"), KEYS, "target")
    target, host = search.taken("target"), search.taken("host")
    wanted = Wanted(
        destination=_destination(call, search),
        statuses=_statuses(call.texts("status")),
        target=target.glob if target else None,
        host=host.text if host and host.is_exact else None,
        deleted=None if any(term.key == "deleted" for term in search.terms) else False,
        since=lists.time_of(call, "from"),
        until=lists.time_of(call, "to"),
    )
    return Filter(search=search, wanted=wanted)


def _destination(call: Call, search: query.Search) -> str | None:
    if call.text("dest"):
        return call.text("dest")
    for key in ("destination", "dest"):
        pattern = search.taken(key)
        if pattern is not None and pattern.is_exact:
            return pattern.text
    return None


def _statuses(words: list[str]) -> tuple[TransferStatus, ...]:
    found = []
    for word in words:
        try:
            found.append(TransferStatus.of_word(word))
        except KeyError:
            near = nearest(word, [status.word for status in TransferStatus])
            hint = f" (did you mean {near!r}?)" if near else ""
            raise InputError(f"there is no status {word!r}{hint}", pointer="status") from None
    return tuple(found)


async def find(call: Call, chosen: Filter, limit: int, before: int | None) -> Found:
    """Return the next transfers that fit and that the caller may see, newest first."""
    store, now = call.services.core.store, call.services.core.clock.now()
    items: list[Transfer] = []
    read, ends = 0, monotonic() + PATIENCE
    while read < MOST_READ:
        asked = max(BATCH if read else 0, limit + 1)
        part = await store.read(transferlist.part, chosen.wanted, limit=asked, before=before)
        items += [
            row
            for row in part.items
            if call.caller.may_on(READ, row.destination) and chosen.matches(row, now)
        ]
        if len(items) > limit:
            return Found(items=items[:limit], cursor=cursor_of(items[limit - 1].id))
        if part.below is None:
            return Found(items=items)
        read, before = read + len(part.items), part.below
        if monotonic() > ends:
            break
    return Found(items=items, cursor=cursor_of(before or 0), is_partial=True, reached=before)


async def _chosen(call: Call, chosen: Filter) -> Found:
    """Return a page in the order asked for; anything but newest first sorts the newest of all."""
    limit, order = lists.limit_of(call), lists.sort_of(call, ORDERS, "-id")
    if order.key == "id" and order.falling:
        return await find(call, chosen, limit, call.before)
    everything = await find(call, chosen, SORTED, None)
    rows = lists.ordered(everything.items, order, ORDERS)
    after = lists.offset(call)
    return Found(
        items=rows[after : after + limit],
        next=after + limit if after + limit < len(rows) else None,
        is_partial=everything.cursor is not None,
    )


async def index(call: Call) -> web.Response:
    """All transfers that fit the filter, newest first."""
    problem, found = "", Found()
    form = lists.wanted(call)
    try:
        found = await _chosen(call, filter_of(call))
    except InputError as error:
        if form != "html":
            raise
        problem = error.message
    if form != "html":
        return _table(call, form, found)
    services, now = call.services, call.services.core.clock.now()
    destination = call.text("dest")
    topics = (f"transfers:{destination or '*'}",) if not call.text("cursor") else ()
    return show(
        call,
        "pages/transfers.html",
        topics=topics,
        rows=[row_of(one, services.engine, call.caller, now) for one in found.items],
        cursor=found.cursor,
        is_partial=found.is_partial,
        reached=found.reached,
        next=found.next,
        after=lists.offset(call),
        order=lists.sort_of(call, ORDERS, "-id"),
        most_sorted=SORTED,
        bulk=bulk.verbs_of(call),
        problem=problem,
        statuses=list(TransferStatus),
        chosen=set(call.texts("status")),
        names=[name for name in sorted(services.core.snapshot.destinations)
               if call.caller.may_on(READ, name)],
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


def _table(call: Call, form: str, found: Found) -> web.Response:
    now = call.services.core.clock.now()
    restricted = call.caller.is_restricted
    documents = [shown.transfer(one, now, restricted=restricted) for one in found.items]
    if form == "json":
        return lists.as_json(documents, found.cursor)
    heads = (
        "id", "destination", "target", "status", "priority", "size", "sent", "attempts",
        "scheduled", "started", "finished", "expires", "host", "data_file_id", "reason",
    )  # fmt: skip
    return lists.as_csv(
        "transfers",
        heads,
        ([_cell(document, head) for head in heads] for document in documents),
    )


def _cell(document: Mapping[str, Any], head: str) -> object:
    value = document[head]
    return value["text"] or value["class"] if isinstance(value, dict) else value
