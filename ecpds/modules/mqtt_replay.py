"""Asks another node for the messages that were missed: `GET URL?since=TIME&after=CURSOR`.

The answer is `{"items": [{"topic", "message"}], "next": CURSOR or null}`, as our own
`/wis2/replay` gives it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from ecpds.model.errors import Phase, RemoteError
from ecpds.model.secret import Secret
from ecpds.modules.http_options import HttpOptions
from ecpds.transfer.contract import Surroundings, Target

LARGEST: Final = 16 * 1024 * 1024  # bytes of one page
MOST_PAGES: Final = 1_000


async def replayed(
    target: Target, around: Surroundings, url: str, since: datetime
) -> AsyncIterator[Sequence[tuple[str, bytes]]]:
    """Yield topics and messages, page by page; raises RemoteError."""
    from ecpds.modules.http import HttpModule  # which imports our callers

    plain = replace(target, login="", password=Secret(""), directory="")
    async with HttpModule.connect(plain, HttpOptions(dav="no"), around) as http:
        after: int | str = 0
        for _ in range(MOST_PAGES):
            query = urlencode({"since": since.isoformat(), "after": after})
            page = _page(await _text(http.get(f"{url}?{query}")))
            yield [
                (str(one["topic"]), json.dumps(one["message"], ensure_ascii=False).encode())
                for one in page.get("items", [])
                if isinstance(one, dict) and "topic" in one and "message" in one
            ]
            following = page.get("next")
            if not isinstance(following, int | str) or following == after:
                return
            after = following


async def _text(blocks: AsyncIterator[bytes]) -> bytes:
    found = bytearray()
    async for block in blocks:
        found += block
        if len(found) > LARGEST:
            raise RemoteError("the replay is too long", phase=Phase.LIST)
    return bytes(found)


def _page(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise RemoteError("the replay is not JSON", phase=Phase.LIST) from None
    if not isinstance(found, dict) or not isinstance(found.get("items", []), list):
        raise RemoteError("the replay has no items", phase=Phase.LIST)
    return found
