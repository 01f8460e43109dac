"""`mqtt.payload` as a script: it gives the payload as text, or `{mqtt: {payload, topic}}`.

Spec: notifications.md sections 3 and 7.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from ecpds.engine.publish_text import NAMES, Subject, values_of
from ecpds.model.errors import InputError, ScriptError, TemplateError
from ecpds.model.script import Script
from ecpds.model.tokens import Vocabulary
from ecpds.scripting.scripts import ScriptResult, Scripts

TOKENS: Final = Vocabulary.make(" ".join(sorted(NAMES)), sections={"metadata": None})


async def scripted(scripts: Scripts, subject: Subject, now: datetime) -> Subject:
    """Return the subject with what the script gave; raises TemplateError."""
    script = Script.find(subject.entry.mqtt.payload, TOKENS)
    if script is None:
        return subject
    values = values_of(subject, now)
    tokens = {name: str(value) for name, value in values.items()}
    tokens |= {f"metadata[{key}]": value for key, value in subject.metadata.items()}
    try:
        result = await scripts.run(script.language, script.source(tokens), values)
        payload, topic = _made(result)
    except InputError as error:
        raise TemplateError(f"script: {error.message}") from None
    return replace(subject, made_payload=payload, made_topic=topic)


def _made(result: ScriptResult) -> tuple[str, str]:
    """Return payload and topic; an empty topic leaves that of the options."""
    if not isinstance(result.value, dict):
        return result.text, ""
    inner: Any = result.value.get("mqtt", result.value)
    if not isinstance(inner, dict) or "payload" not in inner:
        raise ScriptError("the script returned an object without a payload")
    payload, topic = inner["payload"], inner.get("topic") or ""
    if not isinstance(topic, str):
        raise ScriptError("the topic that the script returned is no text")
    return payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False), topic
