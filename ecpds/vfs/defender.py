"""Addresses that fail too often are refused for a time, by all listeners alike.

An unknown user counts two points, a bad credential one; `security.ban_score` points within
`security.ban_window` ban for `security.ban_time`.  A user whose logins fail from many addresses
gets slower refusals.  Spec: portal.md 1.7.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from ecpds.base.clock import Clock
from ecpds.base.settings import SecuritySettings
from ecpds.store.limits import Ban

UNKNOWN_USER: Final = 2
BAD_CREDENTIAL: Final = 1
MOST_ADDRESSES: Final = 20_000
"""Addresses, and users, whose failures are remembered; the one silent longest is forgotten."""

MOST_BANS: Final = 50_000
STEP: Final = 0.5  # seconds of delay for each failure of a user above the score of a ban
LONGEST_DELAY: Final = 10.0  # seconds


def address_key(peer: str) -> str:
    """Return what is counted: an IPv4 address, the /64 network of an IPv6 address."""
    bare = peer.partition("%")[0].partition("/")[0]
    try:
        address = ip_address(bare)
    except ValueError:
        return peer
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if address.is_loopback:
            return str(address)
        return str(ip_network((address, 64), strict=False))
    return str(address)


class _Scores:
    """Points by name within the window, in bounded memory."""

    def __init__(self, window: timedelta) -> None:
        self._window = window
        self._known: OrderedDict[str, deque[tuple[datetime, int]]] = OrderedDict()

    def add(self, name: str, points: int, now: datetime) -> int:
        """Count; return the points within the window."""
        found = self._known.setdefault(name, deque())
        self._known.move_to_end(name)
        found.append((now, points))
        if len(self._known) > MOST_ADDRESSES:
            self._known.popitem(last=False)
        while found and found[0][0] <= now - self._window:
            found.popleft()
        if len(found) > 1000:
            found.popleft()
        return sum(points for _, points in found)

    def forget(self, name: str) -> None:
        """Start again at zero."""
        self._known.pop(name, None)


class Defender:
    """Counts failures and knows who is banned."""

    def __init__(self, settings: SecuritySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._allowed = [ip_network(text, strict=False) for text in settings.allow]
        self._by_address = _Scores(settings.ban_window)
        self._by_user = _Scores(settings.ban_window)
        self._bans: OrderedDict[str, Ban] = OrderedDict()

    def load(self, bans: Iterable[Ban]) -> None:
        """Take over what the store remembers."""
        self._bans = OrderedDict((ban.address, ban) for ban in bans)

    @property
    def bans(self) -> list[Ban]:
        """Return the bans that hold now."""
        now = self._clock.now()
        for address in [a for a, ban in self._bans.items() if ban.until_at <= now]:
            del self._bans[address]
        return list(self._bans.values())

    def ban_of(self, peer: str) -> Ban | None:
        """Return the ban of an address, None if it may log in."""
        if not self._bans:
            return None
        found = self._bans.get(address_key(peer))
        if found is None or found.until_at <= self._clock.now():
            return None
        return found

    def fail(self, peer: str, user: str, points: int, reason: str) -> Ban | None:
        """Count a failed login; return the ban if it was one too many."""
        now = self._clock.now()
        self._by_user.add(user, 1, now)
        if not points or self._is_allowed(peer):
            return None
        address = address_key(peer)
        score = self._by_address.add(address, points, now)
        if score < self._settings.ban_score:
            return None
        self._by_address.forget(address)
        ban = Ban(
            address=address, score=score, reason=reason, banned_at=now,
            until_at=now + self._settings.ban_time,
        )  # fmt: skip
        self._bans[address] = ban
        if len(self._bans) > MOST_BANS:
            self._bans.popitem(last=False)
        return ban

    def _is_allowed(self, peer: str) -> bool:
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._allowed)

    def delay(self, user: str) -> timedelta:
        """Return how long the refusal of a login of that user is to be held back.

        One address alone is banned before this begins; it slows guessing from many addresses.
        """
        failures = self._by_user.add(user, 0, self._clock.now())
        above = failures - self._settings.ban_score
        return timedelta(seconds=min(max(above, 0) * STEP, LONGEST_DELAY))

    def lift(self, address: str) -> str | None:
        """End the ban of an address or network; return its key if there was one."""
        key = address if address in self._bans else address_key(address)
        self._by_address.forget(key)
        return key if self._bans.pop(key, None) is not None else None
