"""What people do with transfers: look, requeue, stop, hold, release, reschedule, delete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from ecpds.engine.operations.actor import Actor, record
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.model.errors import BadState, Exists, InputError, NotFound
from ecpds.model.host import HostRole
from ecpds.model.status import REQUEUABLE, TransferStatus
from ecpds.model.targets import normal_target
from ecpds.model.transfer import HistoryRow, Reason, Transfer
from ecpds.store import files, history, outbox, transfers
from ecpds.store.db import Connection
from ecpds.store.rehearsal import rehearse

STOP_WAIT = timedelta(seconds=5)
DAY = timedelta(days=1)
S = TransferStatus

Change = Callable[[Transfer, datetime], Transfer]


class TransferOperations:
    """Verbs on transfers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core
        self._teller = Teller(node=engine.core.node)

    async def get(self, number: int) -> Transfer:
        """Return one transfer; NotFound."""
        found = await self._core.store.read(transfers.get, number)
        if found is None:
            raise NotFound(f"Transfer {number} not found")
        return found

    async def history(self, number: int) -> list[HistoryRow]:
        """Return the steps of a transfer, oldest first; NotFound."""
        await self.get(number)
        return await self._core.store.read(history.steps, number)

    async def requeue(self, number: int, actor: Actor) -> Transfer:
        """Give a finished, stopped, held or failed transfer another try with fresh counters."""
        name = (await self.get(number)).destination
        if not self._core.snapshot.hosts_of(name, HostRole.DISSEMINATION):
            raise BadState(f"Destination {name} has no active dissemination host")

        def change(old: Transfer, now: datetime) -> Transfer:
            if old.status not in REQUEUABLE:
                raise BadState(
                    f"a transfer that is {old.status.word} cannot be requeued",
                    status=old.status.word,
                )
            due = max(now, old.scheduled_at)
            return replace(
                old,
                status=S.RETR,
                status_by=actor.name,
                reason=None,
                start_count=0,
                requeue_count=0,
                attempts=0,
                sent=0,
                duration=None,
                queue_at=due,
                due_at=due,
                comment=f"Requeued by {actor.name}",
            )

        return await self._change(number, actor, "requeue", change, needs_content=True)

    async def stop(self, number: int, actor: Actor) -> Transfer:
        """Stop a transfer, also one that runs; refused for done and stopped ones."""
        present = await self.get(number)
        if present.status is S.EXEC:
            await self._engine.attempts.stop(number, f"Stopped by {actor.name}", wait=STOP_WAIT)
        if present.status is S.FETC:
            self._interrupt(present, actor)

        def change(old: Transfer, now: datetime) -> Transfer:
            if old.status in {S.DONE, S.STOP}:
                raise BadState(f"the transfer is {old.status.word}", status=old.status.word)
            text = f"Stopped by {actor.name}"
            reason = Reason(kind="stopped", code="stopped", text=text)
            return replace(
                old, status=S.STOP, status_by=actor.name, reason=reason, comment=text,
                finished_at=now,
            )  # fmt: skip

        return await self._change(number, actor, "stop", change, even_expired=True)

    def _interrupt(self, present: Transfer, actor: Actor) -> None:
        for scheduler in self._engine.retrievals.values():
            if scheduler.stop(present.data_file, f"Stopped by {actor.name}"):
                return

    async def hold(self, number: int, actor: Actor) -> Transfer:
        """Hold a transfer until it is released; content that is not here yet is fetched then."""
        present = await self.get(number)
        if present.status is S.EXEC:
            await self._engine.attempts.stop(number, f"Held by {actor.name}", wait=STOP_WAIT)

        def change(old: Transfer, now: datetime) -> Transfer:
            if old.status is S.HOLD:
                raise BadState("the transfer is standby already", status=old.status.word)
            text = f"Held by {actor.name}"
            return replace(old, status=S.HOLD, status_by=actor.name, comment=text, reason=None)

        return await self._change(number, actor, "hold", change)

    async def release(self, number: int, actor: Actor) -> Transfer:
        """Queue a held transfer."""

        def change(old: Transfer, now: datetime) -> Transfer:
            if old.status is not S.HOLD:
                raise BadState(f"the transfer is {old.status.word}, not standby")
            due = max(now, old.scheduled_at)
            return replace(
                old, status=S.WAIT, status_by=actor.name, queue_at=due, due_at=due,
                comment=f"Released by {actor.name}",
            )  # fmt: skip

        return await self._change(number, actor, "release", change, needs_content=True)

    async def schedule_now(self, number: int, actor: Actor) -> Transfer:
        """Make a waiting transfer due now, whatever was promised."""

        def change(old: Transfer, now: datetime) -> Transfer:
            if old.status not in {S.WAIT, S.RETR}:
                raise BadState(f"the transfer is {old.status.word}, not queued")
            return replace(old, scheduled_at=now, queue_at=now, due_at=now, comment="scheduled now")

        return await self._change(number, actor, "schedule_now", change)

    async def extend(self, number: int, actor: Actor) -> Transfer:
        """Give a transfer one more day."""

        def change(old: Transfer, now: datetime) -> Transfer:
            return replace(old, expires_at=max(old.expires_at, now) + DAY)

        return await self._change(number, actor, "extend", change)

    async def prioritise(self, number: int, actor: Actor, priority: int) -> Transfer:
        """Set the priority, 0 first to 99 last."""
        if not 0 <= priority <= 99:
            raise InputError(f"priority {priority} is not in 0..99", pointer="priority")

        def change(old: Transfer, now: datetime) -> Transfer:
            return replace(old, priority=priority)

        return await self._change(number, actor, "prioritise", change)

    async def change(
        self,
        number: int,
        actor: Actor,
        *,
        priority: int | None = None,
        scheduled: datetime | None = None,
        expires: datetime | None = None,
        check: Callable[[Transfer], None] | None = None,
        dry_run: bool = False,
    ) -> Transfer:
        """Change what a person may decide; `check` sees the row first and may raise.

        `dry_run` stores nothing and returns what the transfer would be.

        Raises InputError (out of range, an end before the start), BadState (nothing waits for the
        scheduled time any more).
        """
        if priority is not None and not 0 <= priority <= 99:
            raise InputError(f"priority {priority} is not in 0..99", pointer="priority")

        def change(old: Transfer, now: datetime) -> Transfer:
            if check is not None:
                check(old)
            new = old if priority is None else replace(old, priority=priority)
            if scheduled is not None:
                if old.status not in {S.WAIT, S.RETR, S.HOLD, S.SCHE}:
                    raise BadState(
                        f"the transfer is {old.status.word}, not waiting", status=old.status.word
                    )
                new = replace(
                    new, scheduled_at=scheduled, queue_at=scheduled, due_at=max(scheduled, now)
                )
            if expires is not None:
                new = replace(new, expires_at=expires)
            if (scheduled or expires) and not max(now, new.scheduled_at) < new.expires_at:
                raise InputError("it would expire before it can be sent", pointer="expires")
            return new

        return await self._change(number, actor, "change", change, dry_run=dry_run)

    async def rename(
        self, number: int, actor: Actor, target: str, *, dry_run: bool = False
    ) -> Transfer:
        """Give a transfer another target; one that was sent under the old name stays so there.

        `dry_run` stores nothing and returns what the transfer would be.

        Raises InvalidName, BadState (it is being sent), Exists (another file has that name).
        """
        target = normal_target(target, source=target)

        def change(old: Transfer, now: datetime) -> Transfer:
            if old.status is S.EXEC:
                raise BadState("the transfer is being sent, stop it first", status=old.status.word)
            is_own = old.identity == old.target
            comment = f"Renamed from {old.target} to {target}"
            identity = target if is_own else old.identity
            return replace(old, target=target, identity=identity, comment=comment)

        now, store = self._core.clock.now(), self._core.store
        if dry_run:
            return await rehearse(
                store, rename_transfer, number, actor, change, self._teller, now=now
            )
        changed = await store.write(rename_transfer, number, actor, change, self._teller, now=now)
        self._told(changed)
        return changed

    async def delete(self, number: int, actor: Actor) -> None:
        """Stop and delete a transfer; its content goes when no other transfer needs it."""
        present = await self.get(number)
        if present.deleted:
            return
        if present.status is S.EXEC:
            await self._engine.attempts.stop(number, f"Deleted by {actor.name}", wait=STOP_WAIT)
        if present.status is S.FETC:
            self._interrupt(present, actor)
        now = self._core.clock.now()
        await self._core.store.write(delete_transfer, number, actor, self._teller, now=now)
        self._told(present)
        self._engine.retention.poke()

    async def _change(
        self,
        number: int,
        actor: Actor,
        action: str,
        change: Change,
        *,
        even_expired: bool = False,
        needs_content: bool = False,
        dry_run: bool = False,
    ) -> Transfer:
        now, store = self._core.clock.now(), self._core.store
        if dry_run:
            return await rehearse(
                store, change_transfer, number, actor, action, change, self._teller, now=now,
                even_expired=even_expired, needs_content=needs_content,
            )  # fmt: skip
        changed = await store.write(
            change_transfer, number, actor, action, change, self._teller, now=now,
            even_expired=even_expired, needs_content=needs_content,
        )  # fmt: skip
        self._told(changed)
        return changed

    def _told(self, changed: Transfer) -> None:
        self._engine.poke(changed.destination)
        self._engine.poke_retrieval(changed.destination)
        self._core.bus.tell("transfer", changed.id, destination=changed.destination)


def change_transfer(
    db: Connection,
    number: int,
    actor: Actor,
    action: str,
    change: Change,
    teller: Teller,
    *,
    now: datetime,
    even_expired: bool,
    needs_content: bool,
) -> Transfer:
    """Apply a change to the row as it is now, with history and audit."""
    old = transfers.get(db, number)
    if old is None:
        raise NotFound(f"Transfer {number} not found")
    is_over = old.deleted or (old.expires_at <= now and action != "extend")
    if is_over and not even_expired:
        state = "deleted" if old.deleted else "expired"
        raise BadState(f"the transfer is {state}", status=state)
    new = change(old, now)
    file = files.get(db, old.data_file)
    if file is None or (needs_content and not file.stored and new.status is not S.STOP):
        new = replace(new, status=S.SCHE)  # its content has to be fetched first
    transfers.save(db, new, now=now)
    if new.status is not old.status:
        history.step(
            db, number, new.destination, new.status, time=now, user=actor.name,
            comment=new.comment, error=new.status is S.STOP, reason=new.reason,
        )  # fmt: skip
    changed = {"status": [old.status.word, new.status.word]}
    record(db, actor, action, "transfer", str(number), changed, teller, now=now)
    return new


def rename_transfer(
    db: Connection,
    number: int,
    actor: Actor,
    change: Change,
    teller: Teller,
    *,
    now: datetime,
) -> Transfer:
    """Rename a transfer; the unique key of an original follows, so that its old name is free."""
    new = change_transfer(
        db, number, actor, "rename", change, teller, now=now, even_expired=False,
        needs_content=False,
    )  # fmt: skip
    history.drop_resume(db, number)
    history.step(
        db, number, new.destination, new.status, time=now, user=actor.name, comment=new.comment
    )
    if not new.is_alias:
        key = (new.destination, new.target, new.unique_name)
        others = [one for one in transfers.with_key(db, key) if one.data_file != new.data_file]
        if others:
            raise Exists(f"{new.target} belongs to data file {others[0].data_file}")
        transfers.rename(db, number, new.target, new.target, temporary=new.temporary, now=now)
    return new


def delete_transfer(
    db: Connection,
    number: int,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
    comment: str = "",
) -> None:
    """Mark a transfer deleted, STOP unless it is done; the file too when it is the last."""
    old = transfers.get(db, number)
    if old is None or old.deleted:
        return
    status = old.status if old.status is S.DONE else S.STOP
    comment = comment or f"Deleted by {actor.name}"
    gone = replace(old, status=status, status_by=actor.name, deleted=True, comment=comment)
    transfers.save(db, gone, now=now)
    history.step(db, number, old.destination, status, time=now, user=actor.name, comment=comment)
    history.drop_resume(db, number)
    files.mark_unused(db, old.data_file)
    outbox.add_deleted(db, number, expires_at=None, now=now)
    teller.plain(
        db,
        "DEL",
        now=now,
        transfer_id=number,
        file_id=old.data_file,
        destination={"name": old.destination},
        file={"name": old.target, "size": old.size},
        user={"id": actor.name, "kind": actor.kind},
        outcome="ok",
    )
    record(db, actor, "delete", "transfer", str(number), {}, teller, now=now)
