"""`/transfers`: look, change, act; one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.jobs import Selection
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.model import query, transferquery
from ecpds.model.errors import InputError, NotFound, PreconditionFailed
from ecpds.model.names import nearest
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.store import history as steps
from ecpds.store import transfers
from ecpds.web import shown
from ecpds.web.api import answers, lists
from ecpds.web.api.content import send
from ecpds.web.api.schemas import Nothing, PriorityRequest, TransferChange
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import DRY_RUN, FIELDS, LISTED, Query, Route

READ: Final = "transfers:read"
WRITE: Final = "transfers:write"
OPERATE: Final = "transfers:operate"
ALL: Final = "/api/v2/transfers"
ONE: Final = ALL + "/{transfer}"
LOOK: Final = 1000  # rows of the store at a time, to be put in order
MOST_LOOKS: Final = 20  # pages of the store that one page of a scoped caller may take

Act = Callable[[TransferOperations, int, Actor], Awaitable[Transfer]]


async def _one(call: Call, right: str = READ) -> Transfer:
    number = call.number("transfer", "Transfer")
    found = await call.services.transfers.get(number)
    call.caller.check(right, found.destination, f"Transfer {number} not found")
    return found


def _answer(call: Call, found: Transfer, status: int = 200) -> web.StreamResponse:
    now, restricted = call.services.core.clock.now(), call.caller.is_restricted
    document = shown.transfer(found, now, restricted=restricted)
    return answers.one(call, document, shown.transfer_etag(found), status=status)


def _statuses(call: Call) -> list[TransferStatus]:
    found = []
    for word in call.texts("status"):
        try:
            found.append(TransferStatus.of_word(word))
        except KeyError:
            near = nearest(word, [status.word for status in TransferStatus])
            hint = f" (did you mean {near!r}?)" if near else ""
            message = f"status: there is no status {word!r}{hint}"
            raise Refused(400, "bad-parameter", message) from None
    return found


async def index(call: Call) -> web.StreamResponse:
    """List transfers, newest first, or in the order of `sort`."""
    name = call.text("destination") or None
    if name is not None:
        call.caller.check(READ, name)
        call.services.core.snapshot.destination(name)
    read = _Reader(call, name)
    if call.texts("sort"):
        return await _sorted(call, read)
    limit, before = call.limit, call.before
    found: list[Transfer] = []
    for _ in range(MOST_LOOKS):
        rows, before = await read.some(limit + 1, before)
        found += rows
        if len(found) > limit or before is None:
            break
    else:
        return await _page(call, found[:limit], before)
    return await _page(call, found[:limit], found[limit - 1].id if len(found) > limit else None)


class _Reader:
    """Reads what a request asks for, newest first, piece by piece."""

    def __init__(self, call: Call, destination: str | None) -> None:
        self._call = call
        self._search, self._now = _search(call), call.services.core.clock.now()
        self._given: dict[str, Any] = {
            "destination": destination,
            "statuses": _statuses(call),
            "target": call.text("target") or None,
            "host": call.text("host") or None,
            "since": call.time("since"),
            "until": call.time("until"),
            "deleted": None if call.flag("deleted") else False,
        }

    async def some(self, limit: int, before: int | None) -> tuple[list[Transfer], int | None]:
        """Return what fits of the next `limit` rows, and where to go on; None: that was all."""
        caller, store = self._call.caller, self._call.services.core.store
        rows = await store.read(transfers.page, limit=limit, before=before, **self._given)
        fitting = [
            row
            for row in rows
            if caller.may_on(READ, row.destination)
            and transferquery.matches(self._search, row, self._now)
        ]
        return fitting, rows[-1].id if len(rows) == limit else None


async def _sorted(call: Call, read: _Reader) -> web.StreamResponse:
    """Put all that fits in order; Refused (400) when that is too much."""
    found: list[Transfer] = []
    before: int | None = None
    for _ in range(MOST_LOOKS):
        rows, before = await read.some(LOOK, before)
        found += rows
        if len(found) > lists.MOST_SORTED:
            raise lists.too_many()
        if before is None:
            break
    else:
        raise lists.too_many()
    now, restricted = call.services.core.clock.now(), call.caller.is_restricted
    items = [shown.transfer(one, now, restricted=restricted) for one in found]
    chosen, after = lists.ordered(call, items)
    return answers.page(call, chosen, after, lists.total_of(call, len(items)))


def _search(call: Call) -> query.Search:
    try:
        return query.parse(call.text("q"), transferquery.KEYS, "target")
    except InputError as error:
        raise Refused(400, "bad-parameter", f"q: {error.message}", pointer="q") from None


async def _page(call: Call, found: list[Transfer], after: int | None) -> web.StreamResponse:
    now, restricted = call.services.core.clock.now(), call.caller.is_restricted
    items = [shown.transfer(one, now, restricted=restricted) for one in found]
    total = await _total(call) if call.flag("count") else None
    return answers.page(call, items, after, total)


async def _total(call: Call) -> shown.Document:
    """Count what fits, up to ten thousand; deleted ones are not counted."""
    caller, scope = call.caller, None
    if not caller.may_everywhere(READ):
        names = call.services.core.snapshot.destinations
        scope = tuple(name for name in names if caller.may_on(READ, name))
    counted = await call.services.jobs.try_out(
        Selection(
            q=call.text("q") or "target=*",
            destination=call.text("destination"),
            status=tuple(call.texts("status")),
            target=call.text("target"),
            host=call.text("host"),
            since=call.time("since"),
            until=call.time("until"),
            scope=scope,
        )
    )
    return {"total": counted.total, "total_is_minimum": counted.total_is_minimum}


async def get(call: Call) -> web.StreamResponse:
    """Return one transfer."""
    return _answer(call, await _one(call))


async def history(call: Call) -> web.StreamResponse:
    """Return the steps of a transfer, oldest first."""
    found = await _one(call)
    rows = await call.services.transfers.history(found.id)
    return answers.page(call, [shown.step(row) for row in rows], None)


async def stats(call: Call) -> web.StreamResponse:
    """Return the attempts of a transfer with what the connections measured, oldest first."""
    found = await _one(call)
    rows = await call.services.core.store.read(steps.attempts, found.id)
    items = [
        {
            "host": row.host, "protocol": row.protocol, "started": shown.moment(row.started_at),
            "finished": shown.moment(row.finished_at), "status": row.status.word,
            "size": None if row.size < 0 else row.size, "sent": row.sent,
            "peer": row.peer or None, "path": row.path or None,
            "statistics": dict(row.statistics), "filters": row.filters or None,
            "resumed_at": row.resumed_at,
        }
        for row in rows
    ]  # fmt: skip
    return answers.page(call, items, None)


async def content(call: Call) -> web.StreamResponse:
    """Return the content that it sends."""
    found = await _one(call, "files:read")
    if found.deleted or found.expires_at <= call.services.core.clock.now():
        raise NotFound(f"Transfer {found.id} has expired or was deleted")
    return await send(call, found.data_file, found.target)


async def patch(call: Call) -> web.StreamResponse:
    """Change priority, start or end."""
    found = await _one(call, WRITE)
    call.check_match(shown.transfer_etag(found))
    change = await call.decoded(TransferChange)
    seen = shown.transfer_etag(found)

    def check(present: Transfer) -> None:
        if shown.transfer_etag(present) != seen:
            raise PreconditionFailed(f"Transfer {present.id} was changed meanwhile")

    transfers_of, dry_run = call.services.transfers, call.flag("dry_run")
    if change.target is not None:  # refused before anything else is changed
        renamed = await transfers_of.rename(
            found.id, call.caller.actor, change.target, dry_run=True
        )
    changed = await transfers_of.change(
        found.id,
        call.caller.actor,
        priority=change.priority,
        scheduled=change.scheduled,
        expires=change.expires,
        check=check,
        dry_run=dry_run,
    )
    if change.target is not None and dry_run:
        changed = replace(changed, target=renamed.target, identity=renamed.identity)
    elif change.target is not None:
        changed = await transfers_of.rename(found.id, call.caller.actor, change.target)
    if dry_run:
        now, restricted = call.services.core.clock.now(), call.caller.is_restricted
        return answers.tried(call, shown.transfer(changed, now, restricted=restricted))
    return _answer(call, changed)


async def delete(call: Call) -> web.StreamResponse:
    """Stop and delete a transfer."""
    found = await _one(call, WRITE)
    call.check_match(shown.transfer_etag(found))
    if found.deleted:
        raise NotFound(f"Transfer {found.id} is deleted already")
    if not call.flag("dry_run"):
        await call.services.transfers.delete(found.id, call.caller.actor)
    return answers.nothing()


def _action(act: Act) -> Callable[[Call], Awaitable[web.StreamResponse]]:
    async def handle(call: Call) -> web.StreamResponse:
        found = await _one(call, OPERATE)
        await call.decoded(Nothing)
        return _answer(call, await act(call.services.transfers, found.id, call.caller.actor))

    return handle


async def prioritise(call: Call) -> web.StreamResponse:
    """Set the priority."""
    found, given = await _one(call, OPERATE), await call.decoded(PriorityRequest)
    changed = await call.services.transfers.prioritise(found.id, call.caller.actor, given.priority)
    return _answer(call, changed)


async def delete_action(call: Call) -> web.StreamResponse:
    """Delete a transfer, as an action; answer with what is left to see of it."""
    found = await _one(call, WRITE)
    await call.services.transfers.delete(found.id, call.caller.actor)
    return _answer(call, await call.services.transfers.get(found.id))


_ACTIONS: Final[Mapping[str, tuple[Act, str]]] = {
    "requeue": (TransferOperations.requeue, "Give it another try with fresh counters."),
    "stop": (TransferOperations.stop, "Stop it, also while it runs."),
    "hold": (TransferOperations.hold, "Hold it until it is released."),
    "release": (TransferOperations.release, "Queue a held one."),
    "schedule_now": (TransferOperations.schedule_now, "Make it due now."),
    "extend": (TransferOperations.extend, "Give it one more day."),
}
_FILTERS: Final = (
    Query(name="destination", help="Only of that destination."),
    Query(name="status", help="Only with one of these statuses, with commas.", type="list"),
    Query(name="target", help="Only targets that match that glob."),
    Query(name="host", help="Only those last sent to that host."),
    Query(name="since", help="Scheduled at that time or later; PT6H: 6 hours ago.", type="time"),
    Query(name="until", help="Scheduled before that time.", type="time"),
    Query(name="deleted", help="Deleted and expired ones too.", type="flag"),
)

ROUTES: Final = (
    Route(method="GET", path=ALL, right=READ, handle=index, query=(*LISTED, *_FILTERS),
          summary="Transfers, newest first.", answer="[Transfer]"),
    Route(method="GET", path=ONE, right=READ, handle=get, summary="One transfer.",
          query=(FIELDS,), answer="Transfer"),
    Route(method="GET", path=ONE + "/history", right=READ, handle=history, query=(FIELDS,),
          summary="What happened to it, oldest first.", answer="[HistoryRow]"),
    Route(method="GET", path=ONE + "/stats", right=READ, handle=stats, query=(FIELDS,),
          summary="Its attempts with what the connections measured.", answer="[Attempt]"),
    Route(method="GET", path=ONE + "/content", right="files:read", handle=content,
          summary="The content that it sends; Range is honoured.", answer="bytes"),
    Route(method="PATCH", path=ONE, right=WRITE, handle=patch, needs_match=True,
          query=(DRY_RUN, FIELDS), body="TransferChange", answer="Transfer",
          summary="Change priority, start, end or target."),
    Route(method="DELETE", path=ONE, right=WRITE, handle=delete, needs_match=True,
          query=(DRY_RUN,), summary="Stop and delete it.", status=204),
    *(
        Route(method="POST", path=f"{ONE}/actions/{verb}", right=OPERATE, handle=_action(act),
              summary=summary, body="Nothing", answer="Transfer")
        for verb, (act, summary) in _ACTIONS.items()
    ),
    Route(method="POST", path=ONE + "/actions/prioritise", right=OPERATE, handle=prioritise,
          summary="Set the priority.", body="PriorityRequest", answer="Transfer"),
    Route(method="POST", path=ONE + "/actions/delete", right=WRITE, handle=delete_action,
          summary="Stop and delete it.", body="Nothing", answer="Transfer"),
)  # fmt: skip
