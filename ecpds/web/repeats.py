"""Idempotency-Key: a POST that comes again within a day gets the answer of the first.

A client whose connection broke can ask again without doing the thing twice.  Only successes are
kept, and never an answer that holds a secret.  Spec: rest-api.md B.2.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from ecpds.store import repeats
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.multipart import STALL

HEADER: Final = "Idempotency-Key"
KEPT_FOR: Final = timedelta(hours=24)
KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")
LONGEST: Final = 256 * 1024  # bytes of an answer that is kept
SECRETS: Final = frozenset({"NewToken", "NewPassword", "NewS3Key", "NewWebhook"})
_KEPT_HEADERS: Final = ("Content-Type", "ETag", "Location")

Handle = Callable[[Call], Awaitable[web.StreamResponse]]


class Repeats:
    """Knows which keys are being worked on; what is done is in the store."""

    def __init__(self) -> None:
        self._running: set[str] = set()

    async def once(self, call: Call, handle: Handle) -> web.StreamResponse:
        """Handle the call, or answer as the first time.

        Raises Refused: 400 for a key that is none, 409 while the first is still under way, 422 when
        the key was used for something else.
        """
        text = call.request.headers.get(HEADER)
        if text is None or call.request.method != "POST" or call.route.kind != "api":
            return await handle(call)
        if not KEY.fullmatch(text):
            raise Refused(400, "bad-key", f"{HEADER}: 1 to 128 printable characters")
        key = f"{call.caller.name}:{text}"
        if key in self._running:
            raise Refused(409, "busy", "the first request with that key is still under way")
        self._running.add(key)
        try:
            return await self._once(call, handle, key)
        finally:
            self._running.discard(key)

    async def _once(self, call: Call, handle: Handle, key: str) -> web.StreamResponse:
        core = call.services.core
        now = core.clock.now()
        place = call.request.path_qs
        known = await core.store.read(repeats.get, key, since=now - KEPT_FOR)
        if known is not None:
            if known["place"] != place:
                raise Refused(422, "key-reused", f"that {HEADER} was used for {known['place']}")
            await _pass_over(call)
            return _as_before(known)
        answer = await handle(call)
        kept = _kept(call, answer, place)
        if kept is not None:
            await core.store.write(
                repeats.put, key, call.caller.name, kept, now=now, before=now - KEPT_FOR
            )
        return answer


def _kept(call: Call, answer: web.StreamResponse, place: str) -> dict[str, Any] | None:
    """Return what is to be kept of an answer, None for failures and secrets."""
    if answer.status >= 300 or call.route.answer in SECRETS:
        return None
    if not isinstance(answer, web.Response) or not isinstance(answer.body, bytes | None):
        return None
    body = answer.body or b""
    if len(body) > LONGEST:
        return None
    headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
    return {"place": place, "status": answer.status, "headers": headers, "body": body.decode()}


def _as_before(known: dict[str, Any]) -> web.Response:
    headers = {**known["headers"], "Idempotency-Replayed": "true"}
    return web.Response(status=known["status"], headers=headers, body=known["body"].encode())


async def _pass_over(call: Call) -> None:
    """Read the body to its end, so that a client that writes first comes to reading."""
    content = await call.receive()
    while True:
        async with asyncio.timeout(STALL):
            if not await content.readany():
                return
