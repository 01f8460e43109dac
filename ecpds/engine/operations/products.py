"""What producers report of their products; each accepted report is a row and a PRS event."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ecpds.engine.operations.actor import Actor
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller, stamp
from ecpds.model.errors import InputError, NotFound
from ecpds.model.product import Outcome, ProductEntry, ProductKey, ProductState, outcome_of
from ecpds.store import products
from ecpds.store.db import Connection

LONGEST = 25  # characters of stream and type, 16 of time (cli.md section 6)
MISSING = "Product status not found (-at option required)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What somebody says of one product."""

    key: ProductKey
    state: ProductState
    scheduled_at: datetime | None = None
    time_base: datetime | None = None
    buffer: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What became of it; `entry` is the one that counts now."""

    outcome: Outcome
    message: str
    entry: ProductEntry | None


class ProductOperations:
    """Verbs on product status."""

    def __init__(self, engine: Engine) -> None:
        self._core = engine.core
        self._teller = Teller(node=engine.core.node)

    async def report(self, report: Report, actor: Actor) -> Reported:
        """Take a report; the ones that the table of cli.md 7 ignores change nothing.

        Raises InputError; NotFound when nothing is known, no schedule is given, and
        `scheduler.ignore_missing_schedule` is off.
        """
        check_key(report.key)
        now = self._core.clock.now()
        found = await self._core.store.write(store_report, report, self._teller, now=now)
        strict = not self._core.settings.scheduler.ignore_missing_schedule
        if found.outcome == "missing" and strict:
            raise NotFound(found.message)
        if found.outcome in {"created", "updated"}:
            self._core.bus.tell("product", report.key.stream)
        del actor  # a producer is in the audit through its token
        return found

    async def reset(
        self, actor: Actor, *, stream: str = "", time: str = "", step: int | None = None
    ) -> int:
        """Forget products: one stream and time (and step), or all; return how many."""
        if bool(stream) != bool(time) or (step is not None and not stream):
            raise InputError("Missing metadata value(s) (stream and/or time)")
        count = await self._core.store.write(
            products.reset, stream=stream or None, time=time or None, step=step
        )
        self._core.bus.tell("product", stream)
        del actor
        return count

    async def current(self, *, stream: str = "", time: str = "") -> list[ProductEntry]:
        """Return what counts, by stream, time, step and type."""
        return await self._core.store.read(
            products.current, stream=stream or None, time=time or None
        )

    async def history(self, key: ProductKey) -> list[ProductEntry]:
        """Return all reports of one product, newest first; NotFound."""
        found = await self._core.store.read(products.history, key)
        if not found:
            raise NotFound(f"nothing is known of {key.stream} {key.time} step {key.step}")
        return found


def check_key(key: ProductKey) -> None:
    """Raise InputError for a key that no product has."""
    if not key.stream or not key.time or key.step < 0:
        raise InputError("Missing metadata value(s) (stream, time and/or step)")
    for name, text, most in (
        ("stream", key.stream, LONGEST * 2),
        ("time", key.time, 16),
        ("type", key.type, LONGEST),
    ):
        if len(text) > most:
            raise InputError(f"{name} has more than {most} characters", pointer=name)


def store_report(db: Connection, report: Report, teller: Teller, *, now: datetime) -> Reported:
    """Decide and write in one transaction."""
    present = products.latest(db, report.key)
    outcome, why = outcome_of(present, report.state, report.scheduled_at)
    if outcome == "missing":
        _tell(db, teller, report, None, MISSING, now=now)
        return Reported(outcome=outcome, message=MISSING, entry=None)
    if outcome == "ignored":
        message = f"Product status {why} (notification ignored)"
        _tell(db, teller, report, present, message, now=now)
        return Reported(outcome=outcome, message=message, entry=present)
    entry = _entry(present, report, now)
    entry = replace(entry, id=products.add(db, entry))
    _tell(db, teller, report, entry, "", now=now)
    done = "created as" if outcome == "created" else "updated to"
    message = f"Product status {done} {entry.state.label} (ProductId={entry.id})"
    return Reported(outcome=outcome, message=message, entry=entry)


def _entry(present: ProductEntry | None, report: Report, now: datetime) -> ProductEntry:
    known_schedule = present.scheduled_at if present else None
    known_base = present.time_base if present else None
    known_buffer = present.buffer if present else timedelta(0)
    return ProductEntry(
        key=report.key,
        state=report.state,
        scheduled_at=report.scheduled_at or known_schedule,
        time_base=report.time_base or known_base,
        buffer=known_buffer if report.buffer is None else report.buffer,
        updated_at=now,
    )


def _tell(
    db: Connection,
    teller: Teller,
    report: Report,
    entry: ProductEntry | None,
    message: str,
    *,
    now: datetime,
) -> None:
    key, base = report.key, entry.time_base if entry else report.time_base
    fields: dict[str, Any] = {
        "status": (entry.state if entry else report.state).code,
        "meta": {
            "stream": key.stream,
            "type": key.type or None,
            "time": key.time,
            "base": stamp(base),
            "step": key.step,
        },
        "scheduled": stamp(entry.scheduled_at) if entry else None,
        "finished": stamp(entry.updated_at) if entry else None,
        "outcome": "ignored" if message else "ok",
    }
    if message:
        fields["error"] = {"code": "ignored", "message": message, "retryable": False}
    teller.plain(db, "PRS", now=now, **fields)
