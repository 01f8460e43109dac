"""Locks of WebDAV: who holds which, and the If header that shows that a client knows of them.

They live in memory and end by themselves; a restart frees everything, as RFC 4918 section 6 allows.
Spec: RFC 4918 sections 6, 7, 10.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from ecpds.base.clock import Clock
from ecpds.model.errors import InputError, LimitError
from ecpds.portals.https.exchange import Refused

MOST: Final = 10_000  # of all users
MOST_OF_USER: Final = 1_000
LONGEST: Final = timedelta(hours=1)
DEFAULT: Final = timedelta(minutes=10)


class Locked(Refused):
    """Somebody holds a lock, and the request does not show its token."""

    def __init__(self) -> None:
        super().__init__(423, "locked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One lock."""

    token: str
    key: str  # identity of the resource on which it was taken
    href: str  # its address, as the holder sees it
    is_deep: bool  # whether members are locked with it
    is_shared: bool
    login: str
    owner: str  # XML that the client gave, empty for none
    timeout: timedelta
    until: datetime


class Locks:
    """All locks of the node."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, dict[str, Lock]] = {}  # key to token to lock
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._known)

    def covering(self, key: str) -> list[Lock]:
        """Return the locks on a resource, its own and deep ones of what is above."""
        if not self._known:
            return []
        found = self._at(key)
        while "/" in key:
            key = key.rpartition("/")[0]
            found += [lock for lock in self._at(key) if lock.is_deep]
        return found

    def below(self, key: str) -> list[Lock]:
        """Return the locks on whatever is inside a collection."""
        prefix = key.rstrip("/") + "/"
        keys = [one for one in self._known if one.startswith(prefix) and one != key]
        return [lock for one in keys for lock in self._at(one)]

    def _at(self, key: str) -> list[Lock]:
        held = self._known.get(key)
        if held is None:
            return []
        now = self._clock.now()
        for lock in [one for one in held.values() if one.until <= now]:
            self.release(lock)
        return list(held.values())

    def take(self, wanted: Lock) -> Lock:
        """Take a lock; raise Locked when another one is in the way, LimitError for too many."""
        others = self.covering(wanted.key)
        if wanted.is_deep:
            others += self.below(wanted.key)
        if any(not (one.is_shared and wanted.is_shared) for one in others):
            raise Locked
        self._check_count(wanted.login)
        lock = replace(wanted, until=self._clock.now() + wanted.timeout)
        self._known.setdefault(lock.key, {})[lock.token] = lock
        self._count += 1
        return lock

    def _check_count(self, login: str) -> None:
        if self._count < MOST_OF_USER:
            return
        for key in list(self._known):
            self._at(key)  # lets go of what is over
        own = sum(one.login == login for held in self._known.values() for one in held.values())
        if self._count >= MOST or own >= MOST_OF_USER:
            raise LimitError("there are too many locks")

    def refresh(self, lock: Lock, timeout: timedelta) -> Lock:
        """Prolong a lock."""
        renewed = replace(lock, timeout=timeout, until=self._clock.now() + timeout)
        self._known[lock.key][lock.token] = renewed
        return renewed

    def release(self, lock: Lock) -> None:
        """Let a lock go; one that is not held does no harm."""
        held = self._known.get(lock.key, {})
        if held.pop(lock.token, None) is not None:
            self._count -= 1
        if not held:
            self._known.pop(lock.key, None)

    def forget(self, key: str) -> None:
        """Let go of the locks of what is no more at that place, members included."""
        if self._known:
            for lock in [*self._at(key), *self.below(key)]:
                self.release(lock)

    # --- what a request may do ----------------------------------------------------------

    def check(self, keys: Iterable[str], tokens: frozenset[str], login: str) -> None:
        """Raise Locked unless the request knows the locks on these resources."""
        if not self._known:
            return
        for key in keys:
            _check(self.covering(key), tokens, login)

    def check_below(self, key: str, tokens: frozenset[str], login: str) -> None:
        """Raise Locked unless the request knows every lock inside a collection."""
        if not self._known:
            return
        for lock in self.below(key):
            _check([lock], tokens, login)


def _check(locks: Sequence[Lock], tokens: frozenset[str], login: str) -> None:
    if locks and not any(one.token in tokens and one.login == login for one in locks):
        raise Locked


def new_token(random: bytes) -> str:
    """Return a lock token of 16 random bytes."""
    return f"opaquelocktoken:{UUID(bytes=random, version=4)}"


def read_timeout(field: str) -> timedelta:
    """Return what Timeout asks for, within our limits; the first part that we can read counts."""
    for part in field.split(","):
        text = part.strip().lower()
        if text == "infinite":
            return LONGEST
        found = re.fullmatch(r"second-([0-9]{1,10})", text)
        if found:
            return min(timedelta(seconds=max(int(found[1]), 1)), LONGEST)
    return DEFAULT


# --- the If header ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """One state of a resource that must hold, or must not."""

    token: str = ""
    etag: str = ""
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Clause:
    """Conditions that hold together, for the resource at `address` (empty: that of the request)."""

    address: str
    conditions: tuple[Condition, ...]


_TOKEN = re.compile(
    r"\s*(?:(?P<open>\()|(?P<close>\))|(?P<not>not\b)|<(?P<uri>[^<>\s]{1,2048})>"
    r"|\[(?P<etag>(?:W/)?\"[^\"]{0,512}\")\])",
    re.IGNORECASE,
)


class _Reader:
    """Reads the words of an If header one by one."""

    def __init__(self) -> None:
        self.found: list[Clause] = []
        self._address = ""
        self._held: list[Condition] | None = None  # of the list that is open
        self._negated = False

    def take(self, kind: str, value: str) -> bool:
        """Take a word; tell whether it may stand here."""
        if self._held is None:
            if kind == "uri":
                self._address = value
            elif kind == "open":
                self._held = []
            return kind in {"uri", "open"}
        if kind == "not":
            was, self._negated = self._negated, True
            return not was
        if kind == "close":
            return self._close()
        return kind in {"uri", "etag"} and self._add(kind, value)

    def _add(self, kind: str, value: str) -> bool:
        one = Condition(token=value) if kind == "uri" else Condition(etag=value)
        if self._held is not None:
            self._held.append(replace(one, negated=self._negated))
        self._negated = False
        return True

    def _close(self) -> bool:
        if not self._held or self._negated:
            return False
        self.found.append(Clause(self._address, tuple(self._held)))
        self._held = None
        return True

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing is missing."""
        return self._held is None and bool(self.found)


def read_if(field: str) -> list[Clause]:
    """Return the clauses of an If header; raise InputError for one that cannot be read."""
    reader, text, position = _Reader(), field.strip(), 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        kind = match.lastgroup if match else None
        if match is None or kind is None or not reader.take(kind, match[kind]):
            raise InputError("the If header cannot be read")
        position = match.end()
    if not reader.is_whole:
        raise InputError("the If header cannot be read")
    return reader.found


def tokens_of(clauses: Iterable[Clause]) -> frozenset[str]:
    """Return the lock tokens that a request shows."""
    return frozenset(one.token for clause in clauses for one in clause.conditions if one.token)
