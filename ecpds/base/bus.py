"""Hints inside the process: "look there".  Facts are in the store; a lost hint loses nothing."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MOST_KEYS = 1000  # different hints one listener may have waiting


@dataclass(frozen=True, slots=True)
class Hint:
    """Something of that kind and name changed."""

    kind: str  # destination, transfer, host, file, configuration, session, event
    name: str
    destination: str = ""


class Listener:
    """The hints that one reader has not yet looked at, newest of each name once."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[str, str], Hint] = OrderedDict()
        self._ready = asyncio.Event()
        self.lost = 0

    def put(self, hint: Hint) -> None:
        """Take a hint; the oldest goes when there are too many."""
        self._waiting[(hint.kind, hint.name)] = hint
        if len(self._waiting) > MOST_KEYS:
            self._waiting.popitem(last=False)
            self.lost += 1
        self._ready.set()

    async def wait_some(self) -> list[Hint]:
        """Return what waits, at least one hint."""
        await self._ready.wait()
        hints = list(self._waiting.values())
        self._waiting.clear()
        self._ready.clear()
        return hints


class Bus:
    """Gives each hint to all listeners; never waits."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self.told: Counter[str] = Counter()  # hints by kind, for caches that must not be stale

    def tell(self, kind: str, name: object, *, destination: str = "") -> None:
        """Hint that something changed."""
        self.told[kind] += 1
        if self._listeners:
            hint = Hint(kind, str(name), destination)
            for listener in self._listeners:
                listener.put(hint)

    @contextmanager
    def listener(self) -> Iterator[Listener]:
        """Listen inside the block."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
