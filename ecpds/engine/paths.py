"""The remote path of a transfer on a Host, from the Host's directory template or script."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from ecpds.engine.core import Core, DestinationEntry, HostEntry
from ecpds.model.errors import RuleError, TemplateError
from ecpds.model.targetvalues import target_values
from ecpds.model.template import TargetValues, Template, checked_path, render
from ecpds.model.transfer import DataFile, Transfer
from ecpds.scripting.scripts import Scripts

MOST_SCRIPTS: Final = 3
"""Scripts that may return scripts."""


async def path_of(
    core: Core,
    transfer: Transfer,
    file: DataFile,
    metadata: Mapping[str, str],
    entry: DestinationEntry,
    host: HostEntry,
    *,
    now: datetime,
) -> str:
    """Return the path; raises TemplateError, ScriptError."""
    if host.directory_only is not None:  # most hosts: no token, no rule, the target is appended
        return checked_path(host.directory_only + transfer.target)
    if host.template is None:
        raise TemplateError(f"host {host.name}: {host.problem}")
    values = values_of(transfer, file, metadata, entry, host, node=core.node, now=now)
    template = host.template
    if template.script is not None:
        legacy = "directory" in host.host.legacy
        template = await template_of(core.scripts, template, values, legacy=legacy)
    return render(template, values)[0]


async def template_of(
    scripts: Scripts, template: Template, values: TargetValues, *, legacy: bool = False
) -> Template:
    """Run a template's script, and those that it returns; raises TemplateError, ScriptError."""
    for _ in range(MOST_SCRIPTS):
        script = template.script
        if script is None:
            return template
        code = script.source(values.tokens, values.dates)
        text = (await scripts.run(script.language, code, values.tokens)).text
        try:
            template = Template.parse(text, legacy=legacy)
        except RuleError as error:
            raise TemplateError(f"the result of the script: {error.message}") from None
    if template.script is not None:
        raise TemplateError(f"more than {MOST_SCRIPTS} scripts return scripts")
    return template


def values_of(
    transfer: Transfer,
    file: DataFile,
    metadata: Mapping[str, str],
    entry: DestinationEntry,
    host: HostEntry,
    *,
    node: str,
    now: datetime,
) -> TargetValues:
    """Return the values that a directory text sees."""
    return target_values(
        transfer=transfer,
        file=file,
        metadata=metadata,
        destination=entry.destination,
        host=host.host,
        host_id=host.host.id,
        module=host.access.module.name if host.access else "",
        node=node,
        now=now,
    )
