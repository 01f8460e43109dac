"""`incoming.metadata` as a script: run before an upload is registered, it gives the rules."""

from __future__ import annotations

from datetime import datetime

from ecpds.model.errors import InputError
from ecpds.model.rulesettings import VERSION_TOKENS
from ecpds.model.script import Script
from ecpds.scripting.scripts import Scripts
from ecpds.vfs.uploads import Order, metadata_dates, metadata_values


async def scripted_rules(scripts: Scripts, order: Order, now: datetime) -> str | InputError | None:
    """Return what the script gives, or how it fails; None when the text is none."""
    script = Script.find(order.entry.incoming.metadata, VERSION_TOKENS)
    if script is None:
        return None
    values = metadata_values(order, now)
    try:
        code = script.source(values, metadata_dates(order, now))
        return (await scripts.run(script.language, code, values)).text
    except InputError as error:
        return error
