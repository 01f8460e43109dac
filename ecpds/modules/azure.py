"""`genericAzure`: block blobs of an Azure storage account.

A blob appears when all of it has arrived, so that no temporary name is needed.  Small content is
one request; larger content goes up in blocks that wait at the service, up to a week, until they are
committed, and is gone on with after a break.  The requests are signed by ourselves: why, says
docs/decisions/0021-object-stores.md.

Spec: transfer-modules-protocols.md section 6; Microsoft "Blob service REST API".
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Self
from urllib.parse import quote
from xml.sax.saxutils import escape

from yarl import URL

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    Phase,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteVerify,
    SourceBroke,
    Unsupported,
)
from ecpds.modules.azure_errors import meaning
from ecpds.modules.azure_options import AzureOptions
from ecpds.modules.azure_sign import Signer
from ecpds.modules.cloud import Call, endpoint
from ecpds.modules.cloud_module import CloudModule, number
from ecpds.modules.cloud_parts import Parts, part_size_for
from ecpds.modules.http_body import SourceBody
from ecpds.modules.s3_xml import read as read_xml
from ecpds.transfer.contract import (
    ByteSource,
    Surroundings,
    Target,
)

MOST_BLOCKS: Final = 50_000
LISTED: Final = 5_000
"""Blobs of one page of a listing."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """An upload in blocks that is not committed yet."""

    token: str  # in the names of its blocks
    size: int  # bytes of each block but the last

    @property
    def state(self) -> str:
        """Return what another session needs to go on with it."""
        return json.dumps({"token": self.token, "block": self.size}, separators=(",", ":"))

    @classmethod
    def of_state(cls, state: str) -> Blocks | None:
        """Return the upload that a state names, None for a text that names none."""
        try:
            found = json.loads(state)
            return cls(str(found["token"]), max(int(found["block"]), 1))
        except (ValueError, KeyError, TypeError):
            return None

    def name(self, number: int) -> str:
        """Return the name of a block; all names of a blob must have one length."""
        return base64.b64encode(f"{self.token}-{number:06d}".encode()).decode()


class AzureModule(CloudModule[AzureOptions]):
    """A session with one account."""

    name = "azure"
    options = AzureOptions
    first_part = ("container", "azure.containerName")

    @classmethod
    def base(cls, target: Target, options: AzureOptions) -> URL:
        """Return the endpoint of the account."""
        return base_of(target, options)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: AzureOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Give a session; apart from `mkContainer`, nothing is connected before the first act."""
        signer, is_fixed = Signer(target, options, around), bool(options.container_name)
        async with cls.opened(
            target, options, around, signer, lambda answer, call: meaning(answer, call, is_fixed)
        ) as client:
            module = cls(client, target, options, around)
            if options.make_container and options.container_name:
                await module.ensure(options.container_name)
            yield module

    # --- names ------------------------------------------------------------------------------

    def _whole(self) -> tuple[str, str]:
        return self._options.container_name, self._options.blob_prefix

    def _call(self, method: str, name: str, phase: Phase, limit: timedelta | None = None) -> Call:
        container, blob = self._split(name)
        if not blob or blob.endswith("/"):
            raise RemoteName(f"{name!r} names no blob", phase=phase)
        return Call(
            method=method,
            about=f"{name!r}",
            path=f"/{_quoted(container)}/{_quoted(blob)}",
            phase=phase,
            limit=limit or self._target.timeouts.command,
        )

    async def ensure(self, container: str) -> None:
        """Create a container; an existing one is fine."""
        call = Call(
            method="PUT",
            about=f"container {container!r}",
            path=f"/{_quoted(container)}",
            query=(("restype", "container"),),
            phase=Phase.MKDIR,
            limit=self._target.timeouts.mkdir,
            accepted=(409,),
        )
        await self._client.demand(call)

    async def stat(self, name: str) -> Entry:
        """Return size, time, tag and digest of a blob."""
        answer = await self._client.demand(self._call("HEAD", name, Phase.VERIFY))
        headers = answer.headers
        etag = headers.get("ETag", "")
        self._remember(name, etag)
        return Entry(
            kind=Kind.FILE,
            name=name,
            size=number(headers.get("Content-Length", "")),
            mtime=_moment(headers.get("Last-Modified", "")),
            etag=etag,
            checksum=_md5(headers.get("Content-MD5", "")),
        )

    async def list(self, directory: str, *, filter_text: str = "") -> AsyncIterator[Entry]:
        """Yield blobs and folders below a directory, a page at a time."""
        container, prefix = self._split(directory or "/")
        prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        asked = filter_text.lstrip("/").partition("*")[0]
        marker = ""
        while True:
            query = [("restype", "container"), ("comp", "list"), ("delimiter", "/"),
                     ("maxresults", str(LISTED)), ("prefix", prefix + asked)]  # fmt: skip
            call = Call(
                method="GET",
                about=f"listing of {directory!r}",
                path=f"/{_quoted(container)}",
                query=(*query, ("marker", marker)) if marker else tuple(query),
                phase=Phase.LIST,
                limit=self._target.timeouts.listing,
            )
            document = read_xml((await self._client.demand(call)).content, ("Blob", "BlobPrefix"))
            for kind, record in document.records:
                if entry := _listed(kind, record, prefix):
                    yield entry
            marker = document.fields.get("NextMarker", "")
            if not marker:
                return

    async def delete(self, name: str) -> None:
        """Delete a blob with its snapshots."""
        call = self._call("DELETE", name, Phase.VERIFY, self._target.timeouts.delete)
        await self._client.demand(replace(call, headers={"x-ms-delete-snapshots": "include"}))

    async def checksum(self, name: str, algorithm: str) -> str | None:
        """Return the MD5 that the service keeps, if it does."""
        if algorithm != "md5":
            return None
        return (await self.stat(name)).checksum.removeprefix("md5:") or None

    # --- content ----------------------------------------------------------------------------

    async def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content from `offset` on; RemoteVerify when the blob has become another."""
        call = self._call("GET", name, Phase.DATA)
        call = replace(call, stall=self._target.timeouts.stall.total_seconds())
        if offset:
            if name not in self._tags:
                await self.stat(name)
            headers = {"Range": f"bytes={offset}-", "If-Match": self._tags[name]}
            call = replace(call, headers=headers, accepted=(412, 416))
        async with self._client.ask(call) as response:
            if response.status == 416:
                return
            if response.status == 412:
                raise RemoteVerify(f"{name!r} has changed", remote_code="412")
            while block := await response.content.readany():
                yield block

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Write a blob; one that is broken off leaves nothing that anybody sees."""
        self.proven = None
        try:
            return await self._put(name, source, offset)
        except RemoteError as error:
            if error.remote_code != "ContainerNotFound" or not self._options.make_container:
                raise
            await self.ensure(self._split(name)[0])
        return await self._put(name, source, offset)

    async def _put(self, name: str, source: ByteSource, offset: int) -> int:
        headers = await self._headers(source, offset)
        if not offset and 0 <= source.size < self._options.multipart_size:
            return await self._put_whole(name, source, headers)
        return await self._put_blocks(name, source, offset, headers)

    async def _headers(self, source: ByteSource, offset: int) -> dict[str, str]:
        """Return what is said of the blob; its MD5 in base64 when it is known or wanted."""
        headers = {"x-ms-blob-content-type": "application/octet-stream"}
        if not self._options.overwrite:
            headers["If-None-Match"] = "*"
        digest = bytes.fromhex(self.digests.get("md5", ""))
        if not digest and self._options.use_md5 and source.descriptor is not None:
            size = offset + source.size
            digest = await self._around.threads.run("digest", _digest, source.descriptor, size)
        if digest:
            headers["x-ms-blob-content-md5"] = base64.b64encode(digest).decode()
        return headers

    async def _put_whole(self, name: str, source: ByteSource, headers: Mapping[str, str]) -> int:
        stall = self._target.timeouts.stall.total_seconds()
        md5 = headers.get("x-ms-blob-content-md5", "")
        sent = SourceBody(source, stall=stall)
        call = replace(
            self._call("PUT", name, Phase.DATA),
            headers={
                **headers,
                "x-ms-blob-type": "BlockBlob",
                "Content-Type": "application/octet-stream",
                **({"Content-MD5": md5} if md5 else {}),
            },
            body=lambda: sent,
            length=source.size,
            once=True,
        )
        await self._client.demand(call)
        if md5:
            self.proven = sent.sent  # the service has compared it
        return sent.sent

    async def _put_blocks(
        self, name: str, source: ByteSource, offset: int, headers: Mapping[str, str]
    ) -> int:
        blocks = Blocks.of_state(self.upload) if offset else None
        if offset and (blocks is None or offset % blocks.size):
            raise Unsupported("no upload under way reaches that byte", file=name, offset=offset)
        if blocks is None:
            total = source.size if source.size >= 0 else -1
            size = part_size_for(total, self._options.block_size, MOST_BLOCKS)
            blocks = Blocks(secrets.token_hex(8), size)
        self.began(blocks.state)
        self.confirmed = 0
        parts = Parts(
            blocks.size,
            offset // blocks.size,
            lambda number, part: self._put_block(name, blocks.name(number), part),
            lambda reached: setattr(self, "confirmed", reached - offset),
            threads=self._options.buffers,
            most=MOST_BLOCKS,
        )
        sent = await parts.run(source, self._around)
        await self._commit(name, [blocks.name(number) for number in range(parts.count)], headers)
        self.upload = ""
        return sent

    async def _put_block(self, name: str, block: str, part: ByteSource) -> None:
        stall = self._target.timeouts.stall.total_seconds()
        call = replace(
            self._call("PUT", name, Phase.DATA),
            query=(("comp", "block"), ("blockid", block)),
            headers={"Content-Type": "application/octet-stream"},
            body=lambda: SourceBody(part, stall=stall),
            length=part.size,
        )
        await self._client.demand(call)

    async def _commit(self, name: str, blocks: Sequence[str], headers: Mapping[str, str]) -> None:
        inner = "".join(f"<Uncommitted>{escape(block)}</Uncommitted>" for block in blocks)
        content = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{inner}</BlockList>'.encode()
        call = replace(
            self._call("PUT", name, Phase.DATA),
            query=(("comp", "blocklist"),),
            headers={**headers, "Content-Type": "application/xml"},
            content=content,
            length=len(content),
            limit=max(self._target.timeouts.command, self._target.timeouts.stall),
        )
        await self._client.demand(call)

    async def uploaded(self, name: str, state: str) -> int:
        """Return how many bytes wait in blocks without a hole."""
        blocks = Blocks.of_state(state)
        if blocks is None:
            return 0
        query = (("comp", "blocklist"), ("blocklisttype", "uncommitted"))
        call = replace(self._call("GET", name, Phase.VERIFY), query=query)
        try:
            document = read_xml((await self._client.demand(call)).content, ("Block",))
        except RemoteMissing:
            return 0
        there = {record.get("Name", ""): record.get("Size", "") for record in document.of("Block")}
        number = 0
        while there.get(blocks.name(number)) == str(blocks.size):
            number += 1
        self.upload = state if number else ""
        return number * blocks.size

    async def forget(self, name: str, state: str) -> None:
        """Do nothing: nobody sees the blocks, and the service drops them after a week.

        The only way to drop them now would be to show an empty blob for a moment.
        """


def base_of(target: Target, options: AzureOptions) -> URL:
    """Return the endpoint of the account."""
    if options.url:
        return endpoint(options.url, option="azure.url")
    account = target.login
    host = target.host or (f"{account}.blob.core.windows.net" if account else "")
    if not host:
        raise RemoteConfig("neither azure.url nor host nor login tells the account")
    port = f":{options.port}" if options.port else ""
    return endpoint(f"{options.scheme}://{host}{port}", option="host")


def _quoted(text: str) -> str:
    return quote(text, safe="/", errors="surrogateescape")


def _listed(kind: str, record: Mapping[str, str], prefix: str) -> Entry | None:
    name = record.get("Name", "")
    if not name.startswith(prefix):
        return None
    name = name.removeprefix(prefix)
    if kind == "BlobPrefix":
        return Entry(kind=Kind.DIRECTORY, name=name.rstrip("/")) if name.strip("/") else None
    if not name:
        return None
    return Entry(
        kind=Kind.FILE,
        name=name,
        size=number(record.get("Content-Length", "")),
        mtime=_moment(record.get("Last-Modified", "")),
        etag=record.get("Etag", ""),
        checksum=_md5(record.get("Content-MD5", "")),
    )


def _moment(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _md5(text: str) -> str:
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        return ""
    return f"md5:{found.hex()}" if len(found) == 16 else ""


def _digest(file: int, size: int) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    position = 0
    while position < size:
        block = os.pread(file, 1024 * 1024, position)
        if not block:
            raise SourceBroke(f"the content ends at byte {position}")
        digest.update(block[: size - position])
        position += len(block)
    return digest.digest()
