"""`/tokens`: bearer secrets for programs.

A token never may more than its owner, now and later.  The secret is in the answer to its creation
and nowhere else.  Everybody sees and makes own ones; administrators those of others too.
"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from typing import Final

from aiohttp import web

from ecpds.model.decode import Where
from ecpds.model.errors import Denied, InputError, NotFound
from ecpds.store.accounts import Token
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import RotateRequest, TokenRequest
from ecpds.web.call import Call
from ecpds.web.rights import check_scope
from ecpds.web.routes import DRY_RUN, FIELDS, PAGED, Route

READ: Final = "tokens:read"
WRITE: Final = "tokens:write"
ADMIN: Final = "tokens:admin"
ALL: Final = "/api/v2/tokens"
ONE: Final = ALL + "/{token}"
LONGEST: Final = 128  # characters of a name
LONGEST_OVERLAP: Final = timedelta(days=30)  # in which two secrets of a token are good


def may_see(call: Call, token: Token) -> bool:
    """Tell whether the caller may know of that token."""
    return token.owner == call.caller.name or call.caller.may_everywhere(ADMIN)


async def _one(call: Call) -> Token:
    """Return the token with that id or, if there is only one, that name; NotFound."""
    wanted = call.name("token")
    seen = [one for one in await call.services.accounts.tokens() if may_see(call, one)]
    found = [one for one in seen if str(one.id) == wanted]
    found = found or [one for one in seen if one.name == wanted]
    if len(found) != 1:
        raise NotFound(f"Token {wanted} not found" if not found else f"{wanted}: name it by its id")
    return found[0]


async def index(call: Call) -> web.StreamResponse:
    """List tokens, without secrets."""
    limit, start = call.limit, call.before or 2**62
    seen = [
        one
        for one in reversed(await call.services.accounts.tokens())
        if one.id < start and may_see(call, one)
    ]
    after = seen[limit - 1].id if len(seen) > limit else None
    return answers.page(call, [shown.token(one) for one in seen[:limit]], after)


async def get(call: Call) -> web.StreamResponse:
    """Return one token, without its secret."""
    return answers.one(call, shown.token(await _one(call)))


async def create(call: Call) -> web.StreamResponse:
    """Make a token; the answer holds its secret."""
    asked = await call.decoded(TokenRequest)
    token = Token(
        id=0,
        name=asked.name,
        owner=asked.owner or call.caller.name,
        scopes=asked.scopes,
        objects=asked.objects,
        networks=asked.networks,
        expires_at=asked.expires,
    )
    check_token(call, token)
    await call.services.accounts.web_user(token.owner)
    if call.flag("dry_run"):
        return answers.tried(call, shown.token(token) | {"token": shown.STARS})
    secret = await call.services.accounts.new_token(token, call.caller.actor)
    made, _ = await call.services.accounts.token_holder(secret)
    return answers.one(
        call, shown.token(made) | {"token": secret}, status=201, location=f"{ALL}/{made.id}"
    )


def check_token(call: Call, token: Token) -> None:
    """Raise unless the caller may make that token and it makes sense."""
    where = Where()
    if not token.name or len(token.name) > LONGEST or not token.name.isprintable():
        raise where.at("name").error(f"1 to {LONGEST} printable characters")
    for number, scope in enumerate(token.scopes):
        try:
            check_scope(scope)
        except InputError as error:
            raise where.at("scopes").at(number).error(error.message) from None
    for number, network in enumerate(token.networks):
        try:
            ip_network(network, strict=False)
        except ValueError:
            message = f"{network!r} is no network such as 192.0.2.0/24"
            raise where.at("networks").at(number).error(message) from None
    if token.expires_at is not None and token.expires_at <= call.services.core.clock.now():
        raise where.at("expires").error("that time is over")
    if token.owner != call.caller.name and not call.caller.may_everywhere(ADMIN):
        raise Denied(f"{call.caller.name} may make own tokens only")
    _check_not_more(call, token)


def _check_not_more(call: Call, token: Token) -> None:
    """Raise Denied when a token that makes a token would give more than it has itself."""
    maker = call.caller.token
    if maker is None:
        return
    if not set(token.scopes) <= set(maker.scopes) and "*:*" not in maker.scopes:
        raise Denied("a token cannot give scopes that it does not have")
    if not set(token.objects) <= set(maker.objects) and "*" not in maker.objects:
        raise Denied("a token cannot give objects that it does not have")


async def rotate(call: Call) -> web.StreamResponse:
    """Give a token another secret; the answer holds it, the one before is good for a while."""
    found, asked = await _one(call), await call.decoded(RotateRequest)
    if asked.overlap > LONGEST_OVERLAP:
        raise Where().at("overlap").error(f"at most {LONGEST_OVERLAP.days} days")
    _check_not_more(call, found)
    secret = await call.services.accounts.rotate_token(found.id, asked.overlap, call.caller.actor)
    made, _ = await call.services.accounts.token_holder(secret)
    return answers.one(call, shown.token(made) | {"token": secret})


async def delete(call: Call) -> web.StreamResponse:
    """Delete a token; it is refused from now on."""
    found = await _one(call)
    if not call.flag("dry_run"):
        await call.services.accounts.delete_token(found.id, call.caller.actor)
    return answers.nothing()


ROUTES: Final = (
    Route(method="GET", path=ALL, right=READ, handle=index, query=PAGED,
          summary="Tokens, newest first.", answer="[Token]"),
    Route(method="POST", path=ALL, right=WRITE, handle=create, query=(DRY_RUN, FIELDS), status=201,
          summary="Make a token; its secret is shown once.", body="TokenRequest",
          answer="NewToken"),
    Route(method="GET", path=ONE, right=READ, handle=get, query=(FIELDS,),
          summary="One token.", answer="Token"),
    Route(method="DELETE", path=ONE, right=WRITE, handle=delete, status=204,
          query=(DRY_RUN,), summary="Delete a token."),
    Route(method="POST", path=ONE + "/actions/rotate", right=WRITE, handle=rotate,
          query=(FIELDS,), body="RotateRequest", answer="NewToken",
          summary="Give it another secret, shown once; the one before is good for a while yet."),
)  # fmt: skip
