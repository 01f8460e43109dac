"""Retained messages: the last message of each topic, with caps for each destination."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final

from ecpds.model.message import Message
from ecpds.portals.mqtt.session import Parcel
from ecpds.portals.mqtt.topics import TopicTree

MOST_TOPICS: Final = 20_000  # of one destination
MOST_BYTES: Final = 64 * 1024 * 1024  # of one destination
MOST_OF_ALL: Final = 200_000


class Retained:
    """See the module."""

    def __init__(self) -> None:
        self._tree: TopicTree[Parcel] = TopicTree()
        self._topics: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._ends: list[tuple[datetime, int, str]] = []
        self.refused = 0

    def __len__(self) -> int:
        return len(self._tree)

    def has_room(self, message: Message) -> bool:
        """Tell whether its destination may keep one more message of this size."""
        before = self._tree.get(message.topic)
        name = message.destination
        topics, size = self._topics[name], self._bytes[name] + message.size
        if before is not None and before.message.destination == name:
            topics, size = topics - 1, size - before.size
        is_full = len(self._tree) >= MOST_OF_ALL and before is None
        if topics >= MOST_TOPICS or size > MOST_BYTES or is_full:
            self.refused += 1
            return False
        return True

    def put(self, parcel: Parcel) -> None:
        """Keep it as the message of its topic."""
        message = parcel.message
        self.drop(message.topic)
        self._tree.put(message.topic, parcel)
        self._topics[message.destination] += 1
        self._bytes[message.destination] += parcel.size
        if message.expires_at is not None:
            heapq.heappush(self._ends, (message.expires_at, parcel.number, message.topic))

    def drop(self, topic: str) -> bool:
        """Forget a topic; tell whether there was a message."""
        found = self._tree.drop(topic)
        if found is None:
            return False
        name = found.message.destination
        self._topics[name] -= 1
        self._bytes[name] -= found.size
        if not self._topics[name]:
            del self._topics[name], self._bytes[name]
        return True

    def get(self, topic: str) -> Parcel | None:
        """Return the message of a topic."""
        return self._tree.get(topic)

    def everything(self) -> Iterable[tuple[str, Parcel]]:
        """Return all topics."""
        return self._tree.items()

    def expire(self, now: datetime) -> list[str]:
        """Forget what has expired; return the topics."""
        gone = []
        while self._ends and self._ends[0][0] <= now:
            _, number, topic = heapq.heappop(self._ends)
            found = self._tree.get(topic)
            if found is not None and found.number == number and self.drop(topic):
                gone.append(topic)
        return gone

    def matching(self, name: str, before: int, permits: Callable[[str], bool]) -> Iterator[Parcel]:
        """Yield what a new subscriber to `name` gets, each message as it is when its turn comes.

        Messages from number `before` on went to the subscriber when they were published.
        `permits` is asked for each topic.
        """
        for topic in self._tree.topics(name):
            found = self._tree.get(topic)
            if found is not None and found.number < before and permits(topic):
                yield found
