"""Live rows: hints of the bus become server-sent events, at most one a second for each object.

Nothing is read from the store for what nobody watches.  A client that comes back with
`Last-Event-ID` gets what it missed out of a ring of 1000 events, or `refresh` when that is too
little.  Spec: monitor.md 10; WHATWG HTML, server-sent events.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from ecpds.base.bus import Hint
from ecpds.engine.operations.destinations import DestinationOperations
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.supervisor import Engine
from ecpds.model.errors import NotFound
from ecpds.model.transfer import Transfer
from ecpds.store import transfers
from ecpds.store.db import Connection
from ecpds.web import shown
from ecpds.web.errors import Refused
from ecpds.web.rights import Caller
from ecpds.web.topics import LISTS, Kind, Subject, Topic, wanted

RING: Final = 1000  # events kept for those who come back
MOST_ROWS: Final = 50  # of one second and stream; above, the page is told to load anew
BACKLOG: Final = 64 * 1024  # bytes that may wait for a slow reader
PER_USER: Final = 6
IN_ALL: Final = 200
PACE: Final = timedelta(seconds=1)
PATIENCE: Final = 10  # a round may take a tenth of the time, the rest is for others

Event = Literal["row", "gone", "counter", "refresh", "bye"]


@dataclass(frozen=True, slots=True)
class Told:
    """One event as it was told."""

    number: int
    subject: Subject
    event: Event
    data: dict[str, Any]


class Stream:
    """One listening page."""

    def __init__(
        self,
        caller: Caller,
        topics: tuple[Topic, ...],
        drop: Callable[[], None],
        is_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """`drop` breaks the connection of a reader that is too slow."""
        self.caller, self.topics = caller, topics
        self.is_gone = is_gone
        self.woken = asyncio.Event()
        self.closed = False
        self._drop = drop
        self._waiting: list[bytes] = []
        self._size = 0

    def hears(self, subject: Subject) -> bool:
        """Tell whether the page wants to and may know of it."""
        return wanted(self.topics, subject) and subject.visible(self.caller)

    def put(self, data: bytes) -> None:
        """Add bytes to be sent."""
        self._size += len(data)
        if self._size > BACKLOG:
            self.closed = True
            self._waiting.clear()
            self._drop()
        else:
            self._waiting.append(data)
        self.woken.set()

    def take(self) -> bytes:
        """Return what is to be sent now, maybe nothing."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self.woken.clear()
        return data

    def close(self) -> None:
        """End the stream; the page comes back by itself."""
        self.closed = True
        self.woken.set()


def encode(event: Event, data: dict[str, Any], number: int) -> bytes:
    """Return one event as it goes over the wire."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"id: {number}\nevent: {event}\ndata: {text}\n\n".encode()


class Live:
    """All streams and the ring behind them."""

    def __init__(
        self, engine: Engine, destinations: DestinationOperations, hosts: HostOperations
    ) -> None:
        self._engine = engine
        self._core = engine.core
        self._destinations = destinations
        self._hosts = hosts
        self._streams: set[Stream] = set()
        self._ring: deque[Told] = deque(maxlen=RING)
        # counted from the time of the start, so that ids of an earlier run are always too old
        self._number = int(engine.core.clock.now().timestamp() * 1000)
        self._dirty: dict[tuple[str, str], Subject] = {}
        self._moved: dict[int, int] = {}  # running transfer -> bytes as told last
        self._counters: dict[str, Any] = {}
        self._work = asyncio.Event()
        self._lost = False  # more has changed than the bus remembers
        self._closed = False

    @property
    def number(self) -> int:
        """Return the number of the last event."""
        return self._number

    # --- streams ----------------------------------------------------------------------------

    @contextmanager
    def stream(
        self,
        caller: Caller,
        topics: tuple[Topic, ...],
        drop: Callable[[], None],
        is_gone: Callable[[], bool] = lambda: False,
    ) -> Iterator[Stream]:
        """Listen inside the block; Refused (429, 503) when there are too many.

        A stream whose reader `is_gone` counts no more: whoever walks from page to page leaves one
        behind on each.
        """
        if self._closed:
            raise Refused(503, "stopping", "the node is stopping")
        for one in [one for one in self._streams if one.is_gone()]:
            self._streams.discard(one)
            one.close()
        own = sum(one.caller.name == caller.name for one in self._streams)
        if own >= PER_USER or len(self._streams) >= IN_ALL:
            raise Refused(429, "too-many-streams", "too many live pages are open")
        stream = Stream(caller, topics, drop, is_gone)
        self._streams.add(stream)
        self._work.set()
        try:
            yield stream
        finally:
            self._streams.discard(stream)

    def catch_up(self, stream: Stream, last: str) -> None:
        """Give a page that was here before what it has missed, or tell it to load anew."""
        number = int(last) if last.isascii() and last.isdigit() and len(last) < 19 else -1
        if number == self._number or not last:
            return
        oldest = self._ring[0].number if self._ring else self._number + 1
        if not oldest - 1 <= number <= self._number:
            stream.put(encode("refresh", {}, self._number))
            return
        missed = [one for one in self._ring if one.number > number and stream.hears(one.subject)]
        if any(one.event == "refresh" for one in missed):
            stream.put(encode("refresh", {}, self._number))
            return
        for told in missed:
            stream.put(self._for(stream, told))

    def _for(self, stream: Stream, told: Told) -> bytes:
        data = told.data
        if stream.caller.is_restricted and told.subject.kind == "transfer":
            data = {key: value for key, value in data.items() if key != "size"}
        return encode(told.event, data, told.number)

    def close(self) -> None:
        """End all streams; no new ones are taken."""
        self._closed = True
        for stream in self._streams:
            stream.close()

    # --- events -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._collect(), name="live hints")
            group.create_task(self._publish(), name="live rows")

    async def _collect(self) -> None:
        with self._core.bus.listener() as listener:
            lost = 0
            while True:
                hints = await listener.wait_some()
                self._lost |= listener.lost != lost
                lost = listener.lost
                if not self._streams:
                    self._number += 1  # whoever comes back has missed something
                    self._ring.clear()
                    self._dirty.clear()
                    continue
                for hint in hints:
                    self._note(hint)
                self._work.set()

    def _note(self, hint: Hint) -> None:
        if hint.kind == "configuration":
            for name in self._core.snapshot.destinations:
                self._add(Subject("dest", name, (name,)))
            for name, users in self._core.snapshot.users.items():
                self._add(Subject("host", name, users))
        elif hint.kind == "destination":
            self._add(Subject("dest", hint.name, (hint.name,)))
        elif hint.kind == "transfer":
            self._add(Subject("transfer", hint.name, (hint.destination,)))
        elif hint.kind in LIST_HINTS:
            self._add(Subject(LIST_HINTS[hint.kind], "list"))
        elif hint.kind in {"host", "breaker"}:
            users = self._core.snapshot.users.get(hint.name, ())
            self._add(Subject("host", hint.name, users))

    def _add(self, subject: Subject) -> None:
        self._dirty[(subject.kind, subject.name)] = subject

    async def _publish(self) -> None:
        clock = self._core.clock
        while True:
            until = clock.now() + PACE if self._streams and self._running() else None
            await clock.wait(self._work, until)
            self._work.clear()
            begun = clock.now()
            self._add_running()
            await self._round(begun)
            await clock.sleep(max(PACE, (clock.now() - begun) * PATIENCE))

    def _running(self) -> bool:
        return bool(self._engine.attempts.running)

    def _add_running(self) -> None:
        """Note the transfers that have moved bytes since the last round."""
        running = self._engine.attempts.running
        self._moved = {number: seen for number, seen in self._moved.items() if number in running}
        for number, one in running.items():
            if one.meter.moved != self._moved.get(number, -1):
                self._moved[number] = one.meter.moved
                self._add(Subject("transfer", str(number), (one.claimed.entry.name,)))

    async def _round(self, now: datetime) -> None:
        dirty, self._dirty = list(self._dirty.values()), {}
        if self._lost:
            self._lost = False
            self._refresh_all()
            return
        heard = {
            stream: [subject for subject in dirty if stream.hears(subject)]
            for stream in self._streams
        }
        needed = dict.fromkeys(
            subject for found in heard.values() if len(found) <= MOST_ROWS for subject in found
        )
        for subject in dirty:
            if subject not in needed:  # for those who are away: they will load anew
                self._tell(subject, "refresh", {})
        told = await self._rows(list(needed), now)
        for stream, found in heard.items():
            if len(found) > MOST_ROWS:
                stream.put(encode("refresh", {}, self._number))
                continue
            for subject in found:
                stream.put(self._for(stream, told[subject]))
        self._tell_counters()

    def _refresh_all(self) -> None:
        self._number += 1
        self._ring.clear()
        for stream in self._streams:
            stream.put(encode("refresh", {}, self._number))

    async def _rows(self, subjects: list[Subject], now: datetime) -> dict[Subject, Told]:
        numbers = [int(one.name) for one in subjects if one.kind == "transfer"]
        found = await self._core.store.read(read_transfers, numbers) if numbers else {}
        rows = {}
        for subject in subjects:
            data = await self._data(subject, found, now)
            event: Event = "gone" if data is None else "row"
            known = {"t": subject.kind, "id": _id(subject)}
            rows[subject] = self._tell(subject, event, known | (data or {}))
        return rows

    async def _data(
        self, subject: Subject, found: dict[int, Transfer], now: datetime
    ) -> dict[str, Any] | None:
        if subject.kind in LISTS:
            return {}
        try:
            if subject.kind == "dest":
                return await self._destination(subject.name)
            if subject.kind == "host":
                view = shown.host(await self._hosts.view(subject.name))
                return {key: view[key] for key in HOST_FIELDS}
        except NotFound:
            return None
        one = found.get(int(subject.name))
        return None if one is None or one.deleted else self._transfer(one, now)

    async def _destination(self, name: str) -> dict[str, Any]:
        view = await self._destinations.view(name)
        scheduler = self._engine.disseminations.get(name)
        running = scheduler.running if scheduler else 0
        return shown.status_of(view) | {"label": view.status.label, "running": running}

    def _transfer(self, one: Transfer, now: datetime) -> dict[str, Any]:
        data = shown.transfer(one, now)
        running = self._engine.attempts.running.get(one.id)
        if running is not None:
            data |= {"sent": running.meter.moved, "rate": round(running.meter.rate())}
            data["host"] = running.claimed.host.name
        return {key: data[key] for key in TRANSFER_FIELDS if key in data} | {
            "label": one.status.label
        }

    def _tell(self, subject: Subject, event: Event, data: dict[str, Any]) -> Told:
        self._number += 1
        told = Told(self._number, subject, event, data)
        self._ring.append(told)
        return told

    def _tell_counters(self) -> None:
        """Tell what runs in the whole node, when it has changed."""
        counters = {
            "running": len(self._engine.attempts.running),
            "retrievals": sum(len(one.meters) for one in self._engine.retrievals.values()),
        }
        if counters == self._counters:
            return
        self._counters = counters
        subject = Subject("counter", "node")
        told = self._tell(subject, "counter", {"t": "counter", "id": "node"} | counters)
        for stream in self._streams:
            if stream.hears(subject):
                stream.put(self._for(stream, told))


TRANSFER_FIELDS: Final = (
    "destination", "target", "status", "size", "sent", "rate", "attempts", "requeues", "priority",
    "scheduled", "queue_time", "started", "finished", "host", "data_file_id", "reason", "comment",
)  # fmt: skip
LIST_HINTS: Final[Mapping[str, Kind]] = {
    "incident": "incident",
    "event": "event",
    "account": "account",
    "outbox": "notify",
    "job": "job",
    "product": "product",
}
HOST_FIELDS: Final = ("active", "connections", "bytes", "error", "problem", "valid", "breaker")


def _id(subject: Subject) -> str | int:
    return int(subject.name) if subject.kind in {"transfer", "file"} else subject.name


def read_transfers(db: Connection, numbers: Iterable[int]) -> dict[int, Transfer]:
    """Return the transfers of these ids that are there."""
    found = ((number, transfers.get(db, number)) for number in numbers)
    return {number: one for number, one in found if one is not None}
