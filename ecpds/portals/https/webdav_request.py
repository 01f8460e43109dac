"""One WebDAV request: its paths, its conditions, and what its errors are to the client.

Spec: RFC 4918 sections 8.3, 9.8 to 9.10, 10; portal.md 3.5; interface.md 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from ecpds.model import errors
from ecpds.model.errors import EcpdsError, InputError, InvalidName, NotFound, PreconditionFailed
from ecpds.portals.https import answers
from ecpds.portals.https.addresses import link
from ecpds.portals.https.exchange import Answer, Ask, Refused
from ecpds.portals.https.fields import FILE_POLICY, security
from ecpds.portals.https.visit import Visit
from ecpds.portals.https.webdav_locks import Clause, Condition, Locks, read_if, tokens_of
from ecpds.portals.https.webdav_xml import error as precondition
from ecpds.vfs.contract import Node

BASE: Final = "/webdav/"
METHODS: Final = (
    "OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, PROPPATCH, MKCOL, COPY, MOVE, LOCK, UNLOCK"
)
XML_TYPE: Final = 'application/xml; charset="utf-8"'

# Where WebDAV has a status of its own for an error; the closest class counts.
STATUS: Mapping[type[EcpdsError], int] = {
    errors.QuotaExceeded: 507,
    errors.TooManyPending: 507,
    errors.IsDirectory: 405,
    errors.Unsupported: 403,
}


def status_of(error: EcpdsError) -> int:
    """Return the status code of an error."""
    for kind in type(error).__mro__:
        if kind in STATUS and not isinstance(error, Refused):
            return STATUS[kind]
        if kind in answers.STATUS:
            break
    return answers.status_of(error)


class Finite(Refused):
    """A PROPFIND that wants the whole tree."""

    def __init__(self) -> None:
        super().__init__(403, "listings have a depth of 0 or 1")


def told(ask: Ask, error: EcpdsError) -> Answer:
    """Return the answer to an error."""
    status = status_of(error)
    fields = security(secure=ask.secure, policy=FILE_POLICY) | answers.fields_of(error, ask)
    if status == 401:
        fields["WWW-Authenticate"] = 'Basic realm="ecpds", charset="UTF-8"'
    if status == 423 or isinstance(error, Finite):
        name = "propfind-finite-depth" if status == 403 else "lock-token-submitted"
        kind, body = XML_TYPE, precondition(name)
    else:
        text = f"{answers.text_of(error)}\n"
        kind, body = "text/plain; charset=utf-8", text.encode("utf-8", "replace")
    answer = Answer(status=status, headers=fields | {"Content-Type": kind}, body=body)
    answer.close = ask.body.present
    return answer


def href(node: Node) -> str:
    """Return the address of a node."""
    return link(BASE, node.path, directory=node.is_directory)


def path_of(address: str, ask: Ask) -> str:
    """Return the path that an address names; raise Refused (502) for one that is not ours."""
    try:
        parts = urlsplit(address)
        decoded = unquote_to_bytes(parts.path.encode("latin-1")).decode("utf-8")
    except (ValueError, UnicodeError):
        raise InputError("the address cannot be read") from None
    if parts.netloc and parts.netloc.lower() != ask.host.lower():
        raise Refused(502, "the address is on another server")
    if parts.fragment or "#" in address:
        raise InputError("addresses of resources have no fragment")
    if not (decoded + "/").startswith(BASE):
        raise Refused(502, "the address is outside of this tree")
    return "/" + decoded[len(BASE) :]


def parent_of(path: str) -> str:
    """Return the parent of a normal path."""
    return path.rpartition("/")[0] or "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request in its session, with what it knows of locks."""

    visit: Visit
    locks: Locks
    clauses: tuple[Clause, ...]

    @classmethod
    def of(cls, visit: Visit, locks: Locks) -> Call:
        """Read the If header."""
        field = visit.ask.headers.get("if", "")
        return cls(visit=visit, locks=locks, clauses=tuple(read_if(field)) if field else ())

    @property
    def ask(self) -> Ask:
        """Return the request."""
        return self.visit.ask

    @property
    def path(self) -> str:
        """Return the normal path of the request."""
        return self.visit.session.absolute(self.visit.path)

    @property
    def login(self) -> str:
        """Return who asks."""
        return self.visit.session.profile.user.login

    @property
    def tokens(self) -> frozenset[str]:
        """Return the lock tokens that the request shows."""
        return tokens_of(self.clauses)

    def destination(self) -> str:
        """Return the normal path in the Destination header."""
        field = self.ask.headers.get("destination", "")
        if not field:
            raise InputError("the Destination header is missing")
        path = path_of(field, self.ask)
        if "//" in path.strip("/"):
            raise InvalidName("the Destination has an empty part")
        return self.visit.session.absolute(path)

    @property
    def overwrites(self) -> bool:
        """Tell whether what is at the destination may be replaced."""
        return self.ask.headers.get("overwrite", "T").strip().upper() != "F"

    async def present(self, path: str) -> Node | None:
        """Return what is at a path."""
        try:
            return await self.visit.session.stat(path)
        except NotFound:
            return None

    async def need_parent(self, path: str) -> None:
        """Raise 409 unless the parent of a new member is there, 403 above the destinations."""
        parent = await self.present(parent_of(path))
        if parent is None or not parent.is_directory:
            raise Refused(409, "the parent collection is not there")
        if self.visit.session.identity(parent.path) == "/":
            raise Refused(403, "nothing can be made at this level")

    def need_inside(self, path: str) -> None:
        """Raise 403 for a destination itself, and for what is above."""
        if "/" not in self.visit.session.identity(path).strip("/"):
            raise Refused(403, "destinations stay where they are")

    # --- locks and conditions ------------------------------------------------------------

    def free(self, *paths: str, deep: bool = False) -> None:
        """Raise Locked unless the request may change these resources; `deep`: members too."""
        if not self.locks:
            return
        keys = [self.visit.session.identity(path) for path in paths]
        self.locks.check(keys, self.tokens, self.login)
        if deep:
            for key in keys:
                self.locks.check_below(key, self.tokens, self.login)

    def free_member(self, path: str, *, deep: bool = False) -> None:
        """Raise Locked unless the resource may appear or go, which changes its parent too."""
        self.free(path, deep=deep)
        if self.locks and path != "/":
            self.free(parent_of(path))

    async def hold(self) -> None:
        """Raise PreconditionFailed unless one clause of the If header holds."""
        for clause in self.clauses:
            if await self._holds(clause):
                return
        if self.clauses:
            raise PreconditionFailed("no list of the If header holds")

    async def _holds(self, clause: Clause) -> bool:
        path = path_of(clause.address, self.ask) if clause.address else self.visit.path
        try:
            key = self.visit.session.identity(path)
        except (NotFound, InvalidName):
            key = ""
        held = {lock.token for lock in self.locks.covering(key)}
        etag = ""
        if any(one.etag for one in clause.conditions):
            node = await self.present(path)
            etag = node.etag if node else ""
        return all(_holds(one, held, etag) for one in clause.conditions)


def _holds(one: Condition, held: set[str], etag: str) -> bool:
    found = one.token in held if one.token else bool(etag) and one.etag == etag
    return found is not one.negated
