"""Resumable uploads behind random names, for clients of the tus protocol.

The bytes are those of the parked upload at the same place, so that they survive a restart and go
after a day; here is only what the protocol wants to know of them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from ecpds.base.passwords import random_token, token_hash
from ecpds.engine.core import Core
from ecpds.model.errors import NotFound
from ecpds.store import resumables
from ecpds.store.resumables import Resumable
from ecpds.vfs.contract import Session

KEPT: Final = timedelta(hours=24)
MOST: Final = 100
"""Uploads of one user at a time, as many as are parked; the oldest give way."""


class Resumables:
    """The uploads of a node."""

    def __init__(self, core: Core) -> None:
        self._store = core.store
        self._clock = core.clock

    async def create(
        self, session: Session, path: str, *, size: int | None, metadata: str
    ) -> tuple[str, Resumable]:
        """Begin an upload; return its name for the client, and what is known of it."""
        token, now = random_token(""), self._clock.now()
        made = Resumable(
            token_hash=token_hash(token), login=session.profile.user.login, path=path, size=size,
            received=0, done=False, metadata=metadata, expires_at=now + KEPT,
        )  # fmt: skip
        await self._store.write(resumables.add, made, most=MOST, now=now)
        return token, made

    async def find(self, session: Session, token: str) -> Resumable:
        """Return an upload of this user as far as its bytes are there; NotFound."""
        found = await self._store.read(resumables.get, token_hash(token), now=self._clock.now())
        if found is None or found.login != session.profile.user.login:
            raise NotFound("there is no such upload")
        if found.done or not found.received:
            return found
        return replace(found, received=min(found.received, await session.parked(found.path)))

    async def advance(
        self, one: Resumable, received: int, *, size: int | None, done: bool = False
    ) -> Resumable:
        """Store how far an upload came; it is kept for a day from now on."""
        expires = self._clock.now() + KEPT
        moved = replace(one, received=received, size=size, done=done, expires_at=expires)
        await self._store.write(resumables.advance, moved)
        return moved

    async def drop(self, one: Resumable) -> None:
        """Forget an upload; its bytes go with the other parked ones."""
        await self._store.write(resumables.drop, one.token_hash)


__all__ = ["Resumable", "Resumables"]
