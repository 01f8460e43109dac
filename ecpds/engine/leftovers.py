"""Removes partial files at remote sites that no attempt will go on with.

They stay behind when a transfer expires, is deleted, is delivered by another Host, or fails for
good while its Host cannot be reached.

Spec: interface.md section 8, partial remote temporaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby
from typing import Final

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.model.errors import EcpdsError, RemoteMissing
from ecpds.store import outgoing
from ecpds.store.outgoing import Stale
from ecpds.transfer.contract import Partial
from ecpds.transfer.deliver import remove_partial
from ecpds.transfer.registry import Access

log = get_logger(__name__)

BATCH: Final = 100
FIRST_PAUSE: Final = timedelta(minutes=5)
LONGEST_PAUSE: Final = timedelta(hours=6)
TRIES: Final = 20
"""About four days."""


class Leftovers:
    """Goes through the list of what is to be removed."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def remove(self) -> None:
        """Remove what is due; one round."""
        now = self._core.clock.now()
        found = await self._core.store.read(outgoing.stale, now=now, limit=BATCH)
        for name, ones in groupby(sorted(found, key=lambda one: one.host), lambda one: one.host):
            await self._at_host(name, list(ones))

    async def _at_host(self, name: str, ones: Sequence[Stale]) -> None:
        host = self._core.snapshot.hosts.get(name)
        if host is None:
            for one in ones:
                await self._core.store.write(outgoing.drop_stale, one.id)
            return
        for one in ones:
            reason = "the host cannot be used"
            if host.access is not None and host.host.active:
                reason = await self._removed(host.access, one)
            if reason:
                await self._later(one, reason)
            else:
                await self._core.store.write(outgoing.drop_stale, one.id)

    async def _removed(self, access: Access, one: Stale) -> str:
        """Remove one; return why that failed, empty when it is gone."""
        try:
            partial = Partial(**one.record)
            async with self._core.pool.session(access) as module:
                await remove_partial(module, partial)
        except RemoteMissing:
            return ""
        except (EcpdsError, OSError, TypeError) as error:
            return str(error)
        log.info("partial file removed", host=one.host, path=partial.name)
        return ""

    async def _later(self, one: Stale, reason: str) -> None:
        if one.tries + 1 >= TRIES:
            path = one.record.get("name", "")
            log.error("partial file stays at the host", host=one.host, path=path, reason=reason)
            await self._core.store.write(outgoing.drop_stale, one.id)
            return
        pause = min(FIRST_PAUSE * 2**one.tries, LONGEST_PAUSE)
        now = self._core.clock.now()
        await self._core.store.write(outgoing.try_later, one.id, pause, now=now)
