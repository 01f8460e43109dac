"""One client's session: subscriptions, what waits for it, what it has not acknowledged yet.

A session outlives its connection when the client asked for that.  Nothing here waits: a message
goes out when the connection has room and the client's window is open, else it is queued.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from ecpds.model.message import Message
from ecpds.portals.mqtt.codec import P, Value, text
from ecpds.portals.mqtt.packets import V5, publish_parts

MOST_QUEUED: Final = 2_000  # messages
MOST_BYTES: Final = 8 * 1024 * 1024
WINDOW: Final = 20  # unacknowledged messages, unless the client names a number
WIDEST: Final = 1_000
_RENDERINGS: Final = 8
_TURN: Final = 256  # messages sent before others get their turn

Parts = tuple[bytes, bytes]
Key = tuple[str, str]  # user and client id


class Parcel:
    """A message on its way; the renderings are shared by all who get it."""

    __slots__ = ("_found", "_rendered", "_topic", "message", "number", "size")

    def __init__(self, message: Message, number: int = 0) -> None:
        self.message = message
        self.number = number  # order of publication
        self.size = message.size
        self._topic = text(message.topic)
        self._found: dict[int, Value] | None = None
        self._rendered: dict[tuple[int, int, bool, int], Parts] = {}

    def left(self, now: datetime) -> int:
        """Return the seconds until it expires, at least 1; 0: never; -1: it has expired."""
        until = self.message.expires_at
        if until is None:
            return 0
        seconds = (until - now).total_seconds()
        return -1 if seconds <= 0 else min(max(int(seconds), 1), 2**32 - 1)

    def parts(
        self, version: int, qos: int, *, retain: bool, left: int, numbers: tuple[int, ...] = ()
    ) -> Parts:
        """Return what stands before and after the packet identifier."""
        key = (version, qos, retain, left if version == V5 else 0)
        if not numbers and (known := self._rendered.get(key)) is not None:
            return known
        made = publish_parts(
            self._topic,
            self.message.payload,
            version=version,
            qos=qos,
            retain=retain,
            found=self._properties(left),
            user=self.message.user_properties,
            numbers=numbers,
        )
        if not numbers:
            if len(self._rendered) >= _RENDERINGS:
                self._rendered.clear()
            self._rendered[key] = made
        return made

    def _properties(self, left: int) -> dict[int, Value]:
        found: dict[int, Value] = dict(self.message.properties)
        if self.message.content_type:
            found[P.CONTENT_TYPE] = self.message.content_type
        if left:
            found[P.EXPIRY] = left
        return found


@dataclass(slots=True)
class Item:
    """A message for one session."""

    parcel: Parcel
    qos: int
    retain: bool = False
    numbers: tuple[int, ...] = ()
    row: int = 0  # in the store, 0: not there


@dataclass(frozen=True, slots=True)
class Subscription:
    """How a session wants the messages of one filter."""

    qos: int
    number: int | None = None
    as_published: bool = False
    no_local: bool = False


class Outlet(Protocol):
    """The connection of a session, as it sees it."""

    version: int
    paused: bool  # the client does not take what was sent
    largest: int  # bytes of a packet that the client takes

    def write(self, *parts: bytes) -> None:
        """Send soon."""

    def soon(self, act: Callable[[], None]) -> None:
        """Call it when others had their turn."""


class Session:
    """See the module."""

    def __init__(
        self,
        key: Key,
        *,
        now: Callable[[], datetime],
        dropped: Callable[[Item], None],
        acknowledged: Callable[[int], None],
    ) -> None:
        """`dropped` hears of items that are given up, `acknowledged` of rows that are done."""
        self.key = key
        self.outlet: Outlet | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.lasts = timedelta(0)  # how long it is kept after the connection
        self.ends_at: datetime | None = None  # while it has none
        self.window = WINDOW
        self.flying: dict[int, Item] = {}
        self.queue: deque[Item] = deque()
        self.queued_bytes = 0
        self.sent = 0
        self.dropped = 0
        self._replays: deque[Iterator[Item]] = deque()
        self._last = 0
        self._now = now
        self._on_drop = dropped
        self._on_ack = acknowledged

    @property
    def is_durable(self) -> bool:
        """Whether it outlives its connection."""
        return self.lasts > timedelta(0)

    # --- towards the client -------------------------------------------------------------

    def deliver(self, item: Item) -> None:
        """Send now if there is room, else keep it for later or (QoS 0) not at all."""
        outlet = self.outlet
        if not item.qos:
            if outlet is not None:
                self._send(outlet, item)
            return
        if (
            outlet is not None
            and not self.queue
            and not outlet.paused
            and len(self.flying) < self.window
        ):
            self._send(outlet, item)
        else:
            self.push(item)

    def push(self, item: Item) -> None:
        """Queue an item; the oldest go when there are too many."""
        self.queue.append(item)
        self.queued_bytes += item.parcel.size
        while len(self.queue) > MOST_QUEUED or (
            self.queued_bytes > MOST_BYTES and len(self.queue) > 1
        ):
            oldest = self.queue.popleft()
            self.queued_bytes -= oldest.parcel.size
            self._give_up(oldest)

    def replay(self, items: Iterator[Item]) -> None:
        """Send these as the client takes them; they are made one by one."""
        self._replays.append(items)
        self.pump()

    def _give_up(self, item: Item) -> None:
        self.dropped += 1
        self._on_drop(item)

    def _send(self, outlet: Outlet, item: Item, *, number: int = 0, dup: bool = False) -> None:
        left = item.parcel.left(self._now()) if item.parcel.message.expires_at else 0
        if left < 0 and not dup:
            self._expired(item)
            return
        head, tail = item.parcel.parts(
            outlet.version, item.qos, retain=item.retain, left=max(left, 0), numbers=item.numbers
        )
        if outlet.largest < len(head) + len(tail) + 2:
            self._expired(item)
            return
        self.sent += 1
        if not item.qos:
            outlet.write(head, tail)
            return
        if not number:
            number = self._next()
            self.flying[number] = item
        if dup:
            head = bytes((head[0] | 8,)) + head[1:]
        outlet.write(head, number.to_bytes(2, "big"), tail)

    def _expired(self, item: Item) -> None:
        if item.row:
            self._on_ack(item.row)

    def _next(self) -> int:
        number = self._last
        while True:
            number = number % 65535 + 1
            if number not in self.flying:
                self._last = number
                return number

    def acknowledge(self, number: int) -> None:
        """Take the client's PUBACK; unknown numbers are passed over."""
        item = self.flying.pop(number, None)
        if item is None:
            return
        if item.row:
            self._on_ack(item.row)
        if self.queue or self._replays:
            self.pump()

    def pump(self) -> None:
        """Send what waits, as far as there is room."""
        outlet, left = self.outlet, _TURN
        while outlet is not None and not outlet.paused and len(self.flying) < self.window:
            if not left:
                outlet.soon(self.pump)
                return
            left -= 1
            if self.queue:
                item = self.queue.popleft()
                self.queued_bytes -= item.parcel.size
            elif (found := self._next_replayed()) is not None:
                item = found
            else:
                return
            self._send(outlet, item)

    def _next_replayed(self) -> Item | None:
        while self._replays:
            item = next(self._replays[0], None)
            if item is not None:
                return item
            self._replays.popleft()
        return None

    # --- connections --------------------------------------------------------------------

    def attach(self, outlet: Outlet, window: int) -> None:
        """Go on over a new connection; call `resume` when its CONNACK is out."""
        self.outlet = outlet
        self.window = window
        self.ends_at = None

    def resume(self) -> None:
        """Send again what was not acknowledged, then what waits."""
        outlet = self.outlet
        if outlet is None:
            return
        for number, item in list(self.flying.items()):
            self._send(outlet, item, number=number, dup=True)
        self.pump()

    def detach(self) -> None:
        """Go on without a connection; replays end with it."""
        self.outlet = None
        self._replays.clear()

    def restrict(self, allows: Callable[[str], bool]) -> list[str]:
        """Drop what the user may not get any more; return the filters that were lost."""
        lost = [name for name in self.subscriptions if not allows(name)]
        for name in lost:
            del self.subscriptions[name]
        if lost:
            kept = [item for item in self.queue if allows(item.parcel.message.topic)]
            gone = [item for item in self.queue if not allows(item.parcel.message.topic)]
            self.queue = deque(kept)
            self.queued_bytes = sum(item.parcel.size for item in kept)
            self._replays.clear()
            for item in gone:
                self._give_up(item)
        return lost

    def rows(self) -> list[int]:
        """Return the rows in the store of all that is under way or waits."""
        return [item.row for item in (*self.flying.values(), *self.queue) if item.row]
