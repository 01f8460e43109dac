"""An attempt whose content waits at a proxy: the proxy sends it, we wait for the result."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.engine.proxy import Unreachable, linked
from ecpds.model.errors import RemoteMissing, RemoteTimeout
from ecpds.transfer.contract import Delivered
from ecpds.transfer.meter import Meter

if TYPE_CHECKING:
    from ecpds.engine.attempt_store import Claimed

log = get_logger(__name__)


async def relayed(core: Core, claimed: Claimed, meter: Meter) -> Delivered | None:
    """Have the proxy send it; None when it cannot be asked, so that the attempt goes directly.

    Raises RemoteError when the proxy tried and failed.
    """
    if claimed.proxy is None:
        return None
    host, number = claimed.proxy
    started = core.clock.now()
    try:
        async with linked(host, core.threads) as link:
            found = await link.send(number, meter)
    except (Unreachable, RemoteMissing, RemoteTimeout) as error:
        log.warning("proxy not used", proxy=host.name, reason=error.message)
        return None
    meter.add(claimed.file.size)
    return Delivered(
        path=str(found["target"]),
        sent=int(found["sent"]),
        size=claimed.file.size,
        peer=host.host.host,
        started_at=_moment(found["started"]) or started,
        finished_at=core.clock.now(),
        via=host.name,
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
