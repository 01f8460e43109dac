"""What modules learn of remote systems and need not learn again, until the process ends.

Spec: transfer-modules.md section 1, "write-back": such state never goes into the edited options.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

LIMIT: Final = 10_000
"""Facts that are kept; the oldest goes first."""


class Memory:
    """Short texts by module, Host and name of the fact; built once with the surroundings."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._facts: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    def recall(self, module: str, host: str, fact: str) -> str:
        """Return what was remembered, empty when nothing was."""
        return self._facts.get((module, host, fact), "")

    def keep(self, module: str, host: str, fact: str, value: str) -> None:
        """Remember `value`."""
        key = (module, host, fact)
        self._facts[key] = value
        self._facts.move_to_end(key)
        if len(self._facts) > self._limit:
            self._facts.popitem(last=False)
