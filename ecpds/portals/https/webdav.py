"""WebDAV classes 1 and 2 below `/webdav/`.

GET, HEAD and PUT are those of the HTTPS portal; what is added are collections, copies and moves,
properties and locks.  A lock on a name that is not there reserves the name and makes no file: an
empty one would be disseminated.  Spec: RFC 4918; portal.md 3.5.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from ecpds.base.clock import Clock
from ecpds.model.account import Permission
from ecpds.model.errors import (
    Denied,
    EcpdsError,
    Exists,
    InputError,
    IsDirectory,
    LimitError,
    NotEmpty,
    NotFound,
    PreconditionFailed,
)
from ecpds.portals.https import login
from ecpds.portals.https.addresses import Kind, Place
from ecpds.portals.https.browse import Browse
from ecpds.portals.https.exchange import Answer, Ask, Refused, Reply
from ecpds.portals.https.fields import FILE_POLICY, security
from ecpds.portals.https.files import Files
from ecpds.portals.https.head import http_date
from ecpds.portals.https.login import Logins
from ecpds.portals.https.visit import Visit
from ecpds.portals.https.webdav_locks import Lock, Locks, new_token, read_timeout
from ecpds.portals.https.webdav_props import Properties, active_lock
from ecpds.portals.https.webdav_request import (
    BASE,
    METHODS,
    XML_TYPE,
    Call,
    href,
    parent_of,
    path_of,
    status_of,
    told,
)
from ecpds.portals.https.webdav_xml import (
    HEAD,
    TAIL,
    XML,
    LockInfo,
    failure,
    read_lockinfo,
    read_xml,
)
from ecpds.vfs.contract import Node, Session

MOST_MEMBERS: Final = 10_000
"""Members of a collection that are copied, or deleted one by one."""

Handler = Callable[[Call], Awaitable[None]]


class WebDav:
    """Answers WebDAV requests."""

    def __init__(self, logins: Logins, files: Files, browse: Browse, clock: Clock) -> None:
        self._logins = logins
        self._files = files
        self._browse = browse
        self._clock = clock
        self._locks = Locks(clock)
        properties = Properties()
        self._handlers: Mapping[str, Handler] = {
            "GET": self._get,
            "HEAD": self._get,
            "PUT": self._put,
            "DELETE": self._delete,
            "PROPFIND": properties.find,
            "PROPPATCH": properties.patch,
            "MKCOL": self._mkcol,
            "COPY": self._copy,
            "MOVE": self._move,
            "LOCK": self._lock,
            "UNLOCK": self._unlock,
        }

    async def serve(self, ask: Ask, reply: Reply) -> None:
        """Answer one request for something below `/webdav`; errors are told here."""
        try:
            await self._serve(ask, reply)
        except EcpdsError as error:
            if reply.started:
                raise
            await reply.send(told(ask, error))

    async def _serve(self, ask: Ask, reply: Reply) -> None:
        if ask.method == "OPTIONS":
            await reply.send(options(ask))
            return
        handler = self._handlers.get(ask.method)
        if handler is None:
            raise Refused(405, f"{ask.method} is not for this address", Allow=METHODS)
        if "#" in ask.target:
            raise InputError("addresses of resources have no fragment")
        path = "/" + ask.path[len(BASE) :]
        session, cookie = await self._logins.session(ask, None)
        async with session:
            visit = Visit(
                ask=ask,
                place=Place(Kind.FILE, path, BASE, BASE),
                session=session,
                reply=reply,
                query=ask.query,
                cookies=(login.session_cookie(cookie, secure=ask.secure),) if cookie else (),
            )
            await handler(Call.of(visit, self._locks))

    # --- content -------------------------------------------------------------------------

    async def _get(self, call: Call) -> None:
        visit = call.visit
        try:
            if visit.place.names_directory:
                raise IsDirectory("a collection")
            await (self._files.head if call.ask.method == "HEAD" else self._files.get)(visit)
        except IsDirectory:
            await self._collection(call)

    async def _collection(self, call: Call) -> None:
        """Show a collection as the portal's own pages and listings do."""
        visit = call.visit
        node = await visit.session.stat(visit.path)
        if not node.is_directory:
            raise NotFound(f"{node.path} is not there")
        if call.ask.method == "HEAD":
            fields = _fields(call) | {"Content-Type": "httpd/unix-directory"}
            if node.mtime is not None:
                fields["Last-Modified"] = http_date(node.mtime)
            await visit.send(Answer(headers=fields))
            return
        place = Place(Kind.BOTH, visit.path, "/ecpds/file/", "/ecpds/file/")
        await self._browse.listing(replace(visit, place=place))

    async def _put(self, call: Call) -> None:
        path = call.path
        await call.hold()
        present = await call.present(path)
        if present is None:
            await call.need_parent(path)
            call.free_member(path)
        elif present.is_directory:
            raise Refused(405, "a collection is not written")
        else:
            call.free(path)
        await self._files.put(call.visit)

    # --- collections ---------------------------------------------------------------------

    async def _mkcol(self, call: Call) -> None:
        if call.ask.body.present:
            raise Refused(415, "MKCOL takes no body")
        await call.hold()
        path = call.path
        if await call.present(path) is not None:
            raise Refused(405, "the name is taken", Allow=METHODS)
        await call.need_parent(path)
        call.free_member(path)
        try:
            await call.visit.session.mkdir(call.visit.path)
        except Exists:
            raise Refused(405, "the name is taken", Allow=METHODS) from None
        await self._done(call, 201)

    async def _delete(self, call: Call) -> None:
        session, path = call.visit.session, call.path
        node = await session.stat(path)
        if node.is_directory and call.ask.headers.get("depth", "infinity").lower() != "infinity":
            raise InputError("a collection is deleted with all its members")
        call.need_inside(path)
        await call.hold()
        call.free_member(path)
        if not node.is_directory:
            await self._unconditional(call, node)
            await session.delete(path)
        else:
            failures = await self._remove(call, node)
            if failures:
                text = HEAD + "".join(failures) + TAIL
                fields = _fields(call) | {"Content-Type": XML_TYPE}
                await call.visit.send(Answer(status=207, headers=fields, body=text.encode()))
                return
        self._locks.forget(session.identity(path))
        await self._done(call, 204)

    async def _unconditional(self, call: Call, node: Node) -> None:
        """Obey If-Match on DELETE, as the HTTPS portal does."""
        wanted = call.ask.headers.get("if-match", "").strip()
        if wanted and wanted != "*" and node.etag not in [w.strip() for w in wanted.split(",")]:
            raise PreconditionFailed("the file is not the version that the request names")

    async def _remove(self, call: Call, node: Node) -> list[str]:
        """Delete a collection; return the failures of members that stay."""
        session = call.visit.session
        try:
            call.free(node.path, deep=True)
            await session.rmdir(node.path, recursive=True)
        except (Refused, Denied) as error:
            if not session.may(Permission.RMDIR, node.path) or not _is_inside(error):
                raise
            return await self._remove_some(call, node)
        return []

    async def _remove_some(self, call: Call, node: Node) -> list[str]:
        """Delete what can be deleted, members first."""
        session = call.visit.session
        failures: list[str] = []
        for member in [*reversed(await _members(session, node)), node]:
            call.visit.look()
            try:
                call.free(member.path)
                if member.is_directory:
                    await session.rmdir(member.path)
                else:
                    await session.delete(member.path)
                self._locks.forget(session.identity(member.path))
            except (NotFound, NotEmpty):
                continue  # NotEmpty follows from the failure of a member, which is told
            except EcpdsError as error:
                failures.append(failure(href(member), status_of(error)))
        return failures

    # --- copy and move -------------------------------------------------------------------

    async def _target(self, call: Call, source: Node) -> tuple[str, Node | None]:
        """Return where a copy or move goes, and what is there."""
        session, target = call.visit.session, call.destination()
        if target == source.path:
            raise Refused(403, "source and destination are the same")
        if f"{target}/".startswith(f"{source.path.rstrip('/')}/") and source.is_directory:
            raise Refused(409, "a collection does not go into itself")
        if f"{source.path}/".startswith(f"{target.rstrip('/')}/"):
            raise Refused(409, "a member does not replace its collection")
        call.need_inside(source.path)
        here, there = session.identity(source.path), session.identity(parent_of(target))
        if here.partition("/")[0] != there.partition("/")[0]:
            raise Refused(403, "files stay in their destination")
        present = await call.present(target)
        await call.hold()
        if present is None:
            await call.need_parent(target)
        elif not call.overwrites:
            raise PreconditionFailed("the destination is there")
        call.free_member(target, deep=True)
        return target, present

    async def _clear(self, call: Call, source: Node, present: Node | None) -> None:
        """Make room when a collection is replaced, or something replaced by a collection."""
        if present is None or not (present.is_directory or source.is_directory):
            return
        session = call.visit.session
        if present.is_directory:
            await session.rmdir(present.path, recursive=True)
        else:
            await session.delete(present.path)

    async def _copy(self, call: Call) -> None:
        session = call.visit.session
        source = await session.stat(call.visit.path)
        depth = call.ask.headers.get("depth", "infinity").strip().lower()
        if depth not in {"0", "infinity"}:
            raise InputError("Depth of a copy is 0 or infinity")
        target, present = await self._target(call, source)
        members = await _members(session, source) if depth == "infinity" else []
        await self._clear(call, source, present)
        pairs = [(one, target + one.path[len(source.path) :]) for one in (source, *members)]
        for one, place in pairs:
            call.visit.look()
            await self._copy_one(session, one, place, replace=call.overwrites)
        await self._done(call, 204 if present else 201)

    async def _copy_one(
        self, session: Session, source: Node, target: str, *, replace: bool
    ) -> None:
        if source.is_directory:
            await session.mkdir(target)
            return
        await session.copy(source.path, target, replace=replace)
        kept = await session.properties([source])
        if kept:
            await session.set_properties(target, dict(kept[source.transfer_id or 0]), replace=True)

    async def _move(self, call: Call) -> None:
        session = call.visit.session
        source = await session.stat(call.visit.path)
        target, present = await self._target(call, source)
        call.free_member(source.path, deep=True)
        await self._clear(call, source, present)
        await session.rename(source.path, target, replace=call.overwrites)
        self._locks.forget(session.identity(source.path))
        await self._done(call, 204 if present else 201)

    # --- locks ---------------------------------------------------------------------------

    async def _lock(self, call: Call) -> None:
        timeout = read_timeout(call.ask.headers.get("timeout", ""))
        root = await read_xml(call.ask.body)
        if root is None:
            await self._refresh(call, timeout)
            return
        info = read_lockinfo(root)
        depth = call.ask.headers.get("depth", "infinity").strip().lower()
        if depth not in {"0", "infinity"}:
            raise InputError("Depth of a lock is 0 or infinity")
        session, path = call.visit.session, call.path
        node = await call.present(path)
        if node is None:
            await call.need_parent(path)
        elif session.identity(path) == "/":
            raise Denied("what is above the destinations is not locked")
        await call.hold()
        if not session.may(Permission.PUT, path):
            raise Denied("what may not be written is not locked")
        if node is None:
            call.free(parent_of(path))
        taken = self._locks.take(self._wanted(call, info, node, timeout, deep=depth != "0"))
        await self._locked(call, taken, status=200 if node else 201)

    def _wanted(
        self, call: Call, info: LockInfo, node: Node | None, timeout: timedelta, *, deep: bool
    ) -> Lock:
        session, path = call.visit.session, call.path
        plain = Node(name="", path=path, kind="file")
        return Lock(
            token=new_token(os.urandom(16)),
            key=session.identity(path),
            href=href(node or plain),
            is_deep=deep and (node is None or node.is_directory),
            is_shared=info.is_shared,
            login=call.login,
            owner=info.owner,
            timeout=timeout,
            until=self._clock.now(),
        )

    async def _refresh(self, call: Call, timeout: timedelta) -> None:
        """Prolong the lock that the If header names."""
        await call.hold()
        held = self._locks.covering(call.visit.session.identity(call.path))
        lock = next((one for one in held if one.token in call.tokens), None)
        if lock is None or lock.login != call.login:
            raise PreconditionFailed("the If header names no lock of this resource")
        await self._locked(call, self._locks.refresh(lock, timeout), status=200)

    async def _locked(self, call: Call, lock: Lock, *, status: int) -> None:
        text = (
            f'{XML}<D:prop xmlns:D="DAV:"><D:lockdiscovery>{active_lock(lock)}'
            "</D:lockdiscovery></D:prop>\n"
        )
        fields = _fields(call) | {"Content-Type": XML_TYPE, "Lock-Token": f"<{lock.token}>"}
        body = text.encode("utf-8", "replace")
        await call.visit.send(Answer(status=status, headers=fields, body=body))

    async def _unlock(self, call: Call) -> None:
        token = call.ask.headers.get("lock-token", "").strip()
        if not (token.startswith("<") and token.endswith(">")):
            raise InputError("the Lock-Token header is missing")
        held = self._locks.covering(call.visit.session.identity(call.path))
        lock = next((one for one in held if one.token == token[1:-1]), None)
        if lock is None:
            raise Refused(409, "this resource has no such lock")
        if lock.login != call.login:
            raise Denied("the lock is somebody else's")
        self._locks.release(lock)
        await self._done(call, 204)

    async def _done(self, call: Call, status: int) -> None:
        await call.visit.send(Answer(status=status, headers=_fields(call)))


def options(ask: Ask) -> Answer:
    """Return what this part of the tree understands; needs no login."""
    fields = security(secure=ask.secure, policy=FILE_POLICY)
    fields |= {"DAV": "1, 2", "MS-Author-Via": "DAV", "Allow": METHODS, "Accept-Ranges": "bytes"}
    return Answer(headers=fields)


def _fields(call: Call) -> dict[str, str]:
    return security(secure=call.ask.secure, policy=FILE_POLICY) | {"Cache-Control": "no-cache"}


def _is_inside(error: EcpdsError) -> bool:
    """Tell whether a refusal may concern only some members."""
    return isinstance(error, Denied) or status_of(error) == 423


async def _members(session: Session, node: Node) -> list[Node]:
    """Return everything inside a collection, collections before what is in them."""
    found: list[Node] = []
    if not node.is_directory:
        return found
    open_: list[Node] = [node]
    while open_:
        directory = open_.pop()
        async for member in _listed(session, directory):
            found.append(member)
            if len(found) > MOST_MEMBERS:
                raise LimitError(f"the collection has more than {MOST_MEMBERS} members")
            if member.is_directory:
                open_.append(member)
    return found


async def _listed(session: Session, directory: Node) -> AsyncIterator[Node]:
    async for member in session.list(directory.path):
        yield member


__all__ = ["BASE", "WebDav", "options", "path_of"]
