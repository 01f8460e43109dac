"""`/portal/policies`: destinations and operations given to every user that is linked to them."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.engine.operations.destinations import masked
from ecpds.engine.operations.sitefile import PolicySpec
from ecpds.model.account import Policy
from ecpds.model.decode import Where, decode
from ecpds.model.options import as_text
from ecpds.store import accounts
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.bodies import named
from ecpds.web.api.users import READ, WRITE, check_new, check_scope
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, FIELDS, LISTED, Route
from ecpds.web.shown import Document

POLICIES: Final = "/api/v2/portal/policies"
POLICY: Final = POLICIES + "/{policy}"


def _policy_shown(call: Call, policy: Policy) -> Document:
    return shown.policy(policy, masked(call.services.core, policy.options))


def policy_tag(policy: Policy) -> str:
    """Return the entity tag of a policy."""
    return shown.etag_of(shown.plain(policy))


async def reached_policy(call: Call, right: str = READ) -> Policy:
    """Return the policy in the address; NotFound or Denied outside of the caller's scope."""
    name = call.name("policy")
    found = await call.services.accounts.policy(name)
    check_scope(call, right, found.destinations, f"Policy {name} not found")
    return found


async def policies(call: Call) -> web.StreamResponse:
    """List the policies of the caller's scope."""
    everywhere = call.caller.may_everywhere(READ)
    return answers.named(
        call,
        {
            policy.name: _policy_shown(call, policy)
            for policy in await call.services.accounts.policies()
            if everywhere or any(call.caller.may_on(READ, name) for name in policy.destinations)
        },
    )


async def get_policy(call: Call) -> web.StreamResponse:
    """Return one policy."""
    found = await reached_policy(call)
    return answers.one(call, _policy_shown(call, found), policy_tag(found))


async def create_policy(call: Call) -> web.StreamResponse:
    """Create a policy."""
    return await _store_policy(call, await call.document(), None)


async def put_policy(call: Call) -> web.StreamResponse:
    """Create or replace a policy."""
    name = call.name("policy")
    document = named("name", name, await call.document())
    old = await call.services.core.store.read(accounts.policy, name)
    if old is not None:
        old = await reached_policy(call, WRITE)
    return await _store_policy(call, document, old)


async def patch_policy(call: Call) -> web.StreamResponse:
    """Change some keys of a policy."""
    old = await reached_policy(call, WRITE)
    change = named("name", old.name, await call.document())
    return await _store_policy(call, answers.merged(_policy_shown(call, old), change), old)


def read_policy(document: Document) -> Policy:
    """Return the policy that a document describes; ConfigError names the place."""
    spec = decode(PolicySpec, document, Where())
    return Policy(
        name=spec.name,
        active=spec.active,
        comment=spec.comment,
        destinations=spec.destinations,
        operations=frozenset(spec.operations),
        options={key: as_text(value) for key, value in spec.options.items()},
    )


async def _store_policy(call: Call, document: Document, old: Policy | None) -> web.StreamResponse:
    policy = read_policy(document)
    check_new(call, policy.destinations)
    if old is not None and not call.must_be_new:
        call.check_match(policy_tag(old))
    await call.services.accounts.put_policy(
        policy,
        call.caller.actor,
        must_be_new=old is None or call.must_be_new,
        instead_of=old,
        dry_run=call.flag("dry_run"),
    )
    if call.flag("dry_run"):
        return answers.tried(call, _policy_shown(call, policy))
    stored = await call.services.accounts.policy(policy.name)
    return answers.one(
        call,
        _policy_shown(call, stored),
        policy_tag(stored),
        status=200 if old is not None else 201,
        location=f"{POLICIES}/{policy.name}" if old is None else "",
    )


async def delete_policy(call: Call) -> web.StreamResponse:
    """Delete a policy; its users lose what it gave."""
    found = await reached_policy(call, WRITE)
    call.check_match(policy_tag(found))
    if not call.flag("dry_run"):
        await call.services.accounts.delete_policy(found.name, call.caller.actor)
    return answers.nothing()


ROUTES: Final = (
    Route(method="GET", path=POLICIES, right=READ, handle=policies, query=LISTED,
          summary="Policies by name.", answer="[Policy]"),
    Route(method="POST", path=POLICIES, right=WRITE, handle=create_policy,
          query=(DRY_RUN, FIELDS), summary="Create a policy.", body="Policy", answer="Policy",
          status=201),
    Route(method="GET", path=POLICY, right=READ, handle=get_policy, query=(FIELDS,),
          summary="One policy.", answer="Policy"),
    Route(method="PUT", path=POLICY, right=WRITE, handle=put_policy, needs_match=True,
          query=(DRY_RUN, FIELDS), summary="Create or replace a policy.", body="Policy",
          answer="Policy"),
    Route(method="PATCH", path=POLICY, right=WRITE, handle=patch_policy, needs_match=True,
          query=(DRY_RUN, FIELDS), summary="Change some keys of a policy.", body="Policy",
          answer="Policy"),
    Route(method="DELETE", path=POLICY, right=WRITE, handle=delete_policy, needs_match=True,
          query=(DRY_RUN,), summary="Delete a policy.", status=204),
)  # fmt: skip
