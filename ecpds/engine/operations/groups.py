"""What people ask about batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ecpds.engine.supervisor import Engine
from ecpds.model.errors import NotFound
from ecpds.store import groups
from ecpds.store.db import Connection
from ecpds.store.groups import Group, GroupFile

MOST_NAMED = 10  # waiting files that are named; all failed ones are asked for apart


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """A batch as people see it."""

    group: Group
    waiting: Sequence[GroupFile] = ()  # when they are few
    failed: Sequence[GroupFile] = ()  # the first hundred
    moved: dict[int, int] = field(default_factory=dict)  # bytes so far, by file under way


class GroupOperations:
    """Questions about batches."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core

    async def view(self, name: str) -> GroupView:
        """Return one batch; NotFound."""
        found = await self._core.store.read(read_view, name)
        if found is None:
            raise NotFound(f"Group {name} not found on {self._core.node}")
        moved = {
            file: meter.moved
            for scheduler in self._engine.retrievals.values()
            for file, meter in scheduler.meters.items()
        }
        group, waiting, failed = found
        wanted = {one.id for one in waiting}
        return GroupView(
            group=group,
            waiting=waiting,
            failed=failed,
            moved={file: count for file, count in moved.items() if file in wanted},
        )

    async def destinations(self, name: str) -> list[str]:
        """Return the destinations that files of a batch go or went to."""
        return await self._core.store.read(groups.destinations_of, name)

    async def page(self, *, after: str, limit: int) -> list[Group]:
        """Return batches by name, those behind `after`."""
        return await self._core.store.read(groups.page, after=after, limit=limit)

    async def members(self, name: str, *, which: str, after: int, limit: int) -> list[GroupFile]:
        """Return files of a batch by id; `which`: all, waiting, failed, trouble."""
        return await self._core.store.read(
            groups.members, name, which=which, after=after, limit=limit
        )


def read_view(db: Connection, name: str) -> tuple[Group, list[GroupFile], list[GroupFile]] | None:
    """Return a batch with the files that a person wants to know of."""
    group = groups.get(db, name)
    if group is None:
        return None
    few = group.waiting < MOST_NAMED
    waiting = groups.members(db, name, which="waiting", limit=MOST_NAMED) if few else []
    failed = groups.members(db, name, which="failed", limit=100) if group.failed else []
    return group, waiting, failed
