"""How long an account is good, from where, how fast, and how much it may keep here.

All of it is off unless an option says otherwise: an account without them has no `Terms` at all.
Spec: portal.md 5 (account expiry, networks, total-size and file-count quotas, rates of a user).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from ecpds.base.clock import Clock
from ecpds.model.accountterms import Network, read_networks, read_until
from ecpds.model.errors import QuotaExceeded
from ecpds.model.families import PortalOptions
from ecpds.model.units import format_bytes
from ecpds.store import limits
from ecpds.store.db import Store

BELIEVED_FOR: Final = timedelta(minutes=1)
"""Age of a count of what a user keeps; own uploads are added to it, deletions end it."""

_NO_BOUND: Final = 1 << 62  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of one user."""

    until: datetime | None = None
    networks: tuple[Network, ...] = ()
    most_bytes: int = 0  # 0: any
    most_files: int = 0

    @classmethod
    def of(cls, options: PortalOptions) -> Terms | None:
        """Return the terms, None when there are none; raise InputError (imported options)."""
        given = (options.valid_until, options.networks, options.max_stored, options.max_files)
        if not any(given):
            return None
        return cls(
            until=read_until(options.valid_until) if options.valid_until else None,
            networks=read_networks(options.networks),
            most_bytes=options.max_stored,
            most_files=options.max_files,
        )

    def refusal(self, peer: str, now: datetime) -> str:
        """Return why a login from there is refused now, empty if it is not."""
        if self.is_over(now):
            return "Account expired"
        return "" if self._is_near(peer) else "Network restriction"

    def is_over(self, now: datetime) -> bool:
        """Tell whether the account has ended."""
        return self.until is not None and now >= self.until

    def _is_near(self, peer: str) -> bool:
        if not self.networks:
            return True
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self.networks)


@dataclass(slots=True)
class _Count:
    """What a user kept when it was counted, and what came since."""

    at: datetime
    files: int
    size: int


class Keeping:
    """What users with a limit keep here: live files that they have uploaded."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._counts: dict[str, _Count] = {}

    async def room(self, login: str, terms: Terms, promised: int | None = None) -> int | None:
        """Return the bytes that one more file may have, None when nothing has to be counted.

        Raises QuotaExceeded when there is no room for it.
        """
        if not terms.most_bytes and not terms.most_files:
            return None
        count = await self._count(login)
        if terms.most_files and count.files >= terms.most_files:
            used = f"{count.files} of {terms.most_files} files"
            raise QuotaExceeded(f"Storage quota exceeded ({used})")
        if not terms.most_bytes:
            return _NO_BOUND
        left = terms.most_bytes - count.size
        if left <= 0 or (promised or 0) > left:
            used, most = format_bytes(count.size), format_bytes(terms.most_bytes)
            raise QuotaExceeded(f"Storage quota exceeded ({used} of {most})")
        return left

    async def _count(self, login: str) -> _Count:
        now = self._clock.now()
        known = self._counts.get(login)
        if known is None or now - known.at >= BELIEVED_FOR:
            files, size = await self._store.read(limits.kept, login)
            known = self._counts[login] = _Count(now, files, size)
        return known

    def add(self, login: str, size: int) -> None:
        """Count a file that was uploaded just now."""
        count = self._counts.get(login)
        if count is not None:
            count.files += 1
            count.size += size

    def forget(self, login: str) -> None:
        """Count anew: something was deleted or replaced."""
        self._counts.pop(login, None)
