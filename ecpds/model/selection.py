"""Which listed entries are taken, under which names, and what becomes of those already known.

One `Selector` serves one line at the time of one run.  Everything that does not depend on the entry
is compiled before, so that a listing of 100,000 plain entries takes well under a second.

Spec: acquisition.md sections 6 to 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from ecpds.model.dates import milliseconds, timestamp
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import InputError
from ecpds.model.expression import Expression
from ecpds.model.listednames import initial_target, last_part, original_of, unique_name
from ecpds.model.search import Search
from ecpds.model.targets import normal_target
from ecpds.model.tokens import Pieces, Token
from ecpds.model.tokenvalues import Dates, constant, render_pieces


class Outcome(StrEnum):
    """What became of an entry; the words of the listing that operators see."""

    SELECTED = "selected"
    ERROR = "error"
    UNREADABLE = "unreadable"
    SYMLINK = "symbolic link"
    NOT_A_FILE = "not a file"
    NO_TIME = "no time"
    WRONG_PATTERN = "wrong pattern"
    EXCLUDED = "excluded"
    BAD_NAME = "bad name"
    WRONG_SIZE = "wrong size"
    WRONG_AGE = "wrong age"
    EXISTS = "exists"
    REQUEUE_ERROR = "requeueon error"
    REGISTRATION_ERROR = "registration error"
    DELETE_ERROR = "delete error"


@dataclass(frozen=True, slots=True)
class Choice:
    """The verdict on one entry; the names are empty when it was rejected before they were made."""

    entry: Entry
    outcome: Outcome
    reason: str = ""
    original: str = ""  # full path at the source
    name: str = ""  # first target, `$target` of templates
    target: str = ""  # normal form, as registered and looked up
    unique_name: str = ""
    metadata: str = ""

    @property
    def is_selected(self) -> bool:
        """Tell whether the entry passed all tests."""
        return self.outcome is Outcome.SELECTED


_Rejection = tuple[Outcome, str]


class Selector:
    """The selection of one line for one destination."""

    def __init__(self, search: Search, destination: str) -> None:
        self._search = search
        self._options = search.options
        self._destination = destination
        self._match = search.regex.fullmatch if search.regex is not None else None
        exclude = search.rules.exclude
        self._exclude = exclude.fullmatch if exclude is not None else None
        self._keeps_target = len(search.target) == 1 and search.target[0] == _PLAIN_TARGET
        self._metadata = constant(search.metadata)
        self._sized = search.rules.filesize
        self._aged = search.rules.fileage

    def select(self, entries: Iterable[Entry]) -> Iterator[Choice]:
        """Yield the verdict on each entry, in their order."""
        return map(self.test, entries)

    def test(self, entry: Entry) -> Choice:
        """Return the verdict on one entry; never raises for what an entry contains."""
        if (rejection := self._by_kind(entry)) is not None:
            return Choice(entry, *rejection)
        groups: Mapping[str, str] = _NO_GROUPS
        if self._match is not None:
            match = self._match(entry.name)
            if match is None:
                return Choice(entry, Outcome.WRONG_PATTERN)
            groups = match.groupdict("")
        if self._exclude is not None and self._exclude(entry.name) is not None:
            return Choice(entry, Outcome.EXCLUDED)
        return self._named(entry, groups)

    def _by_kind(self, entry: Entry) -> _Rejection | None:
        if entry.error:
            return Outcome.ERROR, entry.error
        if not entry.name:
            return Outcome.UNREADABLE, "no name"
        if entry.kind is not Kind.FILE:
            if entry.kind is not Kind.LINK:
                return Outcome.NOT_A_FILE, entry.kind.value
            if not self._options.use_symlink:
                return Outcome.SYMLINK, entry.link
        if entry.mtime is None and self._options.only_valid_time:
            return Outcome.NO_TIME, ""
        return None

    def _named(self, entry: Entry, groups: Mapping[str, str]) -> Choice:
        options = self._options
        original = original_of(self._search.path, entry.name)
        name = initial_target(entry.name, entry.link, remove_parameters=options.remove_parameters)
        target, metadata = name, self._metadata or ""
        try:
            if not self._keeps_target or self._metadata is None:
                values = self._values(entry, groups, original, name)
                target = self._rendered(self._search.target, values)
                metadata = self._rendered(self._search.metadata, values)
            target = normal_target(target, source=original)
            outcome, reason = self._by_measure(entry) or _SELECTED
        except InputError as error:
            return Choice(entry, Outcome.BAD_NAME, error.message, original, name)
        unique = unique_name(original, name, entry.mtime, options)
        return Choice(entry, outcome, reason, original, name, target, unique, metadata)

    def _rendered(self, pieces: Pieces, values: Mapping[str, str]) -> str:
        return render_pieces(pieces, values, self._search.dates)

    def _values(
        self, entry: Entry, groups: Mapping[str, str], original: str, name: str
    ) -> dict[str, str]:
        return {
            "destination": self._destination,
            "name": last_part(name),
            "target": name,
            "original": original,
            "link": entry.link,
            "timestamp": timestamp(entry.mtime),
            **{f"group[{key}]": value for key, value in groups.items()},
        }

    def _by_measure(self, entry: Entry) -> _Rejection | None:
        size = -1 if entry.size is None else entry.size
        if self._sized is not None and entry.kind is not Kind.LINK:
            rejection = _measured(lambda: self._sized_right(size), Outcome.WRONG_SIZE)
            if rejection is not None:
                return rejection
        if self._aged is None or entry.mtime is None:
            return None
        mtime = entry.mtime
        return _measured(lambda: self._aged_right(mtime, size), Outcome.WRONG_AGE)

    def _sized_right(self, size: int) -> bool:
        return self._sized is None or self._sized.of_size(size)

    def _aged_right(self, mtime: datetime, size: int) -> bool:
        return self._aged is None or self._aged.of_age(self._search.now - mtime, size)


_NO_GROUPS: Final[Mapping[str, str]] = {}
_PLAIN_TARGET: Final = Token("target", "$target")
_SELECTED: Final = (Outcome.SELECTED, "")


def _measured(holds: Callable[[], bool], outcome: Outcome) -> _Rejection | None:
    try:
        return None if holds() else (outcome, "")
    except InputError as error:
        return outcome, error.message


# --- what is already known -----------------------------------------------------------------------


class Decision(StrEnum):
    """What is done with a selected entry of action `queue`."""

    REGISTER = "register"
    FORCE = "register again"
    FAILED_ONLY = "register failed transfers again"
    EXISTS = "exists"
    ERROR = "requeueon error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store has under the key of an entry: live transfers of one file."""

    size: int | None
    mtime: datetime | None
    has_failed: bool  # one of the transfers is FAIL


def decide(
    rule: Expression | None, known: Known | None, choice: Choice, destination: str
) -> tuple[Decision, str]:
    """Return what to do with a selected entry and, for an error, why.

    `rule` is `LineRules.requeue`; an expression that fails selects nothing.
    """
    if known is None:
        return Decision.REGISTER, ""
    if rule is not None:
        values: dict[str, int | float | str] = {
            "time1": _time(known.mtime),
            "size1": _size(known.size),
            "time2": _time(choice.entry.mtime),
            "size2": _size(choice.entry.size),
            "destination": destination,
            "target": choice.target,
            "original": choice.original,
        }
        try:
            if rule.is_true(values):
                return Decision.FORCE, ""
        except InputError as error:
            return Decision.ERROR, error.message
    return (Decision.FAILED_ONLY if known.has_failed else Decision.EXISTS), ""


def _time(moment: datetime | None) -> int:
    return 0 if moment is None else milliseconds(moment)


def _size(size: int | None) -> int:
    return -1 if size is None else size


__all__ = ["Choice", "Dates", "Decision", "Known", "Outcome", "Selector", "decide"]
