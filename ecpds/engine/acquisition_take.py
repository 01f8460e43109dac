"""What becomes of the entries that a discovery selects: registered, or only told of (dry run)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Final

from ecpds.base.logs import get_logger
from ecpds.engine.acquisition_run import Decided, Run, Taker
from ecpds.engine.acquisition_small import (
    Fetched,
    SmallLots,
    may_come_at_once,
    register_fetched,
)
from ecpds.engine.core import Core, DestinationEntry, HostEntry
from ecpds.engine.submit import (
    OnDuplicate,
    Plan,
    Registered,
    Submission,
    plan,
    register,
    storage_group,
)
from ecpds.engine.telling import Teller
from ecpds.model.errors import EcpdsError
from ecpds.model.metadata import parse_metadata
from ecpds.model.search import Search
from ecpds.model.selection import Choice, Decision, Outcome
from ecpds.objects.directory import Stored
from ecpds.store.db import Connection
from ecpds.store.known import Key, KnownFile
from ecpds.transfer.contract import TransferModule

log = get_logger(__name__)

ON_DUPLICATE: Final[dict[Decision, OnDuplicate]] = {
    Decision.REGISTER: "skip",
    Decision.FORCE: "overwrite",
    Decision.FAILED_ONLY: "failed_only",
}


def submission_of(
    choice: Choice,
    search: Search,
    host: HostEntry,
    destination: str,
    on_duplicate: OnDuplicate = "skip",
    content: Stored | None = None,
) -> Submission:
    """Return what a selected entry asks for; raises InputError for its metadata."""
    options, found = search.options, choice.entry
    return Submission(
        destination=destination,
        target=choice.target,
        original=choice.original,
        source=choice.original,
        content=content,
        size=-1 if found.size is None else found.size,
        file_time=found.mtime,
        metadata=parse_metadata(choice.metadata, lenient=True),
        priority=options.priority,
        lifetime=options.lifetime,
        standby=options.standby,
        event=options.event,
        no_retrieval=options.no_retrieval,
        unique_name=choice.unique_name,
        group_by=options.group_by or f"ACQ_{destination}_{host.host.id}",
        transfer_group=options.transfer_group or host.host.transfer_group,
        host=host.name,
        delete_original=options.delete_original,
        submitter=host.host.login,
        submitted_from=host.host.host,
        on_duplicate=on_duplicate,
        comment=f"Found on {host.name}",
    )


# --- registering ---------------------------------------------------------------------------------


class Registering(Taker):
    """Registers, counts, and tells of new transfers."""

    def __init__(
        self,
        core: Core,
        entry: DestinationEntry,
        host: HostEntry,
        submitted: Callable[[Registered], None],
        *,
        may_fetch: Callable[[], bool] = lambda: False,
    ) -> None:
        """`may_fetch` tells whether content may be fetched at once, where that is possible."""
        self._core = core
        self._entry = entry
        self._host = host
        self._submitted = submitted
        self._may_fetch = may_fetch
        self._teller = Teller(node=core.node)

    def rejected(self, number: int, choice: Choice, search: Search, run: Run) -> None:
        """Count it."""
        run.count(choice.outcome.value)
        if choice.outcome is Outcome.ERROR:
            run.error(f"{choice.entry.name}: {choice.reason}")
        if self._host.acquisition.debug:
            log.info("entry passed over", name=choice.entry.name, outcome=choice.outcome.value,
                     reason=choice.reason, line=search.line.number)  # fmt: skip

    async def take(
        self,
        decided: Sequence[Decided],
        search: Search,
        run: Run,
        module: TransferModule[Any] | None = None,
    ) -> None:
        """Register a batch: in one transaction, or with its content in lots."""
        plans: list[Plan] = []
        for one in decided:
            if one.decision in ON_DUPLICATE:
                plans += await self._plans(one, search, run)
                continue
            run.count(one.decision.value)
            if one.why:
                run.error(f"{one.choice.original}: {one.why}")
        at_once = module is not None and module.small is not None and may_come_at_once(self._host)
        if plans and module is not None and at_once and self._may_fetch():
            await self._register_lots(plans, run, SmallLots(self._core, self._host, module))
        elif plans:
            await self._register(plans, run)

    async def _register_lots(self, plans: Sequence[Plan], run: Run, lots: SmallLots) -> None:
        """Fetch one lot while the one before is registered."""
        registering: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            for lot, others in lots.split(plans):
                fetched, left = await lots.fetch(lot)
                self._core.failpoints.hit("retrieval.stored", len(fetched))
                if registering is not None:
                    await registering
                registering = group.create_task(
                    self._register_lot(fetched, [*left, *others], run), name="lot"
                )

    async def _register_lot(
        self, fetched: Sequence[Fetched], others: Sequence[Plan], run: Run
    ) -> None:
        if others:
            await self._register(others, run)
        if not fetched:
            return
        done, refused, unused = await self._core.store.write(
            register_fetched, fetched, self._host, self._core.snapshot, self._teller,
            now=self._core.clock.now(),
        )  # fmt: skip
        self._core.failpoints.hit("retrieval.committed", len(done))
        self._core.metrics.retrievals.labels(self._host.name, "ok").inc(len(done))
        self._registered(done, refused, run)
        if unused:
            gone = [(one.file.volume, one.file.object_key) for one in unused]
            await self._core.objects.remove(gone)

    async def _plans(self, one: Decided, search: Search, run: Run) -> list[Plan]:
        """Return the plan of a file, and of the notification that came with it."""
        choice, found = one.choice, one.choice.entry
        how = ON_DUPLICATE[one.decision]
        now, snapshot = self._core.clock.now(), self._core.snapshot
        name = self._entry.name
        try:
            content = await self._stored(found.inline_body, choice.target)
            given = submission_of(choice, search, self._host, name, how, content)
            made = [plan(given, snapshot, now)]
            if found.inline_message is not None:
                extra = choice.target + search.options.payload_extension
                message = await self._stored(found.inline_message, extra)
                note = replace(
                    given, target=extra, unique_name=extra, content=message, event=False,
                    size=len(found.inline_message), on_duplicate="overwrite", no_retrieval=False,
                )  # fmt: skip
                made.append(plan(note, snapshot, now))
        except EcpdsError as error:
            run.count(Outcome.REGISTRATION_ERROR.value)
            run.error(f"{choice.original}: {error.message}")
            return []
        return made

    async def _stored(self, body: bytes | None, target: str) -> Stored | None:
        if body is None:
            return None
        group = storage_group(self._entry, target)
        upload = self._core.objects.create(len(body), group=group)
        try:
            upload.write(body)
            return await self._core.objects.seal(upload)
        except BaseException:
            upload.discard()
            raise
        finally:
            upload.close()

    async def _register(self, plans: Sequence[Plan], run: Run) -> None:
        now = self._core.clock.now()
        done, refused = await self._core.store.write(register_all, plans, now=now)
        self._registered(done, refused, run)

    def _registered(self, done: Sequence[Registered], refused: Sequence[str], run: Run) -> None:
        """Count, and wake whom it concerns."""
        self._core.failpoints.hit("acquisition.registered")
        names: set[str] = set()
        for registered in done:
            run.count("exists" if registered.skipped else "selected")
            run.selected += not registered.skipped
            names.update(registered.destinations)
        for text in refused:
            run.count(Outcome.REGISTRATION_ERROR.value)
            run.error(text)
        if names:
            first = min((one.expires_at for one in done if one.expires_at), default=None)
            self._submitted(
                Registered(file=0, transfers=(), destinations=tuple(names), expires_at=first)
            )

    async def delete(
        self, module: TransferModule[Any], chosen: Sequence[tuple[int, Choice]], run: Run
    ) -> None:
        """Delete at the source; a failure is counted and the next one follows."""
        for _, choice in chosen:
            try:
                await module.delete(choice.original)
            except EcpdsError as error:
                run.count(Outcome.DELETE_ERROR.value)
                run.error(f"{choice.original}: {error.message}")
            else:
                run.selected += 1
                run.count("deleted")


def register_all(
    db: Connection, plans: Sequence[Plan], *, now: datetime
) -> tuple[list[Registered], list[str]]:
    """Register a batch in one transaction; a refused one leaves the others."""
    done: list[Registered] = []
    refused: list[str] = []
    for one in plans:
        try:
            done.append(register(db, one, now=now))
        except EcpdsError as error:
            refused.append(f"{one.file.source}: {error.message}")
    return done, refused


# --- telling -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What would become of one entry."""

    number: int
    line: int
    choice: Choice
    outcome: str
    why: str = ""
    key: Key | None = None
    known: KnownFile | None = None
    plan: Plan | None = None


@dataclass(slots=True)
class Telling(Taker):
    """Keeps the first rows and counts all; stores and deletes nothing."""

    wants_known: ClassVar[bool] = True

    core: Core
    entry: DestinationEntry
    host: HostEntry
    limit: int = 1000
    rows: list[Row] = field(default_factory=list)

    def rejected(self, number: int, choice: Choice, search: Search, run: Run) -> None:
        """Keep it with the reason."""
        self._row(run, number, choice, search, choice.outcome.value, choice.reason)

    async def take(
        self,
        decided: Sequence[Decided],
        search: Search,
        run: Run,
        module: TransferModule[Any] | None = None,
    ) -> None:
        """Keep what a real run would do, plan included."""
        del module
        for one in decided:
            choice, why, made = one.choice, one.why, None
            outcome = _WORDS.get(one.decision, one.decision.value)
            if one.decision in ON_DUPLICATE:
                try:
                    given = submission_of(choice, search, self.host, self.entry.name)
                    made = plan(given, self.core.snapshot, self.core.clock.now())
                except EcpdsError as error:
                    outcome, why = Outcome.REGISTRATION_ERROR.value, error.message
            run.selected += made is not None
            self._row(
                run, one.number, choice, search, outcome, why,
                key=one.key, known=one.known, plan=made,
            )  # fmt: skip

    async def delete(
        self, module: TransferModule[Any], chosen: Sequence[tuple[int, Choice]], run: Run
    ) -> None:
        """Keep what a real run would delete."""
        del module
        for number, choice in chosen:
            run.selected += 1
            if len(self.rows) < self.limit:
                self.rows.append(Row(number=number, line=0, choice=choice, outcome="deleted"))
            run.count("deleted")

    def _row(
        self, run: Run, number: int, choice: Choice, search: Search, outcome: str, why: str,
        **more: Any,
    ) -> None:  # fmt: skip
        run.count(outcome)
        if len(self.rows) < self.limit:
            line = search.line.number
            row = Row(number=number, line=line, choice=choice, outcome=outcome, why=why, **more)
            self.rows.append(row)

    @property
    def ordered(self) -> list[Row]:
        """Return the rows in the order of the listing."""
        return sorted(self.rows, key=lambda row: (row.line, row.number))


_WORDS: Final = {
    Decision.REGISTER: "selected",
    Decision.FORCE: "selected again",
    Decision.FAILED_ONLY: "selected again",
}
