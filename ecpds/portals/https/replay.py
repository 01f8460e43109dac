"""Publications that were missed, for data users.

    /ecpds/data/replay?since=TIME[&after=CURSOR][&topic=FILTER][&limit=N]

gives what was sent since then on topics that the user may subscribe to, in the order of sending.
Spec: notifications.md 7; portal.md 3.7.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ecpds.model.account import Protocol
from ecpds.model.errors import Denied, InputError
from ecpds.model.mqtttopics import covers, is_filter, matches, permitted_filters
from ecpds.portals.https import login
from ecpds.portals.https.exchange import Answer, Ask, Refused, Reply
from ecpds.portals.https.fields import FILE_POLICY, security
from ecpds.portals.https.listings import stamp
from ecpds.portals.https.login import Logins
from ecpds.vfs.contract import Session
from ecpds.vfs.replay import MOST_MESSAGES, Replayed, ReplayPage, Replays, read_place

BASE: Final = "/ecpds/data/replay/"
PERMISSION: Final = "portal.mqttPermission"


class ReplayDoor:
    """Answers requests for what was published."""

    def __init__(self, logins: Logins, replays: Replays) -> None:
        self._logins = logins
        self._replays = replays

    async def serve(self, ask: Ask, reply: Reply) -> None:
        """Answer one request; raises every error that is to be told."""
        if ask.method not in ("GET", "HEAD"):
            raise Refused(405, "a replay takes GET", Allow="GET, HEAD")
        session, cookie = await self._logins.session(ask, None)
        async with session:
            page = await self._page(session, ask.query)
        fields = security(secure=ask.secure, policy=FILE_POLICY)
        fields |= {"Content-Type": "application/json", "Cache-Control": "no-store"}
        cookies = [login.session_cookie(cookie, secure=ask.secure)] if cookie else []
        body = _document(page)
        if ask.method == "HEAD":
            await reply.send(Answer(headers=fields, length=len(body), cookies=cookies))
        else:
            await reply.send(Answer(headers=fields, body=body, cookies=cookies))

    async def _page(self, session: Session, query: Mapping[str, str]) -> ReplayPage:
        permitted = permitted_filters(session.options.get(PERMISSION, ""))
        if not permitted or not session.admits(Protocol.MQTTS):
            raise Denied("portal.mqttPermission names no topics")
        wanted = query.get("topic", "#")
        if not is_filter(wanted):
            raise InputError("topic is an MQTT topic filter", pointer="topic")
        after = read_place(query.get("since", ""), query.get("after", ""))

        def seen(one: Replayed) -> bool:
            return matches(wanted, one.topic) and any(covers(own, one.topic) for own in permitted)

        return await self._replays.page(self._replays.general, after, seen, limit=read_limit(query))


def read_limit(query: Mapping[str, str]) -> int:
    """Return how many messages are wanted; InputError."""
    text = query.get("limit", "") or str(MOST_MESSAGES)
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InputError("limit is no number", pointer="limit")
    return min(max(int(text), 1), MOST_MESSAGES)


def _document(page: ReplayPage) -> bytes:
    document = {
        "items": [_item(one) for one in page.messages],
        "next": page.cursor if page.more else None,
        "cursor": page.cursor,
    }
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def _item(one: Replayed) -> dict[str, Any]:
    content, is_cut = one.content, "size" in one.content
    return {
        "topic": one.topic,
        "time": stamp(one.sent_at),
        "event": one.event,
        "destination": one.destination,
        "payload": None if is_cut else content.get("payload", ""),
        "size": content.get("size"),  # of a payload that is too long to be kept
        "qos": content.get("qos", 0),
        "retain": content.get("retain", False),
        "content_type": content.get("content_type") or None,
        "expires": content.get("expires"),
    }
