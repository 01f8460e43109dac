"""`/roles`: named sets of scopes; four are built in, administrators make others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from ecpds.model.account import Role
from ecpds.model.decode import Where, decode, opt
from ecpds.model.errors import Conflict, InputError
from ecpds.store import roles
from ecpds.store.roles import StoredRole
from ecpds.web.api import answers
from ecpds.web.api.bodies import named, without
from ecpds.web.call import Call
from ecpds.web.rights import ROLES, check_scope
from ecpds.web.routes import DRY_RUN, FIELDS, LISTED, Route
from ecpds.web.shown import Document

READ: Final = "system:read"
RIGHT: Final = "system:admin"
ALL: Final = "/api/v2/roles"
ONE: Final = ALL + "/{role}"
READ_ONLY: Final = frozenset({"built_in"})
MOST_SCOPES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSpec:
    """A role to be made."""

    name: str = opt("", "Unique name, cannot be changed.")
    scopes: tuple[str, ...] = opt((), "area:verb, * for all areas or verbs; at most 100.")
    comment: str = opt("", "Free text.")


def _built_in(name: str) -> Document:
    return {"name": str(name), "scopes": sorted(ROLES[name]), "comment": "", "built_in": True}


def _shown(one: StoredRole) -> Document:
    scopes = sorted(one.scopes)
    return {"name": one.name, "scopes": scopes, "comment": one.comment, "built_in": False}


def tag(one: StoredRole) -> str:
    """Return the entity tag of a role."""
    return f'"{one.version}"'


async def index(call: Call) -> web.StreamResponse:
    """List the roles with their scopes."""
    call.caller.check_everywhere(READ)
    made = await call.services.roles.everything()
    items = {str(name): _built_in(name) for name in ROLES} | {one.name: _shown(one) for one in made}
    return answers.named(call, items)


async def get(call: Call) -> web.StreamResponse:
    """Return one role."""
    call.caller.check_everywhere(READ)
    name = call.name("role")
    if name in ROLES:
        return answers.one(call, _built_in(name), '"0"')
    one = await call.services.roles.role(name)
    return answers.one(call, _shown(one), tag(one))


async def _one(call: Call) -> StoredRole:
    call.caller.check_everywhere(RIGHT)
    name = call.name("role")
    if name in set(Role):
        raise Conflict(f"the role {name} is built in")
    return await call.services.roles.role(name)


async def create(call: Call) -> web.StreamResponse:
    """Make a role."""
    call.caller.check_everywhere(RIGHT)
    return await _store(call, without(await call.document(), READ_ONLY), None)


async def put(call: Call) -> web.StreamResponse:
    """Make a role, or replace one."""
    call.caller.check_everywhere(RIGHT)
    name = call.name("role")
    document = named("name", name, await call.document(), READ_ONLY)
    return await _store(call, document, await call.services.core.store.read(roles.get, name))


async def patch(call: Call) -> web.StreamResponse:
    """Change a role; who has it has the new scopes at once."""
    old = await _one(call)
    change = named("name", old.name, await call.document(), READ_ONLY)
    return await _store(call, answers.merged(without(_shown(old), READ_ONLY), change), old)


async def _store(call: Call, document: Document, old: StoredRole | None) -> web.StreamResponse:
    spec = decode(RoleSpec, document, Where())
    if old is not None and not call.must_be_new:
        call.check_match(tag(old))
    role = StoredRole(name=spec.name, scopes=_checked(spec.scopes), comment=spec.comment)
    dry_run = call.flag("dry_run")
    await call.services.roles.put(
        role, call.caller.actor, must_be_new=old is None or call.must_be_new,
        if_version=old.version if old is not None else None, dry_run=dry_run,
    )  # fmt: skip
    if dry_run:
        return answers.tried(call, _shown(role))
    stored = await call.services.roles.role(role.name)
    return answers.one(
        call, _shown(stored), tag(stored), status=200 if old is not None else 201,
        location=f"{ALL}/{role.name}" if old is None else "",
    )  # fmt: skip


def _checked(scopes: tuple[str, ...]) -> tuple[str, ...]:
    where = Where().at("scopes")
    if not 1 <= len(scopes) <= MOST_SCOPES:
        raise where.error(f"1 to {MOST_SCOPES} scopes such as destinations:read")
    for number, scope in enumerate(scopes):
        try:
            check_scope(scope)
        except InputError as error:
            raise where.at(number).error(error.message) from None
    return tuple(sorted(set(scopes)))


async def delete(call: Call) -> web.StreamResponse:
    """Delete a role that nobody has."""
    found = await _one(call)
    call.check_match(tag(found))
    await call.services.roles.delete(found.name, call.caller.actor, dry_run=call.flag("dry_run"))
    return answers.nothing()


ROUTES: Final = (
    Route(method="GET", path=ALL, right=READ, handle=index, query=LISTED,
          summary="Roles with their scopes.", answer="[Role]"),
    Route(method="POST", path=ALL, right=RIGHT, handle=create, query=(DRY_RUN, FIELDS),
          summary="Make a role.", body="Role", answer="Role", status=201),
    Route(method="GET", path=ONE, right=READ, handle=get, query=(FIELDS,), summary="One role.",
          answer="Role"),
    Route(method="PUT", path=ONE, right=RIGHT, handle=put, needs_match=True, body="Role",
          query=(DRY_RUN, FIELDS), summary="Make or replace a role.", answer="Role"),
    Route(method="PATCH", path=ONE, right=RIGHT, handle=patch, needs_match=True, body="Role",
          query=(DRY_RUN, FIELDS), answer="Role",
          summary="Change a role; who has it has the new scopes at once."),
    Route(method="DELETE", path=ONE, right=RIGHT, handle=delete, needs_match=True,
          query=(DRY_RUN,), summary="Delete a role that nobody has.", status=204),
)  # fmt: skip
