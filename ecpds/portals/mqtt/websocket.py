"""MQTT inside a WebSocket, on the portal's HTTPS port at `/mqtt`.

The stream of MQTT bytes is cut into binary frames; where the cuts are means nothing.  There are no
extensions, and no cookie is looked at: the login is in the CONNECT, so that foreign pages gain
nothing by opening a socket.  Spec: RFC 6455; MQTT 5.0 section 6.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, cast

from ecpds.portals.https.exchange import Ask, Refused, Reply
from ecpds.portals.mqtt.connection import PACKET_LIMIT, PAUSE_AT, Connection
from ecpds.portals.mqtt.server import MqttPortal

PATH: Final = "/mqtt"
FRAME_LIMIT: Final = PACKET_LIMIT + 16  # bytes; a client sends no longer packets anyway
_MAGIC: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CLOSE_WAIT: Final = 1.0  # seconds for the closing frame of the client
_NORMAL: Final = 1000
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0, 2, 8, 9, 10


class BadFrame(Exception):
    """A frame that is refused; `code` goes into the closing frame."""

    def __init__(self, code: int) -> None:
        super().__init__(f"frame refused with {code}")
        self.code = code


def handshake(method: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of the answer to an opening request, 101 when it is one for MQTT."""
    upgrade = headers.get("upgrade", "").lower()
    tokens = {part.strip().lower() for part in headers.get("connection", "").split(",")}
    if method != "GET" or upgrade != "websocket" or "upgrade" not in tokens:
        return _refusal("426 Upgrade Required", "Upgrade: websocket\r\n")
    if headers.get("sec-websocket-version") != "13":
        return _refusal("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n")
    key = headers.get("sec-websocket-key", "")
    offered = {part.strip() for part in headers.get("sec-websocket-protocol", "").split(",")}
    if not _is_key(key) or "mqtt" not in offered:
        return _refusal("400 Bad Request", "")
    digest = hashlib.sha1((key + _MAGIC).encode(), usedforsecurity=False).digest()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n"
        "Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    ).encode("ascii")


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _refusal(status: str, fields: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n"
    return head.encode("ascii")


class MqttDoor:
    """The address `/mqtt` of the HTTPS portal."""

    def __init__(self, portal: MqttPortal) -> None:
        self._portal = portal

    def claims(self, ask: Ask) -> bool:
        """Tell whether a request is for this address."""
        return ask.target.startswith(PATH) and ask.path == PATH

    async def serve(self, ask: Ask, reply: Reply) -> None:
        """Answer a request and serve the connection that it opens, to its end."""
        if ask.fault:
            raise Refused(ask.fault, "the request cannot be read")
        head = handshake(ask.method, ask.headers)
        transport = reply.hand_over(head)
        if not is_accepted(head):
            transport.close()
            return
        connection = self._portal.connection(ask.peer)
        WebSocket(transport, connection)
        await self._portal.entertain(connection)


def is_accepted(head: bytes) -> bool:
    """Tell whether the answer opens a WebSocket."""
    return head.startswith(b"HTTP/1.1 101")


def frame(kind: int, payload: bytes) -> bytes:
    """Return a frame of the server."""
    length = len(payload)
    if length < 126:
        size = bytes((length,))
    elif length < 65536:
        size = b"\x7e" + length.to_bytes(2, "big")
    else:
        size = b"\x7f" + length.to_bytes(8, "big")
    return bytes((0x80 | kind,)) + size + payload


class Frames:
    """Cuts a client's bytes into frames."""

    def __init__(self) -> None:
        self._buffer = b""
        self._is_open = False  # inside of a fragmented message

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return kind and content of the frames that are complete now.

        Raises BadFrame for what RFC 6455 forbids, for text, and for a frame above the limit.
        """
        self._buffer += data
        found = []
        while (one := self._next()) is not None:
            found.append(one)
        return found

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        kind, length, start = buffer[0] & 15, buffer[1] & 127, 2
        self._check(buffer[0], buffer[1], kind)
        if length > 125:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if length > FRAME_LIMIT:
            raise BadFrame(1009)
        end = start + 4 + length
        if len(buffer) < end:
            return None
        self._buffer = buffer[end:]
        if kind < _CLOSE:
            self._is_open = not buffer[0] & 128
        return kind, _unmasked(buffer[start : start + 4], buffer[start + 4 : end])

    def _check(self, first: int, second: int, kind: int) -> None:
        if first & 0x70 or not second & 128:
            raise BadFrame(1002)  # extensions were not agreed on; clients mask
        if kind >= _CLOSE:
            if kind > _PONG or not first & 128 or second & 127 > 125:
                raise BadFrame(1002)
        elif kind not in (_CONTINUATION, _BINARY):
            raise BadFrame(1003)
        elif (kind == _CONTINUATION) != self._is_open:
            raise BadFrame(1002)


def _unmasked(mask: bytes, content: bytes) -> bytes:
    size = len(content)
    whole = (mask * (size // 4 + 1))[:size]
    mixed = int.from_bytes(content, "big") ^ int.from_bytes(whole, "big")
    return mixed.to_bytes(size, "big")


class WebSocket(asyncio.Protocol):
    """Stands between the transport and an MQTT connection, and is its pipe."""

    def __init__(self, transport: asyncio.BaseTransport, connection: Connection) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connection = connection
        self._frames = Frames()
        self._code = _NORMAL  # of the closing frame
        self._was_told = False  # the client has sent its own
        self._parting: asyncio.TimerHandle | None = None  # ours is out, its own is awaited
        self._transport.set_write_buffer_limits(high=PAUSE_AT)
        self._transport.set_protocol(self)
        connection.begin(self)

    # --- for the transport --------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        try:
            for kind, content in self._frames.feed(data):
                self._take(kind, content)
        except BadFrame as error:
            self._part(error.code)

    def _take(self, kind: int, content: bytes) -> None:
        if kind == _CLOSE:
            self._was_told = True
            if self._parting is not None:
                self._transport.close()
                return
            self._part(_NORMAL)
        elif self._parting is not None:
            return
        elif kind == _PING:
            self._transport.write(frame(_PONG, content))
        elif kind != _PONG:
            self._connection.data_received(content)

    def _part(self, code: int) -> None:
        self._code = code
        self._connection.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._parting is not None:
            self._parting.cancel()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Keep messages back."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Send what was kept back."""
        self._connection.resume_writing()

    # --- for the connection -------------------------------------------------------------

    def writelines(self, list_of_data: Sequence[bytes]) -> None:
        """Send in one frame."""
        self._transport.write(frame(_BINARY, b"".join(list_of_data)))

    def get_write_buffer_size(self) -> int:
        """Return the bytes that wait."""
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Call `data_received` no more."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Call it again."""
        self._transport.resume_reading()

    def can_write_eof(self) -> bool:
        """Return False: a closing frame ends both directions."""
        return False

    def write_eof(self) -> None:
        """Close."""
        self.close()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._parting is not None or self._transport.is_closing()

    def close(self) -> None:
        """Close after what waits was sent and the client has sent its closing frame.

        MQTT.js 5.16 fails with EPIPE when it cannot send it any more
        (`test_websocket_with_mqtt_js`).
        """
        if self.is_closing():
            return
        self._transport.write(frame(_CLOSE, self._code.to_bytes(2, "big")))
        if self._was_told or self._code != _NORMAL:
            self._transport.close()
            return
        self._parting = asyncio.get_running_loop().call_later(CLOSE_WAIT, self._transport.close)
        self._transport.resume_reading()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()
