"""Registration of people for self-service users, as portals see it: with limits on who asks.

Spec: portal.md 1.6 (five an hour from one address, three a day for one mail address).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.clock import Clock
from ecpds.engine.core import Core
from ecpds.engine.operations.subscribers import Outcome, Person, SubscriberOperations
from ecpds.model.errors import LimitError
from ecpds.vfs.contract import Registrar
from ecpds.vfs.defender import address_key

OF_ADDRESS: Final = (5, timedelta(hours=1))
OF_EMAIL: Final = (3, timedelta(days=1))
MOST_KEPT: Final = 20_000
LONGEST_TOKEN: Final = 128


class Tries:
    """Counts tries by name within a window, in bounded memory."""

    def __init__(self, clock: Clock, most: int, window: timedelta) -> None:
        self._clock = clock
        self._most = most
        self._window = window
        self._known: OrderedDict[str, deque[datetime]] = OrderedDict()

    def take(self, name: str) -> bool:
        """Count a try; tell whether it is within the limit."""
        now = self._clock.now()
        found = self._known.setdefault(name, deque())
        self._known.move_to_end(name)
        if len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
        while found and found[0] <= now - self._window:
            found.popleft()
        if len(found) >= self._most:
            return False
        found.append(now)
        return True


class Registration(Registrar):
    """The registrar of a node."""

    def __init__(self, core: Core) -> None:
        self._people = SubscriberOperations(core)
        self._addresses = Tries(core.clock, *OF_ADDRESS)
        self._emails = Tries(core.clock, *OF_EMAIL)

    async def check(self, user: str) -> None:
        """Raise InputError unless people may register for this user."""
        await self._people.options(user)

    async def register(self, user: str, *, name: str, email: str, country: str, peer: str) -> None:
        """Take a registration."""
        person = Person.checked(name, email, country)
        self._count(peer)
        await self.check(user)
        if self._emails.take(f"{user}/{person.email}"):  # else silent: it is somebody's mailbox
            await self._people.register(user, person)

    def _count(self, peer: str) -> None:
        if not self._addresses.take(address_key(peer)):
            raise LimitError("too many registrations from this address", retry_after=3600)

    async def verify(self, token: str) -> Outcome:
        """Follow the link of a verification mail."""
        return "invalid" if len(token) > LONGEST_TOKEN else await self._people.verify(token)

    async def ask_reset(self, user: str, *, email: str, peer: str) -> None:
        """Mail a link for a new password."""
        person = Person.checked("-", email, "")
        self._count(peer)
        await self.check(user)
        if self._emails.take(f"{user}/{person.email}"):
            await self._people.ask_reset(user, person.email)

    async def reset(self, token: str) -> bool:
        """Mail a new password."""
        return len(token) <= LONGEST_TOKEN and await self._people.reset(token)
