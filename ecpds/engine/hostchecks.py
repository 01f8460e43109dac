"""Hosts that are to be checked get a small file now and then; mails tell how that went.

A check writes `check_filename` through the whole way that transfers take, temporary name, size and
rename included.  Spec: schedulers.md section 8.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.logs import get_logger
from ecpds.base.mail import Mail, addresses_in
from ecpds.engine.breaker import Breakers
from ecpds.engine.core import Core, HostEntry
from ecpds.engine.retry import reason_of
from ecpds.model.errors import EcpdsError, RemoteConfig
from ecpds.model.host import Host, HostRole
from ecpds.store import hosts
from ecpds.transfer.deliver import deliver
from ecpds.transfer.meter import Meter
from ecpds.transfer.registry import Access
from ecpds.transfer.source import ContentSource

log = get_logger(__name__)

LOOK_EVERY: Final = timedelta(seconds=5)
PHRASE: Final = b"ecpds writes this file to check that the host works.\n"
SENDING: Final = frozenset({HostRole.DISSEMINATION, HostRole.BACKUP})


class HostChecks:
    """Checks the hosts that want it, one after the other."""

    def __init__(self, core: Core, breakers: Breakers) -> None:
        self._core = core
        self._breakers = breakers

    async def look(self) -> None:
        """Check every host whose time has come."""
        wanted = [one for one in self._core.snapshot.hosts.values() if is_checked(one)]
        if not wanted:
            return
        rows = {row.host.name: row for row in await self._core.store.read(hosts.everything)}
        for entry in wanted:
            row = rows.get(entry.name)
            now = self._core.clock.now()
            if row is not None and is_due(entry.host, row.checked_at, now):
                await self.check(entry, row.valid)

    async def check(self, entry: HostEntry, before: bool | None) -> bool:
        """Check one host now; `before` is the last result.  Return whether it works."""
        error = ""
        try:
            await self._write(entry)
        except (EcpdsError, OSError) as failed:
            error = reason_of(failed).text
            log.warning("host check failed", host=entry.name, reason=error)
        else:
            self._breakers.succeeded(entry.name)
        self._core.failpoints.hit("check.written")
        now = self._core.clock.now()
        await self._core.store.write(hosts.checked, entry.name, error=error, now=now)
        self._core.bus.tell("host", entry.name)
        await self._mail(entry.host, error, before)
        return not error

    async def _write(self, entry: HostEntry) -> None:
        access = entry.access
        if access is None:
            raise RemoteConfig(entry.problem)
        if entry.host.role not in SENDING:
            async with self._core.pool.session(access):  # nothing may be written there
                return
        await self._put(access, place_of(entry))

    async def _put(self, access: Access, path: str) -> None:
        descriptor = os.memfd_create("check")
        try:
            os.write(descriptor, PHRASE)
            source = ContentSource(
                descriptor, len(PHRASE), threads=self._core.threads, meter=Meter()
            )
            async with self._core.pool.session(access) as module:
                await deliver(
                    module,
                    path,
                    source,
                    size=len(PHRASE),
                    rules=access.delivery,
                    clock=self._core.clock,
                )
        finally:
            os.close(descriptor)

    async def _mail(self, host: Host, error: str, before: bool | None) -> None:
        wanted = host.mail_on_error if error else host.mail_on_success
        if not wanted or (host.notify_once and before is (not error)):
            return
        to = addresses_in(host.user_mail)
        if not to:
            return
        said = f"failed: {error}" if error else "worked"
        await self._core.mailer.post(
            Mail(
                to=to,
                subject=f"[{self._core.node}] check of host {host.name} {said}",
                text=f"The check of host {host.name} ({host.host or host.method}) {said}.\n",
            )
        )


def is_checked(entry: HostEntry) -> bool:
    """Tell whether a host wants to be checked."""
    return entry.host.check and entry.host.active and bool(entry.host.check_filename)


def is_due(host: Host, checked_at: datetime | None, now: datetime) -> bool:
    """Tell whether a check is due; one in the future was made before the clock was set."""
    return checked_at is None or checked_at > now or now - checked_at >= host.check_frequency


def place_of(entry: HostEntry) -> str:
    """Return where the check file goes: beside what is sent, as far as that is always the same."""
    literal = entry.directory_only
    if literal is None:
        literal = entry.host.directory.strip().split("\n")[0].partition("$")[0]
        literal = "" if literal.startswith("(") else literal
    folder = literal if not literal or literal.endswith("/") else literal.rpartition("/")[0] + "/"
    return folder + entry.host.check_filename
