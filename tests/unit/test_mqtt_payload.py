"""Messages of other brokers: what is read of them, and what is refused with a reason."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ecpds.model.errors import RemoteConfig
from ecpds.modules.mqtt import MqttModule
from ecpds.modules.mqtt_options import MqttHostOptions
from ecpds.modules.mqtt_payload import PayloadReader, path_of

NOW = datetime(2026, 11, 2, 6, 4, tzinfo=UTC)
WIS2 = PayloadReader(MqttHostOptions(preset="wis2"))
DOCUMENT: dict[str, Any] = {
    "id": "0b6f3c1e", "type": "Feature", "geometry": None,
    "properties": {
        "pubtime": "2026-11-02T06:03:11Z", "datetime": "2026-11-02T06:00:00Z",
        "data_id": "xx/data/a.bufr",
    },
    "links": [
        {"rel": "item", "href": "https://h/other"},
        {"rel": "canonical", "href": "https://h/d/a%20b.bufr", "length": 3},
    ],
}  # fmt: skip


def read(**properties: Any) -> Any:
    """Read the message with other properties; `links` and others of the top by their names."""
    top = {key: properties.pop(key) for key in ("id", "type", "links") if key in properties}
    document = DOCUMENT | top | {"properties": DOCUMENT["properties"] | properties}
    return WIS2.read("t", json.dumps(document).encode(), NOW)


def content(value: str, encoding: str) -> dict[str, str]:
    """Return the content member."""
    return {"value": value, "encoding": encoding}


def test_the_link_that_counts() -> None:
    """Other relations are passed over."""
    found = read()
    assert (found.operation, found.href, found.name, found.size) == (
        "new", "https://h/d/a%20b.bufr", "a.bufr", 3,
    )  # fmt: skip
    assert found.base == datetime(2026, 11, 2, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("relation", "operation"),
    [
        ("update", "update"),
        ("http://def.wmo.int/def/rel/wnm/-/update", "update"),
        ("deletion", "deletion"),
        ("http://def.wmo.int/def/rel/wnm/-/deletion", "deletion"),
    ],
)
def test_operations(relation: str, operation: str) -> None:
    """In the short and the long form."""
    found = read(links=[{"rel": relation, "href": "https://h/x"}])
    assert (found.operation, found.problem) == (operation, "")


def test_content_in_the_message() -> None:
    """As text, base64, and packed; its digest is looked at."""
    packed = base64.b64encode(gzip.compress(b"abc")).decode()
    digest = base64.b64encode(hashlib.sha256(b"abc").digest()).decode()
    for told in (content("abc", "utf-8"), content("YWJj", "base64"), content(packed, "gzip")):
        found = read(content=told, integrity={"method": "sha256", "value": digest})
        assert (found.body, found.problem) == (b"abc", "")


BOMB = base64.b64encode(gzip.compress(bytes(50_000_000))).decode()


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"id": None}, "no id"),
        ({"type": "Point"}, "GeoJSON"),
        ({"data_id": ""}, "data_id"),
        ({"pubtime": "yesterday"}, "pubtime"),
        ({"pubtime": "2027-01-01T00:00:00Z"}, "future"),
        ({"links": "none"}, "links"),
        ({"links": [{"rel": "canonical", "href": "file:///etc/passwd"}]}, "not fetched"),
        ({"links": [{"rel": "canonical"}]}, "no address"),
        ({"content": content("x", "rot13")}, "unknown"),
        ({"content": content("%%", "base64")}, "base64"),
        ({"content": content("YWJj", "gzip")}, "gzip"),
        ({"content": content(BOMB, "gzip")}, "longer"),
        ({"integrity": {"method": "crc", "value": "AA=="}}, "method"),
        ({"integrity": {"method": "sha256", "value": "AA=="}}, "length"),
    ],
)
def test_what_is_refused(properties: dict[str, Any], reason: str) -> None:
    """With a reason, never with an error of another kind."""
    assert reason in read(**properties).problem


@pytest.mark.parametrize("message", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object(message: bytes) -> None:
    """However deep."""
    assert WIS2.read("t", message, NOW).problem


def test_paths() -> None:
    """Names, numbers, members by a value, texts, alternatives."""
    document = {"a": {"b": [{"k": "x", "v": 1}, {"k": "y", "v": 2}]}}
    assert path_of("a.b[1].v")(document) == 2
    assert path_of("a.b[k=x].v")(document) == 1
    assert path_of("a.c || 'text'")(document) == "text"
    assert path_of("a.b[7].v")(document) is None
    with pytest.raises(RemoteConfig):
        path_of("a..[")


def test_a_host_has_to_say_where_files_are() -> None:
    """A preset, or a path of the address or the content."""
    with pytest.raises(RemoteConfig):
        PayloadReader(MqttHostOptions())


def test_sessions_wait_for_the_next_link() -> None:
    """Making one loads all certificates: more work than fetching and storing a small file."""
    assert MqttModule.keep_alive(MqttHostOptions()) > timedelta(0)
