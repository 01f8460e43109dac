"""The first page: is the node well, who needs somebody, what runs, what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from aiohttp import web
from cryptography import x509

from ecpds.base.settings import Settings
from ecpds.engine.operations.destinations import DestinationView
from ecpds.engine.operations.hosts import HostView
from ecpds.model.status import DestinationStatus
from ecpds.model.transfer import HistoryRow, Transfer
from ecpds.store import history, outbox, transfers
from ecpds.store.db import Connection
from ecpds.store.incidents import Incident
from ecpds.web import display, plots
from ecpds.web.api.incidents import may as may_know
from ecpds.web.call import Call
from ecpds.web.pages.destinations import needs_attention, told, visible
from ecpds.web.pages.frame import show
from ecpds.web.pages.incidents import CAUSES
from ecpds.web.pages.products import LATE, MISSING, Line, lines_of
from ecpds.web.pages.rows import READ, running_rows
from ecpds.web.pages.storage import rows_of

ERRORS: Final = 20
ERRORS_READ: Final = 200  # steps looked at for those
RUNNING: Final = 20
ALARMS: Final = 50
INCIDENTS: Final = 12
LATEST: Final = 8  # late products
CHIPS: Final = 200
NOTICES: Final = 10_000  # counted up to
SOON: Final = timedelta(days=30)  # a certificate that ends then is red (monitor.md 8)
D = DestinationStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A destination that needs somebody, with why and since when."""

    view: DestinationView
    why: str
    since: datetime | None
    transfer: Transfer | None = None  # that failed last


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Steps that went wrong in the same way."""

    step: HistoryRow  # the latest of its kind
    target: str
    count: int  # how often: same destination, host and text
    first: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One figure of the strip."""

    label: str
    value: str
    unit: str = ""
    note: str = ""
    tone: str = "off"
    address: str = ""
    counter: str = ""  # live counter that it shows


async def index(call: Call) -> web.Response:
    """The overview."""
    services, caller = call.services, call.caller
    now = services.core.clock.now()
    views = await visible(call)
    loud = [view for view in views if needs_attention(view)]
    loud.sort(key=lambda view: (display.URGENCY.index(view.light), view.destination.name))
    failed, troubles = await services.core.store.read(read_troubles, loud[:ALARMS])
    running = running_rows(services.engine, caller, now)
    hosts = [view for view in await services.hosts.views() if view.breaker or view.problem]
    hour = services.pulse.hour()
    return show(
        call,
        "pages/overview.html",
        topics=("dest:*", "transfers:*", "host:*", "counter:node", "incident:*", "product:*"),
        views=views,
        alarms=[_alarm(view, failed) for view in loud],
        hosts=[view for view in hosts if _may_see(call, view)],
        quiet=[view for view in views if not needs_attention(view)],
        running=running,
        troubles=[one for one in troubles if caller.may_on(READ, one.step.destination)][:ERRORS],
        health=await _health(call, views, now),
        plot=plots.bars(hour, told(hour)),
        files=sum(one.files for one in hour),
        failed=sum(one.failed for one in hour),
        moved=sum(one.bytes for one in hour),
        incidents=await _incidents(call, now),
        late=await _late(call, now),
        causes=CAUSES,
        most_alarms=ALARMS,
        most_running=RUNNING,
        most_chips=CHIPS,
    )


async def _incidents(call: Call, now: datetime) -> list[Incident]:
    """Return what is wrong and not muted, as far as the caller may know of it."""
    found = await call.services.incidents.opened()
    return [
        one for one in found
        if not one.is_muted(now) and may_know(call, "destinations:read", one)
    ][:INCIDENTS]  # fmt: skip


async def _late(call: Call, now: datetime) -> list[Line]:
    if not call.caller.may("products:read"):
        return []
    lines = lines_of(await call.services.products.current(), now)
    return [line for line in lines if line.look in {LATE, MISSING}][:LATEST]


def _may_see(call: Call, view: HostView) -> bool:
    return any(call.caller.may_on("hosts:read", name) for name in view.destinations)


def read_troubles(
    db: Connection, views: Sequence[DestinationView]
) -> tuple[dict[str, Transfer], list[Trouble]]:
    """Return the last failed transfer of each destination, and the latest steps with errors."""
    asked = {view.destination.name: view.state.last_failed_id for view in views}
    found = {one.id: one for one in transfers.many(db, [one for one in asked.values() if one])}
    failed = {name: found[number] for name, number in asked.items() if number in found}
    return failed, grouped(db, history.recent_steps(db, limit=ERRORS_READ, errors=True))


def grouped(db: Connection, steps: Sequence[HistoryRow]) -> list[Trouble]:
    """Return errors with those alike taken together, the latest first."""
    alike: dict[tuple[str, str, str], list[HistoryRow]] = {}
    for step in steps:
        text = step.reason.text if step.reason else step.comment
        alike.setdefault((step.destination, step.host, text), []).append(step)
    latest = transfers.many(db, [same[0].transfer for same in alike.values()])
    targets = {one.id: one.target for one in latest}
    return [
        Trouble(
            step=same[0],
            target=targets.get(same[0].transfer, ""),
            count=len(same),
            first=same[-1].time,
        )
        for same in alike.values()
    ]


def _alarm(view: DestinationView, failed: Mapping[str, Transfer]) -> Alarm:
    transfer = failed.get(view.destination.name)
    state, status = view.state, view.status
    why, since = "", state.last_failed_at
    if status is D.STOPPED:
        who = f" by {state.state_by}" if state.state_by else ""
        why, since = f"Stopped{who}.", None
    elif status is D.GAVE_UP:
        why = state.state_reason or display.waits("HOLD")
    elif status is D.NO_HOSTS:
        why, since = display.waits("no-hosts"), None
    elif status in {D.SLEEPING, D.RETRYING}:
        why = display.waits(view.waits_for)
    elif view.outstanding:
        why = _count(view.outstanding)
    elif view.destination.max_inactivity:
        why = f"Nothing delivered for {display.span(view.destination.max_inactivity)} or longer."
        since = state.last_ok_at
    return Alarm(view=view, why=why, since=since, transfer=transfer)


def _count(number: int) -> str:
    return (
        f"{number} transfer is outstanding."
        if number == 1
        else (f"{number} transfers are outstanding.")
    )


# --- the strip ----------------------------------------------------------------------------------


async def _health(call: Call, views: Sequence[DestinationView], now: datetime) -> list[Health]:
    services = call.services
    checks = services.ready()
    wrong = sorted(name for name, check in checks.items() if not check["ok"])
    engine = services.engine
    queued = sum(view.queued for view in views)
    outstanding = sum(view.outstanding for view in views)
    return [
        Health(
            label="Node",
            value="Not ready" if wrong else "Ready",
            note=", ".join(name.replace("_", " ") for name in wrong) or await _notices(call),
            tone="bad" if wrong else "good",
        ),
        Health(
            label="Transferring",
            value=display.count(len(engine.attempts.running)),
            note=_listing(call),
            tone="info" if engine.attempts.running else "off",
            address="/transfers?status=transferring",
            counter="running",
        ),
        Health(
            label="Queued",
            value=display.count(queued),
            note=f"{display.count(outstanding)} outstanding",
            tone="warn" if outstanding else "off",
            address="/transfers?status=queued,requeued",
        ),
        await _storage(call),
        await _certificate(call, now),
    ]


async def _notices(call: Call) -> str:
    """Return how many messages to brokers, webhooks and people wait."""
    core = call.services.core
    waiting = await core.store.read(outbox.waiting, most=NOTICES) + core.mailer.waiting
    return f"{display.count(waiting)} notices wait" if waiting else "all checks pass"


def _listing(call: Call) -> str:
    engine = call.services.engine
    fetching = sum(len(one.meters) for one in engine.retrievals.values())
    listing = sum(one.is_running for one in engine.acquisitions.values())
    return f"{fetching} fetching, {listing} listing"


async def _storage(call: Call) -> Health:
    rows = await rows_of(call, {})
    room, total = sum(max(row.room, 0) for row in rows), sum(row.total for row in rows)
    number, _, unit = display.size(room).partition(" ")
    worst = min(rows, key=lambda row: row.room / row.total if row.total else 0.0)
    tones = {row.tone for row in rows}
    tone = next(one for one in ("bad", "warn", "good") if one in tones)
    used = display.percent(total - room, total)
    note = f"{used} % in use"
    if tone != "good":
        note = f"{worst.volume.name} has {display.size(max(worst.room, 0))} left"
    return Health(
        label="Storage free", value=number, unit=unit, note=note, tone=tone, address="/storage"
    )


async def _certificate(call: Call, now: datetime) -> Health:
    core = call.services.core
    if not core.settings.monitor.tls:
        return Health(label="Certificate", value="none", note="the dashboard is not encrypted")
    ends = await core.threads.run("disk", end_of_certificate, core.settings)
    if ends is None:
        return Health(label="Certificate", value="unreadable", tone="bad")
    left = ends - now
    return Health(
        label="Certificate",
        value=str(max(left.days, 0)),
        unit="days left",
        note=f"until {ends:%Y-%m-%d}",
        tone="bad" if left < SOON else "good",
    )


def end_of_certificate(settings: Settings) -> datetime | None:
    """Return when the certificate of the listeners ends, None when it cannot be read."""
    path = settings.data_dir / "tls" / "certificate.pem"
    if settings.tls.certificate:
        path = Path(settings.tls.certificate)
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None
