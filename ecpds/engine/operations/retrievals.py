"""Pause, resume, look at and tune retrieval as a whole (cli.md: `-scheduler`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ecpds.engine.operations.actor import Actor, record
from ecpds.engine.retrievalcontrol import RetrievalControl, read_control, write_control
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.model.errors import InputError
from ecpds.store.db import Connection

MOST_STREAMS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalView:
    """Retrieval as it is now."""

    control: RetrievalControl
    streams: int
    running: int


class RetrievalOperations:
    """Verbs on retrieval."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core
        self._teller = Teller(node=engine.core.node)

    async def view(self) -> RetrievalView:
        """Return what runs and what was decided."""
        slots = self._engine.retrieval_slots
        return RetrievalView(control=slots.control, streams=slots.most, running=slots.running)

    async def start(self, actor: Actor) -> RetrievalView:
        """Let retrieval go on."""
        return await self._change(actor, "start", stopped=False)

    async def stop(self, actor: Actor) -> RetrievalView:
        """Start no retrieval any more; those that run go on."""
        return await self._change(actor, "stop", stopped=True)

    async def set(
        self, actor: Actor, *, streams: int | None = None, stall: timedelta | None = None
    ) -> RetrievalView:
        """Change how many run at a time, and after how long without a byte one ends."""
        if streams is not None and not 1 <= streams <= MOST_STREAMS:
            raise InputError(f"streams: {streams} is not in 1..{MOST_STREAMS}", pointer="streams")
        if stall is not None and stall <= timedelta(0):
            raise InputError("stream_timeout: more than nothing", pointer="stream_timeout")
        given = {"streams": streams, "stall": stall}
        return await self._change(
            actor, "set", **{key: value for key, value in given.items() if value is not None}
        )

    async def _change(self, actor: Actor, action: str, **given: object) -> RetrievalView:
        now = self._core.clock.now()
        control = await self._core.store.write(
            change_control, given, actor, action, self._teller, now=now
        )
        self._engine.retrieval_slots.control = control
        for name in self._engine.retrievals:
            self._engine.poke_retrieval(name)
        return await self.view()


def change_control(
    db: Connection,
    given: dict[str, object],
    actor: Actor,
    action: str,
    teller: Teller,
    *,
    now: datetime,
) -> RetrievalControl:
    """Change what is stored, with its audit."""
    control: RetrievalControl = replace(read_control(db), **given)  # type: ignore[arg-type]  # by name
    write_control(db, control)
    changed = {key: str(value) for key, value in given.items()}
    record(db, actor, action, "retrieval", "retrieval", changed, teller, now=now)
    return control
