"""Properties of WebDAV: PROPFIND and PROPPATCH.

Live properties come from the node, dead ones are kept with the file's transfer.  The times that
Windows sets are accepted and change nothing but the time at origin.
Spec: RFC 4918 sections 9.1, 9.2, 15; RFC 4331; portal.md 3.5.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from xml.etree.ElementTree import Element

from ecpds.model.errors import Denied, EcpdsError, InputError, LimitError, Unsupported
from ecpds.portals.https import listings
from ecpds.portals.https.exchange import Answer
from ecpds.portals.https.fields import FILE_POLICY, Types, security
from ecpds.portals.https.head import http_date
from ecpds.portals.https.webdav_locks import Lock
from ecpds.portals.https.webdav_request import XML_TYPE, Call, Finite, href
from ecpds.portals.https.webdav_xml import (
    DAV,
    HEAD,
    TAIL,
    PropFind,
    element,
    escape,
    read_propfind,
    read_proppatch,
    read_xml,
    response,
    text_of,
)
from ecpds.vfs.contract import Node

BATCH: Final = 500  # members whose dead properties are read together
WINDOWS: Final = "{urn:schemas-microsoft-com:}"
_MODIFIED = f"{WINDOWS}Win32LastModifiedTime"
_IGNORED = frozenset({
    f"{WINDOWS}Win32CreationTime", f"{WINDOWS}Win32LastAccessTime",
    f"{WINDOWS}Win32FileAttributes", _MODIFIED,
})  # fmt: skip
_LOCKS = (
    "<D:lockentry><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>"
    "</D:lockentry><D:lockentry><D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/>"
    "</D:locktype></D:lockentry>"
)
_QUOTA = (f"{DAV}quota-available-bytes", f"{DAV}quota-used-bytes")
_LIVE: Final = tuple(
    f"{DAV}{name}"
    for name in (
        "displayname", "resourcetype", "creationdate", "getlastmodified", "getcontentlength",
        "getcontenttype", "getetag", "supportedlock", "lockdiscovery",
    )
)  # fmt: skip


def active_lock(lock: Lock) -> str:
    """Return an activelock element."""
    scope = "shared" if lock.is_shared else "exclusive"
    depth = "infinity" if lock.is_deep else "0"
    return (
        f"<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope><D:{scope}/>"
        f"</D:lockscope><D:depth>{depth}</D:depth>{lock.owner}"
        f"<D:timeout>Second-{int(lock.timeout.total_seconds())}</D:timeout>"
        f"<D:locktoken><D:href>{escape(lock.token)}</D:href></D:locktoken>"
        f"<D:lockroot><D:href>{escape(lock.href)}</D:href></D:lockroot></D:activelock>"
    )


class Properties:
    """Answers questions about properties."""

    def __init__(self) -> None:
        self._types = Types()

    async def find(self, call: Call) -> None:
        """PROPFIND, depth 0 or 1; the answer is written while the members are read."""
        depth = call.ask.headers.get("depth", "infinity").strip().lower()
        if depth not in {"0", "1", "infinity"}:
            raise InputError("Depth is 0, 1 or infinity")
        wanted = read_propfind(await read_xml(call.ask.body))
        node = await call.visit.session.stat(call.visit.path)
        if depth == "infinity":
            if node.is_directory:
                raise Finite
            depth = "0"
        quota = await _quota(call, wanted, node)
        members = depth == "1" and node.is_directory
        body = await listings.begun(self._written(call, wanted, node, quota, members=members))
        await call.visit.send(Answer(status=207, headers=_fields(call), body=body))

    async def _written(
        self, call: Call, wanted: PropFind, node: Node, quota: dict[str, str], *, members: bool
    ) -> AsyncIterator[bytes]:
        batch = [node]
        text = HEAD
        is_first = True
        if members:
            async for member in call.visit.session.list(node.path):
                batch.append(member)
                if len(batch) >= BATCH:
                    call.visit.look()
                    text += await self._responses(call, wanted, batch, quota if is_first else {})
                    yield text.encode("utf-8", "replace")
                    batch, text, is_first = [], "", False
        text += await self._responses(call, wanted, batch, quota if is_first else {})
        yield (text + TAIL).encode("utf-8", "replace")

    async def _responses(
        self, call: Call, wanted: PropFind, nodes: Sequence[Node], quota: dict[str, str]
    ) -> str:
        dead = await call.visit.session.properties(nodes)
        found = []
        for number, node in enumerate(nodes):
            live = self._live(call, node) | (quota if number == 0 else {})
            own = dead.get(node.transfer_id or 0, {})
            found.append(response(href(node), _groups(wanted, live, own)))
        return "".join(found)

    def _live(self, call: Call, node: Node) -> dict[str, str]:
        """Return the live properties that the node has, as content."""
        values = ["", "<D:collection/>" if node.is_directory else "", "", "", "", "", "", "", ""]
        values[0] = escape(node.name)
        if node.mtime is not None:
            values[2], values[3] = listings.stamp(node.mtime) or "", http_date(node.mtime)
        if not node.is_directory:
            values[4], values[5] = str(node.size), escape(self._types.of(node.name))
            values[6] = escape(node.etag)
        values[7] = _LOCKS
        if call.locks:
            key = call.visit.session.identity(node.path)
            values[8] = "".join(map(active_lock, call.locks.covering(key)))
        found = dict(zip(_LIVE, values, strict=True))
        return {name: text for name, text in found.items() if text or name in _EMPTY}

    # --- setting -------------------------------------------------------------------------

    async def patch(self, call: Call) -> None:
        """PROPPATCH: all of it or nothing."""
        wanted = read_proppatch(await read_xml(call.ask.body))
        if not wanted:
            raise InputError("nothing is to be changed")
        session, path = call.visit.session, call.visit.path
        node = await session.stat(path)
        await call.hold()
        call.free(call.path)
        refused = {name for name, _ in wanted if name.startswith(DAV)}
        status = 403
        if not refused:
            refused, status = await self._patch(call, node, wanted)
        names = list(dict.fromkeys(name for name, _ in wanted))
        good = [element(name) for name in names if name not in refused]
        bad = [element(name) for name in names if name in refused]
        groups = [(status, bad), (424, good)] if refused else [(200, good)]
        text = HEAD + response(href(node), groups) + TAIL
        await call.visit.send(Answer(status=207, headers=_fields(call), body=text.encode()))

    async def _patch(
        self, call: Call, node: Node, wanted: Sequence[tuple[str, Element | None]]
    ) -> tuple[set[str], int]:
        """Change what can be; return what was refused, and its status."""
        session = call.visit.session
        changes = {
            name: None if value is None else text_of(value)
            for name, value in wanted
            if name not in _IGNORED
        }
        try:
            if changes:
                await session.set_properties(node.path, changes)
            moment = next((_time(v) for n, v in wanted if n == _MODIFIED and v is not None), None)
            if moment is not None and not node.is_directory:
                await session.set_mtime(node.path, moment)
        except (Unsupported, Denied):
            return set(changes), 403
        except LimitError:
            return set(changes), 507
        return set(), 200


_EMPTY = frozenset({f"{DAV}resourcetype", f"{DAV}lockdiscovery", f"{DAV}displayname"})


def _time(value: Element) -> datetime | None:
    try:
        return parsedate_to_datetime(value.text or "").astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _groups(
    wanted: PropFind, live: Mapping[str, str], dead: Mapping[str, str]
) -> list[tuple[int, list[str]]]:
    """Return the property elements by status."""
    if wanted.only_names:
        return [(200, [element(name) for name in (*live, *dead)])]
    found: list[str] = []
    lost: list[str] = []
    if wanted.everything:
        found += [element(name, text) for name, text in live.items() if name not in _QUOTA]
        found += dead.values()
    for name in wanted.names:
        if name in live:
            found.append(element(name, live[name]))
        elif name in dead:
            found.append(dead[name])
        else:
            lost.append(element(name))
    return [(200, found), (404, lost)]


async def _quota(call: Call, wanted: PropFind, node: Node) -> dict[str, str]:
    """Return the quota of the collection that was asked for, when somebody wants to know."""
    if not node.is_directory or not set(_QUOTA) & set(wanted.names):
        return {}
    try:
        space = await call.visit.session.space(node.path)
    except EcpdsError:
        return {}
    if space is None:
        return {}
    return dict(zip(_QUOTA, (str(space.free), str(space.total - space.free)), strict=True))


def _fields(call: Call) -> dict[str, str]:
    fields = security(secure=call.ask.secure, policy=FILE_POLICY)
    return fields | {"Content-Type": XML_TYPE, "Cache-Control": "no-cache", "DAV": "1, 2"}
