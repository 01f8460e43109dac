"""Which handler answers a request, in whose session, and what becomes of an error.

Every request is a session of its own: log in, act, close (portal.md 3.4).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import urlencode

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger
from ecpds.model.errors import (
    Denied,
    EcpdsError,
    InputError,
    IsDirectory,
    NotDirectory,
    NotFound,
    Unauthenticated,
)
from ecpds.portals.https import addresses, feed, links, login, register, replay, tus, webdav
from ecpds.portals.https.addresses import Kind, Place
from ecpds.portals.https.browse import Browse
from ecpds.portals.https.door import LOGIN, LOGOUT, Door
from ecpds.portals.https.exchange import HOST, Answer, Ask, Refused, Reply
from ecpds.portals.https.feed import Feed
from ecpds.portals.https.fields import PAGE_POLICY, cross_origin, from_elsewhere, security
from ecpds.portals.https.files import Files
from ecpds.portals.https.links import LinkDoor
from ecpds.portals.https.login import Logins
from ecpds.portals.https.pages import START, Pages
from ecpds.portals.https.register import Register
from ecpds.portals.https.replay import ReplayDoor
from ecpds.portals.https.tus import Tus
from ecpds.portals.https.visit import Visit
from ecpds.portals.https.webdav import WebDav
from ecpds.vfs.contract import Session
from ecpds.vfs.desks import Desks

log = get_logger(__name__)

SAFE = ("GET", "HEAD", "OPTIONS")
_TREE = ("/ecpds/file/", "/ecpds/data/file/", "/ecpds/home/", "/ecpds/data/list/")
Serve = Callable[[Ask, Reply], Awaitable[None]]
METHODS = "GET, HEAD, OPTIONS, PUT, POST, DELETE"


class Service:
    """Answers requests; knows nothing of sockets."""

    def __init__(
        self,
        logins: Logins,
        pages: Pages,
        browse: Browse,
        clock: Clock,
        dav_logins: Logins | None = None,
        desks: Desks = Desks(),  # noqa: B008 - frozen
    ) -> None:
        """`dav_logins`: who may come by WebDAV, None: it is switched off."""
        self._logins = logins
        self._pages = pages
        self._browse = browse
        self._files = Files(clock)
        self._dav = WebDav(dav_logins, self._files, browse, clock) if dav_logins else None
        self._door = Door(logins, pages)
        self._register = Register(desks.registrar, pages) if desks.registrar else None
        self._rooms: list[tuple[str, Serve]] = [(feed.BASE, Feed(logins).serve)]
        if self._dav is not None:
            self._rooms.append((webdav.BASE, self._dav.serve))
        if desks.resumables is not None:
            self._rooms.append((tus.BASE, Tus(logins, desks.resumables, clock).serve))
        if desks.replays is not None:
            self._rooms.append((replay.BASE, ReplayDoor(logins, desks.replays).serve))
        if desks.links is not None:
            lends = LinkDoor(desks.links, logins, self._files, browse, pages)
            self._rooms += [(links.BASE, lends.serve), (f"{links.MANAGE}/", lends.serve)]
        self._hosts: Mapping[str, str] = {}
        self._cors = ""
        self._handlers: Mapping[str, Callable[[Visit], Awaitable[None]]] = {
            "GET": self._get,
            "HEAD": self._head,
            "PUT": self._files.put,
            "POST": self._files.post,
            "DELETE": self._files.delete,
        }

    def take(self, hosts: Mapping[str, str], cors: str) -> None:
        """Use other settings from the next request on.

        `hosts` maps host names to paths of their homes, `cors` is the site's list of origins.
        """
        self._hosts = {name.lower(): path for name, path in hosts.items()}
        self._cors = cors

    async def serve(self, ask: Ask, reply: Reply) -> None:
        """Answer one request.

        Lets ConnectionError through when the client is gone, and every error when a status line is
        out already; any other error is told.
        """
        try:
            await self._serve(ask, reply)
        except EcpdsError as error:
            if reply.started:
                raise
            await reply.send(self._told(ask, error))
        except ConnectionError:
            raise
        except Exception as error:
            if reply.started:
                raise
            log.error("request failed", exc=error, peer=ask.peer)  # noqa: TRY400 - see `exc`
            await reply.send(self._told(ask, EcpdsError("Internal error")))

    async def _serve(self, ask: Ask, reply: Reply) -> None:
        _check(ask)
        path = ask.path
        if ask.method not in SAFE and from_elsewhere(ask.headers, ask.host):
            raise Denied("requests that change something come from our own pages or from programs")
        room = self._room(path)
        if room is not None:
            await room(ask, reply)
            return
        place = addresses.find(path, ask.host_name.lower(), self._hosts)
        if place is not None:
            await self._visit(ask, reply, place)
        elif path in (LOGIN, LOGOUT):
            await reply.send(await self._door.answer(ask, path))
        elif self._register is not None and path in register.PATHS and ask.method != "OPTIONS":
            await reply.send(await self._register.answer(ask, path))
        else:
            await reply.send(self._fixed(ask, path))

    def _room(self, path: str) -> Serve | None:
        """Return what serves an address that is not one of the tree itself."""
        if path.startswith(_TREE):  # nearly always
            return None
        slashed = f"{path}/"
        return next((serve for base, serve in self._rooms if slashed.startswith(base)), None)

    def _fixed(self, ask: Ask, path: str) -> Answer:
        """Answer what needs no session: the start, static files."""
        if ask.method == "OPTIONS":
            answer = self._options(ask, self._cors)
            if self._dav is not None:  # Windows asks at the root before it looks at the path
                answer.headers |= {"DAV": "1, 2", "MS-Author-Via": "DAV"}
            return answer
        if ask.method not in SAFE:
            raise Refused(405, "there is nothing to change here", Allow="GET, HEAD, OPTIONS")
        if path in ("/", "/ecpds", "/ecpds/"):
            shows_form = ask.from_browser and not self._logins.is_known(ask)
            return self._pages.redirect(ask, LOGIN if shows_form else START)
        name = "portal.svg" if path == "/favicon.ico" else path.removeprefix("/ecpds/static/")
        found = self._pages.asset(ask, name)
        if found is None:
            raise NotFound(f"{path} is not there")
        return found

    async def _visit(self, ask: Ask, reply: Reply, place: Place) -> None:
        """Answer a request for a file or directory in a session of its own."""
        if ask.method == "OPTIONS":
            await reply.send(self._options(ask, await self._preflight_origins(ask, place)))
            return
        handler = self._handlers.get(ask.method)
        if handler is None or (place.kind is Kind.LIST and ask.method not in SAFE):
            raise Refused(405, f"{ask.method} is not for this address", Allow=METHODS)
        session, cookie = await self._logins.session(ask, place.home)
        async with session:
            visit = Visit(
                ask=ask,
                place=place,
                session=session,
                reply=reply,
                query=ask.query,
                fields=cross_origin(ask, self._origins(session)),
                cookies=(login.session_cookie(cookie, secure=ask.secure),) if cookie else (),
            )
            try:
                await handler(visit)
            except EcpdsError as error:
                if reply.started:
                    raise
                answer = self._pages.error(ask, error, session.options)
                answer.close = ask.body.present
                await visit.send(answer)

    def _told(self, ask: Ask, error: EcpdsError) -> Answer:
        """Return the answer to an error; browsers that have to log in are sent to the form."""
        needs_login = type(error) is Unauthenticated
        if needs_login and ask.knows_login_form and ask.method in ("GET", "HEAD"):
            query = urlencode({"next": addresses.local(ask.target)})
            answer = self._pages.redirect(ask, f"{LOGIN}?{query}")
        else:
            answer = self._pages.error(ask, error)
        answer.headers |= cross_origin(ask, self._cors)
        # the rest of a refused upload is not worth its time
        answer.close = ask.body.present or answer.status == HTTPStatus.BAD_REQUEST
        return answer

    def _origins(self, session: Session) -> str:
        return session.options.get("portal.corsAllowOrigin", "") or self._cors

    async def _preflight_origins(self, ask: Ask, place: Place) -> str:
        """Return the origins for a preflight, which has no credentials: only an open home works."""
        if place.home is None or "origin" not in ask.headers:
            return self._cors
        try:
            session, _ = await self._logins.session(ask, place.home)
        except EcpdsError:
            return self._cors
        async with session:
            return self._origins(session)

    def _options(self, ask: Ask, allowed: str) -> Answer:
        fields = security(secure=ask.secure, policy=PAGE_POLICY) | {"Allow": METHODS}
        fields |= cross_origin(ask, allowed)
        if "Access-Control-Allow-Origin" in fields:
            fields["Access-Control-Max-Age"] = "86400"
        return Answer(status=204, headers=fields)

    async def _get(self, visit: Visit) -> None:
        if visit.query.get("view") == "details" and visit.place.kind is not Kind.LIST:
            await self._either(visit, self._browse.details)
        else:
            await self._either(visit, self._files.get)

    async def _head(self, visit: Visit) -> None:
        await self._either(visit, self._files.head)

    async def _either(self, visit: Visit, file: Callable[[Visit], Awaitable[None]]) -> None:
        """Send the file or the listing, whichever the address allows and is there."""
        kind, is_slashed = visit.place.kind, visit.place.names_directory
        try:
            if kind is Kind.LIST or (kind is Kind.BOTH and is_slashed):
                await self._browse.listing(visit)
            elif is_slashed:
                raise NotFound(f"{visit.path} is not there")
            else:
                await self._file_or_list(visit, file)
        except (IsDirectory, NotDirectory):
            raise NotFound(f"{visit.path} is not there") from None

    async def _file_or_list(self, visit: Visit, file: Callable[[Visit], Awaitable[None]]) -> None:
        try:
            await file(visit)
        except IsDirectory:
            if visit.place.kind is Kind.FILE:
                raise
            if visit.ask.method == "HEAD":
                # rclone 1.75 takes everything for a file that has no slash and does not redirect
                node = await visit.session.stat(visit.path)
                await visit.send(self._pages.redirect(visit.ask, visit.directory_link(node.path)))
                return
            await self._browse.listing(visit)


def _check(ask: Ask) -> None:
    """Refuse what no handler should have to think of."""
    if ask.fault:
        raise Refused(ask.fault, "the request cannot be read")
    if not HOST.fullmatch(ask.host):
        raise InputError("the Host field cannot be read")
    if ask.headers.get("expect", "").strip().lower() not in ("", "100-continue"):
        raise Refused(417, "only 100-continue can be expected")
