"""WIS2 notification messages, valid by construction: of files, of what is withdrawn, of records.

Nothing here asks the store or the disk; `wis2_publish` brings together what is told.
Spec: WIS2 Notification Message 1.3; notifications.md sections 5.1 and 5.5.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import quote

from ecpds.engine.publish_text import Subject, compiled, media_type, rendered, url_of, values_of
from ecpds.model.decode import Where
from ecpds.model.errors import InputError, TemplateError
from ecpds.model.names import ByteCount
from ecpds.model.wis2 import (
    FROM_PRODUCT,
    NO_TIME,
    Wis2Options,
    check_options,
    geometry_of,
    metadata_topic,
    moment,
    time_in,
)
from ecpds.model.wis2_check import CORE, LARGEST, LARGEST_CONTENT

LARGEST_INLINE: Final = ByteCount(4096)  # of the content itself, as the schema wants it
LONGEST_DATA_ID: Final = 1024  # characters
RECORD_TYPE: Final = "application/geo+json"
_NAMESPACE: Final = uuid.UUID("c2c0f3a4-5c0b-5b1e-9f0a-6d1d8a0b7e11")  # of our message ids

Relation = Literal["canonical", "update", "deletion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is known of the content of a file."""

    digest: bytes = b""
    method: str = "sha512"
    inline: bytes | None = None  # the content itself, when it is small


def message_id(*about: object) -> str:
    """Return an id that is the same whenever the same is told."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(str(one) for one in about)))


def check_wis2(options: Wis2Options, where: Where) -> None:
    """Check the options of a destination; raises ConfigError at the place of a bad one."""
    check_options(options, where)
    for key, text in (("dataId", options.data_id), ("geometry", options.geometry)):
        if "{metadata[" in text or key == "dataId":
            try:
                compiled(text, braced=True)
            except TemplateError as error:
                raise where.at(f"wis2.{key}").error(error.message) from None


def encoded(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of a message."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def data_id_of(subject: Subject, options: Wis2Options, now: datetime) -> str:
    """Return the id of the datum; raises TemplateError."""
    text = options.data_id
    if not text:
        name = subject.transfer.target.strip("/")
        found = f"wis2/{options.centre_id}/data/{options.topic}/{name}"
    else:
        values = values_of(subject, now) | {"topic": options.topic, "centre": options.centre_id}
        found = rendered(compiled(text, braced=True), values, LONGEST_DATA_ID).strip()
    if not found or len(found) > LONGEST_DATA_ID or not found.isprintable():
        raise TemplateError(f"{found[:80]!r} is no data_id")
    return found


def address_of(subject: Subject, options: Wis2Options) -> str:
    """Return where the content can be fetched: core data without a login."""
    base = (options.base_url or subject.base_url).rstrip("/")
    if not options.is_core and options.channel == "origin":
        return base + url_of(subject).removeprefix(subject.base_url)
    transfer = subject.transfer
    name = quote(transfer.destination, safe="")
    return f"{base}/wis2/data/{name}/{transfer.id}/{quote(transfer.target.strip('/'))}"


def document_of(
    subject: Subject,
    options: Wis2Options,
    content: Content,
    *,
    data_id: str,
    relation: Relation,
    now: datetime,
) -> dict[str, Any]:
    """Return the message about a file; raises TemplateError."""
    size = max(subject.file.size, 0)
    kind = options.media_type or media_type(subject.transfer.target)
    properties: dict[str, Any] = {"pubtime": moment(subject.noted_at), "data_id": data_id}
    properties["datetime"] = _data_time(subject, options)
    if options.metadata_id:
        properties["metadata_id"] = options.metadata_id
    if options.producer:
        properties["producer"] = options.producer
    if content.digest:
        value = base64.b64encode(content.digest).decode()
        properties["integrity"] = {"method": content.method, "value": value}
    if not options.cache or options.is_experimental:
        properties["cache"] = False
    link: dict[str, Any] = {
        "rel": relation, "type": kind, "href": address_of(subject, options), "length": size,
    }  # fmt: skip
    if not options.is_core:
        link["security"] = {"default": {"type": "http", "scheme": "basic"}}
    made = {
        "id": message_id(
            subject.node, subject.noted_at.isoformat(), subject.transfer.id, subject.event
        ),
        "conformsTo": [CORE],
        "type": "Feature",
        "geometry": _geometry(subject, options, now),
        "properties": properties,
        "links": [link],
    }
    if content.inline is not None and options.inline == "auto":
        _put_inline(made, content.inline)
    return made


def _data_time(subject: Subject, options: Wis2Options) -> str | None:
    if options.datetime == NO_TIME:
        return None
    if options.datetime in ("", FROM_PRODUCT):
        found = subject.file.time_base
    else:
        found = time_in(subject.transfer.target, options.datetime) or subject.file.time_base
    return None if found is None else moment(found)


def _geometry(subject: Subject, options: Wis2Options, now: datetime) -> dict[str, Any] | None:
    text = options.geometry
    if "{metadata[" in text or "$metadata[" in text:
        text = rendered(compiled(text, braced=True), values_of(subject, now), 4096)
        if not text.strip(", "):  # the file has no such metadata
            return None
    try:
        return geometry_of(text)
    except InputError as error:
        raise TemplateError(f"wis2.geometry: {error.message}") from None


def _put_inline(document: dict[str, Any], content: bytes) -> None:
    """Add the content when there is room for it in a message of that size."""
    if len(content) > LARGEST_INLINE:
        return
    for encoding, value in _encodings(content):
        if len(value) > LARGEST_CONTENT:
            continue
        told = {"encoding": encoding, "size": len(content), "value": value}
        document["properties"]["content"] = told
        if len(encoded(document)) <= LARGEST:
            return
        del document["properties"]["content"]


def _encodings(content: bytes) -> list[tuple[str, str]]:
    found = []
    try:
        text = content.decode("utf-8")
        if text.isprintable() or not set(text) & _CONTROLS:
            found.append(("utf-8", text))
    except UnicodeDecodeError:
        pass
    found.append(("base64", base64.b64encode(content).decode()))
    packed = gzip.compress(content, mtime=0)
    if len(packed) < len(content):
        found.append(("gzip", base64.b64encode(packed).decode()))
    return found


_CONTROLS: Final = frozenset(chr(number) for number in range(32) if number not in (9, 10, 13))


# --- what is withdrawn, what comes from others, records --------------------------------------


def deletion_of(
    subject: Subject, options: Wis2Options, *, data_id: str, href: str
) -> dict[str, Any]:
    """Return the message that withdraws a datum."""
    properties: dict[str, Any] = {
        "pubtime": moment(subject.noted_at), "data_id": data_id,
        "datetime": _data_time(subject, options),
    }  # fmt: skip
    if options.metadata_id:
        properties["metadata_id"] = options.metadata_id
    return {
        "id": message_id(
            subject.node, subject.noted_at.isoformat(), subject.transfer.id, "deleted"
        ),
        "conformsTo": [CORE],
        "type": "Feature",
        "geometry": None,
        "properties": properties,
        "links": [{"rel": "deletion", "href": href}],
    }


def cached_of(
    subject: Subject, options: Wis2Options, topic: str, text: str
) -> tuple[str, dict[str, Any]]:
    """Return topic and message that tell of the copy of somebody else's data.

    Only id, topic, link and `global-cache` are ours.  Raises TemplateError for what is not cached.
    """
    document: dict[str, Any] = json.loads(text)
    levels = topic.split("/")
    if levels[4:6] != ["data", "core"]:
        raise TemplateError(f"{topic} is no topic of core data")
    properties = dict(document["properties"])
    properties["global-cache"] = options.centre_id
    href, size = address_of(subject, options), max(subject.file.size, 0)
    links = []
    for link in document["links"]:
        if link.get("rel") in ("canonical", "update"):
            links.append({**link, "href": href, "length": size})
        elif link.get("rel") == "deletion":
            links.append({**link, "href": href})
    made = {
        **document,
        "id": message_id("cache", options.centre_id, document["id"]),
        "properties": properties,
        "links": links,
    }
    return "/".join(["cache", *levels[1:]]), made


def passed_of(content: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return topic and message that tell of data which may not be copied, links as they are."""
    document: dict[str, Any] = json.loads(content["message"])
    centre = str(content["centre"])
    made = {
        **document,
        "id": message_id("cache", centre, document["id"]),
        "properties": {**document["properties"], "global-cache": centre},
    }
    return "/".join(["cache", *str(content["topic"]).split("/")[1:]]), made


def record_message(
    document: Mapping[str, Any],
    text: str,
    *,
    base_url: str,
    noted_at: datetime,
    node: str,
    relation: Relation,
) -> tuple[str, dict[str, Any]]:
    """Return topic and message about a discovery record."""
    identifier = str(document["id"])
    centre = identifier.split(":")[3]
    digest = base64.b64encode(hashlib.sha512(text.encode()).digest()).decode()
    properties: dict[str, Any] = {
        "pubtime": moment(noted_at), "datetime": moment(noted_at),
        "data_id": f"{centre}/metadata/{identifier.split(':', 4)[4]}",
        "metadata_id": identifier,
    }  # fmt: skip
    link: dict[str, Any] = {
        "rel": relation, "type": RECORD_TYPE, "href": record_address(base_url, identifier),
    }  # fmt: skip
    if relation != "deletion":
        properties["integrity"] = {"method": "sha512", "value": digest}
        link["length"] = len(text.encode())
    made = {
        "id": message_id(node, noted_at.isoformat(), identifier, relation),
        "conformsTo": [CORE],
        "type": "Feature",
        "geometry": document.get("geometry") if relation != "deletion" else None,
        "properties": properties,
        "links": [link],
    }
    return metadata_topic(centre), made


def record_address(base_url: str, identifier: str) -> str:
    """Return where a record is served."""
    return f"{base_url.rstrip('/')}/wis2/metadata/{quote(identifier, safe=':')}.json"
