"""Resumable uploads by the tus protocol, with all extensions but concatenation.

`POST /ecpds/tus/files/<directory>/` creates one, `/ecpds/tus/uploads/<name>` is it.  What came
before a connection broke is parked, and survives a restart.
Spec: https://tus.io/protocols/resumable-upload 1.0.0
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Final

from ecpds.base.clock import Clock
from ecpds.model.errors import EcpdsError, InputError
from ecpds.portals.https import login
from ecpds.portals.https.addresses import Kind, Place
from ecpds.portals.https.exchange import Answer, Ask, Refused, Reply
from ecpds.portals.https.fields import FILE_POLICY, security
from ecpds.portals.https.head import http_date
from ecpds.portals.https.login import Logins
from ecpds.portals.https.visit import Visit
from ecpds.vfs.contract import Node, Writer
from ecpds.vfs.resumables import Resumable, Resumables

BASE: Final = "/ecpds/tus/"
FILES: Final = BASE + "files/"
UPLOADS: Final = BASE + "uploads/"
VERSION: Final = "1.0.0"
EXTENSIONS: Final = (
    "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination"
)
METHODS: Final = "OPTIONS, POST, HEAD, PATCH, DELETE"
ALGORITHMS: Final = ("sha1", "sha256", "sha512", "md5")
_TYPE = "application/offset+octet-stream"
_LONGEST = 4096  # characters of Upload-Metadata


class BadChecksum(Refused):
    """The bytes of one request are not the announced ones; they are dropped."""

    def __init__(self) -> None:
        super().__init__(460, "the checksum does not fit")


class Tus:
    """Answers requests below `/ecpds/tus/`."""

    def __init__(self, logins: Logins, uploads: Resumables, clock: Clock) -> None:
        self._logins = logins
        self._uploads = uploads
        self._clock = clock
        self._handlers: Mapping[str, Callable[[Visit, str], Awaitable[None]]] = {
            "HEAD": self._head,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }

    async def serve(self, ask: Ask, reply: Reply) -> None:
        """Answer one request; raises every error that is to be told."""
        method = ask.headers.get("x-http-method-override", ask.method).upper()
        if method == "OPTIONS":
            answer = Answer(status=204, headers=_fields(ask) | _abilities())
            await reply.send(answer)
            return
        if ask.headers.get("tus-resumable") != VERSION:
            raise Refused(412, "this is tus 1.0.0", Tus_Version=VERSION, Tus_Resumable=VERSION)
        path = ask.path
        session, cookie = await self._logins.session(ask, None)
        async with session:
            is_new = path.startswith(FILES)
            where = "/" + path[len(FILES) :] if is_new else path
            visit = Visit(
                ask=ask,
                place=Place(Kind.FILE, where, "/ecpds/data/file/", "/ecpds/data/list/"),
                session=session,
                reply=reply,
                query=ask.query,
                cookies=(login.session_cookie(cookie, secure=ask.secure),) if cookie else (),
            )
            if is_new and method == "POST":
                await self._create(visit)
                return
            handler = self._handlers.get(method)
            if is_new or handler is None or not path.startswith(UPLOADS):
                raise Refused(405, f"{method} is not for this address", Allow=METHODS)
            await handler(visit, path[len(UPLOADS) :])

    # --- the requests --------------------------------------------------------------------

    async def _create(self, visit: Visit) -> None:
        headers = visit.ask.headers
        metadata = headers.get("upload-metadata", "")
        size = _size(headers, needed=True)
        path = _target(visit.path, metadata)
        path = visit.session.absolute(path)
        await self._try(visit, path, size)
        name, made = await self._uploads.create(visit.session, path, size=size, metadata=metadata)
        fields = _fields(visit.ask) | {"Location": f"{_own(visit.ask)}{UPLOADS}{name}"}
        if visit.ask.body.present or size == 0:
            if visit.ask.body.present:
                _check_type(headers)
            made, node = await self._receive(visit, made, size)
            fields |= _state(made) | _stored(node)
        else:
            fields |= _state(made)
        await visit.send(Answer(status=201, headers=fields))

    async def _try(self, visit: Visit, path: str, size: int | None) -> None:
        """Refuse now what could not be stored at the end: rights, name, size, quota."""
        async with await visit.session.open_write(path, size=size):
            return

    async def _head(self, visit: Visit, name: str) -> None:
        found = await self._uploads.find(visit.session, name)
        fields = _fields(visit.ask) | _state(found)
        if found.size is None:
            fields["Upload-Defer-Length"] = "1"
        else:
            fields["Upload-Length"] = str(found.size)
        if found.metadata:
            fields["Upload-Metadata"] = found.metadata
        await visit.send(Answer(headers=fields))

    async def _patch(self, visit: Visit, name: str) -> None:
        headers = visit.ask.headers
        _check_type(headers)
        if not visit.ask.body.announced:
            raise Refused(411, "an upload says how long it is, or comes in chunks")
        found = await self._uploads.find(visit.session, name)
        offset = _number(headers, "upload-offset")
        if offset is None:
            raise InputError("the field Upload-Offset is missing")
        if offset != found.received or found.done:
            raise Refused(409, f"the upload is at {found.received}")
        size = _size(headers, needed=False)
        if size is not None and found.size not in (None, size):
            raise InputError("the length is known already")
        size = found.size if size is None else size
        moved, node = await self._receive(visit, found, size)
        fields = _fields(visit.ask) | _state(moved) | _stored(node)
        await visit.send(Answer(status=204, headers=fields))

    async def _delete(self, visit: Visit, name: str) -> None:
        found = await self._uploads.find(visit.session, name)
        await self._uploads.drop(found)
        await visit.send(Answer(status=204, headers=_fields(visit.ask)))

    # --- the bytes -----------------------------------------------------------------------

    async def _receive(
        self, visit: Visit, one: Resumable, size: int | None
    ) -> tuple[Resumable, Node | None]:
        """Take the body; register the file when it is whole, else park what there is."""
        length = visit.ask.body.length
        if size is not None and length is not None and one.received + length > size:
            raise _too_much()
        node = None
        async with await visit.session.open_write(
            one.path, size=size, offset=one.received
        ) as writer:
            try:
                await self._pour(visit, writer, size)
            except BadChecksum:
                writer.park()  # the bad bytes too: the next request cuts them off
                raise
            except (EcpdsError, ConnectionError):
                writer.park()
                with suppress(EcpdsError):
                    await self._uploads.advance(one, writer.received, size=size)
                raise
            if writer.received == size:
                node = await writer.commit(size=size)
            else:
                writer.park(expected=True)
            received = writer.received
        done = node is not None
        return await self._uploads.advance(one, received, size=size, done=done), node

    async def _pour(self, visit: Visit, writer: Writer, size: int | None) -> None:
        name, wanted = _checksum(visit.ask.headers)
        digest = hashlib.new(name, usedforsecurity=False) if name else None

        def take(block: bytes | memoryview) -> None:
            visit.look()
            if size is not None and writer.received + len(block) > size:
                raise _too_much()
            if digest is not None:
                digest.update(block)
            writer.write(block)

        if writer.rate is None:
            await visit.ask.body.pour(take)
        else:
            await self._slowly(visit, writer, take)
        if digest is not None and digest.digest() != wanted:
            raise BadChecksum

    async def _slowly(
        self, visit: Visit, writer: Writer, take: Callable[[bytes | memoryview], None]
    ) -> None:
        while block := await visit.ask.body.read():
            take(block)
            seconds = writer.pause()
            if seconds > 0:
                await self._clock.sleep(timedelta(seconds=seconds))


def _too_much() -> Refused:
    return Refused(413, "this is more than the upload was to have")


def _number(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InputError(f"the field {name} is a count of bytes")
    return int(text)


def _size(headers: Mapping[str, str], *, needed: bool) -> int | None:
    """Return the length of the whole file, None when the client tells it later."""
    size = _number(headers, "upload-length")
    if size is None and needed and headers.get("upload-defer-length") != "1":
        raise InputError("Upload-Length, or Upload-Defer-Length: 1, is missing")
    return size


def _check_type(headers: Mapping[str, str]) -> None:
    if headers.get("content-type", "").strip().lower() != _TYPE:
        raise Refused(415, f"the body is {_TYPE}")


def _target(path: str, metadata: str) -> str:
    """Return the path of the file: that of the address, or a name in its directory."""
    if len(metadata) > _LONGEST:
        raise InputError(f"Upload-Metadata has at most {_LONGEST} characters")
    known = _pairs(metadata)
    name = known.get("filename") or known.get("name") or ""
    if not path.endswith("/"):
        return path
    base = name.replace("\\", "/").rpartition("/")[2]
    if base in {"", ".", ".."}:
        raise InputError("the name is in the address, or as `filename` in Upload-Metadata")
    return path + base


def _pairs(metadata: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for member in filter(None, (part.strip() for part in metadata.split(","))):
        key, _, coded = member.partition(" ")
        try:
            found[key] = base64.b64decode(coded.strip(), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise InputError("Upload-Metadata cannot be read") from None
    return found


def _checksum(headers: Mapping[str, str]) -> tuple[str, bytes]:
    """Return algorithm and digest of the body, empty when none is announced."""
    field = headers.get("upload-checksum", "").strip()
    if not field:
        return "", b""
    name, _, coded = field.partition(" ")
    if name.lower() not in ALGORITHMS:
        raise InputError(f"checksums are {', '.join(ALGORITHMS)}")
    try:
        return name.lower(), base64.b64decode(coded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise InputError("Upload-Checksum cannot be read") from None


def _own(ask: Ask) -> str:
    return f"{'https' if ask.secure else 'http'}://{ask.host}"


def _fields(ask: Ask) -> dict[str, str]:
    fields = security(secure=ask.secure, policy=FILE_POLICY)
    return fields | {"Tus-Resumable": VERSION, "Cache-Control": "no-store"}


def _abilities() -> dict[str, str]:
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        "Allow": METHODS,
    }


def _state(one: Resumable) -> dict[str, str]:
    return {"Upload-Offset": str(one.received), "Upload-Expires": http_date(one.expires_at)}


def _stored(node: Node | None) -> dict[str, str]:
    return {"ETag": node.etag, "Upload-Transfer": str(node.transfer_id)} if node else {}
