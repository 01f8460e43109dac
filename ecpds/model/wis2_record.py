"""Discovery records of datasets (WMO Core Metadata Profile 2): what is checked of them.

Spec: WCMP 2.0 annex A; notifications.md 5.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ecpds.model.wis2 import (
    DISCIPLINES,
    POLICIES,
    centre_of_record,
    geometry_problem,
    topic_problem,
)
from ecpds.model.wis2_check import Finding, time_of

CORE: Final = "http://wis.wmo.int/spec/wcmp/2/conf/core"
LARGEST: Final = 256 * 1024  # bytes of a record
POLICY: Final = "wmo:dataPolicy"

Document = Mapping[str, Any]


def check_record(document: Any) -> list[Finding]:
    """Return one finding for each requirement."""
    if not isinstance(document, dict):
        return [Finding("schema", "error", "the record is no JSON object")]
    properties = document.get("properties")
    inner = properties if isinstance(properties, dict) else {}
    return [check(document, inner) for check in _CHECKS]


def centre_of(document: Document) -> str:
    """Return the centre that a record belongs to."""
    return centre_of_record(str(document.get("id", "")))


def topics_of(document: Document) -> list[str]:
    """Return the topics on which data of a record are announced."""
    return [
        str(link["channel"])
        for link in document.get("links", [])
        if isinstance(link, dict) and link.get("rel") == "items" and link.get("channel")
    ]


def _error(requirement: str, text: str) -> Finding:
    return Finding(requirement, "error", text)


def _schema(document: Document, _: Document) -> Finding:
    wanted = ("id", "conformsTo", "type", "time", "geometry", "properties", "links")
    missing = [key for key in wanted if key not in document]
    if missing:
        return _error("schema", f"missing: {', '.join(missing)}")
    if document["type"] != "Feature" or not isinstance(document["properties"], dict):
        return _error("schema", "the record is no GeoJSON feature")
    return Finding("schema")


def _identifier(document: Document, _: Document) -> Finding:
    if not centre_of(document):
        return _error("identifier", "the id is not urn:wmo:md:CENTRE:NAME")
    return Finding("identifier")


def _conformance(document: Document, _: Document) -> Finding:
    classes = document.get("conformsTo")
    if not isinstance(classes, list) or CORE not in classes:
        return _error("conformance", f"conformsTo does not name {CORE}")
    return Finding("conformance")


def _texts(_: Document, properties: Document) -> Finding:
    for key in ("title", "description", "type"):
        value = properties.get(key)
        if not isinstance(value, str) or not value.strip():
            return _error(key, f"properties.{key} is missing")
    return Finding("title, description, type")


def _extent(document: Document, _: Document) -> Finding:
    if problem := geometry_problem(document.get("geometry")):
        return _error("extent_geospatial", problem)
    return Finding("extent_geospatial")


def _temporal(document: Document, _: Document) -> Finding:
    time = document.get("time")
    if time is not None and not isinstance(time, dict):
        return _error("extent_temporal", "time is neither null nor an object")
    if isinstance(time, dict) and not {"interval", "date", "timestamp"} & set(time):
        return _error("extent_temporal", "time has no interval, date or timestamp")
    return Finding("extent_temporal")


def _created(_: Document, properties: Document) -> Finding:
    if time_of(properties.get("created")) is None:
        return _error("creation_date", "properties.created is no RFC 3339 time in UTC")
    return Finding("creation_date")


def _policy(_: Document, properties: Document) -> Finding:
    if properties.get(POLICY) not in POLICIES:
        return _error("data_policy", f"{POLICY} is none of {', '.join(POLICIES)}")
    return Finding("data_policy")


def _contacts(_: Document, properties: Document) -> Finding:
    contacts = properties.get("contacts")
    if not isinstance(contacts, list) or not contacts:
        return _error("contacts", "there are no contacts")
    for one in contacts:
        if not isinstance(one, dict) or not (one.get("name") or one.get("organization")):
            return _error("contacts", "a contact has neither name nor organization")
    return Finding("contacts")


def _themes(_: Document, properties: Document) -> Finding:
    themes = properties.get("themes")
    if not isinstance(themes, list) or not themes:
        return _error("themes", "there are no themes")
    for theme in themes:
        concepts = theme.get("concepts") if isinstance(theme, dict) else None
        if not concepts or not isinstance(concepts, list) or not theme.get("scheme"):
            return _error("themes", "a theme needs concepts and their scheme")
    if not any("earth-system-discipline" in str(theme["scheme"]) for theme in themes):
        text = f"no theme names a discipline: {', '.join(sorted(DISCIPLINES))}"
        return _error("themes", text)
    return Finding("themes")


def _links(document: Document, properties: Document) -> Finding:
    links = document.get("links")
    if not isinstance(links, list) or not links:
        return _error("links", "there are no links")
    for link in links:
        if not isinstance(link, dict) or not isinstance(link.get("href"), str):
            return _error("links", "a link has no href")
        if "rel" not in link or not urlsplit(link["href"]).scheme:
            return _error("links", "a link has no rel, or its href is no address")
    return Finding("links")


def _topics(document: Document, properties: Document) -> Finding:
    links = document.get("links")
    if not isinstance(links, list):
        return _error("topics", "there are no links")
    topics = topics_of(document)
    if not topics:
        return _error("topics", "no link has the relation items and a channel: the topic of data")
    for topic in topics:
        if problem := topic_problem(topic.removesuffix("/#")):
            return _error("topics", f"{topic}: {problem}")
        if topic.split("/")[3] != centre_of(document):
            return _error("topics", f"{topic} is a topic of another centre")
        if topic.split("/")[5:6] != [properties.get(POLICY)]:
            return _error("topics", f"{topic} does not fit {POLICY}")
    return Finding("topics")


_CHECKS: Final[tuple[Callable[[Document, Document], Finding], ...]] = (
    _schema, _identifier, _conformance, _texts, _extent, _temporal, _created, _policy, _contacts,
    _themes, _links, _topics,
)  # fmt: skip
