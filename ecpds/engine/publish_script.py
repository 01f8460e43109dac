"""Scripts that say what is published: that behind a destination's options, and `mqtt.payload`.

The first gives `{mqtt: {payload, topic, qos, ...}}`, whose keys win over the options; the second
the payload as text, or such an object.

Spec: notifications.md sections 3 and 7.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from ecpds.engine.publish_text import NAMES, Subject, values_of
from ecpds.model.errors import InputError, ScriptError, TemplateError
from ecpds.model.families import MqttOptions
from ecpds.model.options import as_text
from ecpds.model.script import Script
from ecpds.model.tokens import Vocabulary
from ecpds.scripting.scripts import ScriptResult, Scripts

TOKENS: Final = Vocabulary.make(" ".join(sorted(NAMES)), sections={"metadata": None})
WINS: Final = frozenset({"qos", "retain", "expiryInterval", "contentType", "clientId"})
"""Options that a script may give beside payload and topic."""


async def scripted(scripts: Scripts, subject: Subject, now: datetime) -> Subject:
    """Return the subject with what the scripts gave; raises TemplateError."""
    entry = subject.entry
    for script, is_payload in (
        (Script.behind(entry.destination.script, TOKENS), False),
        (Script.find(entry.mqtt.payload, TOKENS), True),
    ):
        if script is None or subject.made_payload is not None:
            continue
        try:
            result = await _run(scripts, script, subject, now)
            subject = _told(subject, result, is_payload=is_payload)
        except InputError as error:
            raise TemplateError(f"script: {error.message}") from None
    return subject


async def _run(scripts: Scripts, script: Script, subject: Subject, now: datetime) -> ScriptResult:
    values = values_of(subject, now)
    tokens = {name: str(value) for name, value in values.items()}
    tokens |= {f"metadata[{key}]": value for key, value in subject.metadata.items()}
    return await scripts.run(script.language, script.source(tokens), values)


def _told(subject: Subject, result: ScriptResult, *, is_payload: bool) -> Subject:
    """Put what a script gave above the options; an empty topic leaves that of the options."""
    if not isinstance(result.value, dict):
        if not is_payload and result.value is None and not result.output:
            return subject  # it has nothing to say about this one
        return replace(subject, made_payload=result.text)
    inner: Any = result.value.get("mqtt", result.value)
    if not isinstance(inner, dict) or (is_payload and "payload" not in inner):
        raise ScriptError("the script returned an object without a payload")
    topic, payload = inner.get("topic") or "", inner.get("payload")
    if not isinstance(topic, str):
        raise ScriptError("the topic that the script returned is no text")
    if payload is not None and not isinstance(payload, str):
        payload = json.dumps(payload, ensure_ascii=False)
    return replace(_with_options(subject, inner), made_payload=payload, made_topic=topic)


def _with_options(subject: Subject, given: Mapping[str, Any]) -> Subject:
    unknown = given.keys() - WINS - {"payload", "topic"}
    if unknown:
        raise ScriptError(f"the script returned {min(unknown)[:40]!r}, which is nothing of mqtt")
    own = {f"mqtt.{key}": as_text(given[key]) for key in WINS & given.keys()}
    if not own:
        return subject
    options = MqttOptions.read(dict(subject.entry.destination.options) | own)
    return replace(subject, entry=replace(subject.entry, mqtt=options))
