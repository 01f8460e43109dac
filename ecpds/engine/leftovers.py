"""Removes partial files at remote sites that no attempt will go on with.

They stay behind when a transfer expires, is deleted, is delivered by another Host, or fails for
good while its Host cannot be reached.

Spec: interface.md section 8, partial remote temporaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any, Final

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.model.errors import EcpdsError, RemoteMissing, RemoteTransient
from ecpds.store import outgoing
from ecpds.store.outgoing import Left, Stale
from ecpds.transfer.contract import Partial, TransferModule
from ecpds.transfer.deliver import remove_partial
from ecpds.transfer.registry import Access

log = get_logger(__name__)

BATCH: Final = 100
MOST_SHOWN: Final = 1000
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

    async def at(self, host: str) -> list[Left]:
        """Return what is known to lie at a host, one more than are shown when there are more."""
        return await self._core.store.read(outgoing.left_at, host, limit=MOST_SHOWN + 1)

    async def clean(self, host: str) -> tuple[int, list[str]]:
        """Remove now what no attempt will go on with; return how many, and why others stay."""
        found = await self._core.store.read(outgoing.stale_at, host, limit=BATCH)
        reasons = await self._at_host(host, found)
        return len(found) - len(reasons), reasons

    async def _at_host(self, name: str, ones: Sequence[Stale]) -> list[str]:
        """Remove what can be removed; return why the others stay."""
        host = self._core.snapshot.hosts.get(name)
        if host is None:
            for one in ones:
                await self._core.store.write(outgoing.drop_stale, one.id)
            return []
        why = dict.fromkeys((one.id for one in ones), "the host cannot be used")
        if host.access is not None and host.host.active:
            why = await self._tried(host.access, ones)
        self._core.failpoints.hit("leftover.removed")
        for one in ones:
            if why[one.id]:
                await self._later(one, why[one.id])
            else:
                await self._core.store.write(outgoing.drop_stale, one.id)
        return [reason for reason in why.values() if reason]

    async def _tried(self, access: Access, ones: Sequence[Stale]) -> dict[int, str]:
        """Remove files in one session; return by number why one stays, empty when it is gone."""
        why: dict[int, str] = {}
        try:
            async with self._core.pool.session(access) as module:
                for one in ones:
                    why[one.id] = await self._removed(module, one)
        except (EcpdsError, OSError) as error:  # the session is gone: nor the others
            for one in ones:
                why.setdefault(one.id, str(error))
        return why

    async def _removed(self, module: TransferModule[Any], one: Stale) -> str:
        """Remove one; return why that failed, empty when it is gone; raises for lost sessions."""
        if not one.record.get("name"):
            return ""  # of a crash, never named: nothing is known to be there
        try:
            partial = Partial(**one.record)
            await remove_partial(module, partial)
        except RemoteMissing:
            return ""
        except RemoteTransient:
            raise
        except (EcpdsError, TypeError) as error:
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
