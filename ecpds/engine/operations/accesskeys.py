"""S3 key pairs of data users: several, each with its own scope and end."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ecpds.engine.core import Core
from ecpds.engine.operations.actor import Actor, record
from ecpds.engine.telling import Teller
from ecpds.model.errors import InputError, LimitError, NotFound
from ecpds.model.secret import Secret
from ecpds.store import accesskeys, accounts, subscribers
from ecpds.store.accesskeys import StoredKey
from ecpds.store.db import Connection

MOST_KEYS: Final = 100
"""Key pairs of one user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWish:
    """What a new key pair is to be good for."""

    prefix: str = ""  # of `<destination>/<path>`
    read_only: bool = False
    expires_at: datetime | None = None
    comment: str = ""
    subscriber: int | None = None


class AccessKeyOperations:
    """Verbs on key pairs."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._teller = Teller(node=core.node)

    async def of(self, login: str) -> Sequence[StoredKey]:
        """Return the key pairs of a user, oldest first; their secrets are sealed."""
        return await self._core.store.read(accesskeys.of_user, login)

    async def create(self, login: str, wish: KeyWish, actor: Actor) -> tuple[StoredKey, str]:
        """Make a key pair; return it and its secret, which nobody is told again.

        Raises NotFound (user, subscriber), InputError (prefix, expiry), LimitError.
        """
        core, now = self._core, self._core.clock.now()
        destination = wish.prefix.partition("/")[0]
        if wish.prefix and destination not in core.snapshot.destinations:
            raise InputError(f"there is no destination {destination!r}", pointer="prefix")
        if wish.expires_at is not None and wish.expires_at <= now:
            raise InputError("the end lies in the past", pointer="expires")
        secret = secrets.token_urlsafe(30)
        stored = StoredKey(
            access_key="EC" + base64.b32encode(secrets.token_bytes(10)).decode(),
            login=login,
            secret=core.vault.seal(Secret(secret)),
            prefix=wish.prefix,
            read_only=wish.read_only,
            comment=wish.comment,
            subscriber=wish.subscriber,
            created_at=now,
            expires_at=wish.expires_at,
        )
        await core.store.write(_add, stored, actor, self._teller)
        core.bus.tell("account", login)
        return stored, secret

    async def delete(self, login: str, access_key: str, actor: Actor) -> None:
        """Take a key pair away; requests that it signed are refused at once.  Raises NotFound."""
        core = self._core
        await core.store.write(_drop, login, access_key, actor, self._teller, now=core.clock.now())
        core.bus.tell("account", login)


def _add(db: Connection, key: StoredKey, actor: Actor, teller: Teller) -> None:
    if accounts.user(db, key.login) is None:
        raise NotFound(f"Data user {key.login} not found")
    if len(accesskeys.of_user(db, key.login)) >= MOST_KEYS:
        raise LimitError(f"a user may have at most {MOST_KEYS} key pairs")
    if key.subscriber is not None:
        found = subscribers.get(db, key.subscriber)
        if found is None or found.login != key.login:
            raise NotFound(f"Subscriber {key.subscriber} not found")
    accesskeys.put(db, key)
    facts = {"access_key": key.access_key, "prefix": key.prefix, "read_only": key.read_only}
    record(db, actor, "s3-key", "user", key.login, facts, teller, now=key.created_at)


def _drop(
    db: Connection, login: str, access_key: str, actor: Actor, teller: Teller, *, now: datetime
) -> None:
    if not accesskeys.drop(db, login, access_key):
        raise NotFound(f"Key pair {access_key} not found")
    facts = {"access_key": access_key}
    record(db, actor, "s3-key-delete", "user", login, facts, teller, now=now)
