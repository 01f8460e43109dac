"""What people do with webhooks: register, change, remove."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ecpds.engine.core import Core
from ecpds.engine.operations.actor import Actor, difference, record
from ecpds.engine.telling import Teller
from ecpds.engine.webhooks import PREFIX, check_url
from ecpds.model.decode import Where
from ecpds.model.errors import (
    Conflict,
    EcpdsError,
    InputError,
    InvalidName,
    NotFound,
    PreconditionFailed,
)
from ecpds.model.names import checked
from ecpds.model.secret import Secret
from ecpds.store import webhooks
from ecpds.store.db import Connection
from ecpds.store.webhooks import Webhook

MOST = 100  # webhooks of a node
SHOWN = ("url", "types", "owner", "objects", "active", "comment")


class WebhookOperations:
    """Verbs on webhooks."""

    def __init__(self, core: Core, changed: Callable[[], None]) -> None:
        """`changed` is called when there is something new to send."""
        self._core = core
        self._changed = changed
        self._teller = Teller(node=core.node)

    async def get(self, name: str) -> Webhook:
        """Return one webhook; NotFound."""
        found = await self._core.store.read(webhooks.get, name)
        if found is None:
            raise NotFound(f"Webhook {name} not found")
        return found

    async def find(self, name: str) -> Webhook | None:
        """Return one webhook, None if there is none."""
        return await self._core.store.read(webhooks.get, name)

    async def everything(self) -> Sequence[Webhook]:
        """Return all webhooks by name."""
        return await self._core.store.read(webhooks.everything)

    async def newest(self) -> int:
        """Return the number of the latest event."""
        return await self._core.store.read(webhooks.newest)

    async def put(
        self,
        hook: Webhook,
        secret: Secret | None,
        actor: Actor,
        *,
        instead_of: Webhook | None,
        dry_run: bool = False,
    ) -> str:
        """Create a webhook, or change it if it still is `instead_of`; return a secret made for it.

        One that is new or was switched off by a person hears of what happens from now on; one that
        was switched off because it failed goes on where it stopped.  `dry_run` only checks.
        """
        self._check(hook)
        made = ""
        if secret is None and instead_of is None:
            made = PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
            secret = Secret(made)
        if dry_run:
            return ""
        sealed = self._core.vault.seal(secret) if secret else ""
        if secret is None and instead_of is not None:
            sealed = instead_of.secret
        now = self._core.clock.now()
        await self._core.store.write(
            store_webhook, replace(hook, secret=sealed), instead_of, actor, self._teller, now=now
        )
        self._changed()
        return made

    def _check(self, hook: Webhook) -> None:
        where = Where()
        try:
            checked("webhook", hook.name)
        except InvalidName as error:
            raise where.at("name").error(error.message) from None
        try:
            check_url(hook.url, self._core.settings.security.egress_allow)
        except InputError as error:
            raise where.at("url").error(error.message) from None
        except EcpdsError as error:
            raise where.at("url").error(error.message) from None
        for number, kind in enumerate(hook.types):
            if not (len(kind) == 3 and kind.isascii() and kind.isupper()):
                raise where.at("types").at(number).error("three capital letters, such as UPH")

    async def delete(self, name: str, actor: Actor) -> None:
        """Delete a webhook; nothing is sent any more."""
        await self.get(name)
        now = self._core.clock.now()
        await self._core.store.write(remove_webhook, name, actor, self._teller, now=now)
        self._changed()


def _facts(hook: Webhook | None) -> dict[str, Any] | None:
    if hook is None:
        return None
    return {
        key: list(value) if isinstance(value := getattr(hook, key), tuple) else value
        for key in SHOWN
    }


def store_webhook(
    db: Connection,
    hook: Webhook,
    instead_of: Webhook | None,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
) -> None:
    """Write a checked webhook, audit included."""
    old = webhooks.get(db, hook.name)
    if old is not None and instead_of is None:
        raise Conflict(f"Webhook {hook.name} exists")
    if instead_of is not None and (old is None or old.version != instead_of.version):
        raise PreconditionFailed(f"Webhook {hook.name} was changed meanwhile")
    if old is None and len(webhooks.everything(db)) >= MOST:
        raise Conflict(f"there are {MOST} webhooks already")
    goes_on = old is not None and (old.active or old.is_given_up)
    up_to = old.sent_up_to if old is not None and goes_on else webhooks.newest(db)
    webhooks.put(db, replace(hook, sent_up_to=up_to), is_new=old is None, now=now)
    changed = difference(_facts(old), _facts(hook), frozenset())
    if old is not None and old.secret != hook.secret:
        changed["secret"] = ["***", "***"]
    action = "change" if old else "create"
    record(db, actor, action, "webhook", hook.name, changed, teller, now=now)


def remove_webhook(
    db: Connection, name: str, actor: Actor, teller: Teller, *, now: datetime
) -> None:
    """Delete a webhook, audit included."""
    webhooks.delete(db, name)
    record(db, actor, "delete", "webhook", name, {}, teller, now=now)
