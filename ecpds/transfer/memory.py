"""What modules learn of remote systems and need not learn again.

Facts that last are kept over a restart by the engine; the others, and every secret, end with the
process.

Spec: transfer-modules.md section 1, "write-back": such state never goes into the edited options.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final

LIMIT: Final = 10_000
"""Facts that are kept; the oldest goes first."""

Fact = tuple[str, str, str, str]
"""Module, host, name of the fact, value."""


class Memory:
    """Short texts by module, Host and name of the fact; built once with the surroundings."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._facts: OrderedDict[tuple[str, str, str], str] = OrderedDict()
        self._learned: dict[tuple[str, str, str], str] = {}

    def recall(self, module: str, host: str, fact: str) -> str:
        """Return what was remembered, empty when nothing was."""
        return self._facts.get((module, host, fact), "")

    def keep(self, module: str, host: str, fact: str, value: str, *, lasting: bool = False) -> None:
        """Remember `value`; `lasting`: also over a restart, so it may be no secret."""
        key = (module, host, fact)
        if lasting and self._facts.get(key) != value:
            self._learned[key] = value
        self._facts[key] = value
        self._facts.move_to_end(key)
        if len(self._facts) > self._limit:
            oldest, _ = self._facts.popitem(last=False)
            self._learned.pop(oldest, None)

    def restore(self, facts: Iterable[Fact]) -> None:
        """Take back what was kept before a restart, the oldest first."""
        for module, host, fact, value in facts:
            self.keep(module, host, fact, value)

    def learned(self) -> list[Fact]:
        """Return the lasting facts that are new since the last call."""
        learned, self._learned = self._learned, {}
        return [(*key, value) for key, value in learned.items()]


MADE: Final = 256
"""Values that are kept; the one that was not used for longest goes first."""

RENEWED: Final = 3600.0
"""Seconds after which a value is made anew, with what the disk holds by then."""


class Made:
    """Values that take long to make, such as TLS contexts, by a key that tells all about them.

    Any thread may use it; a value that two want at the same moment may be made twice.
    """

    def __init__(self, limit: int = MADE, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def find(self, key: Hashable) -> Any:
        """Return the value, None when there is none or it is too old."""
        with self._lock:
            made_at, value = self._values.get(key, (0.0, None))
            if value is None or self._monotonic() - made_at > RENEWED:
                return None
            self._values.move_to_end(key)
            return value

    def keep(self, key: Hashable, value: object) -> None:
        """Keep a new value."""
        with self._lock:
            self._values[key] = (self._monotonic(), value)
            self._values.move_to_end(key)
            if len(self._values) > self._limit:
                self._values.popitem(last=False)
