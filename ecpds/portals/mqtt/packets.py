"""The packets of MQTT 3.1.1 and 5: what clients send is parsed, what they get is rendered.

Pure functions.  Every rule of the specification that can be told from one packet alone is checked
here; what depends on the state of the connection is `connection`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ecpds.model.mqtttopics import is_filter, is_topic
from ecpds.portals.mqtt.codec import (
    Broken,
    Kind,
    P,
    Properties,
    Reader,
    Reason,
    User,
    Value,
    packet,
    properties,
    text,
    varint,
)

V3: Final = 4  # protocol level of MQTT 3.1.1
V5: Final = 5

_OF_CONNECT: Final = frozenset(
    {
        P.SESSION_EXPIRY,
        P.RECEIVE_MAXIMUM,
        P.MAXIMUM_PACKET,
        P.TOPIC_ALIAS_MAXIMUM,
        P.RESPONSE_INFO_ASKED,
        P.PROBLEM_INFO,
        P.USER,
        P.AUTH_METHOD,
        P.AUTH_DATA,
    }
)
_OF_MESSAGE: Final = frozenset(
    {P.PAYLOAD_FORMAT, P.EXPIRY, P.CONTENT_TYPE, P.RESPONSE_TOPIC, P.CORRELATION, P.USER}
)
_OF_WILL: Final = _OF_MESSAGE | {P.WILL_DELAY}
_OF_PUBLISH: Final = _OF_MESSAGE | {P.TOPIC_ALIAS}
_OF_SUBSCRIBE: Final = frozenset({P.SUBSCRIPTION_ID, P.USER})
_OF_UNSUBSCRIBE: Final = frozenset({P.USER})
_OF_ACK: Final = frozenset({P.REASON_STRING, P.USER})
_OF_DISCONNECT: Final = frozenset({P.SESSION_EXPIRY, P.REASON_STRING, P.USER})

_ACK_REASONS: Final = frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})
_RELEASE_REASONS: Final = frozenset({0x00, 0x92})
_DISCONNECT_REASONS: Final = frozenset(
    {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}
)
_FLAGS: Final = {Kind.PUBREL: 2, Kind.SUBSCRIBE: 2, Kind.UNSUBSCRIBE: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What a client wants published when it is lost."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties = field(default_factory=dict)
    user: User = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """CONNECT."""

    version: int
    client: str
    clean: bool
    keep_alive: int  # seconds, 0: none
    user_name: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = field(default_factory=dict)

    def number(self, key: P, default: int) -> int:
        """Return a property that is a number."""
        value = self.properties.get(key, default)
        return value if isinstance(value, int) else default


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """PUBLISH of a client."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    identifier: int = 0
    properties: Properties = field(default_factory=dict)
    user: User = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """One filter of a SUBSCRIBE."""

    filter: str
    qos: int
    no_local: bool = False
    as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """SUBSCRIBE."""

    identifier: int
    wishes: tuple[Wish, ...]
    number: int | None = None  # subscription identifier of MQTT 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """UNSUBSCRIBE."""

    identifier: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """PUBACK, PUBREC, PUBREL or PUBCOMP."""

    kind: Kind
    identifier: int
    reason: int = 0


@dataclass(frozen=True, slots=True)
class Ping:
    """PINGREQ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """DISCONNECT."""

    reason: int = 0
    session_expiry: int | None = None


Packet = Connect | Publish | Subscribe | Unsubscribe | Ack | Ping | Disconnect


# --- what clients send -----------------------------------------------------------------------


def parse_connect(first: int, body: bytes) -> Connect:
    """Return the first packet of a connection.

    Raises Broken; its reason is UNSUPPORTED_VERSION for every protocol but 3.1.1 and 5.
    """
    if first >> 4 != Kind.CONNECT:
        raise Broken("the first packet is no CONNECT", Reason.PROTOCOL_ERROR)
    if first & 15:
        raise Broken("reserved flags are set")
    reader = Reader(body)
    name, version = reader.binary(), reader.byte()
    if name == b"MQIsdp" or (name == b"MQTT" and version not in (V3, V5)):
        raise Broken(f"protocol level {version} is not spoken here", Reason.UNSUPPORTED_VERSION)
    if name != b"MQTT":
        raise Broken("this is not MQTT")
    flags = reader.byte()
    _check_connect_flags(flags, version)
    keep_alive = reader.two()
    found, _ = reader.properties(_OF_CONNECT) if version == V5 else ({}, ())
    client = _client(reader) if version == V5 else reader.text()
    will = _will(reader, flags, version) if flags & 4 else None
    user_name = reader.text() if flags & 128 else None
    password = reader.binary() if flags & 64 else None
    reader.end()
    if P.AUTH_DATA in found and P.AUTH_METHOD not in found:
        raise Broken("authentication data without a method", Reason.PROTOCOL_ERROR)
    return Connect(
        version=version,
        client=client,
        clean=bool(flags & 2),
        keep_alive=keep_alive,
        user_name=user_name,
        password=password,
        will=will,
        properties=found,
    )


def _client(reader: Reader) -> str:
    left = reader.left
    try:
        return reader.text()
    except Broken as error:
        is_whole = reader.left < left - 2  # bytes were there, and are no text
        raise Broken(str(error), Reason.BAD_CLIENT_ID if is_whole else error.reason) from None


def _check_connect_flags(flags: int, version: int) -> None:
    if flags & 1:
        raise Broken("a reserved flag of CONNECT is set")
    if flags & 0x18 == 0x18 or (not flags & 4 and flags & 0x38):
        raise Broken("the flags of the will make no sense")
    if version == V3 and flags & 64 and not flags & 128:
        raise Broken("a password without a user name")


def _will(reader: Reader, flags: int, version: int) -> Will:
    found, user = reader.properties(_OF_WILL) if version == V5 else ({}, ())
    topic, payload = reader.text(), reader.binary()
    if not is_topic(topic):
        raise Broken("the topic of the will is none")
    _check_response(found)
    return Will(
        topic=topic,
        payload=payload,
        qos=flags >> 3 & 3,
        retain=bool(flags & 32),
        properties=found,
        user=user,
    )


def parse(first: int, body: bytes, version: int) -> Packet:
    """Return a packet that comes after CONNECT; raises Broken."""
    kind = first >> 4
    if kind == Kind.PUBLISH:
        return _publish(first & 15, body, version)
    if first & 15 != _FLAGS.get(Kind(kind), 0) if kind else True:
        raise Broken("reserved flags are set" if kind else "packet type 0")
    reader = Reader(body)
    found = _after_connect(Kind(kind), reader, version)
    reader.end()
    return found


def _after_connect(kind: Kind, reader: Reader, version: int) -> Packet:
    if kind in (Kind.PUBACK, Kind.PUBREC, Kind.PUBREL, Kind.PUBCOMP):
        return _ack(kind, reader, version)
    if kind is Kind.SUBSCRIBE:
        return _subscribe(reader, version)
    if kind is Kind.UNSUBSCRIBE:
        return _unsubscribe(reader, version)
    if kind is Kind.PINGREQ:
        return Ping()
    if kind is Kind.DISCONNECT:
        return _disconnect(reader, version)
    raise Broken(f"{kind.name} is not for servers", Reason.PROTOCOL_ERROR)


def _identifier(reader: Reader, zero: Reason = Reason.PROTOCOL_ERROR) -> int:
    number = reader.two()
    if not number:
        raise Broken("a packet identifier is 0", zero)
    return number


def _publish(flags: int, body: bytes, version: int) -> Publish:
    qos, dup = flags >> 1 & 3, bool(flags & 8)
    if qos == 3 or (dup and not qos):
        raise Broken("the flags of PUBLISH make no sense")
    reader = Reader(body)
    topic = reader.text()
    identifier = _identifier(reader) if qos else 0
    found, user = reader.properties(_OF_PUBLISH) if version == V5 else ({}, ())
    if not (is_topic(topic) or (not topic and P.TOPIC_ALIAS in found)):
        raise Broken("the topic of a PUBLISH is none", _topic_reason(topic))
    _check_response(found)
    return Publish(
        topic=topic,
        payload=reader.rest(),
        qos=qos,
        retain=bool(flags & 1),
        dup=dup,
        identifier=identifier,
        properties=found,
        user=user,
    )


def _check_response(found: Properties) -> None:
    response = found.get(P.RESPONSE_TOPIC)
    if response is not None and not is_topic(str(response)):
        raise Broken("the response topic is none", Reason.PROTOCOL_ERROR)


def _topic_reason(topic: str) -> Reason:
    return Reason.MALFORMED if topic else Reason.PROTOCOL_ERROR


def _ack(kind: Kind, reader: Reader, version: int) -> Ack:
    identifier = _identifier(reader)
    reason = 0
    if version == V5 and reader.left:
        reason = reader.byte()
        is_release = kind in (Kind.PUBREL, Kind.PUBCOMP)
        if reason not in (_RELEASE_REASONS if is_release else _ACK_REASONS):
            raise Broken(f"reason {reason} is not for {kind.name}", Reason.PROTOCOL_ERROR)
        if reader.left:
            reader.properties(_OF_ACK)
    return Ack(kind=kind, identifier=identifier, reason=reason)


def _subscribe(reader: Reader, version: int) -> Subscribe:
    identifier = _identifier(reader, Reason.MALFORMED)
    found, _ = reader.properties(_OF_SUBSCRIBE, Reason.MALFORMED) if version == V5 else ({}, ())
    wishes = []
    while reader.left:
        wishes.append(_wish(reader, version))
    if not wishes:
        raise Broken("SUBSCRIBE without a filter", Reason.PROTOCOL_ERROR)
    number = found.get(P.SUBSCRIPTION_ID)
    return Subscribe(
        identifier=identifier,
        wishes=tuple(wishes),
        number=number if isinstance(number, int) else None,
    )


def _wish(reader: Reader, version: int) -> Wish:
    name, options = reader.text(), reader.byte()
    if not is_filter(name):
        raise Broken("a filter is none", Reason.MALFORMED)
    reserved, handling = (0xFC, 0) if version == V3 else (0xC0, options >> 4 & 3)
    if options & 3 == 3 or options & reserved or handling == 3:
        raise Broken("the options of a filter make no sense")
    no_local = bool(options & 4)
    if no_local and name.startswith("$share/"):
        raise Broken("a shared subscription without local messages", Reason.PROTOCOL_ERROR)
    return Wish(name, options & 3, no_local, bool(options & 8), handling)


def _unsubscribe(reader: Reader, version: int) -> Unsubscribe:
    identifier = _identifier(reader, Reason.MALFORMED)
    if version == V5:
        reader.properties(_OF_UNSUBSCRIBE, Reason.MALFORMED)
    filters = []
    while reader.left:
        name = reader.text()
        if not is_filter(name):
            raise Broken("a filter is none", Reason.MALFORMED)
        filters.append(name)
    if not filters:
        raise Broken("UNSUBSCRIBE without a filter", Reason.PROTOCOL_ERROR)
    return Unsubscribe(identifier=identifier, filters=tuple(filters))


def _disconnect(reader: Reader, version: int) -> Disconnect:
    if version == V3 or not reader.left:
        return Disconnect()
    reason = reader.byte()
    if reason not in _DISCONNECT_REASONS:
        raise Broken(f"reason {reason} is not for DISCONNECT", Reason.PROTOCOL_ERROR)
    found, _ = reader.properties(_OF_DISCONNECT) if reader.left else ({}, ())
    expiry = found.get(P.SESSION_EXPIRY)
    return Disconnect(reason=reason, session_expiry=expiry if isinstance(expiry, int) else None)


# --- what they get ---------------------------------------------------------------------------

PINGRESP: Final = b"\xd0\x00"
_V3_REFUSALS: Final = {
    Reason.UNSUPPORTED_VERSION: 1,
    Reason.BAD_CLIENT_ID: 2,
    Reason.UNAVAILABLE: 3,
    Reason.BUSY: 3,
    Reason.SHUTTING_DOWN: 3,
    Reason.QUOTA: 3,
    Reason.BAD_LOGIN: 4,
    Reason.BANNED: 5,
    Reason.NOT_AUTHORISED: 5,
}


def connack(
    version: int, reason: int = 0, *, present: bool = False, found: Properties | None = None
) -> bytes:
    """Return CONNACK; in 3.1.1 `reason` becomes the nearest return code, b"" if there is none."""
    if version == V5:
        return packet(Kind.CONNACK << 4, bytes((present, reason)) + properties(found or {}))
    if not reason:
        return packet(Kind.CONNACK << 4, bytes((present, 0)))
    code = _V3_REFUSALS.get(Reason(reason))
    return b"" if code is None else packet(Kind.CONNACK << 4, bytes((0, code)))


def ack(kind: Kind, version: int, identifier: int, reason: int = 0) -> bytes:
    """Return PUBACK, PUBREC, PUBREL or PUBCOMP."""
    first = kind << 4 | _FLAGS.get(kind, 0)
    body = identifier.to_bytes(2, "big")
    return packet(first, body + bytes((reason,)) if reason and version == V5 else body)


def suback(version: int, identifier: int, codes: bytes) -> bytes:
    """Return SUBACK."""
    middle = b"\x00" if version == V5 else b""
    return packet(Kind.SUBACK << 4, identifier.to_bytes(2, "big") + middle + codes)


def unsuback(version: int, identifier: int, codes: bytes) -> bytes:
    """Return UNSUBACK; 3.1.1 has no codes in it."""
    tail = b"\x00" + codes if version == V5 else b""
    return packet(Kind.UNSUBACK << 4, identifier.to_bytes(2, "big") + tail)


def disconnect(version: int, reason: int) -> bytes:
    """Return DISCONNECT, which servers send in MQTT 5 only."""
    return packet(Kind.DISCONNECT << 4, bytes((reason,))) if version == V5 else b""


def publish_parts(
    topic: bytes,
    payload: bytes,
    *,
    version: int,
    qos: int,
    retain: bool,
    found: Properties,
    user: User = (),
    numbers: tuple[int, ...] = (),
) -> tuple[bytes, bytes]:
    """Return what stands before and after the packet identifier of a PUBLISH.

    `topic` is encoded with its length in front, `numbers` are subscription identifiers.  With QoS 0
    the two parts follow each other.
    """
    middle = b""
    if version == V5:
        middle = _with_numbers(properties(found, user), numbers)
    length = len(topic) + len(middle) + len(payload) + (2 if qos else 0)
    first = Kind.PUBLISH << 4 | qos << 1 | retain
    return bytes((first,)) + varint(length) + topic, middle + payload


def _with_numbers(rendered: bytes, numbers: tuple[int, ...]) -> bytes:
    if not numbers:
        return rendered
    reader = Reader(rendered)
    reader.varint()
    body = reader.rest() + b"".join(bytes((P.SUBSCRIPTION_ID,)) + varint(n) for n in numbers)
    return varint(len(body)) + body


__all__ = ["Value", "text"]
