"""From a transfer to topic and payload: variables, the default payload, sandboxed templates.

`$name` and `{name}` of older texts become expressions of the template before it is compiled, so
that no value is ever read as a template.  Spec: notifications.md sections 3 and 7.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from mimetypes import guess_type
from typing import Any, Final
from urllib.parse import quote

from jinja2 import ChainableUndefined, Template
from jinja2 import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ecpds.engine.core import DestinationEntry
from ecpds.engine.telling import millis, stamp
from ecpds.model.dates import DatePattern
from ecpds.model.decode import Where
from ecpds.model.errors import TemplateError
from ecpds.model.families import MqttOptions
from ecpds.model.message import Message
from ecpds.model.targets import base_name
from ecpds.model.transfer import DataFile, Transfer, entity_tag

LONGEST_SOURCE: Final = 64 * 1024  # characters of a template
LONGEST_PAYLOAD: Final = 256 * 1024  # bytes
LONGEST_TOPIC: Final = 1024  # characters
PATIENCE: Final = 1.0  # seconds for one template
LARGEST_RANGE: Final = 1_000
JSON: Final = "application/json"
_NAMESPACE: Final = uuid.UUID("5b0a6f6e-7d0c-5a53-9a8b-3e8f5c6f1d20")  # of our message ids

_NAMES: Final = (
    "filename filesize timefile destination uuid datafileid datafileuuid datatransferid "
    "datatransferuuid movername version checksum etag lifetime productdate date time step "
    "timestep stream metastream metatime metatype metatarget groupby location standby event "
    "url sha512 media_type size expires product_time"
)
NAMES: Final = frozenset(_NAMES.split())
_WORDS: Final = "|".join(sorted(NAMES, key=len, reverse=True))
_OLD: Final = re.compile(
    rf"\$metadata\[([^\]\[{{}}]*)\]|\$({_WORDS})\b|\$([a-z]\w*)\b(?!\[)", re.IGNORECASE
)
_BRACED: Final = re.compile(rf"(?<!{{){{(?:metadata\[([^\]\[{{}}]*)\]|({_WORDS}))}}(?!}})")
_UNWANTED: Final = re.compile("[#+\x00-\x1f\x7f]")


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        is_repeating = operator == "*" and not (_is_number(left) and _is_number(right))
        if operator == "**" or is_repeating:
            raise TemplateError(f"{operator} is not for templates of messages")
        if operator == "%" and isinstance(left, str):
            raise TemplateError("% is not for texts here, use ~ or format")
        return super().call_binop(context, operator, left, right)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _range(*arguments: int) -> range:
    found = range(*arguments)
    if len(found) > LARGEST_RANGE:
        raise TemplateError(f"a range of more than {LARGEST_RANGE}")
    return found


def _environment() -> _Sandbox:
    made = _Sandbox(autoescape=False, undefined=ChainableUndefined, keep_trailing_newline=True)
    made.globals = {"range": _range}
    for name in ("format", "center", "xmlattr", "urlize", "pprint", "random"):
        made.filters.pop(name, None)
    return made


@lru_cache(maxsize=512)
def compiled(text: str, *, braced: bool = False) -> Template:
    """Return a template; `braced`: `{name}` is a variable too.  Raises TemplateError."""
    if len(text) > LONGEST_SOURCE:
        raise TemplateError(f"the template is longer than {LONGEST_SOURCE} characters")
    source = _OLD.sub(_expression, text)
    if braced:
        source = _BRACED.sub(_expression, source)
    try:
        return _environment().from_string(source)
    except JinjaError as error:
        raise TemplateError(f"template: {error}") from None


def _expression(found: re.Match[str]) -> str:
    if found[1] is not None:
        key = found[1].strip().replace("\\", "").replace('"', "")
        return f'{{{{ metadata["{key}"] }}}}'
    if found[2] is not None:
        return f"{{{{ {found[2].lower()} }}}}"
    return ""  # an unknown one is removed


def rendered(template: Template, values: Mapping[str, Any], longest: int) -> str:
    """Return the text of a template; raises TemplateError, also when it is long or slow."""
    parts, size, until = [], 0, time.monotonic() + PATIENCE
    try:
        for part in template.generate(values):
            size += len(part)
            if size > longest:
                raise TemplateError(f"the result is longer than {longest}")
            if time.monotonic() > until:
                raise TemplateError("the template takes too long")
            parts.append(part)
    except TemplateError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a template can lead to
        raise TemplateError(f"template: {type(error).__name__}: {error}") from None
    return "".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a message tells of."""

    number: int  # of the publication, 0: a preview
    noted_at: datetime
    event: str
    transfer: Transfer
    file: DataFile
    metadata: Mapping[str, str]
    entry: DestinationEntry
    node: str
    base_url: str
    sha512: str = ""  # base64, when the template asks for it
    made_payload: str | None = None  # by a script (`publish_script`)
    made_topic: str = ""


def is_scripted(entry: DestinationEntry) -> bool:
    """Tell whether a script has a say: behind the options, or `$( ... )` as the payload."""
    trimmed = entry.mqtt.payload.strip()
    return bool(entry.destination.script) or (trimmed.startswith("$(") and trimmed.endswith(")"))


def wants_sha512(entry: DestinationEntry) -> bool:
    """Tell whether the digest has to be known before the message is made."""
    return "sha512" in entry.mqtt.payload or "sha512" in entry.destination.script


def values_of(subject: Subject, now: datetime) -> dict[str, Any]:
    """Return the variables of templates."""
    transfer, file = subject.transfer, subject.file
    product = file.time_base
    lifetime = max(transfer.expires_at - now, timedelta(0))
    return {
        "event": subject.event,
        "filename": transfer.target,
        "filesize": str(max(file.size, 0)),
        "size": max(file.size, 0),
        "timefile": _milliseconds(file.file_time or file.arrived_at),
        "destination": transfer.destination,
        "uuid": _uuid(file.id, transfer.id),
        "datafileid": str(file.id),
        "datafileuuid": entity_tag(file.id, 0),
        "datatransferid": str(transfer.id),
        "datatransferuuid": entity_tag(transfer.id, 0),
        "movername": subject.node,
        "version": transfer.unique_name,
        "checksum": file.checksum,
        "etag": file.etag,
        "lifetime": str(millis(lifetime)),
        "expires": stamp(transfer.expires_at),
        "productdate": _milliseconds(product),
        "product_time": stamp(product) or "",
        "date": f"{product or file.arrived_at:%Y%m%d}",
        "time": f"{product or file.arrived_at:%H%M}",
        "step": f"{max(file.time_step, 0):03d}",
        "timestep": str(file.time_step),
        "stream": file.meta_stream if file.meta_stream != "None" else "",
        "metastream": file.meta_stream,
        "metatime": file.meta_time,
        "metatype": file.meta_type,
        "metatarget": file.meta_target,
        "groupby": file.group_by,
        "location": url_of(subject),
        "url": url_of(subject),
        "standby": "true" if transfer.status.code == "HOLD" else "false",
        "metadata": dict(subject.metadata),
        "sha512": subject.sha512,
        "media_type": media_type(transfer.target),
    }


_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _milliseconds(moment: datetime | None) -> str:
    return "" if moment is None else str((moment - _START) // timedelta(milliseconds=1))


def _uuid(file: int, transfer: int) -> str:
    text = f"{file:016x}{transfer:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def media_type(target: str) -> str:
    """Return the media type of a name."""
    suffix = target.rpartition(".")[2].lower()
    return _MEDIA.get(suffix) or guess_type(target)[0] or "application/octet-stream"


_MEDIA: Final = {
    "grib": "application/grib",
    "grb": "application/grib",
    "grib1": "application/grib",
    "grib2": "application/grib",
    "grb2": "application/grib",
    "bufr": "application/bufr",
    "bfr": "application/bufr",
    "nc": "application/x-netcdf",
    "h5": "application/x-hdf5",
    "hdf5": "application/x-hdf5",
    "cap": "application/cap+xml",
    "geojson": "application/geo+json",
    "json": "application/json",
    "tif": "image/tiff",
    "zarr": "application/vnd+zarr",
}


def _path(subject: Subject) -> str:
    """Return the target as the portal shows it: by product date where the destination says so."""
    destination, file = subject.entry.destination, subject.file
    if not destination.group_by_date:
        return subject.transfer.target
    date = DatePattern.parse(destination.date_format).format(file.time_base or file.arrived_at)
    return f"{date}/{base_name(subject.transfer.target)}"


def url_of(subject: Subject) -> str:
    """Return where the content can be fetched."""
    name, path = quote(subject.transfer.destination, safe=""), quote(_path(subject))
    return f"{subject.base_url}/ecpds/data/file/{name}/{path}"


def topic_of(subject: Subject, values: Mapping[str, Any]) -> str:
    """Return the topic; wildcards in values become `_`.  Raises TemplateError."""
    text = subject.made_topic or subject.entry.mqtt.topic or "{destination}/"
    topic = rendered(compiled(text, braced=True), values, LONGEST_TOPIC)
    if topic.endswith("/"):
        topic += _path(subject)
    return topic_text(topic)


def topic_text(text: str) -> str:
    """Return a topic without wildcards and empty parts; raises TemplateError."""
    topic = re.sub("/{2,}", "/", _UNWANTED.sub("_", text.strip()))
    if not topic or topic.startswith("$") or len(topic.encode()) > LONGEST_TOPIC:
        raise TemplateError(f"{topic[:80]!r} is no topic")
    return topic


def payload_of(subject: Subject, values: Mapping[str, Any]) -> tuple[str, str]:
    """Return payload and content type; an empty payload: nothing is sent."""
    options = subject.entry.mqtt
    if subject.made_payload is not None:
        return subject.made_payload, options.content_type or "text/plain"
    if options.payload:
        text = rendered(compiled(options.payload), values, LONGEST_PAYLOAD)
        return text, options.content_type or "text/plain"
    if options.template == "none":
        return "", ""
    if options.template == "wis2":
        raise TemplateError("the template wis2 needs the options of wis2.*")
    return default_payload(subject, values), options.content_type or JSON


def default_payload(subject: Subject, values: Mapping[str, Any]) -> str:
    """Return the payload of `mqtt.template = default`."""
    transfer, file = subject.transfer, subject.file
    is_gone = subject.event == "deleted"
    document = {
        "id": message_id(subject),
        "event": subject.event,
        "destination": transfer.destination,
        "target": transfer.target,
        "size": max(file.size, 0),
        "checksum": f"adler32:{file.checksum}" if file.checksum else None,
        "time": stamp(file.arrived_at),
        "product_time": stamp(file.time_base),
        "expires": stamp(transfer.expires_at),
        "links": [{"rel": "deletion" if is_gone else "canonical", "href": values["url"]}],
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def message_id(subject: Subject) -> str:
    """Return the id of a message: the same at each try, another one for each event."""
    about = f"{subject.node}/{subject.noted_at.isoformat()}/{subject.number}"
    return str(uuid.uuid5(_NAMESPACE, f"{about}/{subject.event}"))


def message_of(subject: Subject, now: datetime) -> Message | None:
    """Return the message, None when the options say that there is none.  Raises TemplateError."""
    options = subject.entry.mqtt
    values = values_of(subject, now)
    payload, content_type = payload_of(subject, values)
    if not payload:
        return None
    expires = subject.transfer.expires_at
    if options.expiry_interval is not None:
        expires = now + options.expiry_interval
    data = payload.encode()
    if len(data) > LONGEST_PAYLOAD:
        raise TemplateError(f"the payload is longer than {LONGEST_PAYLOAD} bytes")
    return Message(
        topic=topic_of(subject, values),
        payload=data,
        qos=options.qos,
        # who subscribes later would get what is for one client only
        retain=options.retain and subject.event != "deleted" and not options.client_id,
        expires_at=expires if subject.event != "deleted" or expires > now else None,
        content_type=content_type,
        client=options.client_id,
        destination=subject.transfer.destination,
        transfer=subject.transfer.id,
    )


def check_messages(options: MqttOptions, where: Where) -> None:
    """Compile the texts of a destination; raises ConfigError at the place of a bad one."""
    for key, text, braced in (
        ("mqtt.topic", options.topic, True),
        ("mqtt.payload", options.payload, False),
    ):
        try:
            compiled(text, braced=braced)
        except TemplateError as error:
            raise where.at(key).error(error.message) from None
