"""What modules learn of remote systems and need not learn again.

Facts that last are kept over a restart by the engine; the others, and every secret, end with the
process.

Spec: transfer-modules.md section 1, "write-back": such state never goes into the edited options.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

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
