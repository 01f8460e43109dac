"""What is wrong with the node now, kept as incidents: opened when seen, closed when gone.

Every few seconds all causes are looked at and compared with what is open.  So nothing has to tell
of its recovery, a restart loses nothing, and a cause that is seen a thousand times is one row.
Spec: monitor.md 10 and 11 (alarms grouped by cause), interface.md 8 (imported texts).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from ecpds.base.logs import get_logger
from ecpds.engine.telling import Teller
from ecpds.model.errors import ConfigError
from ecpds.model.status import StoredState
from ecpds.objects.volume import Volume
from ecpds.store import incidents, webhooks
from ecpds.store.db import Connection
from ecpds.store.incidents import Problem

if TYPE_CHECKING:
    from ecpds.engine.supervisor import Engine

log = get_logger(__name__)

LOOK_EVERY: Final = timedelta(seconds=5)
FORGET_EVERY: Final = timedelta(hours=1)
KEPT_FOR: Final = timedelta(days=90)
NARROW: Final = 0.1  # of a volume left
CERTIFICATE_SOON: Final = timedelta(days=30)
CERTIFICATE_NOW: Final = timedelta(days=7)
LONGEST: Final = 500  # characters of a text
SEVERITIES: Final = ("critical", "error", "warning")
_FAILED: Final = {StoredState.HOLD, StoredState.FAIL}


class Incidents:
    """Compares what is wrong with what is open."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core
        self._teller = Teller(node=engine.core.node)
        self._open: dict[str, Problem] | None = None  # by key, as they are stored
        self._forgot_at: datetime | None = None

    async def look(self) -> None:
        """Open, update and close what has changed since the last look."""
        core, now = self._core, self._core.clock.now()
        if self._open is None:
            stored = await core.store.read(incidents.opened)
            self._open = {one.problem.key: one.problem for one in stored}
        failed = await core.store.read(incidents.failed_publications)
        found = {one.key: one for one in self.problems(now, failed)}
        found |= {one.key: one for one in await self._slow(now)}
        changed = [one for key, one in found.items() if self._open.get(key) != one]
        gone = [key for key in self._open if key not in found]
        if changed or gone:
            await core.store.write(self._store, changed, gone, now)
            self._log(changed, gone)
            self._open = found
            core.bus.tell("incident", "")
        if self._forgot_at is None or now - self._forgot_at >= FORGET_EVERY:
            self._forgot_at = now
            await core.store.write(incidents.purge, before=now - KEPT_FOR, now=now)

    def _store(
        self, db: Connection, changed: list[Problem], gone: list[str], now: datetime
    ) -> None:
        known = self._open or {}
        for one in changed:
            incidents.raise_one(db, one, now=now)
            if one.key not in known:
                self._tell(db, "incident-open", one, now)
        incidents.resolve(db, gone, now=now)
        for key in gone:
            self._tell(db, "incident-close", known[key], now)

    def _tell(self, db: Connection, action: str, one: Problem, now: datetime) -> None:
        self._teller.plain(
            db, "SYS", now=now, action=action,
            object={"kind": one.subject_kind, "name": one.subject},
            context=f"{one.kind}: {one.text}", severity=one.severity,
        )  # fmt: skip

    def _log(self, changed: list[Problem], gone: list[str]) -> None:
        known = self._open or {}
        for one in changed:
            if one.key not in known:
                log.warning("incident opened", incident=one.key, reason=one.text)
        for key in gone:
            log.info("incident closed", incident=key)

    # --- causes -----------------------------------------------------------------------------

    def problems(self, now: datetime, failed: dict[str, tuple[int, int]]) -> Iterator[Problem]:
        """Yield what memory knows; `failed` are the publications of the store."""
        del now
        yield from self._hosts()
        yield from self._destinations()
        for name, (number, _) in failed.items():
            text = f"{number} publications failed, the last of them included"
            yield _of("publication", "destination", name, "error", text)

    def _hosts(self) -> Iterator[Problem]:
        for name, entry in self._core.snapshot.hosts.items():
            if not entry.host.active:
                continue
            if entry.problem:
                yield _of("text", "host", name, "error", f"cannot be used: {entry.problem}")
                continue
            reason = self._engine.breakers.open_reason(name, version=entry.version)
            if reason is not None:
                yield _of("breaker", "host", name, "error", reason.text or reason.kind)
        for (destination, host), one in self._engine.acquisitions.items():
            if one.last is not None and one.last.errors:
                text = f"discovery for {destination} fails: {one.last.errors[0]}"
                yield _of("acquisition", "host", host, "error", text)

    def _destinations(self) -> Iterator[Problem]:
        late = self._engine.watches.lateness.late
        for name, entry in self._core.snapshot.destinations.items():
            for field, text in entry.problems.items():
                message = f"{field} cannot be read and denies what it decides about: {text}"
                yield _of("text", "destination", name, "warning", message)
                break  # one is enough; the page of the destination lists all
            if not entry.destination.active:
                continue
            if entry.state in _FAILED:
                text = "gave up after failures; start it when the cause is removed"
                yield _of("gave-up", "destination", name, "critical", text)
            if name in late:
                text = "transfers are more than 10 minutes past their scheduled time"
                yield _of("late", "destination", name, "warning", text)

    async def _slow(self, now: datetime) -> list[Problem]:
        """Return what the file system knows."""
        threads = self._core.threads
        found = []
        for volume in self._core.objects.volumes:
            problem = await threads.run("disk", storage_problem, volume)
            found += [problem] if problem is not None else []
        certificates = self._core.certificates
        if certificates is not None:
            try:
                ends = await threads.run("disk", certificates.expires_at)
            except (OSError, ValueError, ConfigError) as error:
                text = f"the certificate of the listeners cannot be read: {error}"
                found.append(_of("certificate", "certificate", "tls", "error", text))
            else:
                found += certificate_problem(ends, now)
        for name, why in await self._core.store.read(webhooks.given_up):
            text = f"switched off because it failed for days: {why}"
            found.append(_of("webhook", "webhook", name, "warning", text))
        return found


def storage_problem(volume: Volume) -> Problem | None:
    """Return what is wrong with the room of a volume; asks the file system."""
    room, total = volume.room, volume.total
    if room <= 0:
        text = "nothing can be stored any more: the reserve is reached"
        return _of("storage", "volume", volume.name, "critical", text)
    if total and room < total * NARROW:
        return _of("storage", "volume", volume.name, "warning", "less than 10 % is left")
    return None


def certificate_problem(ends: datetime, now: datetime) -> list[Problem]:
    """Return what is wrong with a certificate that ends then."""
    left = ends - now
    if left > CERTIFICATE_SOON:
        return []
    severity = "critical" if left <= timedelta(0) else "warning"
    severity = "error" if timedelta(0) < left <= CERTIFICATE_NOW else severity
    verb = "ended" if left <= timedelta(0) else "ends"
    text = f"the certificate of the listeners {verb} on {ends:%Y-%m-%d %H:%M} UTC"
    return [_of("certificate", "certificate", "tls", severity, text)]


def _of(kind: str, subject_kind: str, subject: str, severity: str, text: str) -> Problem:
    return Problem(
        kind=kind,
        subject_kind=subject_kind,
        subject=subject,
        severity=severity,
        text=text[:LONGEST],
    )
