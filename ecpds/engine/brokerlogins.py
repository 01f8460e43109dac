"""Passwords of data users in the form of another broker, made while a password is at hand.

Nobody can make such a form from the hash that is stored: it is made when a password is set, or at
the next login with it.  Kept only where publications go to another broker (`mqtt.driver`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Final

from ecpds.base.clock import Clock
from ecpds.base.passwords import mosquitto_form, token_hash
from ecpds.base.threads import Threads
from ecpds.model.secret import Secret
from ecpds.store import brokerlogins
from ecpds.store.db import Store

BROKER_LOGIN: Final = "broker-login"  # the hint that there is a new one
FORGOTTEN_AFTER: Final = timedelta(days=1)  # an apply may not have stored its user yet


class BrokerLogins:
    """See the module."""

    def __init__(self, store: Store, threads: Threads, clock: Clock, rounds: int) -> None:
        self._store = store
        self._threads = threads
        self._clock = clock
        self._rounds = rounds

    async def keep(self, stored: str, password: Secret) -> bool:
        """Keep the form of a password whose hash is `stored`; tell whether it is new."""
        of = token_hash(stored)
        if await self._store.read(brokerlogins.has, of):
            return False
        form = await self.form(password)
        await self._store.write(brokerlogins.put, of, form, now=self._clock.now())
        return True

    async def form(self, password: Secret) -> str:
        """Return a password as the broker reads it."""
        return await self._threads.run("auth", mosquitto_form, password, self._rounds)

    async def everything(self) -> dict[str, str]:
        """Return all forms, by `token_hash` of the hash that they belong to."""
        return await self._store.read(brokerlogins.everything)

    async def purge(self, known: Collection[str]) -> None:
        """Forget what belongs to no password any more; `known` are hashes as above."""
        before = self._clock.now() - FORGOTTEN_AFTER
        await self._store.write(brokerlogins.purge, known, before=before)
