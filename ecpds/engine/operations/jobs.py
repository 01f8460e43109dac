"""One verb on many transfers: a job in the store that goes on after a restart, batch by batch.

Transfers are taken newest first; the id below which none was looked at yet is stored after each
batch.  A crash repeats at most one batch, and the verbs refuse what is done already.  Who asked may
act on the destinations that were in the scope then, and on no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from ecpds.base.logs import get_logger
from ecpds.engine.operations.actor import Actor, record
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.model import query
from ecpds.model.errors import BadState, Busy, EcpdsError, InputError, NotFound
from ecpds.model.names import nearest
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.model.transferquery import KEYS, matches
from ecpds.store import jobs, transfers
from ecpds.store.db import Connection
from ecpds.store.jobs import Job

log = get_logger(__name__)

BATCH: Final = 200
AT_ONCE: Final = 50  # verbs under way: the store takes them in one commit
MOST_IDS: Final = 10_000
MOST_COUNTED: Final = 10_000
MOST_ERRORS: Final = 100
SAMPLE: Final = 20
KEPT_FOR: Final = timedelta(days=30)
END: Final = 2**62
VERBS: Final = (
    "requeue", "stop", "hold", "release", "schedule_now", "extend", "prioritise", "delete",
)  # fmt: skip
_SKIPPED = (BadState, Busy, NotFound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which transfers: named by id, or all that fit."""

    ids: tuple[int, ...] = ()
    q: str = ""
    destination: str = ""
    status: tuple[str, ...] = ()
    target: str = ""  # glob
    host: str = ""
    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None
    scope: tuple[str, ...] | None = None  # destinations of the caller, None: all
    priority: int | None = None

    def check(self) -> None:
        """Raise InputError for what cannot be meant."""
        named = (self.q, self.destination, self.status, self.target, self.host, self.since,
                 self.until)  # fmt: skip
        if self.ids and any(named):
            raise InputError("ids or a filter, not both", pointer="ids")
        if not self.ids and not any(named):
            raise InputError("name ids, q or another filter; q = target=* means all", pointer="q")
        if len(self.ids) > MOST_IDS:
            raise InputError(f"at most {MOST_IDS} ids", pointer="ids")
        query.parse(self.q, KEYS, "target")
        self.statuses()

    def statuses(self) -> list[TransferStatus]:
        """Return the statuses asked for; InputError names the nearest."""
        found = []
        for word in self.status:
            try:
                found.append(TransferStatus.of_word(word))
            except KeyError:
                near = nearest(word, [one.word for one in TransferStatus])
                hint = f" (did you mean {near!r}?)" if near else ""
                raise InputError(f"there is no status {word!r}{hint}", pointer="status") from None
        return found

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        found = {key: value for key, value in asdict(self).items() if value not in (None, "", ())}
        return {
            key: value.isoformat() if isinstance(value, datetime) else value
            for key, value in found.items()
        } | ({"scope": list(self.scope)} if self.scope is not None else {})

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Selection:
        """Read what `document` gave."""
        given = dict(document)
        for key in ("since", "until"):
            if key in given:
                given[key] = datetime.fromisoformat(given[key])
        for key in ("ids", "status", "scope"):
            if key in given:
                given[key] = tuple(given[key])
        return cls(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a job would do."""

    total: int
    total_is_minimum: bool
    sample: Sequence[Transfer]


class JobOperations:
    """Makes jobs, tells of them, and works on those that run."""

    def __init__(self, engine: Engine, verbs: TransferOperations) -> None:
        self._engine = engine
        self._core = engine.core
        self._verbs = verbs
        self._teller = Teller(node=engine.core.node)
        self._wake = asyncio.Event()

    # --- asking -----------------------------------------------------------------------------

    async def try_out(self, selection: Selection) -> Tried:
        """Count what a job would look at, up to ten thousand; InputError."""
        selection.check()
        total, sample, position = 0, list[Transfer](), END
        most = min(selection.limit or MOST_COUNTED, MOST_COUNTED)
        while total < most:
            found, position = await self._look(selection, position, most - total)
            total += len(found)
            sample += found[: SAMPLE - len(sample)]
            if position == 0:
                break
        more = position > 0 and total >= MOST_COUNTED and selection.limit != MOST_COUNTED
        return Tried(total=total, total_is_minimum=more, sample=sample)

    async def create(self, verb: str, selection: Selection, actor: Actor) -> Job:
        """Start a job; InputError for an unknown verb, a bad filter or priority."""
        if verb not in VERBS:
            near = nearest(verb, VERBS)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise NotFound(f"there is no bulk action {verb!r}{hint}")
        if verb == "prioritise" and not (
            selection.priority is not None and 0 <= selection.priority <= 99
        ):
            raise InputError("priority is not in 0..99", pointer="priority")
        tried = await self.try_out(selection)
        now = self._core.clock.now()
        job = Job(
            verb=verb,
            request=selection.document(),
            actor=asdict(actor),
            position=END,
            total=tried.total,
            total_is_minimum=tried.total_is_minimum,
            created_at=now,
            updated_at=now,
        )
        number = await self._core.store.write(store_job, job, actor, self._teller, now=now)
        self._wake.set()
        return replace(job, id=number)

    async def get(self, number: int) -> Job:
        """Return one job; NotFound."""
        found = await self._core.store.read(jobs.get, number)
        if found is None:
            raise NotFound(f"Job {number} not found")
        return found

    async def page(self, *, before: int | None, limit: int) -> list[Job]:
        """Return jobs, newest first."""
        return await self._core.store.read(jobs.page, before=before, limit=limit)

    async def cancel(self, number: int) -> Job:
        """End a running job; what it has done stays done.  BadState when it does not run."""
        now = self._core.clock.now()
        if not await self._core.store.write(jobs.cancel, number, now=now):
            found = await self.get(number)
            raise BadState(f"the job is {found.state}", status=found.state)
        return await self.get(number)

    # --- working ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled; jobs take turns, batch by batch."""
        while True:
            self._wake.clear()
            todo = await self._core.store.read(jobs.running)
            for job in todo:
                await self._step(job)
            if not todo:
                await self._core.store.write_lazily(
                    jobs.forget, before=self._core.clock.now() - KEPT_FOR
                )
                await self._wake.wait()

    async def _step(self, job: Job) -> None:
        try:
            changed = await self._batch(job)
        except EcpdsError as error:
            log.warning("job failed", job=job.id, reason=error.message)
            failure = {"id": None, "code": error.code, "message": error.message}
            changed = replace(job, state="failed", errors=(*job.errors, failure))
        self._core.failpoints.hit("job.acted")
        await self._core.store.write(jobs.save, changed, now=self._core.clock.now())
        self._core.failpoints.hit("job.saved")
        self._core.bus.tell("job", job.id)

    async def _batch(self, job: Job) -> Job:
        selection = Selection.of(job.request)
        left = BATCH
        if selection.limit is not None:
            left = min(BATCH, selection.limit - job.done - job.skipped - job.failed)
        found, position = await self._look(selection, job.position, max(left, 0))
        outcome = _Outcome(job, by_id=bool(selection.ids))
        act = self._act(job.verb, selection, Actor(**job.actor))
        for start in range(0, len(found), AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for one in found[start : start + AT_ONCE]:
                    group.create_task(outcome.of(one.id, act(one.id)))
        taken = job.done + job.skipped + job.failed + len(found)
        over = position == 0 or (selection.limit is not None and taken >= selection.limit)
        return outcome.job(position, over=over)

    def _act(
        self, verb: str, selection: Selection, actor: Actor
    ) -> Callable[[int], Awaitable[object]]:
        if verb == "prioritise":
            priority = selection.priority or 0
            return lambda number: self._verbs.prioritise(number, actor, priority)
        method: Callable[[int, Actor], Awaitable[object]] = getattr(self._verbs, verb)
        return lambda number: method(number, actor)

    async def _look(
        self, selection: Selection, position: int, most: int
    ) -> tuple[list[Transfer], int]:
        """Return up to `most` transfers below `position`, and where to go on; 0 at the end."""
        if selection.ids:
            return await self._core.store.read(named, selection, position, most)
        now = self._core.clock.now()
        return await self._core.store.read(searched, selection, position, most, now)


@dataclass(slots=True)
class _Outcome:
    """Counts what became of one batch."""

    before: Job
    by_id: bool
    done: int = 0
    skipped: int = 0
    errors: list[Mapping[str, Any]] = field(default_factory=list)

    async def of(self, number: int, act: Awaitable[object]) -> None:
        try:
            await act
        except EcpdsError as error:
            if isinstance(error, _SKIPPED) and not self.by_id:
                self.skipped += 1
            else:
                self.errors.append({"id": number, "code": error.code, "message": error.message})
        else:
            self.done += 1

    def job(self, position: int, *, over: bool) -> Job:
        before = self.before
        return replace(
            before,
            position=position,
            state="done" if over else "running",
            done=before.done + self.done,
            skipped=before.skipped + self.skipped,
            failed=before.failed + len(self.errors),
            errors=(*before.errors, *self.errors)[:MOST_ERRORS],
        )


def named(
    db: Connection, selection: Selection, position: int, most: int
) -> tuple[list[Transfer], int]:
    """Return the next of the named transfers that are there and in scope, newest first."""
    left = sorted({number for number in selection.ids if number < position}, reverse=True)
    found = [one for number in left[:most] if (one := transfers.get(db, number)) is not None]
    inside = [one for one in found if _is_inside(selection, one)]
    return inside, left[most - 1] if 0 < most < len(left) else 0


def searched(
    db: Connection, selection: Selection, position: int, most: int, now: datetime
) -> tuple[list[Transfer], int]:
    """Return transfers that fit from the next rows of the store, newest first."""
    search = query.parse(selection.q, KEYS, "target")
    wanted = any(term.key == "deleted" for term in search.terms)
    target = search.taken("target")
    rows = transfers.page(
        db,
        limit=max(most, 1),
        before=position,
        destination=selection.destination or _exact(search, "destination"),
        statuses=selection.statuses(),
        target=selection.target or (target.glob if target else None),
        host=selection.host or None,
        deleted=None if wanted else False,
        since=selection.since,
        until=selection.until,
    )
    found = [one for one in rows if _is_inside(selection, one) and matches(search, one, now)]
    return found, rows[-1].id if len(rows) == max(most, 1) else 0


def _exact(search: query.Search, key: str) -> str | None:
    pattern = search.taken(key)
    return pattern.text if pattern is not None and pattern.is_exact else None


def _is_inside(selection: Selection, one: Transfer) -> bool:
    return selection.scope is None or one.destination in selection.scope


def store_job(db: Connection, job: Job, actor: Actor, teller: Teller, *, now: datetime) -> int:
    """Add a job with its audit."""
    number = jobs.add(db, job)
    changed = {"verb": job.verb, "request": {k: v for k, v in job.request.items() if k != "ids"}}
    record(db, actor, "create", "job", str(number), changed, teller, now=now)
    return number
