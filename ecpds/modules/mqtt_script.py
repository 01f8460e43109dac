"""Messages that a script of the Host reads: handed out unread, then made of what the script gave.

The script gives the older names: `mqttHref` (none: the message is ignored), `mqttAlternativeName`,
`mqttSize`, `mqttTime` (milliseconds), `mqttBody` (base64, instead of a download), `mqttAddPayload`.
Spec: notifications.md section 4, transfer-modules-protocols.md 3.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ecpds.model.names import ByteCount
from ecpds.modules.mqtt_options import MqttHostOptions
from ecpds.modules.mqtt_payload import (
    check_address,
    checked,
    content_of,
    moment_of,
    name_in,
    size_of,
)
from ecpds.modules.mqtt_wis2 import Unusable
from ecpds.transfer.subscription import Notification


def unread(topic: str, message: bytes, largest: ByteCount) -> Notification:
    """Return a message as it came, or that it is too large for a script."""
    if len(message) > largest:
        problem = "the message is too large"
        return Notification(topic=topic, message=message[:4096], problem=problem)
    return Notification(topic=topic, message=message)


def said(raw: Notification, values: Mapping[str, Any], options: MqttHostOptions) -> Notification:
    """Return what a script made of a message; a problem is in it, never raised."""
    href, body = values.get("mqttHref"), values.get("mqttBody")
    if href in (None, "") and body in (None, ""):
        return replace(raw, ignored=True)
    try:
        content = None
        if body not in (None, ""):
            content = content_of(body, "base64", options.largest)
        address = check_address(href) if content is None or href else ""
        name = values.get("mqttAlternativeName") or name_in(address)
        return checked(
            replace(
                raw,
                href=address,
                name=str(name),
                size=len(content) if content is not None else size_of(values.get("mqttSize")),
                time=moment_of(values.get("mqttTime")),
                body=content,
                add_message=_is_yes(values.get("mqttAddPayload", options.add_payload)),
            )
        )
    except Unusable as error:
        return replace(raw, message=raw.message[:4096], problem=error.message)


def _is_yes(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in ("yes", "true"))
