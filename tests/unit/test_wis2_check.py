"""The checker of WIS2 messages: one finding for each requirement, whatever comes."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.wis2_publish import read_topics
from ecpds.model.wis2 import geometry_of, is_centre, moment, time_in, topic_problem
from ecpds.model.wis2_check import check_message
from ecpds.model.wis2_record import check_record
from tests.wis2 import TABLES, TOPIC, record

NOW = datetime(2026, 11, 2, 7, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "id": "0b6f3c1e-6d0a-4f5e-9a44-5d1f0e6b7a10",
    "type": "Feature",
    "conformsTo": ["http://wis.wmo.int/spec/wnm/1/conf/core"],
    "geometry": {"type": "Point", "coordinates": [6.15, 46.22]},
    "properties": {
        "pubtime": "2026-11-02T06:03:11Z",
        "datetime": "2026-11-02T06:00:00Z",
        "data_id": "wis2/xx-example/data/core/weather/s06700_202611020600",
        "integrity": {"method": "sha256", "value": "A" * 43 + "="},
    },
    "links": [
        {
            "rel": "canonical",
            "type": "application/bufr",
            "length": 348,
            "href": "https://data.example.org/s06700_202611020600.bufr",
        }
    ],
}


def wrong(document: Any, topic: str = f"origin/{TOPIC}") -> list[str]:
    """Return the requirements that are not met."""
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    found = check_message(payload, topic, now=NOW)
    return [one.requirement for one in found if one.severity == "error"]


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good message with one member changed, `None` of a path ending in `-`: removed."""
    made = copy.deepcopy(GOOD)
    *inner, last = path.rstrip("-").split(".")
    place: Any = made
    for step in inner:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if path.endswith("-"):
        del place[last]
    else:
        place[last] = value
    return made


def test_a_good_message_meets_every_requirement() -> None:
    """Also with a version instead of conformsTo, which is only a warning."""
    assert wrong(GOOD) == []
    old = changed("conformsTo-", None) | {"version": "v04"}
    assert wrong(old) == []
    found = check_message(json.dumps(old).encode())
    assert [one.requirement for one in found if one.severity == "warn"] == ["conformsTo/version"]


@pytest.mark.parametrize(
    ("path", "value", "requirement"),
    [
        ("id", "1", "id"),
        ("id", 5, "id"),
        ("conformsTo", [], "conformsTo/version"),
        ("version", "v04", "conformsTo/version"),
        ("geometry", {"type": "Point", "coordinates": [200, 0]}, "geometry"),
        ("geometry", {"type": "LineString", "coordinates": []}, "geometry"),
        ("properties.pubtime", "2026-11-02 06:03", "pubtime"),
        ("properties.pubtime", "2026-11-02T06:03:11+02:00", "pubtime"),
        ("properties.pubtime", "2036-11-02T06:03:11Z", "pubtime"),
        ("properties.data_id", "", "data_id"),
        ("properties.datetime", "yesterday", "temporal"),
        ("properties.datetime-", None, "temporal"),
        ("properties.integrity", {"method": "md5", "value": "AA=="}, "content"),
        ("properties.integrity", {"method": "sha512", "value": "AA=="}, "content"),
        ("properties.content", {"encoding": "utf-8", "size": 5000, "value": "x" * 4097}, "content"),
        ("properties.content", {"encoding": "zip", "size": 1, "value": "x"}, "content"),
        ("links", [], "links"),
        ("links.0.rel", "item", "links"),
        ("links.0.href", "file:///etc/passwd", "links"),
        ("links.0.length", -1, "links"),
        ("type", "Point", "schema"),
        ("properties", [], "schema"),
    ],
)
def test_each_fault_is_told_by_its_requirement(path: str, value: Any, requirement: str) -> None:
    """By name, among what else follows from it."""
    assert requirement in wrong(changed(path, value))


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"\xff", b"null", b"[" * 100_000])
def test_what_is_no_message_is_told_too(payload: bytes) -> None:
    """Nothing breaks the checker."""
    assert "schema" in wrong(payload)


def test_large_messages_and_bad_topics() -> None:
    """8192 bytes; levels of the topic hierarchy."""
    assert wrong(GOOD | {"x": "y" * 9000}) == ["message_size"]
    for topic in (
        "origin/a/wis2",
        "Origin/a/wis2/xx-a/metadata",
        "origin/b/wis2/xx-a/metadata",
        "origin/a/wis2/xx/metadata",
        "origin/a/wis2/xx-a/metadata/x",
        "origin/a/wis2/xx-a/data/free/weather",
        "origin/a/wis2/xx-a/data/core/football",
        "origin/a/wis2/xx-a/data/core",
        "origin/a/wis2/xx-a/data/core/weather//x",
    ):
        assert topic_problem(topic), topic
    known = frozenset({"weather/forecast"})
    assert not topic_problem("cache/a/wis2/xx-a/data/core/weather/forecast", known)
    assert topic_problem("cache/a/wis2/xx-a/data/core/weather/other", known)
    assert not topic_problem("cache/a/wis2/xx-a/data/core/weather/experimental/x", known)
    assert is_centre("xx-example-test")
    assert not is_centre("x.y")


def test_places_and_times_of_options() -> None:
    """lon,lat[,height], GeoJSON, null; digits found by a regex."""
    assert geometry_of("6.15, 46.22,420") == {"type": "Point", "coordinates": [6.15, 46.22, 420.0]}
    assert geometry_of("null") is None
    ring = [[0, 0], [1, 0], [1, 1], [0, 0]]
    assert geometry_of(json.dumps({"type": "Polygon", "coordinates": [ring]})) is not None
    found = time_in("A_S06700_202611020630.bufr", r"_(\d{12})")
    assert found is not None
    assert moment(found) == "2026-11-02T06:30:00Z"
    assert time_in("A_99999999.bufr", r"_(\d{8})") is None


def test_code_lists_are_read_where_there_are_any(tmp_path: Path) -> None:
    """The list of the WMO as it is; a missing or broken one counts as none."""
    found = read_topics(TABLES / "wis2-topic-hierarchy" / "earth-system-discipline.csv")
    assert "weather/surface-based-observations/synop" in found
    assert not topic_problem(f"origin/{TOPIC}", found)
    assert read_topics(tmp_path / "none") == frozenset()
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    assert read_topics(tmp_path / "bad") == frozenset()


def test_records_are_checked() -> None:
    """Each fault by its requirement; a good one has none."""
    assert [one for one in check_record(record()) if one.severity == "error"] == []
    for key, value, requirement in (
        ("id", "urn:x-wmo:md:a:b", "identifier"),
        ("conformsTo", [], "conformance"),
        ("links", [{"rel": "items", "href": "mqtts://b", "channel": "a/b"}], "topics"),
        ("geometry", {"type": "Circle"}, "extent_geospatial"),
        ("time", {}, "extent_temporal"),
    ):
        found = check_record(record() | {key: value})
        assert requirement in [one.requirement for one in found if one.severity == "error"]
    assert check_record([])[0].severity == "error"
