"""Product status: what producers expect, have started and have completed (cli.md section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal


class ProductState(Enum):
    """Stored code, API word and the word in messages."""

    INIT = ("INIT", "expected", "Expected")
    EXEC = ("EXEC", "started", "Started")
    DONE = ("DONE", "completed", "Completed")

    @property
    def code(self) -> str:
        """Four letters, as stored and in events."""
        return self.value[0]

    @property
    def word(self) -> str:
        """Word of the API."""
        return self.value[1]

    @property
    def label(self) -> str:
        """Word shown to people."""
        return self.value[2]

    @classmethod
    def of_word(cls, word: str) -> ProductState:
        """Return the state of an API word; KeyError when there is none."""
        return {state.word: state for state in cls}[word]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductKey:
    """What identifies a product: stream (with its domain), time, step and type."""

    stream: str
    time: str
    step: int
    type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductEntry:
    """One accepted report; the latest of a key counts."""

    id: int = 0
    key: ProductKey
    state: ProductState
    scheduled_at: datetime | None
    time_base: datetime | None
    buffer: timedelta = timedelta(0)
    updated_at: datetime


Outcome = Literal["created", "updated", "ignored", "missing"]


def outcome_of(
    present: ProductEntry | None, wanted: ProductState, schedule: datetime | None
) -> tuple[Outcome, str]:
    """Return what becomes of a report, and the words for it when it is ignored."""
    if present is None:
        return ("missing", "") if schedule is None else ("created", "")
    if wanted is ProductState.INIT:
        same = schedule is None or schedule == present.scheduled_at
        return ("ignored", "already expected") if same else ("updated", "")
    if wanted is ProductState.EXEC:
        is_expected = present.state is ProductState.INIT
        return ("updated", "") if is_expected else ("ignored", "not expected")
    if present.state is ProductState.DONE:
        return "ignored", "already completed"
    return "updated", ""
