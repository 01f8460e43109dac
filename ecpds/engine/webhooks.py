"""Tells registered addresses of events: in order, signed, again and again until they answer.

The events of the store are the outbox: each webhook remembers the number of the last one that its
address has accepted, so that a crash repeats one event and loses none.  Headers and signature are
those of Standard Webhooks 1.0.0, for which there are libraries.  A webhook that fails for three
days is switched off and an incident tells so.  Spec: rest-api.md B.5.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import aiohttp
from yarl import URL

from ecpds.base.egress import EgressResolver, check_literal
from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.model.account import WebUser
from ecpds.model.errors import EcpdsError, InputError
from ecpds.model.secret import Secret
from ecpds.store import accounts, webhooks
from ecpds.store.accounts import StoredWebUser
from ecpds.store.webhooks import Webhook

log = get_logger(__name__)

LOOK_EVERY: Final = timedelta(milliseconds=500)
BATCH: Final = 200  # events looked at in one go
AT_ONCE: Final = 8  # webhooks that are told at a time
PATIENCE: Final = 15.0  # seconds for one request
FIRST_PAUSE: Final = timedelta(seconds=5)  # doubled after each failure
LONGEST_PAUSE: Final = timedelta(minutes=30)
GIVE_UP: Final = timedelta(days=3)
GONE: Final = 410  # the address says that it wants nothing any more
LONGEST_ANSWER: Final = 64 * 1024  # bytes that are read of an answer
PREFIX: Final = "whsec_"

Event = dict[str, Any]
May = Callable[[WebUser, Sequence[str], Event], bool]


def signature(secret: Secret, uid: str, timestamp: int, body: bytes) -> str:
    """Return the header value that proves who sent the body and when."""
    key = _key(secret)
    text = f"{uid}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()


def _key(secret: Secret) -> bytes:
    text = secret.reveal()
    if text.startswith(PREFIX):
        try:
            return base64.b64decode(text.removeprefix(PREFIX), validate=True)
        except ValueError:
            pass
    return text.encode()


def check_url(text: str, allowed: Sequence[str]) -> str:
    """Return an address that may be told; InputError, Denied.

    Plain http is for addresses of the allowed networks only.
    """
    try:
        url = URL(text)
        host = url.host or ""
    except ValueError:
        raise InputError(f"{text[:200]!r} is no address", pointer="url") from None
    if url.scheme not in {"https", "http"} or not host:
        raise InputError("an address begins with https://", pointer="url")
    if url.user is not None or url.password is not None or url.fragment:
        raise InputError("an address without login and fragment is wanted", pointer="url")
    if url.scheme == "http" and not allowed:
        raise InputError("http:// needs security.egress_allow", pointer="url")
    check_literal(host, allowed)
    return text


def pause_after(tries: int) -> timedelta:
    """Return how long to wait after that many failures in a row."""
    return min(FIRST_PAUSE * (1 << min(tries, 20)), LONGEST_PAUSE)


class Webhooks:
    """Sends what is due."""

    def __init__(self, core: Core, may: May) -> None:
        """`may` tells whether an owner may know of an event, within globs of destinations."""
        self._core = core
        self._may = may
        self._busy: set[int] = set()
        self._seen: dict[int, int] = {}  # batches of the store at the last look of each
        self._changed = True  # of a webhook itself
        self._hooks: list[Webhook] = []
        self._session: aiohttp.ClientSession | None = None

    def poke(self) -> None:
        """Look at the webhooks again soon: one was made or changed."""
        self._changed = True

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._look(group)
                    await self._core.clock.sleep(LOOK_EVERY)
        finally:
            session, self._session = self._session, None
            if session is not None:
                await session.close()

    async def _look(self, group: asyncio.TaskGroup) -> None:
        if self._changed:
            self._changed = False
            self._hooks = [
                hook for hook in await self._core.store.read(webhooks.everything) if hook.active
            ]
        now, batches = self._core.clock.now(), self._core.store.batches
        due = [
            hook
            for hook in self._hooks
            if hook.id not in self._busy
            and (
                hook.due_at <= now
                if hook.due_at is not None
                else self._seen.get(hook.id) != batches
            )
        ]
        for hook in due[: AT_ONCE - len(self._busy)]:
            self._busy.add(hook.id)
            self._seen[hook.id] = batches
            group.create_task(self._tell(hook), name=f"webhook {hook.name}")

    async def _tell(self, hook: Webhook) -> None:
        try:
            await self._advance(hook)
        except EcpdsError as error:
            log.warning("webhook waits", webhook=hook.name, reason=error.message)
        finally:
            self._busy.discard(hook.id)
            self._changed = True

    async def _advance(self, hook: Webhook) -> None:
        """Send what the webhook has not had yet, up to one batch."""
        core = self._core
        owner = await core.store.read(accounts.web_user, hook.owner)
        rows = await core.store.read(webhooks.events_after, hook.sent_up_to, limit=BATCH)
        up_to = hook.sent_up_to
        for number, kind, record in rows:
            if self._wants(hook, owner, kind, record):
                if not await self._deliver(hook, number, kind, record):
                    return
                hook = replace(hook, sent_up_to=number, tries=0, failing_since=None)
            up_to = number
        if up_to != hook.sent_up_to:
            await core.store.write(webhooks.sent, hook, up_to, 0)
        if len(rows) == BATCH:
            self._seen.pop(hook.id, None)  # there is more

    def _wants(self, hook: Webhook, owner: StoredWebUser | None, kind: str, record: Event) -> bool:
        if owner is None or not owner.user.active or (hook.types and kind not in hook.types):
            return False
        return self._may(owner.user, hook.objects, record)

    async def _deliver(self, hook: Webhook, number: int, kind: str, record: Event) -> bool:
        """Send one event; tell whether it was accepted."""
        core = self._core
        error, is_gone = await self._post(hook, number, kind, record)
        now = core.clock.now()
        if not error:
            await core.store.write(webhooks.sent, hook, number, 1)
            core.metrics.webhooks.labels("ok").inc()
            return True
        core.metrics.webhooks.labels("failed").inc()
        since = hook.failing_since or now
        active = not is_gone and now - since < GIVE_UP
        due = now + pause_after(hook.tries) if active else None
        await core.store.write(webhooks.failed, hook, error, due=due, active=active, now=now)
        level = log.warning if not active else log.info
        level("webhook failed", webhook=hook.name, reason=error, active=active)
        return False

    async def _post(self, hook: Webhook, number: int, kind: str, record: Event) -> tuple[str, bool]:
        """Return what went wrong, "" for nothing; and whether the address is gone for good."""
        core = self._core
        body = json.dumps(
            {"number": number, "type": kind, "event": record}, ensure_ascii=False
        ).encode()
        timestamp = int(core.clock.now().timestamp())
        uid = str(record.get("id") or number)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "ecpds-webhook",
            "webhook-id": uid,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(core.vault.open(hook.secret), uid, timestamp, body),
        }
        try:
            check_url(hook.url, core.settings.security.egress_allow)
            async with asyncio.timeout(PATIENCE):
                async with self._client().post(
                    hook.url, data=body, headers=headers, allow_redirects=False
                ) as answer:
                    await answer.content.read(LONGEST_ANSWER)
                    status = answer.status
        except TimeoutError:
            return f"no answer within {PATIENCE:.0f} s", False
        except EcpdsError as error:
            return error.message, False
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
            return f"{type(error).__name__}: {error}"[:500], False
        if 200 <= status < 300:
            return "", False
        return f"HTTP {status}", status == GONE

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            allowed = self._core.settings.security.egress_allow
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=EgressResolver(allowed), limit=AT_ONCE, ttl_dns_cache=0
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session
