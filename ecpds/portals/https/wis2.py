"""`/wis2/`: discovery records, core data and a replay of messages, for everybody.

    /wis2/metadata/ID.json                        a discovery record
    /wis2/data/DESTINATION/NUMBER/TARGET          core data, as messages name it
    /wis2/replay?since=TIME[&topic=FILTER][&after=CURSOR][&limit=N]

Spec: notifications.md sections 5.3 and 5.5; RFC 9110.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ecpds.base.logs import get_logger
from ecpds.model.errors import EcpdsError, NotFound
from ecpds.model.mqtttopics import matches
from ecpds.portals.https import answers, conditions, ranges
from ecpds.portals.https.conditions import Verdict
from ecpds.portals.https.exchange import Answer, Ask, FileBody, Refused, Reply, Slice
from ecpds.portals.https.fields import FILE_POLICY, security
from ecpds.portals.https.head import http_date
from ecpds.portals.https.replay import read_limit
from ecpds.vfs.replay import read_place
from ecpds.vfs.wis2 import OpenReader, Wis2Shelf, replayed

log = get_logger(__name__)

BASE: Final = "/wis2/"
_RECORD: Final = re.compile(r"metadata/([^/]+)\.json")
_DATA: Final = re.compile(r"data/([^/]+)/(\d{1,18})/(.+)")


class Wis2Door:
    """See the module."""

    def __init__(self, shelf: Wis2Shelf) -> None:
        self._shelf = shelf

    def claims(self, ask: Ask) -> bool:
        """Tell whether a request is for this door."""
        return ask.target.startswith(BASE)

    async def serve(self, ask: Ask, reply: Reply) -> None:
        """Answer one request; errors are told unless a status line is out already."""
        try:
            await self._serve(ask, reply)
        except EcpdsError as error:
            if reply.started:
                raise
            await reply.send(_told(ask, error))
        except ConnectionError:
            raise
        except Exception as error:
            if reply.started:
                raise
            log.error("request failed", exc=error, peer=ask.peer)  # noqa: TRY400 - see `exc`
            await reply.send(_told(ask, EcpdsError("Internal error")))

    async def _serve(self, ask: Ask, reply: Reply) -> None:
        if ask.fault:
            raise Refused(ask.fault, "the request cannot be read")
        if ask.method not in ("GET", "HEAD"):
            raise Refused(405, "this is for reading", Allow="GET, HEAD")
        await self._shelf.check(ask.peer)
        path = ask.path[len(BASE) :]
        if path == "replay":
            await self._send(ask, reply, await self._replay(ask.query), "application/json")
        elif found := _RECORD.fullmatch(path):
            text = await self._shelf.record(found[1])
            await self._send(ask, reply, text, "application/geo+json")
        elif found := _DATA.fullmatch(path):
            reader = await self._shelf.open(found[1], int(found[2]), found[3])
            async with reader:
                await reply.send(_content(ask, reader))
        else:
            raise NotFound("there is nothing here")

    async def _send(self, ask: Ask, reply: Reply, body: bytes, kind: str) -> None:
        fields = _fields(ask) | {"Content-Type": kind}
        if ask.method == "HEAD":
            await reply.send(Answer(headers=fields, length=len(body)))
            return
        await reply.send(Answer(headers=fields, body=body))

    async def _replay(self, query: Mapping[str, str]) -> bytes:
        after = read_place(query.get("since", ""), query.get("after", ""))
        wanted = query.get("topic", "#")
        return replayed(
            await self._shelf.replay(
                after, lambda one: matches(wanted, one.topic), limit=read_limit(query)
            )
        )


def _fields(ask: Ask) -> dict[str, str]:
    fields = security(secure=ask.secure, policy=FILE_POLICY)
    return fields | {"Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"}


def _content(ask: Ask, reader: OpenReader) -> Answer:
    node, size = reader.node, reader.size
    fields = _fields(ask) | {
        "Content-Type": reader.media_type, "ETag": node.etag, "Accept-Ranges": "bytes",
    }  # fmt: skip
    if node.mtime is not None:
        fields["Last-Modified"] = http_date(node.mtime)
    verdict = conditions.judge(ask.headers, etag=node.etag, mtime=node.mtime, reading=True)
    if verdict is Verdict.FAILED:
        raise Refused(412, "the file is not the version that the request names")
    if verdict is not Verdict.GO:
        return Answer(status=304, headers=fields)
    if ask.method == "HEAD":
        return Answer(headers=fields, length=size)
    parts = _parts(ask, size)
    if not parts:
        return Answer(headers=fields, body=FileBody(reader, (Slice(0, size),), _go_on))
    fields["Content-Range"] = ranges.content_range(parts[0], size)
    return Answer(status=206, headers=fields, body=FileBody(reader, parts, _go_on))


def _parts(ask: Ask, size: int) -> list[Slice]:
    """Return the one range that is asked for; the whole is given to those who want several."""
    if "range" not in ask.headers or "if-range" in ask.headers:
        return []
    parts = ranges.parse(ask.headers["range"], size, most=10)
    if parts == []:
        raise Refused(416, "the range is outside", Content_Range=f"bytes */{size}")
    return parts if parts is not None and len(parts) == 1 else []


def _go_on() -> None:
    """Nothing ends a download but its client."""


def _told(ask: Ask, error: EcpdsError) -> Answer:
    fields = _fields(ask) | dict(answers.fields_of(error, ask))
    fields["Content-Type"] = "text/plain; charset=utf-8"
    body = f"{answers.text_of(error)}\n".encode()
    status = answers.status_of(error)
    if ask.method == "HEAD":
        return Answer(status=status, headers=fields, length=len(body), close=ask.body.present)
    return Answer(status=status, headers=fields, body=body, close=ask.body.present)
