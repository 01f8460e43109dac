"""`/portal/users/{user}/s3_keys`: key pairs by which data users sign S3 requests."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.engine.operations.accesskeys import KeyWish
from ecpds.model.errors import NotFound
from ecpds.store.accesskeys import StoredKey
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import S3KeyRequest
from ecpds.web.api.users import READ, USER, WRITE, reached_user
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, LISTED, Route
from ecpds.web.shown import Document

KEYS: Final = USER + "/s3_keys"
KEY: Final = KEYS + "/{key}"


def _shown(key: StoredKey) -> Document:
    return {
        "access_key": key.access_key,
        "user": key.login,
        "prefix": key.prefix,
        "read_only": key.read_only,
        "comment": key.comment,
        "subscriber": key.subscriber,
        "created": shown.moment(key.created_at),
        "expires": shown.moment(key.expires_at),
        "last_used": shown.moment(key.last_used_at),
    }


async def keys(call: Call) -> web.StreamResponse:
    """List the key pairs of a user without their secrets."""
    stored = await reached_user(call, READ)
    found = await call.services.access_keys.of(stored.user.login)
    return answers.named(
        call,
        {key.access_key: _shown(key) for key in found},
        key="access_key",
    )


async def create(call: Call) -> web.StreamResponse:
    """Give a user one more key pair; the secret is shown only in this answer."""
    stored = await reached_user(call, WRITE)
    spec = await call.decoded(S3KeyRequest)
    wish = KeyWish(
        prefix=spec.prefix,
        read_only=spec.read_only,
        expires_at=spec.expires,
        comment=spec.comment,
        subscriber=spec.subscriber,
    )
    key, secret = await call.services.access_keys.create(stored.user.login, wish, call.caller.actor)
    return answers.as_json({**_shown(key), "secret": secret}, status=201)


async def delete(call: Call) -> web.StreamResponse:
    """Take a key pair away."""
    stored = await reached_user(call, WRITE)
    login, name = stored.user.login, call.name("key")
    if not call.flag("dry_run"):
        await call.services.access_keys.delete(login, name, call.caller.actor)
    elif all(key.access_key != name for key in await call.services.access_keys.of(login)):
        raise NotFound(f"Key {name} not found")
    return answers.nothing()


ROUTES: Final = (
    Route(method="GET", path=KEYS, right=READ, handle=keys, query=LISTED,
          summary="S3 key pairs of a data user, without their secrets.", answer="[S3Key]"),
    Route(method="POST", path=KEYS, right=WRITE, handle=create, body="S3KeyRequest",
          answer="NewS3Key", status=201, summary="One more S3 key pair; its secret is shown once."),
    Route(method="DELETE", path=KEY, right=WRITE, handle=delete, query=(DRY_RUN,),
          summary="Take an S3 key pair away.", status=204),
)  # fmt: skip
