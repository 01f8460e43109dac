"""The remote path of a transfer on a Host, from the Host's directory template."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ecpds.engine.core import DestinationEntry, HostEntry
from ecpds.model.errors import TemplateError
from ecpds.model.targetvalues import target_values
from ecpds.model.template import checked_path, render
from ecpds.model.transfer import DataFile, Transfer


def remote_path(
    transfer: Transfer,
    file: DataFile,
    metadata: Mapping[str, str],
    entry: DestinationEntry,
    host: HostEntry,
    *,
    node: str,
    now: datetime,
) -> str:
    """Return the path; raises TemplateError."""
    if host.template is None:
        raise TemplateError(f"host {host.name}: {host.problem}")
    if host.directory_only is not None:  # most hosts: no token, no rule, the target is appended
        return checked_path(host.directory_only + transfer.target)
    values = target_values(
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
    return render(host.template, values)[0]
