"""One transfer: facts, reason, progress, every step it took, and what can be done with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiohttp import web

from ecpds.engine.explain import Cause, explain
from ecpds.model.errors import EcpdsError, InputError, NotFound
from ecpds.model.status import PENDING, REQUEUABLE, TransferStatus
from ecpds.model.transfer import DataFile, HistoryRow, Transfer
from ecpds.store import files, history, transfers
from ecpds.store.db import Connection
from ecpds.web.call import Call
from ecpds.web.pages.frame import back, own_address, refused, segment, show
from ecpds.web.pages.rows import READ, TransferRow, row_of
from ecpds.web.rights import Caller

ACT: Final = "transfers:operate"
DELETE: Final = "transfers:write"
S = TransferStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the store knows of a transfer."""

    transfer: Transfer
    file: DataFile | None
    metadata: Mapping[str, str]
    steps: Sequence[HistoryRow]
    attempts: Sequence[history.Attempt]
    others: Sequence[Transfer]  # of the same file


def read_told(db: Connection, number: int) -> Told | None:
    """Return all that is known of a transfer, None if there is none."""
    found = transfers.get(db, number)
    if found is None:
        return None
    return Told(
        transfer=found,
        file=files.get(db, found.data_file),
        metadata=files.metadata(db, found.data_file),
        steps=history.steps(db, number),
        attempts=history.attempts(db, number),
        others=[one for one in transfers.of_file(db, found.data_file) if one.id != number],
    )


async def _told(call: Call, right: str) -> Told:
    number = call.number("id", "Transfer")
    told = await call.services.core.store.read(read_told, number)
    missing = f"Transfer {number} not found"
    if told is None:
        raise NotFound(missing)
    call.caller.check(right, told.transfer.destination, missing)
    return told


async def detail(call: Call) -> web.Response:
    """The page of a transfer."""
    told = await _told(call, READ)
    services, caller = call.services, call.caller
    now = services.core.clock.now()
    one = told.transfer
    row = row_of(one, services.engine, caller, now)
    others = [
        row_of(other, services.engine, caller, now)
        for other in told.others
        if caller.may_on(READ, other.destination)
    ]
    causes, goes_on = await causes_of(call, one)
    return show(
        call,
        "pages/transfer.html",
        topics=(f"transfer:{one.id}", f"dest:{one.destination}"),
        row=row,
        told=told,
        others=others,
        causes=causes,
        goes_on=goes_on,
        verbs=possible(row) if caller.may_on(ACT, one.destination) else frozenset(),
        may_delete=caller.may_on(DELETE, one.destination) and not one.deleted,
        may_download=told.file is not None and told.file.stored and not told.file.deleted
        and caller.may_on("files:read", one.destination),
    )  # fmt: skip


async def causes_of(call: Call, one: Transfer) -> tuple[Sequence[Cause], datetime | None]:
    """Return why a transfer waits or what can be done about it, and when it goes on."""
    if one.deleted or one.status in {S.DONE, S.EXEC}:
        return (), None
    found = await explain(call.services.engine, one.id)
    causes = [cause for cause in found.causes if not _is_shown(one, cause)]
    return causes, found.next if any(cause.blocks for cause in causes) else None


def _is_shown(one: Transfer, cause: Cause) -> bool:
    """Tell whether the page already says that with the reason of the transfer."""
    return one.reason is not None and cause.code == one.reason.kind


def possible(row: TransferRow) -> frozenset[str]:
    """Return the verbs that the status allows."""
    status = row.transfer.status
    allowed = {
        "stop": status not in {S.DONE, S.STOP} and not row.transfer.deleted,
        "extend": not row.transfer.deleted,
    }
    if not row.is_gone:
        allowed |= {
            "requeue": status in REQUEUABLE,
            "hold": status is not S.HOLD,
            "release": status is S.HOLD,
            "schedule_now": status in PENDING,
            "prioritise": status is not S.DONE,
        }
    return frozenset(verb for verb, is_allowed in allowed.items() if is_allowed)


# --- actions ------------------------------------------------------------------------------------


async def act(call: Call) -> web.Response:
    """Do what a button of the page says."""
    number, verb = call.number("id", "Transfer"), call.name("verb")
    deed = VERBS.get(verb)
    if deed is None:
        raise NotFound(f"there is no action {verb!r}")
    present = await call.services.transfers.get(number)
    right = DELETE if verb == "delete" else ACT
    call.caller.check(right, present.destination, f"Transfer {number} not found")
    form = await call.form()
    address = own_address(form.get("back", ""), f"/transfers/{number}")
    try:
        text = await deed(call, number, call.caller, form)
    except EcpdsError as error:
        return refused(call, address, error)
    return back(call, address, text)


async def confirm(call: Call) -> web.Response:
    """Ask before a transfer is deleted."""
    told = await _told(call, DELETE)
    now = call.services.core.clock.now()
    return show(
        call,
        "pages/transfer_delete.html",
        row=row_of(told.transfer, call.services.engine, call.caller, now),
        is_last=not told.others,
        destination=segment(told.transfer.destination),
    )


Deed = Callable[[Call, int, Caller, Mapping[str, str]], Awaitable[str]]


async def _requeue(call: Call, number: int, who: Caller, form: Mapping[str, str]) -> str:
    await call.services.transfers.requeue(number, who.actor)
    return "Queued again, with fresh counters."


async def _stop(call: Call, number: int, who: Caller, form: Mapping[str, str]) -> str:
    await call.services.transfers.stop(number, who.actor)
    return "Stopped."


async def _hold(call: Call, number: int, who: Caller, form: Mapping[str, str]) -> str:
    await call.services.transfers.hold(number, who.actor)
    return "Held until somebody releases it."


async def _release(call: Call, number: int, who: Caller, form: Mapping[str, str]) -> str:
    await call.services.transfers.release(number, who.actor)
    return "Released."


async def _schedule_now(call: Call, number: int, who: Caller, form: Mapping[str, str]) -> str:
    await call.services.transfers.schedule_now(number, who.actor)
    return "Due now."


async def _extend(call: Call, number: int, who: Caller, form: Mapping[str, str]) -> str:
    changed = await call.services.transfers.extend(number, who.actor)
    return f"Expires at {changed.expires_at:%Y-%m-%d %H:%M:%S} UTC now."


async def _prioritise(call: Call, number: int, who: Caller, form: Mapping[str, str]) -> str:
    text = form.get("priority", "").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 4):
        raise InputError(f"priority: {text!r} is no number from 0 to 99", pointer="priority")
    changed = await call.services.transfers.prioritise(number, who.actor, int(text))
    return f"Priority {changed.priority} now."


async def _delete(call: Call, number: int, who: Caller, form: Mapping[str, str]) -> str:
    await call.services.transfers.delete(number, who.actor)
    return f"Transfer {number} was deleted."


VERBS: Final[Mapping[str, Deed]] = {
    "requeue": _requeue,
    "stop": _stop,
    "hold": _hold,
    "release": _release,
    "schedule_now": _schedule_now,
    "extend": _extend,
    "prioritise": _prioritise,
    "delete": _delete,
}
