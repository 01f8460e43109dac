"""Links that let others read or upload below one path, with the rights of the user who made them.

Each use logs that user in without a credential, so that every other check of portal.md 1.4 is made
anew: a link is worth nothing once its user is disabled or has lost the right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.passwords import random_token, token_hash
from ecpds.engine.core import Core
from ecpds.engine.operations.actor import Actor, record
from ecpds.engine.telling import Teller
from ecpds.model.account import Permission, Protocol
from ecpds.model.errors import (
    Conflict,
    Denied,
    InputError,
    NotFound,
    Unauthenticated,
)
from ecpds.model.families import PortalOptions
from ecpds.model.secret import Secret
from ecpds.store import links
from ecpds.store.db import Connection
from ecpds.store.links import Kind, Link
from ecpds.vfs.contract import Gate, Session, Vouched
from ecpds.vfs.gate import PortalGate
from ecpds.vfs.rooted import RootedSession

MOST: Final = 1_000
"""Links of one user."""

DEFAULT_FOR: Final = timedelta(days=7)
LONGEST_COMMENT: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLink:
    """What a user wants of a link."""

    kind: Kind
    path: str
    lasts: timedelta = DEFAULT_FOR
    password: Secret = Secret("")  # noqa: RUF009 - a value, never changed
    most_uses: int | None = None
    most_bytes: int | None = None
    comment: str = ""


class Links:
    """The links of a node."""

    def __init__(self, core: Core, gate: PortalGate) -> None:
        self._core = core
        self._gate: Gate = gate
        self._door = gate
        self._teller = Teller(node=core.node)

    # --- for the user -------------------------------------------------------------------

    async def create(self, session: Session, wanted: NewLink) -> tuple[str, Link]:
        """Make a link; return its token, which is not stored, and what is known of it.

        Raises Denied for what the user may not do himself, NotFound, InputError, Conflict.
        """
        options = PortalOptions.read(session.options)
        if options.links not in ("both", wanted.kind):
            raise Denied(f"links of the kind {wanted.kind} are not permitted")
        if not timedelta(minutes=1) <= wanted.lasts <= options.link_lifetime:
            raise InputError("this lifetime is not permitted", pointer="expires")
        path = await self._checked(session, wanted)
        now = self._core.clock.now()
        password = wanted.password
        link = Link(
            kind=wanted.kind,
            login=session.profile.user.login,
            path=path,
            comment=wanted.comment[:LONGEST_COMMENT],
            password_hash=await self._core.passwords.hash(password) if password else "",
            created_at=now,
            expires_at=now + wanted.lasts,
            most_uses=wanted.most_uses,
            most_bytes=wanted.most_bytes,
        )
        token, actor = random_token(""), Actor(name=link.login, kind="user", peer=session.peer)
        number = await self._core.store.write(_add, link, token_hash(token), actor, self._teller)
        return token, replace(link, id=number)

    async def _checked(self, session: Session, wanted: NewLink) -> str:
        """Return the normal path; raise unless the user may do there what the link gives away."""
        node = await session.stat(wanted.path)
        if wanted.kind == "request":
            if not node.is_directory:
                raise InputError("files are asked for in a directory", pointer="path")
            if not session.may(Permission.PUT, f"{node.path.rstrip('/')}/file"):
                raise Denied("put is not permitted")
        elif node.is_directory and not session.may(Permission.DIR, node.path):
            raise Denied("dir is not permitted")
        elif not node.is_directory and not session.may(Permission.GET, node.path):
            raise Denied("get is not permitted")
        if not session.identity(node.path).strip("/"):
            raise Denied("a link leads into a destination")
        return node.path

    async def of(self, session: Session) -> list[Link]:
        """Return the links of the user that have not expired, oldest first."""
        now = self._core.clock.now()
        found = await self._core.store.read(links.of, session.profile.user.login)
        return [link for link in found if link.expires_at > now]

    async def drop(self, session: Session, number: int) -> None:
        """Remove a link of the user; NotFound."""
        login, now = session.profile.user.login, self._core.clock.now()
        actor = Actor(name=login, kind="user", peer=session.peer)
        gone = await self._core.store.write(_drop, login, number, actor, self._teller, now)
        if not gone:
            raise NotFound(f"link {number} is not there")

    # --- for whoever has the link -------------------------------------------------------

    async def open(self, token: str, password: Secret | None, peer: str) -> RootedSession:
        """Return the session of a link.

        Raises NotFound (also when it is used up), Unauthenticated (the password), and as
        `Gate.login` when its user may not come in.
        """
        await self._gate.check(peer)
        now = self._core.clock.now()
        link = await self._core.store.read(links.by_token, token_hash(token), now=now)
        if link is None:
            await self._door.failed_elsewhere(peer, "", is_known=False)
            raise NotFound("there is no such link")
        if link.is_used_up:
            raise NotFound("the link is used up")
        await self._check_password(link, password, peer)
        session = await self._gate.login(link.login, Vouched(), protocol=Protocol.HTTPS, peer=peer)
        return RootedSession(session, link, self)

    async def _check_password(self, link: Link, password: Secret | None, peer: str) -> None:
        if not link.password_hash:
            return
        if password is None:
            raise Unauthenticated("Password required")
        if not await self._core.passwords.verify(link.password_hash, password):
            await self._door.failed_elsewhere(peer, link.login, is_known=True)
            raise Unauthenticated("Login failed")

    async def use(self, link: Link, count: int = 0) -> None:
        """Count a use and its uploaded bytes; NotFound when there is not so much left."""
        now = self._core.clock.now()
        if not await self._core.store.write(links.use, link.id, count, now=now):
            raise NotFound("the link is used up")


def _add(db: Connection, link: Link, token_hash: str, actor: Actor, teller: Teller) -> int:
    if len(links.of(db, link.login)) >= MOST:
        raise Conflict(f"a user has at most {MOST} links")
    number = links.add(db, link, token_hash)
    name = f"{link.login}/{number}"
    facts = {"kind": [None, link.kind], "path": [None, link.path]}
    record(db, actor, "create", "link", name, facts, teller, now=link.created_at)
    return number


def _drop(
    db: Connection, login: str, number: int, actor: Actor, teller: Teller, now: datetime
) -> bool:
    gone = links.drop(db, login, number)
    if gone:
        name = f"{login}/{number}"
        record(db, actor, "delete", "link", name, {}, teller, now=now)
    return gone


__all__ = ["Link", "Links", "NewLink"]
