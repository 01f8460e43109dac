"""One client connection: packets in, packets out, in the order of the protocol.

What can be answered at once is answered in `data_received`.  Login and subscriptions wait for the
store: such a packet is handed to the server's task, and nothing more is read until it is answered.
Writes of one turn of the loop are gathered and leave together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, Protocol, cast

from ecpds.model.message import Message
from ecpds.portals.mqtt.codec import Broken, Framer, Kind, P, Reason
from ecpds.portals.mqtt.packets import (
    PINGRESP,
    V3,
    V5,
    Ack,
    Connect,
    Disconnect,
    Packet,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
    ack,
    connack,
    disconnect,
    parse,
    parse_connect,
)
from ecpds.portals.mqtt.session import Session

CONNECT_LIMIT: Final = 8 * 1024  # bytes
PACKET_LIMIT: Final = 64 * 1024
BACKLOG: Final = 1024 * 1024  # bytes that the client does not take before it is sent away
PAUSE_AT: Final = 256 * 1024  # bytes in the transport above which nothing new is sent
FLUSH_AT: Final = 128 * 1024  # bytes gathered in one turn
RATE: Final = 5_000  # packets a second, acknowledgements apart
IN_FLIGHT: Final = 20  # of a publishing client (tests)
_PUBACK: Final = Kind.PUBACK << 4

Publishing = Callable[[Message, Session], int]


class Pipe(Protocol):
    """What a connection needs of its transport; a WebSocket is one too."""

    def writelines(self, list_of_data: Sequence[bytes]) -> None:
        """Send."""

    def get_write_buffer_size(self) -> int:
        """Return the bytes that wait."""

    def pause_reading(self) -> None:
        """Call `data_received` no more."""

    def resume_reading(self) -> None:
        """Call it again."""

    def can_write_eof(self) -> bool:
        """Whether our direction can be closed alone."""

    def write_eof(self) -> None:
        """Close our direction after what waits was sent."""

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""

    def close(self) -> None:
        """Close after what waits was sent."""

    def abort(self) -> None:
        """Close now."""


class Connection(asyncio.Protocol):
    """See the module; the session's outlet."""

    def __init__(self, peer: str, *, publishing: Publishing | None = None) -> None:
        """`publishing` takes what clients publish; None refuses it."""
        self.peer = peer
        self.version = V3  # until CONNECT says otherwise: the one that is not told reasons
        self.paused = False
        self.largest = 2**28
        self.keep_alive = 0.0  # seconds of silence after which the client is lost
        self.session: Session | None = None
        self.will: Message | None = None
        self.closed = asyncio.Event()
        self.packets = 0  # since the last look of the server
        self.lasts: timedelta | None = None  # session expiry that the client left with
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        self._publishing = publishing
        self._pipe: Pipe | None = None
        self._framer = Framer(CONNECT_LIMIT)
        self._is_in = False
        self._held = False
        self._deaf = False
        self._ended = False  # nothing more is sent
        self._work: Packet | None = None
        self._wanted: asyncio.Future[None] | None = None
        self._out: list[bytes] = []
        self._gathered = 0
        self._received: set[int] = set()

    # --- for the server -----------------------------------------------------------------

    async def work(self) -> Packet | None:
        """Return the next packet that has to wait for something, None at the end."""
        while self._work is None:
            if self._deaf or self.closed.is_set():
                return None
            self._wanted = self._loop.create_future()
            try:
                await self._wanted
            finally:
                self._wanted = None
        work, self._work = self._work, None
        return work

    def go_on(self) -> None:
        """Read on after such a packet was answered."""
        self._held = False
        if self._pipe is not None and not self._pipe.is_closing():
            self._pipe.resume_reading()
            self._read()

    def admit(self, session: Session) -> None:
        """Take the session that the client's CONNECT has led to."""
        self.session = session
        self._is_in = True
        self._framer.limit = PACKET_LIMIT

    def refuse(self, reason: Reason) -> None:
        """Tell why, as far as the version can, and hang up."""
        if self._deaf:
            return
        if self._is_in:
            self.write(disconnect(self.version, reason))
        else:
            self.write(connack(self.version, reason))
        self.hang_up()

    def hang_up(self) -> None:
        """Take no more, send what is gathered, close.

        Where that is possible the client closes last: to close a socket with something unread in it
        would reset the connection, and with it the reason that we gave.
        """
        self._deaf = True
        self._flush()
        pipe = self._pipe
        if pipe is not None and not self._ended and not pipe.is_closing():
            self._ended = True
            try:
                if pipe.can_write_eof():
                    pipe.write_eof()
                    pipe.resume_reading()
                else:
                    pipe.close()
            except OSError:  # the client has reset the connection, and the loop does not know yet
                pipe.abort()
        self._wake()

    def abort(self) -> None:
        """Close now."""
        self._deaf = True
        if self._pipe is not None:
            self._pipe.abort()

    @property
    def is_leaving(self) -> bool:
        """Whether the connection is on its way out."""
        return self._deaf or self.closed.is_set()

    # --- for the session ----------------------------------------------------------------

    def write(self, *parts: bytes) -> None:
        """Send soon."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += parts
        for part in parts:
            self._gathered += len(part)
        if self._gathered >= FLUSH_AT:
            self._flush()

    def soon(self, act: Callable[[], None]) -> None:
        """Call it when others had their turn."""
        self._loop.call_soon(act)

    def _flush(self) -> None:
        out, pipe = self._out, self._pipe
        if not out or pipe is None:
            return
        self._out, self._gathered = [], 0
        if self._ended or pipe.is_closing():
            return
        pipe.writelines(out)
        if pipe.get_write_buffer_size() > BACKLOG:
            self.refuse(Reason.QUOTA)

    # --- for the transport --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        whole = cast(asyncio.Transport, transport)
        whole.set_write_buffer_limits(high=PAUSE_AT)
        self.begin(whole)

    def begin(self, pipe: Pipe) -> None:
        """Take the way to the client."""
        self._pipe = pipe

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.closed.set()
        self._wake()

    def pause_writing(self) -> None:
        """Keep messages back."""
        self.paused = True

    def resume_writing(self) -> None:
        """Send what was kept back."""
        self.paused = False
        if self.session is not None:
            self.session.pump()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._deaf:
            return
        self.heard_at = self._loop.time()
        self._framer.add(data)
        if not self._held:
            self._read()

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    # --- packets ------------------------------------------------------------------------

    def _read(self) -> None:
        framer = self._framer
        try:
            while not self._held and not self._deaf and (found := framer.next()) is not None:
                first, body = found
                if first == _PUBACK and len(body) == 2 and self.session is not None:
                    self._acknowledged(body[0] << 8 | body[1])
                else:
                    self._take(first, body)
        except Broken as error:
            self.refuse(error.reason)

    def _acknowledged(self, number: int) -> None:
        if not number:
            raise Broken("a packet identifier is 0", Reason.PROTOCOL_ERROR)
        if self.session is not None:
            self.session.acknowledge(number)

    def _take(self, first: int, body: bytes) -> None:
        self.packets += 1
        if not self._is_in:
            self._begin(first, body)
            return
        found = parse(first, body, self.version)
        if isinstance(found, (Subscribe, Unsubscribe)):
            self._hand_over(found)
        elif isinstance(found, Ack):
            self._ack(found)
        elif isinstance(found, Publish):
            self._publish(found)
        elif isinstance(found, Ping):
            self.write(PINGRESP)
        elif isinstance(found, Disconnect):
            self._leave(found)

    def _begin(self, first: int, body: bytes) -> None:
        if first >> 4 == Kind.CONNECT and body[:6] == b"\x00\x04MQTT" and len(body) > 6:
            self.version = V5 if body[6] >= V5 else V3
        found = parse_connect(first, body)
        self.version = found.version
        self._hand_over(found)

    def _hand_over(self, found: Packet) -> None:
        self._held = True
        if self._pipe is not None:
            self._pipe.pause_reading()
        self._work = found
        self._wake()

    def _ack(self, found: Ack) -> None:
        if found.kind is Kind.PUBACK:
            self._acknowledged(found.identifier)
        elif found.kind is Kind.PUBREC:  # we never send QoS 2
            if found.reason < Reason.UNSPECIFIED:
                self._answer(Kind.PUBREL, found.identifier, Reason.UNKNOWN_PACKET)
        elif found.kind is Kind.PUBREL:
            is_known = found.identifier in self._received
            self._received.discard(found.identifier)
            reason = Reason.SUCCESS if is_known else Reason.UNKNOWN_PACKET
            self._answer(Kind.PUBCOMP, found.identifier, reason)

    def _answer(self, kind: Kind, identifier: int, reason: Reason = Reason.SUCCESS) -> None:
        self.write(ack(kind, self.version, identifier, reason))

    def _leave(self, found: Disconnect) -> None:
        if found.reason == 0:
            self.will = None
        if found.session_expiry is not None:
            is_durable = self.session is not None and self.session.is_durable
            if found.session_expiry and not is_durable:
                raise Broken("a session cannot last longer at its end", Reason.PROTOCOL_ERROR)
            self.lasts = timedelta(seconds=found.session_expiry)
        self.hang_up()

    # --- what clients publish, which only tests may -------------------------------------

    def _publish(self, found: Publish) -> None:
        if self._publishing is None or self.session is None:
            raise Broken("clients may not publish", Reason.NOT_AUTHORISED)
        if P.TOPIC_ALIAS in found.properties:
            raise Broken("topic aliases were not offered", Reason.BAD_ALIAS)
        reason = Reason.NOT_AUTHORISED  # topics of the server's own
        if not found.topic.startswith("$"):
            if found.qos == 2 and self._is_repeated(found):
                return
            count = self._publishing(message_of(found), self.session)
            reason = Reason.SUCCESS if count or found.qos == 2 else Reason.NO_SUBSCRIBERS
        if found.qos:
            self._answer(Kind.PUBACK if found.qos == 1 else Kind.PUBREC, found.identifier, reason)

    def _is_repeated(self, found: Publish) -> bool:
        if found.identifier in self._received:
            self._answer(Kind.PUBREC, found.identifier)
            return True
        if len(self._received) >= IN_FLIGHT:
            raise Broken("too many messages in flight", Reason.TOO_MANY_IN_FLIGHT)
        self._received.add(found.identifier)
        return False


def message_of(found: Publish) -> Message:
    """Return what a client published as a message; its expiry is left out (tests only)."""
    passed = (P.PAYLOAD_FORMAT, P.RESPONSE_TOPIC, P.CORRELATION)
    return Message(
        topic=found.topic,
        payload=found.payload,
        qos=found.qos,
        retain=found.retain,
        content_type=str(found.properties.get(P.CONTENT_TYPE, "")),
        user_properties=found.user,
        properties=tuple(
            (int(key), found.properties[key]) for key in passed if key in found.properties
        ),
    )


__all__ = ["Connect", "Connection", "Pipe", "message_of"]
