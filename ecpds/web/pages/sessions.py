"""Who is logged in at the portal, who is kept out and why, who has registered, what was moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from ecpds.engine.operations.actor import record
from ecpds.engine.telling import Teller
from ecpds.model.account import Service
from ecpds.model.errors import NotFound
from ecpds.store import history
from ecpds.store.history import Incoming
from ecpds.vfs.gate import SessionInfo
from ecpds.web.api.users import READ, read_users
from ecpds.web.call import Call, cursor_of
from ecpds.web.pages import lists
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.frame import back, show

OPERATE: Final = "portal:operate"
SESSIONS: Final = "/portal/sessions"
BANS: Final = "/portal/bans"


async def users_of(call: Call) -> dict[str, set[str]]:
    """Return the users of the caller's scope with their destinations."""
    everywhere = call.caller.may_everywhere(READ)
    return {
        stored.user.login: names
        for stored, names, _ in await call.services.core.store.read(read_users)
        if everywhere or any(call.caller.may_on(READ, name) for name in names)
    }


async def sessions(call: Call) -> web.Response:
    """Open sessions of the users in the caller's scope."""
    known = await users_of(call)
    wanted = call.text("user")
    rows: Sequence[SessionInfo] = [
        one for one in call.services.gate.sessions()
        if one.user in known and wanted in ("", one.user)
    ]  # fmt: skip
    return show(
        call, "pages/sessions.html", topics=("account:*",), rows=rows,
        may_end=call.caller.may_everywhere(OPERATE),
    )  # fmt: skip


async def end_session(call: Call) -> web.Response:
    """Hang up on one session."""
    call.caller.check_everywhere(OPERATE)
    number = call.number("session", "Session")
    if not call.services.gate.end_session(number):
        return back(call, SESSIONS, "That session is over already.", tone="info")
    await _recorded(call, "end-session", "session", str(number))
    return back(call, SESSIONS, "The session was ended.")


async def _recorded(call: Call, action: str, kind: str, name: str) -> None:
    core = call.services.core
    await core.store.write(
        record, call.caller.actor, action, kind, name, {}, Teller(node=core.node),
        now=core.clock.now(),
    )  # fmt: skip


async def bans(call: Call) -> web.Response:
    """Addresses that are kept out, and how that comes about."""
    call.caller.check_everywhere(READ)
    return show(
        call, "pages/bans.html", rows=await call.services.gate.bans(),
        rules=call.services.core.settings.security,
        may_act=call.caller.may_everywhere(OPERATE),
    )  # fmt: skip


async def unban(call: Call) -> web.Response:
    """Let an address in again."""
    call.caller.check_everywhere(OPERATE)
    address = (await call.form()).get("address", "").strip()
    if not await call.services.gate.unban(address[:100]):
        return back(call, BANS, f"{address[:100]} is not banned.", tone="info")
    await _recorded(call, "unban", "address", address[:100])
    return back(call, BANS, f"{address} may log in again.")


async def subscribers(call: Call) -> web.Response:
    """The people behind all self-service users, those who wait first."""
    known = await users_of(call)
    rows = []
    for stored in await call.services.accounts.users():
        if stored.user.login in known and stored.user.service is Service.SELF:
            rows += await call.services.subscribers.of(stored.user.login)
    rows.sort(key=lambda one: (one.active, one.is_waiting, one.created_at))
    return show(call, "pages/subscribers.html", topics=("account:*",), rows=rows[: lists.MOST])


async def past(call: Call) -> web.Response:
    """Uploads and downloads, newest first."""
    wanted, before, form = call.text("user"), call.before, lists.wanted(call)
    limit = lists.limit_of(call)
    known = await users_of(call)
    if wanted and wanted not in known:
        raise NotFound(f"Data user {wanted} not found")
    rows = await call.services.core.store.read(
        history.incoming, limit=limit + 1, before=before, user=wanted or None
    )
    cursor = cursor_of(rows[limit - 1][0]) if len(rows) > limit else None
    seen = [one for _, one in rows[:limit] if _may_see(call, one)]
    if form == "csv":
        heads = ("time", "user", "destination", "action", "protocol", "peer", "file", "bytes",
                 "seconds", "outcome")  # fmt: skip
        return lists.as_csv("portal-history", heads, (_cells(one) for one in seen))
    if form == "json":
        return lists.as_json([dict(zip(_HEADS, _cells(one), strict=True)) for one in seen], cursor)
    return show(
        call, "pages/portal_history.html", rows=seen, cursor=cursor, users=sorted(known),
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


_HEADS: Final = (
    "time", "user", "destination", "action", "protocol", "peer", "file", "bytes", "seconds",
    "outcome",
)  # fmt: skip


def _may_see(call: Call, one: Incoming) -> bool:
    return call.caller.may_everywhere(READ) or call.caller.may_on(READ, one.destination)


def _cells(one: Incoming) -> tuple[object, ...]:
    return (
        f"{one.time:%Y-%m-%dT%H:%M:%SZ}", one.user, one.destination, one.action, one.protocol,
        one.peer, one.file_name, one.bytes, round(one.duration.total_seconds(), 3), one.outcome,
    )  # fmt: skip


ROUTES: Final = (
    get(SESSIONS, READ, sessions, "Open sessions of the portal."),
    post(SESSIONS + "/{session}/actions/end", OPERATE, end_session, "Hang up on a session."),
    get(BANS, READ, bans, "Addresses that are kept out."),
    post(BANS + "/actions/unban", OPERATE, unban, "Let an address in again."),
    get("/portal/subscribers", READ, subscribers, "People who have registered."),
    get("/portal/history", READ, past, "Uploads and downloads."),
)  # fmt: skip
