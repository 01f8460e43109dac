"""`/events/stream`: events of the store as server-sent events, resumable by their number.

The store is the backlog: a stream remembers one number, a slow reader falls behind without taking
memory, and `Last-Event-ID` goes on where it was, also after a restart.  What is older than the
store keeps is told as `gap`.  Spec: rest-api.md B.5; WHATWG HTML, server-sent events.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from ecpds.model.account import WebUser
from ecpds.store import webhooks
from ecpds.web.errors import Refused
from ecpds.web.rights import Caller, by_session

if TYPE_CHECKING:
    from ecpds.web.call import Call

PER_CALLER: Final = 6
IN_ALL: Final = 200
BATCH: Final = 200  # events of one read
PAUSE: Final = 0.5  # seconds between two looks
KEEP_ALIVE: Final = 15.0  # seconds
PATIENCE: Final = 30.0  # seconds for a reader to take what there is
RETRY: Final = b"retry: 3000\n\n"  # milliseconds

Event = Mapping[str, Any]


def destination_of(record: Event) -> str:
    """Return the destination that an event is about, "" for none."""
    inner = record.get("destination")
    name = inner.get("name") if isinstance(inner, Mapping) else inner
    return name if isinstance(name, str) else ""


def may_know(caller: Caller, record: Event) -> bool:
    """Tell whether a caller may know of an event: by its destination, else as an administrator."""
    if caller.may_everywhere("system:read"):
        return True
    name = destination_of(record)
    return bool(name) and caller.may_on("transfers:read", name)


def owner_may_know(owner: WebUser, objects: Sequence[str], record: Event) -> bool:
    """Tell whether a webhook hears of an event: what its owner may know, within its globs."""
    name = destination_of(record)
    if not any(fnmatchcase(name, glob) for glob in objects):
        return False
    return may_know(by_session(owner, "", ""), record)


class EventStreams:
    """The streams that are open, counted and ended together."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._ended = asyncio.Event()

    @property
    def open(self) -> int:
        """Return how many there are."""
        return self._open.total()

    @contextmanager
    def opened(self, caller: Caller) -> Iterator[asyncio.Event]:
        """Count a stream inside the block; Refused (429) when there are too many."""
        if self._open[caller.name] >= PER_CALLER or self._open.total() >= IN_ALL:
            raise Refused(429, "streams", f"at most {PER_CALLER} streams", retry_after=60)
        self._open[caller.name] += 1
        try:
            yield self._ended
        finally:
            self._open[caller.name] -= 1

    def close(self) -> None:
        """End all streams; their readers come back by themselves."""
        self._ended.set()


class Reader:
    """One stream: what is behind a number, for one caller."""

    def __init__(self, call: Call, after: int, types: frozenset[str]) -> None:
        self._call = call
        self._types = types
        self._destination = call.text("destination")
        self._seen = -1
        self.after = after
        self.caller = call.caller

    async def some(self) -> bytes:
        """Return the next events as they go over the wire, maybe nothing."""
        store = self._call.services.core.store
        if self._seen == store.batches:
            return b""
        seen = store.batches
        rows = await store.read(webhooks.events_after, self.after, limit=BATCH)
        if len(rows) < BATCH:
            self._seen = seen
        found = [
            encoded(number, kind, record)
            for number, kind, record in rows
            if self._wants(kind, record)
        ]
        if rows:
            self.after = rows[-1][0]
        return b"".join(found)

    def _wants(self, kind: str, record: Event) -> bool:
        if self._types and kind not in self._types:
            return False
        if self._destination and destination_of(record) != self._destination:
            return False
        return may_know(self.caller, record)


def encoded(number: int, kind: str, record: Event) -> bytes:
    """Return one event as it goes over the wire."""
    text = json.dumps({"number": number, **record}, ensure_ascii=False, separators=(",", ":"))
    return f"id: {number}\nevent: {kind}\ndata: {text}\n\n".encode()


async def begin(call: Call) -> tuple[int, bytes]:
    """Return behind which event a stream begins, and what it is told first."""
    store = call.services.core.store
    text = call.request.headers.get("Last-Event-ID") or call.text("last")
    newest = await store.read(webhooks.newest)
    if not text:
        return newest, RETRY
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused(400, "bad-parameter", "Last-Event-ID: that is no number of ours")
    last = min(int(text), newest)
    oldest = await store.read(webhooks.oldest)
    if last + 1 < oldest:
        gap = json.dumps({"from": last + 1, "to": oldest - 1})
        return oldest - 1, RETRY + f"event: gap\ndata: {gap}\n\n".encode()
    return last, RETRY


async def stream(call: Call) -> web.StreamResponse:
    """Send events as they happen, until the caller leaves or may no more."""
    types = frozenset(one.upper() for one in call.texts("type"))
    name = call.text("destination")
    if name:
        call.caller.check("transfers:read", name)
    if call.caller.is_restricted:
        raise Refused(403, "denied", "events tell sizes and plans, which are hidden from you")
    with call.services.streams.opened(call.caller) as ended:
        after, first = await begin(call)
        answer = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        await answer.prepare(call.request)
        try:
            await _pump(call, answer, Reader(call, after, types), first, ended)
        except (ConnectionError, TimeoutError):
            if call.request.transport is not None:
                call.request.transport.abort()
    return answer


async def _pump(
    call: Call, answer: web.StreamResponse, reader: Reader, data: bytes, ended: asyncio.Event
) -> None:
    loop = asyncio.get_running_loop()
    checked = loop.time()
    while not ended.is_set() and not _is_gone(call):
        if data:
            async with asyncio.timeout(PATIENCE):
                await answer.write(data)
        elif await _rest(ended):
            return
        data = await reader.some()
        if loop.time() - checked < KEEP_ALIVE:
            continue
        checked = loop.time()
        who = await call.services.again(reader.caller)
        if who is None or not who.may(call.route.right):
            await answer.write(b'event: bye\ndata: {"reason":"not allowed any more"}\n\n')
            return
        reader.caller = who
        data = data or b": keep-alive\n\n"


def _is_gone(call: Call) -> bool:
    transport = call.request.transport
    return transport is None or transport.is_closing()


async def _rest(ended: asyncio.Event) -> bool:
    """Wait a moment; tell whether all is over."""
    try:
        async with asyncio.timeout(PAUSE):
            return await ended.wait()
    except TimeoutError:
        return False
