"""One verb on many transfers: ticked ones, or all that a list has found, as a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from ecpds.engine.operations.jobs import MOST_IDS, VERBS, Selection
from ecpds.model.errors import EcpdsError, InputError, NotFound
from ecpds.store import outstanding
from ecpds.web.call import Call
from ecpds.web.pages import lists
from ecpds.web.pages.addresses import post
from ecpds.web.pages.frame import back, own_address, refused, show
from ecpds.web.pages.rows import READ, row_of

OPERATE: Final = "transfers:operate"
WRITE: Final = "transfers:write"
WORDS: Final[Mapping[str, str]] = {
    "requeue": "Requeue", "stop": "Stop", "hold": "Hold", "release": "Release",
    "schedule_now": "Schedule now", "extend": "Extend by a day", "prioritise": "Set priority",
    "delete": "Delete",
}  # fmt: skip
FILTER: Final = ("q", "dest", "status", "from", "to")
FEW: Final = 50  # ticked transfers that need no second question, unless they are deleted


def verbs_of(call: Call) -> list[tuple[str, str]]:
    """Return the verbs that the caller may use somewhere, with their words."""
    return [
        (verb, WORDS[verb])
        for verb in VERBS
        if call.caller.may(WRITE if verb == "delete" else OPERATE)
    ]


async def ask(call: Call) -> web.Response:
    """Start the job, after a question when it is about many."""
    pairs = await call.form_pairs()
    form = dict(pairs)
    address = own_address(form.get("back", ""), "/transfers")
    verb = form.get("verb", "")
    if verb not in VERBS:
        return refused(call, address, InputError("Choose what to do with them"))
    try:
        selection = await _selection(call, verb, form, [v for k, v in pairs if k == "id"])
        is_few = 0 < len(selection.ids) <= FEW and form.get("what") != "found"
        if form.get("sure") != "yes" and (verb == "delete" or not is_few):
            return await _question(call, verb, selection, form, address)
        job = await call.services.jobs.create(verb, selection, call.caller.actor)
    except EcpdsError as error:
        return refused(call, address, error)
    return back(call, f"/jobs/{job.id}")


async def _selection(
    call: Call, verb: str, form: Mapping[str, str], ticked: Sequence[str]
) -> Selection:
    caller, right = call.caller, WRITE if verb == "delete" else OPERATE
    scope = None
    if not caller.may_everywhere(right):
        names = call.services.core.snapshot.destinations
        scope = tuple(name for name in names if caller.may_on(right, name))
    priority = None
    if verb == "prioritise":
        text = form.get("priority", "").strip()
        if not (text.isascii() and text.isdigit() and int(text[:4]) <= 99):
            raise InputError(f"priority: {text[:20]!r} is no number from 0 to 99")
        priority = int(text)
    if form.get("what") != "found":
        return Selection(ids=_ids(ticked), scope=scope, priority=priority)
    if form.get("list") == "outstanding":
        found = await call.services.core.store.read(
            outstanding.page, limit=MOST_IDS, destination=form.get("dest") or None
        )
        if not found:
            raise NotFound("nothing is outstanding any more")
        return Selection(ids=tuple(one.id for one in found), scope=scope, priority=priority)
    destination = form.get("dest", "")
    if destination:
        caller.check(right, destination)
    statuses = tuple(word.strip() for word in form.get("status", "").split(",") if word.strip())
    since, until = (lists.moment_of(call, key, form.get(key, "")) for key in ("from", "to"))
    has_any = any(form.get(key) for key in FILTER)
    return Selection(
        q=form.get("q", "") if has_any else "target=*", destination=destination,
        status=statuses, since=since, until=until, scope=scope, priority=priority,
    )  # fmt: skip


def _ids(ticked: Sequence[str]) -> tuple[int, ...]:
    found = [int(text) for text in ticked if text.isascii() and text.isdigit() and len(text) < 19]
    if not found:
        raise InputError("Tick the transfers first, or choose all that were found")
    return tuple(dict.fromkeys(found))


async def _question(
    call: Call, verb: str, selection: Selection, form: Mapping[str, str], address: str
) -> web.Response:
    tried = await call.services.jobs.try_out(selection)
    if not tried.total:
        raise InputError("No transfer fits that you may change")
    services, now = call.services, call.services.core.clock.now()
    kept = {key: form[key] for key in (*FILTER, "list", "verb", "priority", "what", "back")
            if key in form}  # fmt: skip
    return show(
        call,
        "pages/bulk.html",
        word=WORDS[verb],
        verb=verb,
        tried=tried,
        ids=selection.ids if form.get("what") != "found" else (),
        rows=[row_of(one, services.engine, call.caller, now) for one in tried.sample
              if call.caller.may_on(READ, one.destination)],
        kept=kept,
        address=address,
        priority=selection.priority,
    )  # fmt: skip


ROUTES: Final = (post("/transfers/bulk", OPERATE, ask, "One verb on many transfers."),)
