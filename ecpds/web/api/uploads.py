"""`/uploads`: large files that go on where they broke off; submitted when all bytes are there.

The program names an upload itself, so that it finds it again without keeping anything: PUT begins
or finds it, PATCH appends behind `offset`, `actions/submit` queues it as `POST /files` does.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from ecpds.model.decode import opt
from ecpds.model.errors import InputError, InvalidName, NotFound
from ecpds.store.uploads import ParkedUpload
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import SubmissionFields
from ecpds.web.api.upload import WRITE, check_right, told, wanted_submission
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.multipart import STALL
from ecpds.web.routes import FIELDS, UNLIMITED, Query, Route
from ecpds.web.shown import Document

ALL: Final = "/api/v2/uploads"
ONE: Final = ALL + "/{upload}"
NAME: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
DIGESTS: Final = ("adler32", "md5", "sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRequest:
    """Where the bytes are to go in the end."""

    destination: str = opt("", "Destination; it says how large a file may be.")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSubmission(SubmissionFields):
    """What becomes of the bytes of an upload."""

    name: str = opt("", "Name of the file, when target and original do not say it.")
    size: int | None = opt(None, "Bytes that it has to have.", low=0)
    adler32: str = opt("", "Hex digest that it has to have; so for the others.")
    md5: str = opt("", "See adler32.")
    sha256: str = opt("", "See adler32.")


def _name(call: Call) -> str:
    name = call.name("upload")
    if not NAME.fullmatch(name):
        if call.request.method != "PUT":  # no upload can have that name
            raise NotFound("there is no such upload")
        raise InvalidName("an upload is named by 8 to 64 letters, digits, - and _", pointer="name")
    return name


def _shown(call: Call, one: ParkedUpload) -> Document:
    ends = call.services.uploads.expires_at(one)
    return {"name": one.name, "destination": one.destination, "received": one.received,
            "used": shown.moment(one.used_at), "expires": shown.moment(ends)}  # fmt: skip


async def _one(call: Call) -> ParkedUpload:
    found = await call.services.uploads.get(call.caller.name, _name(call))
    if not call.caller.covers(found.destination):
        raise NotFound(f"Upload {found.name} not found")
    check_right(call, found.destination)
    return found


async def index(call: Call) -> web.StreamResponse:
    """List the caller's own uploads."""
    found = await call.services.uploads.list(call.caller.name)
    mine = [one for one in found if call.caller.may_on(WRITE, one.destination)]
    return answers.page(call, [_shown(call, one) for one in mine], None)


async def get(call: Call) -> web.StreamResponse:
    """Tell how far an upload came."""
    return answers.one(call, _shown(call, await _one(call)))


async def begin(call: Call) -> web.StreamResponse:
    """Begin an upload, or find the one of that name."""
    name, asked = _name(call), await call.decoded(UploadRequest)
    if not asked.destination:
        raise InputError("destination is missing", pointer="destination")
    check_right(call, asked.destination)
    one, is_new = await call.services.uploads.begin(call.caller.name, name, asked.destination)
    location = f"{ALL}/{one.name}" if is_new else ""
    return answers.one(call, _shown(call, one), status=201 if is_new else 200, location=location)


async def append(call: Call) -> web.StreamResponse:
    """Take bytes behind `offset`; what came is kept when the sender breaks off."""
    one = await _one(call)
    if "offset" not in call.request.query:
        raise Refused(400, "bad-parameter", "offset: tell how many bytes are there")
    offset = call.count("offset", 0)
    moved = await call.services.uploads.append(call.caller.name, one.name, offset, _blocks(call))
    return answers.one(call, _shown(call, moved))


async def _blocks(call: Call) -> AsyncIterator[bytes]:
    content = await call.receive()
    while True:
        try:
            async with asyncio.timeout(STALL):
                block = await content.readany()
        except TimeoutError:
            raise Refused(408, "timeout", "no bytes came for too long") from None
        if not block:
            return
        yield block


async def submit(call: Call) -> web.StreamResponse:
    """Queue the file: its content is complete, checked and on disk then."""
    one, asked = await _one(call), await call.decoded(UploadSubmission)
    if asked.destination not in ("", one.destination):
        raise InputError(f"the upload is for {one.destination}", pointer="destination")
    digests = {key: getattr(asked, key) for key in DIGESTS if getattr(asked, key)}
    registered = await call.services.uploads.submit(
        call.caller.name, one.name, wanted_submission(call, asked, one.destination, asked.name),
        size=asked.size, digests=digests,
    )  # fmt: skip
    return await told(call, registered)


async def delete(call: Call) -> web.StreamResponse:
    """Forget an upload and its bytes."""
    one = await _one(call)
    await call.services.uploads.delete(call.caller.name, one.name)
    return answers.nothing()


_OFFSET: Final = Query(
    name="offset", help="Needed: bytes that are there already.", type="number", high=2**62
)

ROUTES: Final = (
    Route(method="GET", path=ALL, right=WRITE, handle=index, query=(FIELDS,),
          summary="Own uploads that are not submitted yet.", answer="[Upload]"),
    Route(method="GET", path=ONE, right=WRITE, handle=get, query=(FIELDS,),
          summary="How far an upload came.", answer="Upload"),
    Route(method="PUT", path=ONE, right=WRITE, handle=begin, query=(FIELDS,), creates=True,
          summary="Begin an upload under a name of one's own, or find it.", body="UploadRequest",
          answer="Upload"),
    Route(method="PATCH", path=ONE, right=WRITE, handle=append, query=(FIELDS, _OFFSET),
          body="bytes", body_limit=UNLIMITED, answer="Upload",
          summary="Append bytes behind offset; what came stays when one breaks off."),
    Route(method="POST", path=ONE + "/actions/submit", right=WRITE, handle=submit,
          body="UploadSubmission", answer="Submitted", status=201,
          summary="Queue it as POST /files does; it stays when anything is wrong."),
    Route(method="DELETE", path=ONE, right=WRITE, handle=delete, status=204,
          summary="Forget an upload and its bytes."),
)  # fmt: skip
