"""`/portal/quotas`, `/stats/portal`: what data users moved, and how much they still may."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from ecpds.model.errors import EcpdsError
from ecpds.model.families import PortalOptions
from ecpds.store import accounts, limits, stats
from ecpds.store.db import Connection
from ecpds.store.stats import Moved
from ecpds.vfs.limits import Quota, used_since
from ecpds.vfs.profiles import effective
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.users import read_users
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import FIELDS, LISTED, Query, Route
from ecpds.web.shown import Document

READ: Final = "portal:read"
STATS: Final = "stats:read"
DAYS: Final = 30
MOST_DAYS: Final = 366
GROUPS: Final = ("user", "destination", "protocol", "day", "month")
COLUMNS: Final = ("key", "files", "uploaded", "downloaded", "seconds", "rate")


async def quotas(call: Call) -> web.StreamResponse:
    """List byte quotas with what is used of them now."""
    core = call.services.core
    found = [
        quota
        for name, entry in core.snapshot.destinations.items()
        if call.caller.may_on(READ, name)
        for quota in Quota.of_destination(entry)
    ]
    found += await _of_users(call)
    used = await core.store.read(_used, found, now=core.clock.now())
    items = {}
    for quota, count in zip(found, used, strict=True):
        kind, _, name = quota.holder.partition(":")
        items[f"{quota.holder} {quota.direction}"] = {
            "kind": kind, "name": name, "direction": quota.direction, "limit": quota.most,
            "period": shown.plain(quota.period), "used": count,
            "left": max(quota.most - count, 0),
        }  # fmt: skip
    return answers.named(call, items)


async def _of_users(call: Call) -> list[Quota]:
    core, caller = call.services.core, call.caller
    found: list[Quota] = []
    policies = {one.name: one for one in await core.store.read(accounts.policies)}
    for stored, names, _ in await core.store.read(read_users):
        if not caller.may_everywhere(READ) and not any(caller.may_on(READ, n) for n in names):
            continue
        own = [policies[name] for name in stored.user.policies if name in policies]
        texts = effective(stored, own, core.snapshot).options
        if not any("Bytes" in key for key in texts):
            continue
        try:
            options = PortalOptions.read(core.configuration.opened(texts))
        except EcpdsError:
            continue  # the incident of that user tells why it cannot log in
        found += Quota.of_user(stored.user.login, options)
    return found


def _used(db: Connection, quotas: Iterable[Quota], *, now: datetime) -> list[int]:
    return [
        sum(count for _, count in limits.buckets(
            db, one.holder, one.direction, since=used_since(one, now)))
        for one in quotas
    ]  # fmt: skip


# --- traffic -------------------------------------------------------------------------------------


async def traffic(call: Call) -> web.StreamResponse:
    """Return what data users moved, summed by user, destination, protocol, day or month."""
    grouping = call.text("group_by") or "user"
    if grouping not in GROUPS:
        raise Refused(400, "bad-parameter", f"group_by: {grouping!r} is none of {GROUPS}")
    now = call.services.core.clock.now()
    until = call.time("until") or now
    since = call.time("since") or until - timedelta(days=DAYS)
    if not timedelta(0) <= until - since <= timedelta(days=MOST_DAYS):
        raise Refused(400, "bad-parameter", f"since and until: 0 to {MOST_DAYS} days")
    rows = await call.services.core.store.read(stats.moved, since=since, until=until)
    mine = [one for one in rows if call.caller.may_on(STATS, one.destination)]
    items = _summed(mine, grouping)
    form = call.text("format") or "json"
    if form == "csv":
        return _csv(items)
    if form != "json":
        raise Refused(400, "bad-parameter", f"format: {form!r} is neither json nor csv")
    return answers.page(call, items, None)


def _key(one: Moved, grouping: str) -> str:
    texts = {"user": one.user, "destination": one.destination, "protocol": one.protocol,
             "day": one.day.isoformat(), "month": one.day.isoformat()[:7]}  # fmt: skip
    return texts[grouping]


def _summed(rows: Iterable[Moved], grouping: str) -> list[Document]:
    sums: dict[str, list[Moved]] = {}
    for one in rows:
        sums.setdefault(_key(one, grouping), []).append(one)
    items = []
    for key, several in sorted(sums.items()):
        size = sum(one.bytes for one in several)
        seconds = sum(one.duration.total_seconds() for one in several)
        up = sum(one.bytes for one in several if one.action == "upload")
        items.append(
            {"key": key, "files": sum(one.files for one in several), "uploaded": up,
             "downloaded": size - up, "seconds": round(seconds, 3),
             "rate": round(size / seconds) if seconds else None}
        )  # fmt: skip
    return items


def _csv(items: list[Document]) -> web.Response:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for item in items:
        key = item["key"]
        is_formula = key[:1] in {"=", "+", "-", "@"}
        writer.writerow(item | {"key": f"'{key}" if is_formula else key})
    return web.Response(
        text=text.getvalue(), content_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="portal.csv"'},
    )  # fmt: skip


_TRAFFIC: Final = (
    Query(name="since", help="From that time on; P7D: 7 days ago. Default: 30 days.",
          type="time"),
    Query(name="until", help="Before that time.", type="time"),
    Query(name="group_by", help="user (default), destination, protocol, day or month."),
    Query(name="format", help="json (default) or csv."),
)  # fmt: skip

ROUTES: Final = (
    Route(method="GET", path="/api/v2/portal/quotas", right=READ, handle=quotas, query=LISTED,
          summary="Byte quotas of data users and destinations, and what is used of them.",
          answer="[Quota]"),
    Route(method="GET", path="/api/v2/stats/portal", right=STATS, handle=traffic,
          query=(FIELDS, *_TRAFFIC), answer="[Traffic]",
          summary="What data users moved, summed; JSON or CSV."),
)  # fmt: skip
