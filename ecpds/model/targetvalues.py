"""The values that a dissemination template sees, taken from the objects of one transfer.

Times are milliseconds since 1970, as older templates expect; what is unknown is empty.  No secret
of the Host is among them.

Spec: dissemination.md section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo

from ecpds.model.destination import Destination
from ecpds.model.host import Host
from ecpds.model.targets import base_name, parent_of
from ecpds.model.template import TargetValues
from ecpds.model.transfer import DataFile, Transfer
from ecpds.model.units import format_bytes


def target_values(
    *,
    transfer: Transfer,
    file: DataFile,
    metadata: Mapping[str, str],
    destination: Destination,
    host: Host,
    host_id: int = 0,
    module: str = "",
    node: str = "",
    node_port: int = 0,
    now: datetime,
    timezone: tzinfo = UTC,
) -> TargetValues:
    """Collect the values; `node` is the name of this machine, which stands for every mover."""
    server = {"name": node, "host": node, "port": node_port or ""}
    tokens = {
        "moverName": node,
        **_transfer(transfer),
        **_file(file),
        **{f"metadata[{key}]": value for key, value in metadata.items()},
        "destination[name]": destination.name,
        "destination[comment]": destination.comment,
        "destination[userMail]": destination.user_mail,
        "country[name]": destination.country,
        "country[iso]": destination.country,
        **_host(host, host_id),
        "transferMethod[name]": host.method,
        "ectransModule[name]": module,
        **_keyed("transferServer[{}]", server),
        **_keyed("originalTransferServer[{}]", server),
        "transferGroup[name]": destination.transfer_group,
    }
    return TargetValues(target=transfer.target, tokens=tokens, now=now, timezone=timezone)


def _keyed(form: str, values: Mapping[str, object]) -> dict[str, str]:
    return {form.format(key): str(value) for key, value in values.items()}


def _transfer(transfer: Transfer) -> dict[str, str]:
    return _keyed(
        "dataTransfer[{}]",
        {
            "target": transfer.target,
            "path": transfer.target,
            "name": base_name(transfer.target),
            "parent": parent_of(transfer.target),
            "id": transfer.id,
            "comment": transfer.comment,
            "identity": transfer.identity or transfer.target,
            "priority": transfer.priority,
            "scheduled": _milliseconds(transfer.scheduled_at),
            "statusCode": transfer.status.label,
            "asap": "true" if transfer.asap else "false",
        },
    )


def _file(file: DataFile) -> dict[str, str]:
    return _keyed(
        "dataFile[{}]",
        {
            "id": file.id,
            "original": file.original,
            "source": file.source,
            "size": file.size,
            "formatSize": format_bytes(file.size) if file.size >= 0 else "",
            "checksum": file.checksum.partition("/")[0],
            "timeStep": file.time_step,
            "timeBase": _milliseconds(file.time_base),
            "timeFile": _milliseconds(file.file_time),
            "arrivedTime": _milliseconds(file.arrived_at),
            "metaTime": file.meta_time,
            "metaStream": file.meta_stream,
        },
    )


def _host(host: Host, host_id: int) -> dict[str, str]:
    return _keyed(
        "host[{}]",
        {
            "name": host_id or host.id or "",
            "nickname": host.name,
            "comment": host.comment,
            "host": host.host,
            "login": host.login,
            "userMail": host.user_mail,
            "networkCode": host.network_code,
            "networkName": host.network_name,
            "checkFilename": host.check_filename,
        },
    )


_START = datetime(1970, 1, 1, tzinfo=UTC)


def _milliseconds(moment: datetime | None) -> str:
    return "" if moment is None else str((moment - _START) // timedelta(milliseconds=1))
