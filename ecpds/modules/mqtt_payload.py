"""From the payload of a message to what it says of a file; nothing in it is believed unbounded.

A path is `a.b`, `links[0].href`, `links[rel=canonical].href` or a quoted text; alternatives are
split at `||`.  The preset `wis2` reads WIS2 Notification Messages 1.3.
Spec: transfer-modules-protocols.md 3.6, notifications.md 5.1 and 5.4.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from jinja2 import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ecpds.model.errors import Phase, RemoteConfig
from ecpds.modules.mqtt_options import MqttHostOptions
from ecpds.modules.mqtt_wis2 import Unusable, Wis2Choice
from ecpds.transfer.subscription import Notification, Operation

METHODS: Final = {
    "sha256": "sha256", "sha384": "sha384", "sha512": "sha512",
    "sha3-256": "sha3_256", "sha3-384": "sha3_384", "sha3-512": "sha3_512",
    "md5": "md5",
}  # fmt: skip
SCHEMES: Final = ("http", "https")
AHEAD: Final = timedelta(hours=1)  # of our clock, of a pubtime that is believed
DEEPEST: Final = 20  # levels of JSON
_STEP: Final = re.compile(r"(?:\.|^)([^.\[\]]+)|\[(\d+)\]|\[([^\]=]+)=([^\]]*)\]")
_WNM: Final = "http://def.wmo.int/def/rel/wnm/-/"


Path = Callable[[Any], Any]


def path_of(text: str) -> Path:
    """Return the function that follows a path; raises RemoteConfig for what is none."""
    choices = [_choice(part.strip()) for part in text.split("||") if part.strip()]

    def follow(document: Any) -> Any:
        for choice in choices:
            found = choice(document)
            if found not in (None, ""):
                return found
        return None

    return follow


def _choice(text: str) -> Path:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return lambda _: text[1:-1]
    steps = list(_STEP.finditer(text))
    if not steps or "".join(step[0] for step in steps) != text:
        raise RemoteConfig(f"{text!r} is no path such as links[0].href", phase=Phase.LIST)

    def follow(document: Any) -> Any:
        for step in steps:
            document = _stepped(document, step)
        return document

    return follow


def _stepped(document: Any, step: re.Match[str]) -> Any:
    if step[1] is not None:
        return document.get(step[1]) if isinstance(document, dict) else None
    if not isinstance(document, list):
        return None
    if step[2] is not None:
        return document[int(step[2])] if int(step[2]) < len(document) else None
    wanted = step[4].strip("'\"")
    return next(
        (one for one in document if isinstance(one, dict) and str(one.get(step[3])) == wanted), None
    )


def load(message: bytes) -> Any:
    """Read JSON; raises Unusable."""
    try:
        document = json.loads(message)
    except (ValueError, RecursionError):
        raise Unusable("the message is not JSON") from None
    if not isinstance(document, dict):
        raise Unusable("the message is no JSON object")
    return document


def moment_of(value: Any) -> datetime | None:
    """Return a time given as RFC 3339 text or milliseconds, None for what is none."""
    try:
        if isinstance(value, (int, float)) or (isinstance(value, str) and value.isdigit()):
            return datetime.fromtimestamp(int(value) / 1000, UTC)
        if isinstance(value, str) and len(value) < 64:
            found = datetime.fromisoformat(value)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def size_of(value: Any) -> int | None:
    """Return a count of bytes, None for what is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isdigit() and len(value) < 16:
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 2**50 else None


def content_of(value: Any, encoding: str, largest: int) -> bytes:
    """Return the content that came in a message; raises Unusable."""
    if not isinstance(value, str) or len(value) > 2 * largest:
        raise Unusable("the content in the message is no text or too long")
    if encoding == "utf-8":
        content = value.encode()
    elif encoding in ("base64", "gzip"):
        content = _base64(value)
        if encoding == "gzip":
            content = _unpacked(content, largest)
    else:
        raise Unusable(f"the encoding {encoding[:40]!r} is unknown")
    if len(content) > largest:
        raise Unusable("the content in the message is too long")
    return content


def _base64(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Unusable("the content in the message is not base64") from None


def _unpacked(content: bytes, largest: int) -> bytes:
    reader = zlib.decompressobj(wbits=31)
    try:
        found = reader.decompress(content, largest + 1)
    except zlib.error:
        raise Unusable("the content in the message is not gzip") from None
    if len(found) > largest or not reader.eof:
        raise Unusable("the content in the message is longer than it may be, or cut off")
    return found


def digest_of(method: Any, value: Any) -> tuple[str, bytes]:
    """Return the method as hashlib knows it and the digest; raises Unusable."""
    known = METHODS.get(str(method).lower())
    if known is None or not isinstance(value, str):
        raise Unusable(f"the digest method {str(method)[:40]!r} is unknown")
    size = hashlib.new(known, usedforsecurity=False).digest_size
    for decode in (bytes.fromhex, lambda text: base64.b64decode(text, validate=True)):
        try:
            found = decode(value)
        except (ValueError, binascii.Error):
            continue
        if len(found) == size:
            return known, found
    raise Unusable("the digest has the wrong length")


def check_address(href: Any) -> str:
    """Return an address that can be fetched; raises Unusable."""
    if not isinstance(href, str) or len(href) > 4096:
        raise Unusable("there is no address of the file")
    try:
        parts = urlsplit(href)
    except ValueError:
        raise Unusable("the address of the file cannot be read") from None
    if parts.scheme.lower() not in SCHEMES or not parts.hostname:
        raise Unusable(f"{parts.scheme[:20]!r} addresses are not fetched here")
    return href


def name_in(address: str) -> str:
    """Return the last part of an address."""
    return unquote(urlsplit(address).path.rstrip("/").rpartition("/")[2])


def checked(found: Notification) -> Notification:
    """Raise Unusable for a name that is none, or content with another digest."""
    if not found.name or len(found.name.encode()) > 1024 or not found.name.isprintable():
        raise Unusable("there is no name of the file")
    if found.body is not None and found.method:
        made = hashlib.new(found.method, found.body, usedforsecurity=False).digest()
        if made != found.digest:
            raise Unusable("the content in the message has another digest")
    return found


@dataclass(slots=True)
class PayloadReader:
    """Reads the messages of one Host."""

    options: MqttHostOptions
    _paths: dict[str, Path] = field(default_factory=dict)
    _filter: Any = None
    _metadata: dict[str, Path] = field(default_factory=dict)
    _choice: Wis2Choice = field(default_factory=Wis2Choice)

    def __post_init__(self) -> None:
        """Compile what the options say; raises RemoteConfig."""
        options = self.options
        for name in ("href", "name", "size", "time", "body", "encoding", "integrity",
                     "integrity_method", "identifier"):  # fmt: skip
            text = getattr(options, name)
            if text:
                self._paths[name] = path_of(text)
        for part in filter(None, (one.strip() for one in options.metadata.split(","))):
            name, equals, text = part.partition("=")
            if not equals:
                raise RemoteConfig("mqtt.map.metadata is a list of name=path", phase=Phase.LIST)
            self._metadata[name.strip()] = path_of(text.strip())
        if options.filter:
            environment = ImmutableSandboxedEnvironment()
            try:
                self._filter = environment.compile_expression(options.filter)
            except JinjaError as error:
                raise RemoteConfig(f"mqtt.filter: {error}", phase=Phase.LIST) from None
        self._choice = Wis2Choice.of(options)
        if options.preset != "wis2" and not (options.href or options.body):
            raise RemoteConfig(
                "mqtt.preset, mqtt.map.href or mqtt.map.body has to say where files are",
                phase=Phase.LIST,
            )

    def read(self, topic: str, message: bytes, now: datetime) -> Notification:
        """Return what a message says; a problem is in it, never raised."""
        try:
            if len(message) > self.options.largest:
                raise Unusable("the message is too large")
            document = load(message)
            reading = self._wis2 if self.options.preset == "wis2" else self._mapped
            found = reading(topic, message, document, now)
            return self._filtered(found)
        except Unusable as error:
            return Notification(topic=topic, message=message[:4096], problem=error.message)

    def _filtered(self, found: Notification) -> Notification:
        if self._filter is None or found.ignored:
            return found
        try:
            chosen = self._filter(
                name=found.name, href=found.href, size=found.size, topic=found.topic
            )
        except Exception as error:  # noqa: BLE001 - whatever an expression can lead to
            raise Unusable(f"mqtt.filter: {error}") from None
        if chosen:
            return found
        return Notification(topic=found.topic, message=found.message, ignored=True)

    # --- own fields ---------------------------------------------------------------------

    def _get(self, name: str, document: Any) -> Any:
        path = self._paths.get(name)
        return path(document) if path is not None else None

    def _mapped(
        self, topic: str, message: bytes, document: Mapping[str, Any], now: datetime
    ) -> Notification:
        value = self._get("body", document)
        body = None
        if value is not None:
            encoding = str(self._get("encoding", document) or "utf-8").lower()
            body = content_of(value, encoding, self.options.largest)
        href = self._get("href", document)
        if body is None:
            href = check_address(href)
        name = self._get("name", document) or (name_in(href) if isinstance(href, str) else "")
        method, digest = "", b""
        if (told := self._get("integrity", document)) is not None:
            method, digest = digest_of(self._get("integrity_method", document), told)
        return checked(
            Notification(
                topic=topic,
                message=message,
                href=href if isinstance(href, str) else "",
                name=str(name),
                size=size_of(self._get("size", document)),
                time=moment_of(self._get("time", document)),
                body=body,
                method=method,
                digest=digest,
                identifier=str(self._get("identifier", document) or ""),
                metadata=self._told(document),
                add_message=self.options.add_payload,
            )
        )

    def _told(self, document: Any) -> str:
        found = {name: path(document) for name, path in self._metadata.items()}
        return ",".join(f"{name}={_plain(value)}" for name, value in found.items() if value)

    # --- WIS2 ---------------------------------------------------------------------------

    def _wis2(
        self, topic: str, message: bytes, document: Mapping[str, Any], now: datetime
    ) -> Notification:
        properties = document.get("properties")
        if document.get("type") != "Feature" or not isinstance(properties, dict):
            raise Unusable("the message is no GeoJSON feature")
        identifier, data_id = document.get("id"), properties.get("data_id")
        published = moment_of(properties.get("pubtime"))
        if not isinstance(identifier, str) or not 0 < len(identifier) <= 128:
            raise Unusable("the message has no id")
        if not isinstance(data_id, str) or not 0 < len(data_id) <= 1024:
            raise Unusable("the message has no data_id")
        if published is None or published > now + AHEAD:
            raise Unusable("pubtime is missing, unreadable or lies in the future")
        warning = self._choice.checked(message, topic, now)
        operation, link = _link(document.get("links"))
        if operation is None or not self._choice.wants(topic, document, link):
            return Notification(topic=topic, message=message, ignored=True)
        body = self._inline(properties) if operation != "deletion" else None
        href = link.get("href")
        if body is None and operation != "deletion":
            href = check_address(href)
        method, digest = _integrity(properties)
        return checked(
            Notification(
                topic=topic,
                message=message,
                operation=operation,
                href=href if isinstance(href, str) else "",
                name=data_id.rstrip("/").rpartition("/")[2] or name_in(str(href)),
                size=len(body) if body is not None else size_of(link.get("length")),
                time=published,
                base=moment_of(properties.get("datetime") or properties.get("start_datetime")),
                body=body,
                method=method,
                digest=digest,
                identifier=identifier,
                data_id=data_id,
                published=published,
                metadata=self._told(document),
                add_message=self.options.add_payload,
                warning=warning,
                may_cache=properties.get("cache") is not False,
                preferred=properties.get("global-cache") in self.options.prefer_cache,
            )
        )

    def _inline(self, properties: Mapping[str, Any]) -> bytes | None:
        content = properties.get("content")
        if not isinstance(content, dict) or "value" not in content:
            return None
        return content_of(
            content["value"], str(content.get("encoding", "")).lower(), self.options.largest
        )


def _integrity(properties: Mapping[str, Any]) -> tuple[str, bytes]:
    told = properties.get("integrity")
    if not isinstance(told, dict):
        return "", b""
    return digest_of(told.get("method"), told.get("value"))


def _link(links: Any) -> tuple[Operation | None, Mapping[str, Any]]:
    """Return what a message asks for and the link that says so; other relations are ignored."""
    if not isinstance(links, list):
        raise Unusable("the message has no links")
    relations: dict[str, Operation] = {
        "canonical": "new", "update": "update", "deletion": "deletion",
        f"{_WNM}update": "update", f"{_WNM}deletion": "deletion",
    }  # fmt: skip
    for link in links[:100]:
        if isinstance(link, dict) and str(link.get("rel")) in relations:
            return relations[str(link["rel"])], link
    return None, {}


def _plain(value: Any) -> str:
    return re.sub(r"[,=\s]+", "_", str(value))[:200]
