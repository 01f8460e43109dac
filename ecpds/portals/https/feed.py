"""What is new: a JSON feed of files, and the same as server-sent events.

`/ecpds/data/feed/<directory>?since=` takes a time, or the cursor of an earlier answer.  A stream
begins now unless the client says after what (`since`, Last-Event-ID).
Spec: JSON Feed 1.1 (jsonfeed.org); WHATWG HTML, server-sent events.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from ecpds.model.errors import InputError, Stopping
from ecpds.portals.https import login, negotiate
from ecpds.portals.https.addresses import Kind, Place, link
from ecpds.portals.https.exchange import Answer, Ask, Refused, Reply
from ecpds.portals.https.fields import FILE_POLICY, security
from ecpds.portals.https.listings import stamp
from ecpds.portals.https.login import Logins
from ecpds.portals.https.visit import Visit
from ecpds.vfs.contract import Item

BASE: Final = "/ecpds/data/feed/"
ITEMS: Final = 100
MOST_ITEMS: Final = 1_000
BEAT: Final = 15.0  # seconds after which a silent stream says that it lives
LOOK: Final = 5.0  # seconds; an embargo ends without a hint
_REMEMBERED = 10_000  # items of a stream that are not sent twice


class Feed:
    """Answers requests for feeds."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins

    async def serve(self, ask: Ask, reply: Reply) -> None:
        """Answer one request; raises every error that is to be told."""
        if ask.method not in ("GET", "HEAD"):
            raise Refused(405, "a feed takes GET", Allow="GET, HEAD")
        path = "/" + ask.path[len(BASE) :]
        session, cookie = await self._logins.session(ask, None)
        async with session:
            visit = Visit(
                ask=ask,
                place=Place(Kind.LIST, path, "/ecpds/data/file/", "/ecpds/data/list/"),
                session=session,
                reply=reply,
                query=ask.query,
                cookies=(login.session_cookie(cookie, secure=ask.secure),) if cookie else (),
            )
            streams = negotiate.names(ask.headers.get("accept", ""), "text/event-stream")
            await (self._stream(visit) if streams else self._page(visit))

    async def _page(self, visit: Visit) -> None:
        session = visit.session
        since = visit.query.get("since", "")
        page = await session.news(visit.path, since, limit=_limit(visit.query.get("limit", "")))
        here = link(BASE, session.absolute(visit.path), directory=True)
        onward = f"{here}?since={page.cursor}"
        document = {
            "version": "https://jsonfeed.org/version/1.1",
            "title": f"New files below {session.absolute(visit.path)}",
            "feed_url": f"{_own(visit.ask)}{here}",
            "items": [_document(visit, item) for item in page.items],
            "_ecpds": {"since": page.cursor, "more": page.more},
        }
        if page.more:
            document["next_url"] = f"{_own(visit.ask)}{onward}"
        fields = security(secure=visit.ask.secure, policy=FILE_POLICY)
        fields |= {
            "Content-Type": "application/feed+json",
            "Cache-Control": "no-cache",
            "Link": f'<{onward}>; rel="next"',
        }
        body = json.dumps(document, ensure_ascii=False).encode() + b"\n"
        await visit.send(Answer(headers=fields, body=body))

    async def _stream(self, visit: Visit) -> None:
        session = visit.session
        since = visit.ask.headers.get("last-event-id", "") or visit.query.get("since", "")
        if not since:
            since = (await session.news(visit.path, "", limit=1)).cursor
        await session.news(visit.path, since, limit=1)  # errors come before the status line
        fields = security(secure=visit.ask.secure, policy=FILE_POLICY)
        fields |= {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx in front would hold events back
        }
        await visit.send(Answer(headers=fields, body=self._events(visit, since)))

    async def _events(self, visit: Visit, since: str) -> AsyncIterator[bytes]:
        """Yield events until the node stops or the session is ended."""
        session = visit.session
        sent: OrderedDict[str, None] = OrderedDict()
        silent = 0.0
        yield b"retry: 5000\n\n"
        with session.watching() as wait:
            while not visit.reply.draining:
                try:
                    visit.look()
                    page = await session.news(visit.path, since, limit=ITEMS)
                except Stopping:
                    return
                since = page.cursor
                events = [_event(visit, one) for one in page.items if _is_new(sent, one)]
                if events:
                    silent = 0.0
                    yield b"".join(events)
                if page.more:
                    continue
                if silent >= BEAT:
                    silent = 0.0
                    yield b": \n\n"
                await wait(LOOK)
                silent += LOOK


def _is_new(sent: OrderedDict[str, None], item: Item) -> bool:
    key = f"{item.node.transfer_id} {item.node.etag} {item.cursor}"
    if key in sent:
        return False
    sent[key] = None
    if len(sent) > _REMEMBERED:
        sent.popitem(last=False)
    return True


def _limit(text: str) -> int:
    if not text:
        return ITEMS
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text)):
        raise InputError("limit is a count of 1 or more", pointer="limit")
    return min(int(text), MOST_ITEMS)


def _own(ask: Ask) -> str:
    return f"{'https' if ask.secure else 'http'}://{ask.host}"


def _document(visit: Visit, item: Item) -> dict[str, object]:
    node = item.node
    return {
        "id": item.cursor,
        "url": f"{_own(visit.ask)}{visit.file_link(node.path)}",
        "title": node.name,
        "content_text": node.path,
        "date_published": stamp(item.at),
        "_ecpds": {
            "path": node.path,
            "size": node.size,
            "time": stamp(node.mtime),
            "etag": node.etag,
            "adler32": node.checksum,
            "transfer": node.transfer_id,
            "destination": node.destination,
        },
    }


def _event(visit: Visit, item: Item) -> bytes:
    data = json.dumps(_document(visit, item), ensure_ascii=False)
    return f"id: {item.cursor}\nevent: file\ndata: {data}\n\n".encode()
