"""The packet parser: any cut of the stream gives the same packets, any bytes an orderly refusal."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecpds.portals.mqtt.codec import Broken, Framer, P, Reader, properties, varint
from ecpds.portals.mqtt.codec import text as encoded
from ecpds.portals.mqtt.packets import V3, V5, parse, parse_connect, publish_parts
from tests.protocol.mqttrig import connect, packet, subscribe

LIMIT = 64 * 1024
FUZZED = 100_000

SEEDS = [
    connect("c", version=4), connect("c", version=5, found={P.SESSION_EXPIRY: 60}),
    subscribe("a/b", ("c/#", 0)), subscribe("a/+", version=5),
    packet(0xA2, b"\x00\x01" + encoded("a")), packet(0x40, b"\x00\x01"), packet(0xC0, b""),
    packet(0xE0, b"\x00"), packet(0x32, encoded("t") + b"\x00\x01payload"),
    packet(0x30, encoded("t") + b"\x0a\x03" + encoded("x") + b"\x02\x00\x00\x00\x01payload"),
    packet(0x62, b"\x00\x01\x92"), packet(0xF0, b"\x18\x00"),
]  # fmt: skip


@given(st.lists(st.binary(max_size=300), max_size=6), st.data())
def test_packets_do_not_depend_on_how_the_stream_is_cut(
    bodies: list[bytes], data: st.DataObject
) -> None:
    """Byte by byte or all at once."""
    stream = b"".join(packet(0x30, body) for body in bodies)
    framer, found = Framer(LIMIT), []
    while stream:
        count = data.draw(st.integers(1, len(stream)))
        framer.add(stream[:count])
        stream = stream[count:]
        while (one := framer.next()) is not None:
            found.append(one)
    assert found == [(0x30, body) for body in bodies]
    assert framer.waiting == 0


@given(st.integers(0, 268_435_455))
def test_integers_round_trip(value: int) -> None:
    """In their shortest form."""
    reader = Reader(varint(value))
    assert reader.varint() == value
    reader.end()


@given(
    st.dictionaries(
        st.sampled_from([P.EXPIRY, P.SESSION_EXPIRY]), st.integers(0, 2**32 - 1), max_size=2
    ),
    st.lists(st.tuples(st.text("abcé", max_size=5), st.text("abcé", max_size=5)), max_size=4),
)
def test_properties_round_trip(found: dict[int, int], user: list[tuple[str, str]]) -> None:
    """Known ones and the user's."""
    reader = Reader(properties(found, tuple(user)))
    allowed = frozenset({P.EXPIRY, P.SESSION_EXPIRY, P.USER})
    assert reader.properties(allowed) == (found, tuple(user))


@given(
    st.text("ab/é", min_size=1, max_size=20), st.binary(max_size=50), st.sampled_from([V3, V5]),
    st.integers(0, 1), st.booleans(),
)  # fmt: skip
def test_what_we_publish_can_be_read(
    topic: str, payload: bytes, version: int, qos: int, retain: bool
) -> None:
    """Rendered and parsed it is the same."""
    head, tail = publish_parts(
        encoded(topic), payload, version=version, qos=qos, retain=retain, found={P.EXPIRY: 5}
    )
    framer = Framer(LIMIT)
    framer.add(head + (b"\x00\x07" if qos else b"") + tail)
    found = framer.next()
    assert found is not None
    read = parse(*found, version)
    assert (read.topic, read.payload, read.qos, read.retain) == (topic, payload, qos, retain)  # type: ignore[union-attr]  # a PUBLISH


def test_a_length_above_the_limit_is_refused_before_it_is_there() -> None:
    """Nothing is buffered for it."""
    framer = Framer(100)
    framer.add(b"\x30\xff\xff\xff\x7f")
    with pytest.raises(Broken):
        framer.next()
    framer = Framer(100)
    framer.add(b"\x30\xff\xff\xff\xff")
    with pytest.raises(Broken):
        framer.next()


def mutated(chance: random.Random) -> bytes:
    """Return a good packet with a few bytes changed, cut or doubled."""
    data = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 4)):
        place, act = chance.randrange(len(data)), chance.randrange(4)
        if act == 0:
            data[place] = chance.randrange(256)
        elif act == 1:
            data[place] ^= 1 << chance.randrange(8)
        elif act == 2 and len(data) > 2:
            del data[place]
        else:
            data[place:place] = data[place : place + 3]
    return bytes(data)


def read_all(data: bytes) -> None:
    """Parse what comes, as either version."""
    framer = Framer(LIMIT)
    framer.add(data)
    while (found := framer.next()) is not None:
        if found[0] >> 4 == 1:
            parse_connect(*found)
            continue
        parse(*found, V3)
        parse(*found, V5)


def test_fuzzed_packets_are_parsed_or_refused() -> None:
    """Never another error than Broken."""
    chance, refused = random.Random(5), 0
    for _ in range(FUZZED):
        try:
            read_all(mutated(chance))
        except Broken:
            refused += 1
    assert 0 < refused < FUZZED
