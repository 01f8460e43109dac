"""Mails about transfers and changes, for the destinations that ask for them.

They are read from the history and the audit after the fact, so that no transfer waits for them and
a restart goes on where it stopped; without a destination that asks nothing is read at all.  Many
steps at once become one mail.  Spec: schedulers.md 4.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from ecpds.base.mail import Mail, addresses_in
from ecpds.engine.core import Core, DestinationEntry
from ecpds.model.status import TransferStatus
from ecpds.store import notices, site
from ecpds.store.db import Connection
from ecpds.store.notices import Change, Step

LOOK_EVERY: Final = timedelta(seconds=2)
BATCH: Final = 2_000
MOST_LINES: Final = 200  # of one mail
KEY: Final = "mail.seen"
S = TransferStatus
_FAILED: Final = frozenset({S.STOP, S.FAIL, S.RETR, S.INTR})


@dataclass(slots=True)
class _Letter:
    lines: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, line: str) -> None:
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if len(self.lines) < MOST_LINES:
            self.lines.append(line)


class MailNotices:
    """Writes what happened since the last look."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._seen: tuple[int, int] | None = None  # last history row, last audit row

    async def look(self) -> None:
        """Read on and post what somebody wants to know."""
        wanted = {
            name: entry for name, entry in self._core.snapshot.destinations.items() if asks(entry)
        }
        if not wanted:
            self._seen = None
            return
        if self._seen is None:
            self._seen = await self._core.store.write(first_place, KEY)
        while await self._some(wanted):
            pass

    async def _some(self, wanted: Mapping[str, DestinationEntry]) -> bool:
        assert self._seen is not None  # noqa: S101 - set by `look`
        steps, changes, seen = await self._core.store.read(
            read_on, *self._seen, list(wanted), limit=BATCH
        )
        if seen == self._seen:
            return False
        for name, letter in self._letters(wanted, steps, changes).items():
            await self._post(wanted[name], letter)
        self._core.failpoints.hit("mail.posted")
        self._seen = seen
        await self._core.store.write_lazily(site.set_meta, KEY, f"{seen[0]} {seen[1]}")
        return True

    def _letters(
        self,
        wanted: Mapping[str, DestinationEntry],
        steps: Sequence[Step],
        changes: Sequence[Change],
    ) -> dict[str, _Letter]:
        letters: dict[str, _Letter] = {}
        for step in steps:
            kind = kind_of(step, wanted[step.destination])
            if kind:
                letters.setdefault(step.destination, _Letter()).add(kind, line_of(step, kind))
        for change in changes:
            for name in self._concerned(change, wanted):
                line = f"{shown(change.time)}  {change.action} {change.kind} {change.name}"
                letters.setdefault(name, _Letter()).add("changed", f"{line} by {change.actor}")
        return letters

    def _concerned(self, change: Change, wanted: Mapping[str, DestinationEntry]) -> Sequence[str]:
        if change.kind == "host":
            names: Sequence[str] = self._core.snapshot.users.get(change.name, ())
        else:
            names = (change.destination or change.name,)
        return [
            name for name in names if name in wanted and wanted[name].destination.mail_on_update
        ]

    async def _post(self, entry: DestinationEntry, letter: _Letter) -> None:
        counted = ", ".join(f"{count} {kind}" for kind, count in letter.kinds.items())
        left = sum(letter.kinds.values()) - len(letter.lines)
        more = [f"and {left} more"] if left else []
        await self._core.mailer.post(
            Mail(
                to=addresses_in(entry.destination.user_mail),
                subject=f"[{self._core.node}] {entry.name}: {counted}",
                text="\n".join([*letter.lines, *more, ""]),
            )
        )


def asks(entry: DestinationEntry) -> bool:
    """Tell whether a destination wants any mails and has an address."""
    one = entry.destination
    flags = one.mail_on_start or one.mail_on_end or one.mail_on_error or one.mail_on_update
    return flags and bool(addresses_in(one.user_mail))


def kind_of(step: Step, entry: DestinationEntry) -> str:
    """Return how a step is told, empty when it is not; the first retry is silent."""
    one = entry.destination
    if step.status is S.EXEC:
        return "started" if one.mail_on_start else ""
    if step.status is S.DONE:
        return "done" if one.mail_on_end else ""
    if step.status in _FAILED and step.error and one.mail_on_error:
        is_first_retry = step.status is S.RETR and step.attempts <= 1
        return "" if is_first_retry else "failed"
    return ""


def shown(time: datetime) -> str:
    """Return a time for people, UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def line_of(step: Step, kind: str) -> str:
    """Return one line about a step."""
    where = f" at {step.host}" if step.host else ""
    why = f": {step.comment}" if step.comment else ""
    line = f"{shown(step.time)}  transfer {step.transfer} {step.target} {kind}{where}{why}"
    return line.replace("\n", " ")


def first_place(db: Connection, key: str) -> tuple[int, int]:
    """Return where to go on: where it stopped, or the present end when it never ran."""
    text = site.meta(db, key)
    if text is not None:
        first, _, second = text.partition(" ")
        return int(first), int(second)
    seen = notices.newest(db)
    site.set_meta(db, key, f"{seen[0]} {seen[1]}")
    return seen


def read_on(
    db: Connection, history: int, audit: int, names: Sequence[str], *, limit: int
) -> tuple[list[Step], list[Change], tuple[int, int]]:
    """Return steps of these destinations and changes behind these rows, and the last rows read."""
    steps, last_step = notices.steps_after(db, history, names, limit=limit)
    changes, last_change = notices.changes_after(db, audit, limit=limit)
    return steps, changes, (last_step, last_change)
