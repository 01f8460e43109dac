"""Encoding: values survive the way out and back, and nothing reads behind the end of a packet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecpds.model.errors import Malformed
from ecpds.portals.ssh import wire
from ecpds.portals.ssh.jobs import Job
from ecpds.vfs.contract import Node

NOW = datetime(2031, 5, 4, 10, 20, 30, tzinfo=UTC)


def _node(**fields: object) -> Node:
    known: dict[str, object] = {"name": "f", "path": "/N/f", "kind": "file", "mtime": NOW}
    return Node(**known | fields)  # type: ignore[arg-type]  # a test's own mixture


@given(st.integers(0, 2**63), st.integers(0, 2**32 - 1))
def test_attributes_come_back(size: int, seconds: int) -> None:
    whole = datetime.fromtimestamp(seconds, UTC)
    found = wire.read_attributes(wire.Fields(wire.file_attributes(size, whole)))
    assert found == wire.Attributes(size, wire.FILE_MODE, whole)


@pytest.mark.parametrize(
    ("when", "seconds"),
    [(datetime(1901, 1, 1, tzinfo=UTC), 0), (datetime(2400, 1, 1, tzinfo=UTC), 0xFFFFFFFF)],
)
def test_times_are_held_in_32_bits(when: datetime, seconds: int) -> None:
    found = wire.read_attributes(wire.Fields(wire.attributes(_node(mtime=when))))
    assert found.mtime == datetime.fromtimestamp(seconds, UTC)


def test_a_node_without_time_has_none() -> None:
    found = wire.read_attributes(wire.Fields(wire.attributes(_node(kind="directory", mtime=None))))
    assert (found.size, found.mode, found.mtime) == (0, wire.DIRECTORY_MODE, None)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    for read in (
        wire.read_attributes,
        wire.Fields.u32,
        wire.Fields.u64,
        wire.Fields.string,
        wire.Fields.text,
    ):
        fields = wire.Fields(data)
        try:
            while fields.more():
                read(fields)
        except Malformed:
            pass


def test_a_length_beyond_the_packet_is_refused() -> None:
    with pytest.raises(Malformed):
        wire.Fields(b"\xff\xff\xff\xffab").string()


def test_names_are_utf8() -> None:
    with pytest.raises(Malformed):
        wire.Fields(wire.string(b"\xff\xfe")).text()


@pytest.mark.parametrize(
    ("node", "line"),
    [
        (
            _node(size=1234),
            "-rw-r--r--    1 ecpds    ecpds            1234 May  4 10:20 f",
        ),
        (
            _node(mtime=NOW - timedelta(days=400), owner="MET office", group=""),
            "-rw-r--r--    1 MET_office -                   0 Mar 30  2030 f",
        ),
        (
            _node(kind="directory", name="d é", mtime=None),
            "drwxr-x---    1 ecpds    ecpds               0 Jan  1  1970 d é",
        ),
        (
            _node(mtime=NOW + timedelta(days=3)),
            "-rw-r--r--    1 ecpds    ecpds               0 May  7  2031 f",
        ),
    ],
)
def test_long_names_look_like_ls(node: Node, line: str) -> None:
    assert wire.long_name(node, NOW) == line


async def _nothing() -> bytes:
    return b""


@pytest.mark.parametrize(
    ("one", "other", "related"),
    [
        ("/N/a", "/N/a", True),
        ("/N/a", "/N/ab", False),
        ("/N", "/N/a/b", True),
        ("/N/a/b", "/N/a", True),
        ("/", "/N", True),
        ("/N/a", "/S/a", False),
        ("//00000001", "/N/a", False),
    ],
)
def test_jobs_about_one_place_are_related(one: str, other: str, related: bool) -> None:
    assert Job((one,), _nothing).related(Job((other,), _nothing, alone=False)) is related
    assert Job((other,), _nothing, alone=False).related(Job((one,), _nothing)) is related
    assert not Job((one,), _nothing, alone=False).related(Job((one,), _nothing, alone=False))
