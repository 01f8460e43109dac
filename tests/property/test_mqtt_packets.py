"""The packet parser: any cut of the stream gives the same packets, any bytes an orderly refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecpds.portals.mqtt.codec import Broken, Framer, P, Reader, properties, varint
from ecpds.portals.mqtt.codec import text as encoded
from ecpds.portals.mqtt.packets import V3, V5, parse, publish_parts
from tests.mqttfuzz import LIMIT, parse_many
from tests.protocol.mqttrig import packet

FUZZED = 100_000


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


def test_fuzzed_packets_are_parsed_or_refused() -> None:
    """Never another error than Broken (`make fuzz` reads a million)."""
    assert 0 < parse_many(FUZZED, 5) < FUZZED
