"""WIS2 of the WMO: the options of a destination that is a dataset, topics, places and times.

Spec: WIS2 Notification Message 1.3, Topic Hierarchy 1.3; notifications.md 5.2 and 5.5.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal

from ecpds.model.decode import Where, opt
from ecpds.model.errors import InputError
from ecpds.model.options import OptionFamily

DISCIPLINES: Final = frozenset(
    {
        "atmospheric-composition", "climate", "cryosphere", "hydrology", "ocean",
        "space-weather", "weather",
    }
)  # fmt: skip
POLICIES: Final = ("core", "recommended")
CHANNELS: Final = ("origin", "cache", "monitor")
LONGEST_TOPIC: Final = 512  # characters
NO_TIME: Final = "none"
FROM_PRODUCT: Final = "product"
_CENTRE: Final = re.compile(r"[a-z0-9]{2,}-[a-z0-9]+(?:-[a-z0-9]+)*")
_LEVEL: Final = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
_RECORD: Final = re.compile(
    r"urn:wmo:md:([a-z0-9]{2,}(?:-[a-z0-9]+)+):([A-Za-z0-9._~-]+(?::[A-Za-z0-9._~-]+)*)"
)
_DIGITS: Final = re.compile(r"\D+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wis2Options(OptionFamily):
    """Options of the `wis2` family of a destination (notifications.md section 5.5)."""

    prefix: ClassVar[str] = "wis2"
    scopes: ClassVar[frozenset[str]] = frozenset({"destination"})

    publish: bool = opt(False, "Publish a WIS2 notification message for each new file.")
    channel: Literal["origin", "cache"] = opt(
        "origin", "origin: own data; cache: what was taken from others, as a Global Cache."
    )
    centre_id: str = opt("", "Centre id, such as xx-example.", key="centreId")
    topic: str = opt(
        "", "Topic below the notification type, such as core/weather/forecast or core/…/synop."
    )
    metadata_id: str = opt(
        "", "Discovery record of the dataset, urn:wmo:md:CENTRE:NAME.", key="metadataId"
    )
    data_id: str = opt(
        "", "Template of the data_id; empty: wis2/CENTRE/data/TOPIC/{filename}.", key="dataId"
    )
    datetime: str = opt(
        FROM_PRODUCT,
        "product, none, or a regex over the target whose digits are yyyyMMdd[HH[mm[ss]]].",
    )
    geometry: str = opt(
        "null", "lon,lat[,height], GeoJSON text, or null; {metadata[key]} is replaced."
    )
    media_type: str = opt("", "Media type; empty: by the name.", key="mediaType")
    inline: Literal["auto", "never"] = opt("auto", "auto: small content is in the message too.")
    cache: bool = opt(True, "Global Caches may copy the data.")
    hash: Literal["sha512", "sha256"] = opt("sha512", "Method of the integrity value.")
    base_url: str = opt(
        "", "Where the portal is reached from outside, https://…; empty: its address.",
        key="baseUrl",
    )  # fmt: skip
    require_record: bool = opt(
        True, "Nothing is published before the discovery record was announced.", key="requireRecord"
    )
    producer: str = opt("", "Centre that produced the data, when it is another one.")

    @property
    def is_core(self) -> bool:
        """Whether the data are core data: open to everybody."""
        return self.topic.partition("/")[0] == "core"

    @property
    def is_experimental(self) -> bool:
        """Whether the topic is not approved yet; caches copy no such data."""
        return "experimental" in self.topic.split("/")

    @property
    def data_topic(self) -> str:
        """Return the topic of data messages."""
        return f"{self.channel}/a/wis2/{self.centre_id}/data/{self.topic}"


def metadata_topic(centre: str) -> str:
    """Return the topic on which a centre announces its discovery records."""
    return f"origin/a/wis2/{centre}/metadata"


def is_centre(text: str) -> bool:
    """Tell whether a text has the form of a centre id: a top-level domain and a name."""
    return _CENTRE.fullmatch(text) is not None


def centre_of_record(identifier: str) -> str:
    """Return the centre of a record id, empty when it is none."""
    found = _RECORD.fullmatch(identifier)
    return found[1] if found else ""


def topic_problem(topic: str, known: frozenset[str] = frozenset()) -> str:
    """Return what is wrong with a topic of WIS2, empty when nothing is.

    `known`: the discipline topics of an imported code list; empty: only syntax and levels 1 to 7.
    """
    levels = topic.split("/")
    if len(topic) > LONGEST_TOPIC or len(levels) < 5:
        return "a topic has at least five levels"
    if any(_LEVEL.fullmatch(one) is None for one in levels):
        return "levels are lower-case words joined by -"
    channel, version, system, centre, kind, *rest = levels
    if channel not in CHANNELS:
        return f"the channel {channel!r} is none of {', '.join(CHANNELS)}"
    if (version, system) != ("a", "wis2"):
        return "the second and third level are a/wis2"
    if not is_centre(centre):
        return f"{centre!r} is no centre id"
    if kind == "metadata":
        return "" if not rest else "a metadata topic ends with metadata"
    if kind != "data":
        return f"the notification type {kind!r} is neither data nor metadata"
    return _data_problem(rest, known)


def _data_problem(rest: list[str], known: frozenset[str]) -> str:
    if len(rest) < 2:
        return "a data topic names policy and discipline"
    if rest[0] not in POLICIES:
        return f"the data policy {rest[0]!r} is none of {', '.join(POLICIES)}"
    if rest[1] not in DISCIPLINES:
        return f"the discipline {rest[1]!r} is none of {', '.join(sorted(DISCIPLINES))}"
    if known and "experimental" not in rest and "/".join(rest[1:]) not in known:
        return f"{'/'.join(rest[1:])!r} is not in the code list"
    return ""


def geometry_of(text: str) -> dict[str, Any] | None:
    """Return a GeoJSON geometry from `lon,lat[,height]`, GeoJSON text or `null`.

    Raises InputError.
    """
    text = text.strip()
    if text in ("", "null"):
        return None
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise InputError("the geometry is no JSON") from None
    else:
        try:
            found = {"type": "Point", "coordinates": [float(one) for one in text.split(",")]}
        except ValueError:
            raise InputError(f"{text[:80]!r} is not lon,lat[,height]") from None
    problem = geometry_problem(found)
    if problem:
        raise InputError(problem)
    return dict(found)


def geometry_problem(found: Any) -> str:
    """Return what is wrong with a geometry, empty when nothing is."""
    if found is None:
        return ""
    if not isinstance(found, Mapping) or found.get("type") not in ("Point", "Polygon"):
        return "the geometry is neither null nor a Point or Polygon"
    coordinates = found.get("coordinates")
    if found["type"] == "Point":
        return "" if _is_position(coordinates) else "the coordinates are no longitude and latitude"
    if not isinstance(coordinates, list) or not coordinates:
        return "a Polygon has rings"
    for ring in coordinates:
        if not isinstance(ring, list) or len(ring) < 4 or not all(map(_is_position, ring)):
            return "a ring has at least four positions of longitude and latitude"
        if ring[0] != ring[-1]:
            return "a ring ends where it begins"
    return ""


def _is_position(value: Any) -> bool:
    if not isinstance(value, list) or not 2 <= len(value) <= 3:
        return False
    if any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in value):
        return False
    return bool(-180 <= value[0] <= 180 and -90 <= value[1] <= 90)


def corners(geometry: Any) -> tuple[float, float, float, float] | None:
    """Return west, south, east, north of a geometry, None when it has none."""
    if geometry_problem(geometry) or geometry is None:
        return None
    points = [geometry["coordinates"]] if geometry["type"] == "Point" else [
        point for ring in geometry["coordinates"] for point in ring
    ]  # fmt: skip
    longitudes, latitudes = [p[0] for p in points], [p[1] for p in points]
    return min(longitudes), min(latitudes), max(longitudes), max(latitudes)


def time_in(text: str, pattern: str) -> datetime | None:
    """Return the time whose digits a regex finds in a text, None when there is none."""
    found = re.search(pattern, text)
    if found is None:
        return None
    digits = _DIGITS.sub("", "".join(filter(None, found.groups())) or found[0])
    try:
        parts = [int(digits[:4]), int(digits[4:6]), int(digits[6:8])]
        parts += [int(digits[at : at + 2] or 0) for at in (8, 10, 12)]
        return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]  # six numbers
    except ValueError:
        return None


def moment(time: datetime) -> str:
    """Return RFC 3339 in UTC; parts of a second only where there are any."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def check_options(options: Wis2Options, where: Where) -> None:
    """Raise ConfigError at the place of what would lead to no valid message."""
    for key, problem in _problems(options):
        if problem:
            raise where.at(f"wis2.{key}").error(problem)


def _problems(options: Wis2Options) -> list[tuple[str, str]]:
    found = [("datetime", _regex_problem(options.datetime))]
    if options.base_url and not options.base_url.startswith(("https://", "http://")):
        found.append(("baseUrl", "this is no https:// address"))
    if "{" not in options.geometry or options.geometry.lstrip().startswith('{"'):
        found.append(("geometry", _geometry_text_problem(options.geometry)))
    if not options.publish:
        return found
    if not is_centre(options.centre_id):
        found.append(("centreId", "this is no centre id such as xx-example"))
    if options.channel == "origin":
        topic = topic_problem(options.data_topic) if is_centre(options.centre_id) else ""
        found.append(("topic", topic))
        found.append(("metadataId", _record_problem(options)))
    return found


def _record_problem(options: Wis2Options) -> str:
    if not options.metadata_id:
        return "the discovery record is missing" if options.require_record else ""
    centre = centre_of_record(options.metadata_id)
    if not centre:
        return "this is no urn:wmo:md:CENTRE:NAME"
    return "" if centre == options.centre_id else "the record is one of another centre"


def _regex_problem(text: str) -> str:
    if text in ("", NO_TIME, FROM_PRODUCT):
        return ""
    try:
        re.compile(text)
    except re.error as error:
        return f"this is no regular expression: {error}"
    return ""


def _geometry_text_problem(text: str) -> str:
    try:
        geometry_of(text)
    except InputError as error:
        return error.message
    return ""
