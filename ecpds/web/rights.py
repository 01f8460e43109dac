"""Who may do what: scopes `area:verb` over destinations that match globs.

A role of a web user is a named set of scopes, a token has its own; a token never may more than the
web user it belongs to.  Pages and API ask the same `Caller`.  Spec: rest-api.md B.4, monitor.md 10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Literal

from ecpds.engine.operations.actor import Actor
from ecpds.model.account import Role, WebUser
from ecpds.model.apiuser import ApiUser
from ecpds.model.errors import Denied, InputError, NotFound
from ecpds.model.names import nearest
from ecpds.store.accounts import Token

AREAS: Final = (
    "destinations", "hosts", "transfers", "files", "portal", "notify", "products", "stats",
    "system", "tokens", "secrets",
)  # fmt: skip
VERBS: Final = ("read", "operate", "write", "admin")
OPEN: Final = "open"  # a route for everybody
SIGNED_IN: Final = "signed-in"  # a route for every known caller
EVERYTHING: Final = "*"

_DAILY = ("destinations", "hosts", "transfers", "files", "portal", "notify", "products", "stats")
_VIEW = frozenset({*(f"{area}:read" for area in _DAILY), "tokens:read", "tokens:write"})
_OPERATE = _VIEW | {f"{area}:operate" for area in _DAILY} | {"system:read"}
_EDIT = _OPERATE | {f"{area}:write" for area in _DAILY}
ROLES: Final[Mapping[str, frozenset[str]]] = {
    Role.VIEWER: _VIEW,
    Role.OPERATOR: _OPERATE,
    Role.EDITOR: _EDIT,
    Role.ADMIN: frozenset({"*:*"}),
}


def is_right(text: str) -> bool:
    """Tell whether a route may ask for that: `area:verb`, `open` or `signed-in`."""
    area, _, verb = text.partition(":")
    return text in {OPEN, SIGNED_IN} or (area in AREAS and verb in VERBS)


def check_scope(text: str) -> str:
    """Return a scope of a token, `*` allowed for area and verb; InputError names the nearest."""
    area, colon, verb = text.partition(":")
    if not colon:
        raise InputError(f"{text!r} is not area:verb")
    for part, known in ((area, AREAS), (verb, VERBS)):
        if part not in (*known, EVERYTHING):
            near = nearest(part, known)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise InputError(f"{part!r} is none of {', '.join(known)}{hint}")
    return text


def includes(scopes: Iterable[str], right: str) -> bool:
    """Tell whether one of the scopes gives the right; `admin` gives all verbs of its area."""
    area, _, verb = right.partition(":")
    return any(
        scope.partition(":")[0] in (area, EVERYTHING)
        and scope.partition(":")[2] in (verb, "admin", EVERYTHING)
        for scope in scopes
    )


@dataclass(frozen=True, slots=True)
class Scoped:
    """Scopes over the destinations that match one of the globs."""

    scopes: frozenset[str]
    objects: tuple[str, ...] = (EVERYTHING,)

    def matches(self, destination: str) -> bool:
        """Tell whether the destination is among them."""
        return any(fnmatchcase(destination, glob) for glob in self.objects)


_V1: Final = Scoped(
    frozenset({"destinations:admin", "hosts:admin", "portal:admin", "files:admin",
               "transfers:admin", "products:read"})
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody known, for the time of one request or stream."""

    name: str
    kind: Literal["web", "token", "api"]
    peer: str
    grants: tuple[Scoped, ...]
    limits: Scoped = field(default=Scoped(frozenset({"*:*"})))  # of a token, on top of its owner's
    token: Token | None = None
    user: WebUser | None = None
    api_user: ApiUser | None = None  # of v1, which knows services instead of scopes
    session: str = ""  # secret of the browser session

    @property
    def actor(self) -> Actor:
        """Return who is to be named in audit and history."""
        return Actor(name=self.name, kind=self.kind, peer=self.peer)

    def may_call(self, services: Iterable[str]) -> bool:
        """Tell whether a user of v1 may call all these services; others are asked for scopes."""
        return self.api_user is None or all(self.api_user.may(one) for one in services)

    def may(self, right: str) -> bool:
        """Tell whether the caller has the right over some destination at least."""
        if right in {OPEN, SIGNED_IN}:
            return True
        return includes(self.limits.scopes, right) and any(
            includes(grant.scopes, right) for grant in self.grants
        )

    def may_on(self, right: str, destination: str) -> bool:
        """Tell whether the caller has the right over that destination."""
        return (
            includes(self.limits.scopes, right)
            and self.limits.matches(destination)
            and any(g.matches(destination) and includes(g.scopes, right) for g in self.grants)
        )

    def may_everywhere(self, right: str) -> bool:
        """Tell whether the caller has the right whatever the destination."""
        return (
            includes(self.limits.scopes, right)
            and EVERYTHING in self.limits.objects
            and any(EVERYTHING in g.objects and includes(g.scopes, right) for g in self.grants)
        )

    def covers(self, destination: str) -> bool:
        """Tell whether the destination lies in the caller's scope, whatever the right."""
        return self.limits.matches(destination) and any(g.matches(destination) for g in self.grants)

    def check(self, right: str, destination: str, what: str = "") -> None:
        """Raise NotFound for what is outside of the scope, Denied without the right on it."""
        if not self.covers(destination):
            raise NotFound(what or f"Destination {destination} not found")
        if not self.may_on(right, destination):
            raise Denied(f"{self.name} has no {right} on destination {destination}")

    def check_any(self, right: str, destinations: Iterable[str], what: str) -> None:
        """Raise as `check` unless the right is held on one of the destinations, or everywhere."""
        if self.may_everywhere(right):
            return
        names = list(destinations)
        if not any(self.covers(name) for name in names):
            raise NotFound(what)
        if not any(self.may_on(right, name) for name in names):
            raise Denied(f"{self.name} has no {right} there")

    def check_all(self, right: str, destinations: Iterable[str], what: str) -> None:
        """Raise as `check` unless the right is held on all destinations; none: everywhere."""
        if self.may_everywhere(right):
            return
        names = list(destinations)
        if not any(self.covers(name) for name in names):
            raise NotFound(what)
        for name in names:
            if not self.may_on(right, name):
                raise Denied(f"{self.name} has no {right} on destination {name}")

    def check_everywhere(self, right: str) -> None:
        """Raise Denied unless the right is held whatever the destination."""
        if not self.may_everywhere(right):
            raise Denied(f"{self.name} has {right} on some destinations only")

    @property
    def is_restricted(self) -> bool:
        """Whether sizes and plans are hidden before the scheduled time (monitor.md 2)."""
        user = self.user
        return user is not None and bool(user.grants) and all(g.restricted for g in user.grants)


def grants_of(user: WebUser) -> tuple[Scoped, ...]:
    """Return what the roles of a web user give."""
    return tuple(Scoped(_scopes_of(user, grant.role), (grant.scope,)) for grant in user.grants)


def _scopes_of(user: WebUser, role: str) -> frozenset[str]:
    """Return what a role gives; one that the site has deleted gives nothing."""
    return ROLES.get(role) or frozenset(user.made_roles.get(role, ()))


def by_session(user: WebUser, session: str, peer: str) -> Caller:
    """Return the caller of a browser session."""
    return Caller(
        name=user.name, kind="web", peer=peer, grants=grants_of(user), user=user, session=session
    )


def by_api_user(user: ApiUser, peer: str) -> Caller:
    """Return the caller of v1: everything that its services may do, nothing else, no secrets."""
    return Caller(name=user.name, kind="api", peer=peer, grants=(_V1,), api_user=user)


def by_token(token: Token, owner: WebUser, peer: str) -> Caller:
    """Return the caller of a token: what its scopes and its owner's roles both give."""
    return Caller(
        name=owner.name,
        kind="token",
        peer=peer,
        grants=grants_of(owner),
        limits=Scoped(frozenset(token.scopes), token.objects),
        token=token,
        user=owner,
    )
