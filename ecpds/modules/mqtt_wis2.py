"""Which WIS2 messages are wanted, and how strictly they are looked at.

Spec: notifications.md sections 5.4 and 5.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Self

from ecpds.model.errors import EcpdsError, Phase, RemoteConfig
from ecpds.model.wis2 import corners
from ecpds.model.wis2_check import check_message, problems
from ecpds.modules.mqtt_options import MqttHostOptions

Box = tuple[float, float, float, float]


class Unusable(EcpdsError):
    """A message that cannot be used; the text says why."""

    code = "message-unusable"


@dataclass(frozen=True, slots=True)
class Wis2Choice:
    """What the options of one Host say of WIS2 messages."""

    validation: str = "off"
    centres: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()
    box: Box | None = None

    @classmethod
    def of(cls, options: MqttHostOptions) -> Self:
        """Read them; raises RemoteConfig."""
        centres = _words(options.centres)
        return cls(
            validation=options.validation,
            centres=tuple(one for one in centres if not one.startswith("!")),
            excluded=tuple(one[1:] for one in centres if one.startswith("!")),
            media_types=_words(options.media_types),
            box=_box(options.bbox) if options.bbox else None,
        )

    def checked(self, message: bytes, topic: str, now: datetime) -> str:
        """Return what is wrong with a message that can be used; raises Unusable when strict."""
        if self.validation == "off":
            return ""
        wrong = "; ".join(problems(check_message(message, topic, now=now)))
        if wrong and self.validation == "strict":
            raise Unusable(wrong)
        return wrong

    def wants(self, topic: str, document: Mapping[str, Any], link: Mapping[str, Any]) -> bool:
        """Tell whether a message is one that we want."""
        levels = topic.split("/")
        centre = levels[3] if len(levels) > 3 else ""
        if any(fnmatchcase(centre, one) for one in self.excluded):
            return False
        if self.centres and not any(fnmatchcase(centre, one) for one in self.centres):
            return False
        if self.media_types and link.get("rel") != "deletion":
            kind = str(link.get("type", ""))
            if not any(fnmatchcase(kind, one) for one in self.media_types):
                return False
        return self.box is None or _meets(self.box, corners(document.get("geometry")))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _box(text: str) -> Box:
    try:
        west, south, east, north = (float(one) for one in text.split(","))
    except ValueError:
        raise RemoteConfig("mqtt.bbox is west,south,east,north", phase=Phase.LIST) from None
    return west, south, east, north


def _meets(box: Box, found: Box | None) -> bool:
    """Tell whether two boxes meet; `box` may cross the date line; what has no place meets none."""
    if found is None or found[1] > box[3] or found[3] < box[1]:
        return False
    if box[0] <= box[2]:
        return found[0] <= box[2] and found[2] >= box[0]
    return found[2] >= box[0] or found[0] <= box[2]
