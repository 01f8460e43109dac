"""The trees of subscriptions and of topics.

Spec: MQTT 5.0 section 4.7; portal.md 3.7, Ex 20.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

MOST_REMEMBERED: Final = 10_000  # topics whose subscribers are known without a search

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Branch(Generic[K, V]):
    __slots__ = ("below", "here")

    def __init__(self) -> None:
        self.below: dict[str, _Branch[K, V]] = {}
        self.here: dict[K, V] = {}


class FilterTree(Generic[K, V]):
    """Which keys subscribed to which filters, and what is to be known of each subscription."""

    def __init__(self) -> None:
        self._root: _Branch[K, V] = _Branch()
        self._remembered: dict[str, tuple[tuple[K, V], ...]] = {}
        self.count = 0

    def put(self, name: str, key: K, value: V) -> bool:
        """Add or replace a subscription; tell whether it is new."""
        branch = self._root
        for level in name.split("/"):
            found = branch.below.get(level)
            if found is None:
                found = branch.below[level] = _Branch()
            branch = found
        is_new = key not in branch.here
        branch.here[key] = value
        self.count += is_new
        self._remembered.clear()
        return is_new

    def drop(self, name: str, key: K) -> bool:
        """Remove a subscription and the branches that bear nothing any more."""
        path: list[tuple[_Branch[K, V], str]] = []
        branch = self._root
        for level in name.split("/"):
            path.append((branch, level))
            found = branch.below.get(level)
            if found is None:
                return False
            branch = found
        if branch.here.pop(key, None) is None:
            return False
        self.count -= 1
        self._remembered.clear()
        for parent, level in reversed(path):
            child = parent.below[level]
            if child.here or child.below:
                break
            del parent.below[level]
        return True

    def of(self, topic: str) -> tuple[tuple[K, V], ...]:
        """Return the subscriptions that match a topic; a key may be there several times."""
        known = self._remembered.get(topic)
        if known is None:
            known = tuple(self._search(topic.split("/")))
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[topic] = known
        return known

    def _search(self, levels: Sequence[str]) -> Iterator[tuple[K, V]]:
        branches = [self._root]
        takes_wildcards = not levels[0].startswith("$")
        for level in levels:
            after = []
            for branch in branches:
                if takes_wildcards:
                    yield from _here(branch, "#")
                    if (found := branch.below.get("+")) is not None:
                        after.append(found)
                if (found := branch.below.get(level)) is not None:
                    after.append(found)
            branches = after
            takes_wildcards = True
        for branch in branches:
            yield from branch.here.items()
            yield from _here(branch, "#")


def _here(branch: _Branch[K, V], level: str) -> Iterable[tuple[K, V]]:
    found = branch.below.get(level)
    return found.here.items() if found is not None else ()


class TopicTree(Generic[V]):
    """Values by topic, found by filter."""

    def __init__(self) -> None:
        self._root: _Branch[str, None] = _Branch()
        self._all: dict[str, V] = {}

    def __len__(self) -> int:
        return len(self._all)

    def get(self, topic: str) -> V | None:
        """Return the value of a topic."""
        return self._all.get(topic)

    def items(self) -> Iterable[tuple[str, V]]:
        """Return all topics with their values."""
        return self._all.items()

    def put(self, topic: str, value: V) -> None:
        """Set the value of a topic."""
        if topic not in self._all:
            branch = self._root
            for level in topic.split("/"):
                branch = branch.below.setdefault(level, _Branch())
            branch.here[topic] = None
        self._all[topic] = value

    def drop(self, topic: str) -> V | None:
        """Remove a topic; return what was there."""
        found = self._all.pop(topic, None)
        if found is None:
            return None
        path: list[tuple[_Branch[str, None], str]] = []
        branch = self._root
        for level in topic.split("/"):
            path.append((branch, level))
            branch = branch.below[level]
        branch.here.clear()
        for parent, level in reversed(path):
            child = parent.below[level]
            if child.here or child.below:
                break
            del parent.below[level]
        return found

    def topics(self, name: str) -> list[str]:
        """Return the topics that match a filter."""
        branches = [self._root]
        levels = name.split("/")
        for number, level in enumerate(levels):
            if level == "#":
                return [t for b in branches for t in self._everything(b, is_root=not number)]
            after: list[_Branch[str, None]] = []
            for branch in branches:
                after += self._step(branch, level, is_root=not number)
            branches = after
        return [topic for branch in branches for topic in branch.here]

    @staticmethod
    def _step(branch: _Branch[str, None], level: str, *, is_root: bool) -> list[_Branch[str, None]]:
        if level != "+":
            found = branch.below.get(level)
            return [found] if found is not None else []
        return [
            below for key, below in branch.below.items() if not (is_root and key.startswith("$"))
        ]

    @staticmethod
    def _everything(branch: _Branch[str, None], *, is_root: bool) -> Iterator[str]:
        yield from branch.here
        waiting = [
            below for key, below in branch.below.items() if not (is_root and key.startswith("$"))
        ]
        while waiting:
            one = waiting.pop()
            yield from one.here
            waiting += one.below.values()
