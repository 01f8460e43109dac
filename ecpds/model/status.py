"""Statuses of transfers and destinations: stored code, API word, shown label, allowed moves.

Source: entities.md sections 8 to 10 of the specification; the codes are those of OpenECPDS.
"""

from __future__ import annotations

from enum import Enum, StrEnum


class TransferStatus(Enum):
    """Where a Transfer stands; the value is (stored code, API word, shown label)."""

    INIT = ("INIT", "arriving", "Arriving")
    SCHE = ("SCHE", "preset", "Preset")
    FETC = ("FETC", "fetching", "Fetching")
    HOLD = ("HOLD", "standby", "StandBy")
    WAIT = ("WAIT", "queued", "Queued")
    EXEC = ("EXEC", "transferring", "Transferring")
    DONE = ("DONE", "done", "Done")
    RETR = ("RETR", "requeued", "ReQueued")
    FAIL = ("FAIL", "failed", "Failed")
    STOP = ("STOP", "stopped", "Stopped")
    INTR = ("INTR", "interrupted", "Interrupted")

    @property
    def code(self) -> str:
        """Four letters, as stored and as in the event log."""
        return self.value[0]

    @property
    def word(self) -> str:
        """Lower-case word of the JSON API."""
        return self.value[1]

    @property
    def label(self) -> str:
        """Word shown to people."""
        return self.value[2]

    @classmethod
    def of_code(cls, code: str) -> TransferStatus:
        """Return the status with that stored code; raise KeyError if there is none."""
        return cls[code]

    @classmethod
    def of_word(cls, word: str) -> TransferStatus:
        """Return the status with that API word, label or code; raise KeyError if there is none."""
        return _BY_WORD[word.lower()]


_BY_WORD = {text.lower(): status for status in TransferStatus for text in status.value}

S = TransferStatus
PENDING = frozenset({S.WAIT, S.RETR})
VISIBLE = frozenset(set(S) - {S.INIT, S.SCHE, S.FETC})
REQUEUABLE = frozenset({S.HOLD, S.STOP, S.FAIL, S.DONE, S.INTR, S.INIT})
STOPPABLE = frozenset(set(S) - {S.STOP, S.DONE})
FAILED_STEP = frozenset({S.STOP, S.FAIL, S.INTR})

MOVES: dict[TransferStatus, frozenset[TransferStatus]] = {
    S.INIT: frozenset({S.HOLD, S.WAIT, S.RETR, S.FAIL, S.INTR, S.STOP}),
    S.SCHE: frozenset({S.FETC, S.STOP, S.FAIL, S.HOLD, S.WAIT}),
    S.FETC: frozenset({S.HOLD, S.WAIT, S.RETR, S.SCHE, S.FAIL, S.STOP}),
    S.HOLD: frozenset({S.DONE, S.WAIT, S.RETR, S.STOP, S.SCHE, S.FAIL}),
    S.WAIT: frozenset({S.EXEC, S.FAIL, S.HOLD, S.STOP, S.RETR, S.DONE}),
    S.EXEC: frozenset({S.DONE, S.RETR, S.FAIL, S.INTR, S.STOP, S.HOLD}),
    S.DONE: frozenset({S.RETR, S.SCHE, S.INIT, S.HOLD}),
    S.RETR: frozenset({S.EXEC, S.FAIL, S.HOLD, S.STOP, S.RETR, S.DONE}),
    S.FAIL: frozenset({S.RETR, S.SCHE, S.STOP, S.HOLD, S.INIT}),
    S.STOP: frozenset({S.RETR, S.SCHE, S.HOLD, S.INIT}),
    S.INTR: frozenset({S.RETR, S.STOP, S.HOLD, S.SCHE}),
}


class DestinationStatus(StrEnum):
    """Runtime status of a Destination, as the API and the dashboard show it."""

    IDLE = "idle"
    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    SLEEPING = "sleeping"
    STOPPED = "stopped"
    NO_HOSTS = "no-hosts"
    GAVE_UP = "gave-up"
    DISABLED = "disabled"

    @property
    def label(self) -> str:
        """Word shown to people."""
        return self.value.replace("-", " ").capitalize()


class Light(StrEnum):
    """Alert light of a Destination (monitor.md 3.3)."""

    GREEN = "green"
    BLUE = "blue"
    YELLOW = "yellow"
    RED = "red"
    GREY = "grey"


class StoredState(StrEnum):
    """What is stored of a Destination's state: what a person or a give-up decided."""

    WAIT = "WAIT"
    STOP = "STOP"
    HOLD = "HOLD"
    FAIL = "FAIL"
