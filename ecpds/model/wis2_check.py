"""Checks WIS2 notification messages: one result for each requirement, with what is wrong.

Spec: WIS2 Notification Message 1.3 annex A; notifications.md sections 5.1 and 5.5.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from ecpds.model.wis2 import centre_of_record, geometry_problem, topic_problem

LARGEST: Final = 8192  # bytes of a message
LARGEST_CONTENT: Final = 4096  # characters of inline content
CORE: Final = "http://wis.wmo.int/spec/wnm/1/conf/core"
METHODS: Final = {
    "sha256": 32, "sha384": 48, "sha512": 64, "sha3-256": 32, "sha3-384": 48, "sha3-512": 64,
}  # fmt: skip
RELATIONS: Final = frozenset({"canonical", "update", "deletion"})
SCHEMES: Final = frozenset({"https", "http", "ftp", "sftp", "ftps"})
SECURE: Final = frozenset({"https", "sftp", "ftps"})
AHEAD: Final = timedelta(minutes=5)  # that clocks may differ
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")

Severity = Literal["ok", "warn", "error"]
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the check of one requirement gave."""

    requirement: str
    severity: Severity = "ok"
    text: str = ""


def check_message(
    payload: bytes,
    topic: str = "",
    *,
    now: datetime | None = None,
    known_topics: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Return one finding for each requirement; the worst of each counts.

    `topic` empty: the topic is not checked; `now` None: nor is pubtime against the clock.
    """
    size = _size(payload)
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return [size, Finding("schema", "error", "the message is not JSON in UTF-8")]
    if not isinstance(document, dict):
        return [size, Finding("schema", "error", "the message is no JSON object")]
    properties = document.get("properties")
    inner = properties if isinstance(properties, dict) else {}
    found = [size, _schema(document), *(check(document, inner) for check in _CHECKS)]
    found.append(_pubtime(inner, now))
    if topic:
        found.append(_topic(topic, document, inner, known_topics))
    return found


def problems(findings: list[Finding], severity: Severity = "error") -> list[str]:
    """Return the texts of that severity, with their requirements."""
    return [f"{one.requirement}: {one.text}" for one in findings if one.severity == severity]


def _size(payload: bytes) -> Finding:
    if len(payload) > LARGEST:
        text = f"{len(payload)} bytes, more than {LARGEST}"
        return Finding("message_size", "error", text)
    return Finding("message_size")


def _error(requirement: str, text: str) -> Finding:
    return Finding(requirement, "error", text)


def _schema(document: Document) -> Finding:
    missing = [
        key for key in ("id", "type", "geometry", "properties", "links") if key not in document
    ]
    if missing:
        return _error("schema", f"missing: {', '.join(missing)}")
    if document["type"] != "Feature":
        return _error("schema", "type is not Feature")
    if not isinstance(document["properties"], dict):
        return _error("schema", "properties is no object")
    for key, kind in _TYPES.items():
        value = document["properties"].get(key)
        if key in document["properties"] and not isinstance(value, kind):
            return _error("schema", f"properties.{key} has the wrong type")
    return Finding("schema")


_TYPES: Final[Mapping[str, type]] = {
    "metadata_id": str, "producer": str, "global-cache": str, "cache": bool, "integrity": dict,
    "content": dict,
}  # fmt: skip


def _id(document: Document, _: Document) -> Finding:
    try:
        uuid.UUID(document.get("id", ""))
    except (ValueError, AttributeError, TypeError):
        return _error("id", "the id is no UUID")
    return Finding("id")


def _version(document: Document, _: Document) -> Finding:
    name = "conformsTo/version"
    classes, version = document.get("conformsTo"), document.get("version")
    if (classes is None) == (version is None):
        return _error(name, "exactly one of conformsTo and version has to be there")
    if classes is None:
        if version != "v04":
            return _error(name, "version is not v04")
        return Finding(name, "warn", "version is deprecated, conformsTo takes its place")
    if not isinstance(classes, list) or CORE not in classes:
        return _error(name, f"conformsTo does not name {CORE}")
    return Finding(name)


def _geometry(document: Document, _: Document) -> Finding:
    if problem := geometry_problem(document.get("geometry")):
        return _error("geometry", problem)
    return Finding("geometry")


def _pubtime(properties: Document, now: datetime | None) -> Finding:
    found = time_of(properties.get("pubtime"))
    if found is None:
        return _error("pubtime", "pubtime is missing or no RFC 3339 time in UTC")
    if now is not None and found > now + AHEAD:
        return _error("pubtime", "pubtime lies in the future")
    return Finding("pubtime")


def time_of(value: Any) -> datetime | None:
    """Return a time of RFC 3339 in UTC, None for anything else."""
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        return None
    try:
        found = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value.upper()))
    except ValueError:
        return None
    return found if found.utcoffset() == timedelta(0) else None


def _data_id(_: Document, properties: Document) -> Finding:
    value = properties.get("data_id")
    if not isinstance(value, str) or not value.strip():
        return _error("data_id", "data_id is missing")
    if len(value) > 1024 or not value.isprintable():
        return _error("data_id", "data_id is too long or has control characters")
    try:
        uuid.UUID(value)
    except ValueError:
        return Finding("data_id")
    return Finding("data_id", "warn", "data_id tells nothing of the data")


def _temporal(_: Document, properties: Document) -> Finding:
    has_one, ends = "datetime" in properties, ("start_datetime", "end_datetime")
    count = sum(key in properties for key in ends)
    if has_one and count == 2:
        return _error("temporal", "datetime and start_datetime exclude each other")
    if not has_one and count != 2:
        return _error("temporal", "datetime, or start_datetime and end_datetime, are missing")
    if has_one and properties["datetime"] is None and not count:
        return Finding("temporal")
    times = {key: properties[key] for key in ("datetime", *ends) if key in properties}
    for key, value in times.items():
        if value is not None and time_of(value) is None:
            return _error("temporal", f"{key} is no RFC 3339 time in UTC")
    if count == 2:
        start, end = time_of(times[ends[0]]), time_of(times[ends[1]])
        if start is None or end is None or start > end:
            return _error("temporal", "start_datetime is not before end_datetime")
    return Finding("temporal")


def _integrity(properties: Document) -> str:
    told = properties.get("integrity")
    if told is None:
        return ""
    if not isinstance(told, dict):
        return "integrity is no object"
    length = METHODS.get(str(told.get("method")))
    if length is None:
        return f"the method of integrity is none of {', '.join(METHODS)}"
    value = told.get("value")
    try:
        digest = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        digest = b""
    return "" if len(digest) == length else "the value of integrity is not base64 of that method"


def _content(_: Document, properties: Document) -> Finding:
    if problem := _integrity(properties):
        return _error("content", problem)
    content = properties.get("content")
    if content is None:
        return Finding("content")
    if not isinstance(content, dict) or not isinstance(content.get("value"), str):
        return _error("content", "content has no value")
    if content.get("encoding") not in ("utf-8", "base64", "gzip"):
        return _error("content", "the encoding is none of utf-8, base64, gzip")
    if len(content["value"]) > LARGEST_CONTENT:
        return _error("content", f"the value is longer than {LARGEST_CONTENT}")
    size = content.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return _error("content", "the size is missing")
    if size > LARGEST_CONTENT:
        return Finding("content", "warn", f"the schema limits the size to {LARGEST_CONTENT}")
    return Finding("content")


def _links(document: Document, properties: Document) -> Finding:
    links = document.get("links")
    if not isinstance(links, list) or not links:
        return _error("links", "there is no link")
    for link in links:
        if problem := _link_problem(link):
            return _error("links", problem)
    acts = [link for link in links if link["rel"] in RELATIONS]
    if len(acts) != 1:
        return _error("links", "exactly one of canonical, update and deletion has to be there")
    if acts[0]["rel"] == "deletion" and not properties.get("data_id"):
        return _error("links", "a deletion needs a data_id")
    return _advice(acts[0])


def _advice(link: Document) -> Finding:
    """Return what is allowed but not well done."""
    if urlsplit(link["href"]).scheme.lower() not in SECURE:
        return Finding("links", "warn", "the link is not encrypted")
    wanted = ("type", "length") if link["rel"] != "deletion" else ()
    missing = [key for key in wanted if key not in link]
    if missing:
        return Finding("links", "warn", f"the link has no {' and no '.join(missing)}")
    return Finding("links")


def _link_problem(link: Any) -> str:
    if not isinstance(link, dict) or not isinstance(link.get("href"), str):
        return "a link has no href"
    if not isinstance(link.get("rel"), str):
        return "a link has no rel"
    try:
        parts = urlsplit(link["href"])
    except ValueError:
        return "a href cannot be read"
    if link["rel"] in RELATIONS and (parts.scheme.lower() not in SCHEMES or not parts.netloc):
        return f"{link['href'][:80]!r} is no address that can be fetched"
    length = link.get("length", 0)
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        return "the length of a link is no count of bytes"
    return ""


def _topic(topic: str, document: Document, properties: Document, known: frozenset[str]) -> Finding:
    if problem := topic_problem(topic, known):
        return _error("topic", problem)
    levels = topic.split("/")
    record = properties.get("metadata_id")
    if levels[4] == "metadata" and not isinstance(record, str):
        return _error("topic", "a metadata message needs a metadata_id")
    if isinstance(record, str) and centre_of_record(record) not in ("", levels[3]):
        return Finding("topic", "warn", "metadata_id is one of another centre")
    if levels[4] == "data" and len(levels) < 8:
        return Finding("topic", "warn", "a data topic should have at least eight levels")
    return Finding("topic")


_CHECKS: Final[tuple[Callable[[Document, Document], Finding], ...]] = (
    _id, _version, _geometry, _data_id, _temporal, _content, _links,
)  # fmt: skip
