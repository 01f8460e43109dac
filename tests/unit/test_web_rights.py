"""Scopes, roles, globs: who may do what."""

from __future__ import annotations

import itertools

import pytest

from ecpds.model.account import Grant, Role, WebUser
from ecpds.model.errors import Denied, InputError, NotFound
from ecpds.store.accounts import Token
from ecpds.web.rights import (
    AREAS,
    ROLES,
    VERBS,
    Caller,
    by_session,
    by_token,
    check_scope,
    includes,
    is_right,
)


def person(*grants: tuple[Role, str]) -> Caller:
    """Return a caller with these roles."""
    given = tuple(Grant(role=role, scope=scope) for role, scope in grants)
    return by_session(WebUser(name="olga", grants=given), "secret", "192.0.2.1")


def program(
    scopes: tuple[str, ...], objects: tuple[str, ...] = ("*",), *, owner: Role = Role.ADMIN
) -> Caller:
    """Return a caller with a token."""
    token = Token(id=1, name="ci", owner="olga", scopes=scopes, objects=objects)
    user = WebUser(name="olga", grants=(Grant(role=owner),))
    return by_token(token, user, "192.0.2.1")


@pytest.mark.parametrize(
    ("scopes", "right", "given"),
    [
        (["transfers:read"], "transfers:read", True),
        (["transfers:read"], "transfers:operate", False),
        (["transfers:read"], "files:read", False),
        (["*:read"], "files:read", True),
        (["*:read"], "files:write", False),
        (["files:*"], "files:write", True),
        (["files:admin"], "files:operate", True),
        (["*:*"], "secrets:read", True),
        (["*:admin"], "secrets:read", True),
        (["files:write"], "files:read", False),
        ([], "files:read", False),
    ],
)
def test_scope_gives_right(scopes: list[str], right: str, given: bool) -> None:
    assert includes(scopes, right) is given


def test_roles_include_those_before() -> None:
    order = [Role.VIEWER, Role.OPERATOR, Role.EDITOR]
    for less, more in itertools.pairwise(order):
        assert ROLES[less] < ROLES[more]
    for area in AREAS:
        for verb in VERBS:
            assert includes(ROLES[Role.ADMIN], f"{area}:{verb}")


def test_only_administrators_have_system_write_and_secrets() -> None:
    for role in (Role.VIEWER, Role.OPERATOR, Role.EDITOR):
        for right in ("secrets:read", "system:write", "system:admin", "tokens:admin"):
            assert not includes(ROLES[role], right)


def test_role_counts_only_in_its_scope() -> None:
    olga = person((Role.OPERATOR, "NORTH*"), (Role.VIEWER, "SOUTH"))
    assert olga.may("transfers:operate")
    assert olga.may_on("transfers:operate", "NORTH-1")
    assert not olga.may_on("transfers:operate", "SOUTH")
    assert olga.may_on("transfers:read", "SOUTH")
    assert not olga.may_on("transfers:read", "EAST")
    assert not olga.may_everywhere("transfers:read")
    assert person((Role.VIEWER, "*")).may_everywhere("transfers:read")


def test_out_of_scope_is_not_found_and_in_scope_without_right_is_denied() -> None:
    olga = person((Role.VIEWER, "NORTH*"))
    olga.check("transfers:read", "NORTH")
    with pytest.raises(Denied, match="transfers:operate"):
        olga.check("transfers:operate", "NORTH")
    with pytest.raises(NotFound, match="Destination SOUTH not found"):
        olga.check("transfers:read", "SOUTH")
    with pytest.raises(NotFound, match="Transfer 7"):
        olga.check("transfers:operate", "SOUTH", "Transfer 7 not found")


def test_shared_objects_need_one_destination_to_be_read_and_all_to_be_changed() -> None:
    olga = person((Role.EDITOR, "NORTH*"))
    olga.check_any("hosts:read", ["SOUTH", "NORTH"], "Host h not found")
    olga.check_all("hosts:write", ["NORTH", "NORTH2"], "Host h not found")
    with pytest.raises(Denied, match="SOUTH"):
        olga.check_all("hosts:write", ["SOUTH", "NORTH"], "Host h not found")
    with pytest.raises(NotFound):
        olga.check_any("hosts:read", ["SOUTH"], "Host h not found")
    with pytest.raises(NotFound):
        olga.check_any("hosts:read", [], "Host h not found")
    with pytest.raises(NotFound):
        olga.check_all("hosts:write", [], "Host h not found")
    with pytest.raises(Denied):
        olga.check_everywhere("hosts:write")
    person((Role.EDITOR, "*")).check_all("hosts:write", [], "Host h not found")


def test_token_is_bound_by_scopes_objects_and_owner() -> None:
    reader = program(("transfers:read",), ("NORTH*",))
    assert reader.may_on("transfers:read", "NORTH")
    assert not reader.may_on("transfers:read", "SOUTH")
    assert not reader.may("transfers:operate")
    assert not reader.may_everywhere("transfers:read")
    ambitious = program(("*:*",), owner=Role.VIEWER)
    assert ambitious.may("transfers:read")
    assert not ambitious.may("transfers:operate")
    assert not ambitious.may("secrets:read")


def test_a_user_without_a_role_may_nothing() -> None:
    nobody = person()
    assert not nobody.may("destinations:read")
    assert nobody.may("signed-in")
    assert not nobody.is_restricted


def test_restricted_only_when_every_grant_is() -> None:
    both = WebUser(
        name="m",
        grants=(
            Grant(role=Role.VIEWER, scope="A", restricted=True),
            Grant(role=Role.VIEWER, scope="B"),
        ),
    )
    one = WebUser(name="m", grants=(Grant(role=Role.VIEWER, restricted=True),))
    assert not by_session(both, "s", "192.0.2.1").is_restricted
    assert by_session(one, "s", "192.0.2.1").is_restricted


@pytest.mark.parametrize("text", ["transfers:read", "open", "signed-in", "secrets:admin"])
def test_rights_of_routes(text: str) -> None:
    assert is_right(text)


@pytest.mark.parametrize("text", ["", "transfers", "transfers:", "transfer:read", "*:read"])
def test_no_rights_of_routes(text: str) -> None:
    assert not is_right(text)


@pytest.mark.parametrize("text", ["transfers:read", "*:read", "files:*", "*:*"])
def test_scopes(text: str) -> None:
    assert check_scope(text) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("transfers", "area:verb"),
        ("transfer:read", "did you mean 'transfers'"),
        ("transfers:raed", "did you mean 'read'"),
    ],
)
def test_wrong_scopes_name_the_nearest(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        check_scope(text)
