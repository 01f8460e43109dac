"""Transfers as lists and pages show them: the stored row, and what runs just now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ecpds.engine.attempt import Running
from ecpds.engine.supervisor import Engine
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.web.display import TRANSFERS, Look
from ecpds.web.rights import Caller

READ = "transfers:read"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRow:
    """One transfer for a caller."""

    transfer: Transfer
    look: Look
    size: int  # bytes, -1 unknown or not to be seen yet
    moved: int | None  # bytes of the attempt that runs, None when none does
    rate: float | None  # bytes per second of that attempt
    host: str
    since: datetime | None  # start of that attempt
    is_expired: bool

    @property
    def id(self) -> int:
        """Return the id of the transfer."""
        return self.transfer.id

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be done with it any more."""
        return self.transfer.deleted or self.is_expired


def row_of(transfer: Transfer, engine: Engine, caller: Caller, now: datetime) -> TransferRow:
    """Return a transfer as the caller may see it."""
    running = engine.attempts.running.get(transfer.id)
    shown = TRANSFERS[transfer.status]
    is_planned = caller.is_restricted and transfer.scheduled_at > now
    if is_planned and transfer.status is TransferStatus.WAIT:
        shown = Look("Planned", shown.icon, shown.tone)
    moved, rate, since = _live(running)
    return TransferRow(
        transfer=transfer,
        look=shown,
        size=-1 if is_planned else transfer.size,
        moved=moved,
        rate=rate,
        host=running.claimed.host.name if running else transfer.host,
        since=since,
        is_expired=transfer.expires_at <= now,
    )


def _live(running: Running | None) -> tuple[int | None, float | None, datetime | None]:
    if running is None:
        return None, None, None
    return running.meter.moved, running.meter.rate(), running.claimed.started_at


def running_rows(
    engine: Engine, caller: Caller, now: datetime, *, destination: str | None = None
) -> list[TransferRow]:
    """Return what is being sent, the longest running first."""
    found: Iterable[Transfer] = (
        one.claimed.transfer
        for one in engine.attempts.running.values()
        if destination in (None, one.claimed.entry.name)
        and caller.may_on(READ, one.claimed.entry.name)
    )
    rows = [row_of(transfer, engine, caller, now) for transfer in found]
    return sorted(rows, key=lambda row: (row.since or now, row.id))
