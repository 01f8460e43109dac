"""Which of several files of one name is sent: `scheduler.requeueon`.

The expression says whether file 2 (`$time2 $size2`) beats file 1; it is asked in both directions
for each pair.  Pure, so that each sentence of the specification is a test.

Spec: schedulers.md section 6.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ecpds.model.errors import InputError
from ecpds.model.expression import Expression
from ecpds.model.status import TransferStatus

VARIABLES: Final = ("time1", "size1", "time2", "size2", "destination", "target")
_UNDER_WAY: Final = frozenset({TransferStatus.DONE, TransferStatus.EXEC, TransferStatus.RETR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """One of the live transfers of a destination that have the same target."""

    id: int
    time: int  # milliseconds since 1970, 0 unknown
    size: int  # bytes, -1 unknown
    status: TransferStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the current one is sent, else the id of the one that keeps it back, and why."""

    is_sent: bool
    by: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Arbiter:
    """The compiled options `requeueon`, `requeuepattern` and `requeueignore`."""

    rule: Expression
    pattern: re.Pattern[str] | None = None  # None: every target
    ignore: re.Pattern[str] | None = None

    def concerns(self, target: str) -> bool:
        """Tell whether transfers of that target are arbitrated."""
        if self.pattern is not None and self.pattern.fullmatch(target) is None:
            return False
        return self.ignore is None or self.ignore.fullmatch(target) is None

    def beats(self, one: Rival, other: Rival, destination: str, target: str) -> bool:
        """Tell whether `one` beats `other`; an expression that fails says no."""
        values: dict[str, int | float | str] = {
            "time1": other.time,
            "size1": other.size,
            "time2": one.time,
            "size2": one.size,
            "destination": destination,
            "target": target,
        }
        try:
            return self.rule.is_true(values)
        except InputError:
            return False

    def judge(
        self,
        current: Rival,
        others: Sequence[Rival],
        *,
        destination: str,
        target: str,
        is_retry: bool,
    ) -> Verdict:
        """Decide about `current` against all the others; `is_retry`: it was tried before."""
        tied: list[Rival] = []
        for other in others:
            if self.beats(current, other, destination, target):
                continue
            if self.beats(other, current, destination, target):
                return Verdict(is_sent=False, by=other.id, why="a better file of that name")
            tied.append(other)
        if not is_retry:
            running = next((other for other in tied if other.status in _UNDER_WAY), None)
            if running is not None:
                word = running.status.word
                return Verdict(is_sent=False, by=running.id, why=f"an equal file that is {word}")
        else:
            tied = [other for other in tied if other.status is TransferStatus.EXEC]
        last = max((other.id for other in tied), default=0)
        if last > current.id:
            return Verdict(is_sent=False, by=last, why="an equal file that came later")
        return Verdict(is_sent=True)
