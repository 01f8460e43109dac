"""The script of a Host that announces files: it reads each message.

It sees `mqttPayload` (text) and `mqttTopic`, and gives `{http: {mqttHref, ...}}` or these values
themselves; what they mean is the module's to say.
Spec: notifications.md section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from ecpds.model.errors import InputError, ScriptError
from ecpds.model.script import Script
from ecpds.model.tokens import Vocabulary
from ecpds.scripting.scripts import Scripts
from ecpds.transfer.subscription import Notification, Subscriber

TOKENS: Final = Vocabulary.make("mqttPayload mqttTopic")


async def read_messages(
    scripts: Scripts, text: str, subscriber: Subscriber, notes: Sequence[Notification]
) -> list[Notification]:
    """Return what the script behind the options of a Host makes of messages, without one the same.

    A message that the script fails at carries that as its problem.
    """
    script = Script.behind(text, TOKENS)
    if script is None:
        return list(notes)
    return [one if one.problem else await _read(scripts, script, subscriber, one) for one in notes]


async def _read(
    scripts: Scripts, script: Script, subscriber: Subscriber, note: Notification
) -> Notification:
    try:
        values = {"mqttPayload": note.message.decode(), "mqttTopic": note.topic}
        result = await scripts.run(script.language, script.source(values), values)
        table: dict[str, Any] = {} if result.value is None else result.table
    except UnicodeDecodeError:
        return _cannot(note, "the message is no text")
    except InputError as error:
        return _cannot(note, error.message)
    inner = table.get("http", table)
    if not isinstance(inner, dict):
        return _cannot(note, ScriptError("the script returned no object in http").message)
    return subscriber.said(note, inner)


def _cannot(note: Notification, reason: str) -> Notification:
    return replace(note, message=note.message[:4096], problem=f"script: {reason}")
