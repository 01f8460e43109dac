"""The broker: who is subscribed to what, and a message's way to all of them.

`publish` is the door of the node: what it was given is kept (retained messages, queues of durable
sessions) before it returns.  Everything else happens in the loop without waiting.
Spec: notifications.md 6.3.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger
from ecpds.model.message import Message
from ecpds.model.mqtttopics import is_permitted
from ecpds.portals.mqtt.packets import Wish
from ecpds.portals.mqtt.retained import Retained
from ecpds.portals.mqtt.session import Item, Key, Parcel, Session, Subscription
from ecpds.portals.mqtt.topics import FilterTree, TopicTree
from ecpds.vfs.brokermemory import (
    BrokerMemory,
    Change,
    Dequeue,
    DropRetained,
    DropSession,
    Enqueue,
    KeptSession,
    PutRetained,
    PutSession,
    Queued,
)

log = get_logger(__name__)

MOST_SESSIONS: Final = 10_000  # that outlive their connection
MOST_OF_USER: Final = 200
LONGEST_MESSAGE: Final = timedelta(days=7)
SWEEP: Final = timedelta(seconds=5)

Targets = dict[Session, tuple[int, bool, tuple[int, ...]]]  # QoS, as published, identifiers


@dataclass(slots=True)
class Counts:
    """What the broker did since it started."""

    published: int = 0
    sent: int = 0
    received: int = 0
    dropped: int = 0
    connected: int = 0


class Broker:
    """See the module."""

    def __init__(self, clock: Clock, memory: BrokerMemory | None) -> None:
        """Without a memory nothing outlives the process (tests)."""
        self._clock = clock
        self._memory = memory
        self._tree: FilterTree[Session, Subscription] = FilterTree()
        self._numbers = itertools.count(1)
        self._number = 0  # of the last message
        self._rows = itertools.count(1)
        self.sessions: dict[Key, Session] = {}
        self.retained = Retained()
        self.own: TopicTree[Parcel] = TopicTree()  # $SYS
        self.counts = Counts()

    # --- life ---------------------------------------------------------------------------

    async def load(self) -> None:
        """Take up what was kept; those who were connected when the node ended may come back."""
        if self._memory is None:
            return
        loaded = await self._memory.load()
        now = self._clock.now()
        for message, _ in loaded.retained:
            self.retained.put(self._parcel(message))
        for kept, queued in loaded.sessions:
            if (kept.ends_at or now) >= now:
                self._revive(kept, queued, now)
            else:
                self._memory.later(DropSession(kept.user, kept.client))
        self._rows = itertools.count(loaded.last + 1)

    def _revive(self, kept: KeptSession, queued: Sequence[Queued], now: datetime) -> None:
        session = self._new((kept.user, kept.client))
        session.lasts = kept.lasts
        session.ends_at = kept.ends_at or now + kept.lasts
        for name, (qos, number, as_published, no_local) in kept.subscriptions.items():
            self._subscribe(session, name, Subscription(qos, number, as_published, no_local))
        for one in queued:
            parcel = self._parcel(one.message)
            session.push(Item(parcel, 1, one.retain, one.numbers, one.id))

    def sweep(self) -> None:
        """Forget what has expired; call it every few seconds."""
        now = self._clock.now()
        for topic in self.retained.expire(now):
            self._later(DropRetained(topic))
        for session in list(self.sessions.values()):
            if session.ends_at is not None and session.ends_at <= now:
                self.forget(session)

    def _later(self, change: Change) -> None:
        if self._memory is not None:
            self._memory.later(change)

    # --- publishing ---------------------------------------------------------------------

    async def publish(self, messages: Sequence[Message]) -> None:
        """Give messages to all subscribers, in this order.

        When it returns they are kept for durable sessions and as retained messages.  Raises
        StoreError.
        """
        now = self._clock.now()
        prepared = [self._prepare(_bounded(message, now)) for message in messages]
        changes = [change for _, _, more in prepared for change in more]
        if changes and self._memory is not None:
            await self._memory.keep(changes)
        for parcel, rows, _ in prepared:
            self._spread(parcel, rows)

    def publish_now(self, message: Message, sender: Session | None = None) -> int:
        """Give a message of a client to all subscribers; it is kept a little later.

        Return how many got it.
        """
        parcel, rows, changes = self._prepare(message)
        for change in changes:
            self._later(change)
        return self._spread(parcel, rows, sender)

    def announce(self, message: Message) -> None:
        """Tell something of the broker itself: retained in memory only, not counted."""
        parcel = self._parcel(message)
        self.own.put(message.topic, parcel)
        for session, (qos, _, numbers) in self._targets(message).items():
            session.deliver(Item(parcel, qos, retain=False, numbers=numbers))

    def _parcel(self, message: Message) -> Parcel:
        self._number = next(self._numbers)
        return Parcel(message, self._number)

    def _prepare(self, message: Message) -> tuple[Parcel, dict[Session, int], list[Change]]:
        """Return the message ready to go, and what has to be kept of it."""
        parcel = self._parcel(message)
        changes: list[Change] = []
        if message.retain:
            changes += self._retention(parcel)
        rows: dict[Session, int] = {}
        if message.qos:
            for session, (qos, as_published, numbers) in self._targets(message).items():
                if qos and session.is_durable:
                    rows[session] = row = next(self._rows)
                    user, client = session.key
                    retain = message.retain and as_published
                    changes.append(
                        Enqueue(
                            Queued(
                                id=row, user=user, client=client, message=message, retain=retain,
                                numbers=numbers,
                            )
                        )
                    )  # fmt: skip
        return parcel, rows, changes

    def _retention(self, parcel: Parcel) -> list[Change]:
        message = parcel.message
        if not message.payload:
            return [DropRetained(message.topic)]
        if not self.retained.has_room(message):
            log.warning("message is not retained", topic=message.topic, reason="too many")
            return []
        return [PutRetained(message=message, now=self._clock.now())]

    def _targets(self, message: Message, sender: Session | None = None) -> Targets:
        """Return who gets a message, each session once with its best quality of service."""
        found: Targets = {}
        for session, wish in self._tree.of(message.topic):
            if (wish.no_local and session is sender) or (
                message.client and session.key[1] != message.client
            ):
                continue
            qos = min(message.qos, wish.qos)
            own = () if wish.number is None else (wish.number,)
            before = found.get(session)
            if before is None:
                found[session] = (qos, wish.as_published, own)
            else:
                found[session] = (
                    max(qos, before[0]), wish.as_published or before[1], before[2] + own,
                )  # fmt: skip
        return found

    def _spread(
        self, parcel: Parcel, rows: dict[Session, int], sender: Session | None = None
    ) -> int:
        message = parcel.message
        if message.retain:
            if not message.payload:
                self.retained.drop(message.topic)
            elif self.retained.has_room(message):
                self.retained.put(parcel)
        self.counts.published += 1
        targets = self._targets(message, sender)
        for session, (qos, as_published, numbers) in targets.items():
            retain = message.retain and as_published
            session.deliver(Item(parcel, qos, retain, numbers, rows.get(session, 0)))
        return len(targets)

    async def clear(self, topics: Iterable[str]) -> int:
        """Forget retained messages; return how many there were."""
        found = [topic for topic in topics if self.retained.drop(topic)]
        if found and self._memory is not None:
            await self._memory.keep([DropRetained(topic) for topic in found])
        return len(found)

    # --- sessions -----------------------------------------------------------------------

    def _new(self, key: Key) -> Session:
        session = Session(
            key, now=self._clock.now, dropped=self._dropped, acknowledged=self._acknowledged
        )
        self.sessions[key] = session
        return session

    def _dropped(self, item: Item) -> None:
        self.counts.dropped += 1
        if item.row:
            self._later(Dequeue(item.row))

    def _acknowledged(self, row: int) -> None:
        self._later(Dequeue(row))

    def open(self, key: Key, *, clean: bool, lasts: timedelta) -> tuple[Session, bool]:
        """Return the session of a client and whether it was there; the caller attaches to it."""
        session = self.sessions.get(key)
        if session is not None and clean:
            self.forget(session)
            session = None
        is_present = session is not None
        if session is None:
            session = self._new(key)
        session.lasts = lasts if not lasts or is_present or self._has_room(key) else timedelta(0)
        return session, is_present

    def _has_room(self, key: Key) -> bool:
        durable = [one for one in self.sessions.values() if one.is_durable]
        of_user = sum(one.key[0] == key[0] for one in durable)
        return len(durable) < MOST_SESSIONS and of_user < MOST_OF_USER

    async def keep(self, session: Session) -> None:
        """Write a durable session as it is now; return when that is on disk."""
        if session.is_durable and self._memory is not None:
            await self._memory.keep([PutSession(_kept(session))])

    def leave(self, session: Session) -> None:
        """Take leave of a connection: the session stays for a while or goes at once."""
        session.detach()
        if not session.is_durable:
            self.forget(session)
            return
        session.ends_at = self._clock.now() + session.lasts
        self._later(PutSession(_kept(session)))

    def forget(self, session: Session) -> None:
        """End a session and all that waits for it."""
        if self.sessions.get(session.key) is not session:
            return
        del self.sessions[session.key]
        for name in list(session.subscriptions):
            self._tree.drop(name, session)
        self._later(DropSession(*session.key))

    # --- subscriptions ------------------------------------------------------------------

    def _subscribe(self, session: Session, name: str, wish: Subscription) -> bool:
        session.subscriptions[name] = wish
        return self._tree.put(name, session, wish)

    def subscribe(
        self, session: Session, wish: Wish, number: int | None, permits: Callable[[str], bool]
    ) -> Iterator[Item] | None:
        """Add a subscription; return the retained messages that the client gets, None for none."""
        subscription = Subscription(min(wish.qos, 1), number, wish.as_published, wish.no_local)
        is_new = self._subscribe(session, wish.filter, subscription)
        if wish.retain_handling == 2 or (wish.retain_handling == 1 and not is_new):
            return None
        return self._replayed(wish.filter, subscription, permits)

    def _replayed(
        self, name: str, wish: Subscription, permits: Callable[[str], bool]
    ) -> Iterator[Item]:
        numbers = () if wish.number is None else (wish.number,)
        before = self._number + 1
        for topic in self.own.topics(name):
            found = self.own.get(topic)
            if found is not None:
                yield Item(found, 0, retain=True, numbers=numbers)
        for parcel in self.retained.matching(name, before, permits):
            qos = min(wish.qos, parcel.message.qos, 1)
            yield Item(parcel, qos, retain=True, numbers=numbers)

    def unsubscribe(self, session: Session, name: str) -> bool:
        """Remove a subscription; tell whether there was one."""
        session.subscriptions.pop(name, None)
        return self._tree.drop(name, session)

    def restrict(self, session: Session, permitted: Sequence[str]) -> None:
        """Take away what these filters do not cover."""
        for name in session.restrict(lambda wanted: is_permitted(permitted, wanted)):
            self._tree.drop(name, session)
            log.info("subscription ended", user=session.key[0], filter=name)

    @property
    def subscription_count(self) -> int:
        """Return how many subscriptions there are."""
        return self._tree.count


def _bounded(message: Message, now: datetime) -> Message:
    """Return it with an expiry of at most a week when it is to be kept."""
    latest = now + LONGEST_MESSAGE
    qos = min(message.qos, 1)
    until = message.expires_at
    if until is None or until > latest:
        until = latest
    if (until, qos) == (message.expires_at, message.qos):
        return message
    return replace(message, expires_at=until, qos=qos)


def _kept(session: Session) -> KeptSession:
    user, client = session.key
    return KeptSession(
        user=user,
        client=client,
        lasts=session.lasts,
        ends_at=session.ends_at if session.outlet is None else None,
        subscriptions={
            name: [one.qos, one.number, one.as_published, one.no_local]
            for name, one in session.subscriptions.items()
        },
    )
