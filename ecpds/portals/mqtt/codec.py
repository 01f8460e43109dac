"""The bytes of MQTT: integers, strings, properties, and where one packet ends.

Pure functions and values; nothing here waits, and no length that a peer names is believed before
it was compared with a limit.  Spec: MQTT 3.1.1 sections 1.5 and 2, MQTT 5.0 sections 1.5 and 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from ecpds.model.errors import Malformed


class Reason(IntEnum):
    """Reason codes of MQTT 5 that we send or look at."""

    SUCCESS = 0x00
    NO_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION = 0x11
    UNSPECIFIED = 0x80
    MALFORMED = 0x81
    PROTOCOL_ERROR = 0x82
    UNSUPPORTED_VERSION = 0x84
    BAD_CLIENT_ID = 0x85
    BAD_LOGIN = 0x86
    NOT_AUTHORISED = 0x87
    UNAVAILABLE = 0x88
    BUSY = 0x89
    BANNED = 0x8A
    SHUTTING_DOWN = 0x8B
    BAD_METHOD = 0x8C
    KEEP_ALIVE = 0x8D
    TAKEN_OVER = 0x8E
    BAD_FILTER = 0x8F
    BAD_TOPIC = 0x90
    UNKNOWN_PACKET = 0x92
    TOO_MANY_IN_FLIGHT = 0x93
    BAD_ALIAS = 0x94
    TOO_LARGE = 0x95
    QUOTA = 0x97
    ADMINISTRATIVE = 0x98
    NO_RETAIN = 0x9A
    QOS_UNSUPPORTED = 0x9B
    NO_SHARED = 0x9E


class Broken(Malformed):
    """What a client sent cannot be read, or may not be sent; `reason` goes into the answer."""

    def __init__(self, text: str, reason: Reason = Reason.MALFORMED) -> None:
        super().__init__(text)
        self.reason = reason


class Kind(IntEnum):
    """Packet types."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class P(IntEnum):
    """Property identifiers of MQTT 5."""

    PAYLOAD_FORMAT = 0x01
    EXPIRY = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION = 0x09
    SUBSCRIPTION_ID = 0x0B
    SESSION_EXPIRY = 0x11
    ASSIGNED_ID = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTH_METHOD = 0x15
    AUTH_DATA = 0x16
    PROBLEM_INFO = 0x17
    WILL_DELAY = 0x18
    RESPONSE_INFO_ASKED = 0x19
    RESPONSE_INFO = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER = 0x26
    MAXIMUM_PACKET = 0x27
    WILDCARDS = 0x28
    SUBSCRIPTION_IDS = 0x29
    SHARED = 0x2A


Value = int | str | bytes
Properties = Mapping[int, Value]  # without user properties
User = tuple[tuple[str, str], ...]

_BYTE: Final = frozenset(
    {
        P.PAYLOAD_FORMAT,
        P.PROBLEM_INFO,
        P.RESPONSE_INFO_ASKED,
        P.MAXIMUM_QOS,
        P.RETAIN_AVAILABLE,
        P.WILDCARDS,
        P.SUBSCRIPTION_IDS,
        P.SHARED,
    }
)
_TWO: Final = frozenset(
    {P.SERVER_KEEP_ALIVE, P.RECEIVE_MAXIMUM, P.TOPIC_ALIAS_MAXIMUM, P.TOPIC_ALIAS}
)
_FOUR: Final = frozenset({P.EXPIRY, P.SESSION_EXPIRY, P.WILL_DELAY, P.MAXIMUM_PACKET})
_BINARY: Final = frozenset({P.CORRELATION, P.AUTH_DATA})
_KNOWN: Final = frozenset(P)
_FLAGS: Final = frozenset({P.PAYLOAD_FORMAT, P.PROBLEM_INFO, P.RESPONSE_INFO_ASKED})
_NOT_ZERO: Final = frozenset({P.RECEIVE_MAXIMUM, P.MAXIMUM_PACKET, P.TOPIC_ALIAS})

MOST_PROPERTIES: Final = 64  # of one packet, user properties among them
# U+0000 must not be in a string; other controls and non-characters may be refused, and are
_UNWANTED: Final = re.compile("[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


class Reader:
    """Reads the body of one packet from its start; every method raises Broken at its end."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)

    @property
    def left(self) -> int:
        """Return how many bytes are still to be read."""
        return self._end - self._at

    def _take(self, count: int) -> bytes:
        start = self._at
        if count > self._end - start:
            raise Broken("the packet ends too early")
        self._at = start + count
        return self._data[start : self._at]

    def byte(self) -> int:
        """Read one byte."""
        return self._take(1)[0]

    def two(self) -> int:
        """Read two bytes, big end first."""
        return int.from_bytes(self._take(2), "big")

    def four(self) -> int:
        """Read four bytes, big end first."""
        return int.from_bytes(self._take(4), "big")

    def varint(self) -> int:
        """Read a variable-length integer in its shortest form."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                if byte == 0 and shift:
                    raise Broken("an integer is longer than need be")
                return value
        raise Broken("an integer has no end")

    def binary(self) -> bytes:
        """Read bytes with their length in front."""
        return self._take(self.two())

    def text(self) -> str:
        """Read a string with its length in front."""
        try:
            text = self.binary().decode()
        except UnicodeDecodeError:
            raise Broken("a string is not UTF-8") from None
        if _UNWANTED.search(text):
            raise Broken("a string has control characters")
        return text

    def rest(self) -> bytes:
        """Read all that is left."""
        return self._take(self.left)

    def end(self) -> None:
        """Raise Broken unless everything was read."""
        if self.left:
            raise Broken("the packet is longer than its content")

    def properties(
        self, allowed: frozenset[int], unfit: Reason = Reason.PROTOCOL_ERROR
    ) -> tuple[dict[int, Value], User]:
        """Read properties: those that may come once, and the user's; `unfit` is for others."""
        length = self.varint()
        if length > self.left:
            raise Broken("the properties are longer than the packet")
        inner = Reader(self._take(length))
        found: dict[int, Value] = {}
        user: list[tuple[str, str]] = []
        count = 0
        while inner.left:
            count += 1
            if count > MOST_PROPERTIES:
                raise Broken("too many properties", Reason.TOO_LARGE)
            inner.property(allowed, unfit, found, user)
        return found, tuple(user)

    def property(
        self,
        allowed: frozenset[int],
        unfit: Reason,
        found: dict[int, Value],
        user: list[tuple[str, str]],
    ) -> None:
        """Read one property into `found` or `user`."""
        key = self.varint()
        if key not in _KNOWN:
            raise Broken(f"property {key} is unknown")
        if key == P.USER:
            user.append((self.text(), self.text()))
            return
        value = self._value(key)
        if key not in allowed:
            raise Broken(f"property {key} is not for this packet", unfit)
        if key in found:
            raise Broken(f"property {key} comes twice", Reason.PROTOCOL_ERROR)
        found[key] = value

    def _value(self, key: int) -> Value:
        if key in _BINARY:
            return self.binary()
        number = self._number(key)
        if number is None:
            return self.text()
        if (key in _FLAGS and number > 1) or (number == 0 and key in _NOT_ZERO):
            raise Broken(f"property {key} may not be {number}", Reason.PROTOCOL_ERROR)
        if key == P.SUBSCRIPTION_ID and number == 0:
            raise Broken("a subscription identifier is 0", Reason.PROTOCOL_ERROR)
        return number

    def _number(self, key: int) -> int | None:
        if key in _BYTE:
            return self.byte()
        if key in _TWO:
            return self.two()
        if key in _FOUR:
            return self.four()
        return self.varint() if key == P.SUBSCRIPTION_ID else None


def varint(value: int) -> bytes:
    """Return a variable-length integer, up to 268,435,455."""
    if value < 128:
        return bytes((value,))
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def text(value: str) -> bytes:
    """Return a string with its length in front."""
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def binary(value: bytes) -> bytes:
    """Return bytes with their length in front."""
    return len(value).to_bytes(2, "big") + value


def properties(found: Properties, user: User = ()) -> bytes:
    """Return properties with their length in front."""
    parts = [bytes((key,)) + _encoded(key, value) for key, value in found.items()]
    parts += [bytes((P.USER,)) + text(name) + text(value) for name, value in user]
    joined = b"".join(parts)
    return varint(len(joined)) + joined


def _encoded(key: int, value: Value) -> bytes:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bytes):
        return binary(value)
    if key in _BYTE:
        return value.to_bytes(1, "big")
    if key in _TWO:
        return value.to_bytes(2, "big")
    return varint(value) if key == P.SUBSCRIPTION_ID else value.to_bytes(4, "big")


def packet(first: int, body: bytes) -> bytes:
    """Return a whole packet."""
    return bytes((first,)) + varint(len(body)) + body


class Framer:
    """Cuts a stream of bytes into packets of at most `limit` bytes of body."""

    __slots__ = ("_at", "_buffer", "limit")

    def __init__(self, limit: int) -> None:
        self._buffer = b""
        self._at = 0
        self.limit = limit

    @property
    def waiting(self) -> int:
        """Return how many bytes are here that were not given out."""
        return len(self._buffer) - self._at

    def add(self, data: bytes) -> None:
        """Take what came; the caller bounds how much of it waits."""
        if self._at < len(self._buffer):
            self._buffer = self._buffer[self._at :] + data
        else:
            self._buffer = data
        self._at = 0

    def next(self) -> tuple[int, bytes] | None:
        """Return first byte and body of the next packet, None while it is not complete.

        Raises Broken for a length that has no end or is above the limit, as soon as it is seen.
        """
        buffer, at = self._buffer, self._at
        if len(buffer) - at < 2:
            return None
        length, start = buffer[at + 1], at + 2
        if length > 127:
            length, start = self._long(at + 1)
        end = start + length
        if length > self.limit:
            raise Broken("the packet is too large", Reason.TOO_LARGE)
        if not start or end > len(buffer):
            return None
        self._at = end
        return buffer[at], buffer[start:end]

    def _long(self, at: int) -> tuple[int, int]:
        """Return a length of several bytes and where the body starts, 0 while that is not known."""
        value = 0
        for number in range(4):
            if at + number >= len(self._buffer):
                return value, 0
            byte = self._buffer[at + number]
            value |= (byte & 127) << 7 * number
            if byte < 128:
                return value, at + number + 1
        raise Broken("the length of a packet has no end")
