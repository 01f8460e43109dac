"""Links to a file or directory, and requests for files: for people without an account.

`/ecpds/link/<token>/` is what others get; a password is given as that of Basic, with any user name,
so that `curl -u :PASSWORD` does. `/ecpds/data/links` is where users make and remove them.
"""

from __future__ import annotations

import json
import re
from typing import Final

from ecpds.model.errors import InputError, NotFound, Unauthenticated
from ecpds.model.secret import Secret
from ecpds.model.units import parse_bytes, parse_duration
from ecpds.portals.https import answers, login
from ecpds.portals.https.addresses import Kind, Place
from ecpds.portals.https.browse import Browse
from ecpds.portals.https.exchange import Answer, Ask, Refused, Reply
from ecpds.portals.https.fields import FILE_POLICY, security
from ecpds.portals.https.files import Files
from ecpds.portals.https.listings import stamp
from ecpds.portals.https.login import Logins, read_basic
from ecpds.portals.https.pages import Pages
from ecpds.portals.https.register import read_texts
from ecpds.portals.https.visit import Visit
from ecpds.vfs.contract import Session
from ecpds.vfs.links import DEFAULT_FOR, Link, Links, NewLink
from ecpds.vfs.rooted import RootedSession

BASE: Final = "/ecpds/link/"
MANAGE: Final = "/ecpds/data/links"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,64}")


class LinkDoor:
    """Answers requests for links, and those of users about them."""

    def __init__(
        self, links: Links, logins: Logins, files: Files, browse: Browse, pages: Pages
    ) -> None:
        self._links = links
        self._logins = logins
        self._files = files
        self._browse = browse
        self._pages = pages

    async def serve(self, ask: Ask, reply: Reply) -> None:
        """Answer one request; raises every error that is to be told."""
        path = ask.path
        if not path.startswith(BASE):
            await self._manage(ask, reply, path[len(MANAGE) :].strip("/"))
            return
        token, _, below = path[len(BASE) :].partition("/")
        if _TOKEN.fullmatch(token) is None:
            raise NotFound("there is no such link")
        try:
            session = await self._links.open(token, _password(ask), ask.peer)
        except Unauthenticated as error:
            await reply.send(self._locked(ask, error))
            return
        async with session:
            await self._serve(ask, reply, session, token, f"/{below}")

    def _locked(self, ask: Ask, error: Unauthenticated) -> Answer:
        answer = self._pages.error(ask, error)
        if answer.status == 401:  # also for browsers that know our form: the account is no help
            answer.headers["WWW-Authenticate"] = 'Basic realm="link", charset="UTF-8"'
        answer.close = ask.body.present
        return answer

    async def _serve(
        self, ask: Ask, reply: Reply, session: RootedSession, token: str, path: str
    ) -> None:
        node = await session.begin()
        base = f"{BASE}{token}/"
        visit = Visit(
            ask=ask,
            place=Place(Kind.BOTH, path, base, base, "link"),
            session=session,
            reply=reply,
            query=ask.query,
        )
        if session.link.kind == "request":
            await self._request(visit)
        elif ask.method not in ("GET", "HEAD"):
            raise Refused(405, "this link is for reading", Allow="GET, HEAD")
        elif session.only and path == "/":
            await reply.send(self._pages.redirect(ask, visit.file_link(f"/{node.name}")))
        elif ask.method == "HEAD":
            await self._files.head(visit)
        elif (await session.stat(path)).is_directory:
            await self._browse.listing(visit)
        elif visit.query.get("view") == "details":
            await self._browse.details(visit)
        else:
            await self._files.get(visit)

    async def _request(self, visit: Visit) -> None:
        ask, link = visit.ask, getattr(visit.session, "link", None)
        if ask.method == "PUT":
            await self._files.put(visit)
        elif ask.method == "POST":
            await self._files.post(visit)
        elif ask.method in ("GET", "HEAD") and visit.path == "/":
            await visit.send(
                self._pages.page(
                    ask,
                    "request",
                    options=visit.session.options,
                    headers={"Cache-Control": "no-store"},
                    link=link,
                    upload=visit.directory_link("/"),
                    done="Received. Thank you." if visit.query.get("done") else "",
                )
            )
        else:
            raise Refused(405, "this link is for uploads", Allow="GET, HEAD, PUT, POST")

    # --- for users -----------------------------------------------------------------------

    async def _manage(self, ask: Ask, reply: Reply, number: str) -> None:
        session, cookie = await self._logins.session(ask, None)
        async with session:
            if ask.method == "GET" and not number:
                answer = _document(ask, 200, [_shown(one) for one in await self._links.of(session)])
            elif ask.method == "POST" and not number:
                answer = await self._create(ask, session)
            elif ask.method == "DELETE" and number.isascii() and number.isdigit():
                await self._links.drop(session, int(number[:18]))
                answer = Answer(status=204, headers=security(secure=ask.secure, policy=FILE_POLICY))
            else:
                raise Refused(405, "links take GET, POST and DELETE", Allow="GET, POST, DELETE")
        if cookie:
            answer.cookies.append(login.session_cookie(cookie, secure=ask.secure))
        await reply.send(answer)

    async def _create(self, ask: Ask, session: Session) -> Answer:
        wanted = _wanted(await read_texts(ask))
        token, link = await self._links.create(session, wanted)
        address = f"{'https' if ask.secure else 'http'}://{ask.host}{BASE}{token}/"
        if answers.wants_page(ask):
            return self._pages.page(
                ask,
                "link",
                options=session.options,
                headers={"Cache-Control": "no-store"},
                link=link,
                address=address,
                has_password=bool(link.password_hash),
            )
        answer = _document(ask, 201, {**_shown(link), "url": address})
        answer.headers["Location"] = f"{MANAGE}/{link.id}"
        return answer


def _password(ask: Ask) -> Secret | None:
    field = ask.headers.get("authorization")
    if field is None:
        return None
    try:
        return Secret(read_basic(field, needs_user=False)[1])
    except Unauthenticated:
        return None


def _wanted(fields: dict[str, str]) -> NewLink:
    """Read what a user wants; raise InputError."""
    kind = fields.get("kind", "share")
    if kind not in ("share", "request"):
        raise InputError("kind is share or request", pointer="kind")
    if not fields.get("path"):
        raise InputError("the path is missing", pointer="path")
    lasts = fields.get("expires", "")
    most_bytes = fields.get("bytes", "")
    return NewLink(
        kind="share" if kind == "share" else "request",
        path=fields["path"],
        lasts=parse_duration(lasts) if lasts else DEFAULT_FOR,
        password=Secret(fields.get("password", "")),
        most_uses=_count(fields, "uses"),
        most_bytes=int(parse_bytes(most_bytes)) if most_bytes else None,
        comment=fields.get("comment", ""),
    )


def _count(fields: dict[str, str], name: str) -> int | None:
    text = fields.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise InputError(f"{name} is a count of 1 or more", pointer=name)
    return int(text)


def _shown(link: Link) -> dict[str, object]:
    return {
        "id": link.id,
        "kind": link.kind,
        "path": link.path,
        "comment": link.comment,
        "password": bool(link.password_hash),
        "created": stamp(link.created_at),
        "expires": stamp(link.expires_at),
        "uses": link.uses,
        "most_uses": link.most_uses,
        "bytes": link.bytes,
        "most_bytes": link.most_bytes,
    }


def _document(ask: Ask, status: int, document: object) -> Answer:
    fields = security(secure=ask.secure, policy=FILE_POLICY)
    fields |= {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return Answer(status=status, headers=fields, body=json.dumps(document).encode() + b"\n")
