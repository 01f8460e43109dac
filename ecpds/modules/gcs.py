"""`genericGcs`: objects of Google Cloud Storage.

An object appears when all of it has arrived, so that no temporary name is needed.  Small content is
one request; larger content goes through a resumable session (`gcs_upload`).  The requests are made
by ourselves: why, says docs/decisions/0021-object-stores.md.

Spec: transfer-modules-protocols.md section 7; Google "Cloud Storage JSON API".
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Self
from urllib.parse import quote

from yarl import URL

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    Phase,
    RemoteAuth,
    RemoteError,
    RemoteName,
    RemoteTransient,
    RemoteVerify,
    Unsupported,
)
from ecpds.modules.cloud import Call, CloudClient, endpoint
from ecpds.modules.cloud_module import CloudModule, number
from ecpds.modules.gcs_errors import meaning
from ecpds.modules.gcs_login import Login
from ecpds.modules.gcs_options import GOOGLE, GcsOptions
from ecpds.modules.gcs_upload import AGAIN, QUANTUM, Manner, Session
from ecpds.modules.http_body import SourceBody
from ecpds.transfer.contract import (
    ByteSource,
    Surroundings,
    Target,
)

LISTED: Final = 1_000
"""Objects of one page of a listing."""


class GcsModule(CloudModule[GcsOptions]):
    """A session with one project's storage."""

    name = "gcs"
    options = GcsOptions
    first_part = ("bucket", "gcs.bucketName")

    def __init__(
        self,
        client: CloudClient,
        login: Login,
        target: Target,
        options: GcsOptions,
        around: Surroundings,
    ) -> None:
        super().__init__(client, target, options, around)
        self._login = login

    @classmethod
    def base(cls, target: Target, options: GcsOptions) -> URL:
        """Return the address of the service."""
        return base_of(target, options)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: GcsOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Give a session; apart from `mkBucket`, nothing is connected before the first act."""
        login, is_fixed = Login(target, options, around), bool(options.bucket_name)
        async with cls.opened(
            target, options, around, login, lambda answer, call: meaning(answer, call, is_fixed)
        ) as client:
            module = cls(client, login, target, options, around)
            if options.make_bucket and options.bucket_name:
                await module.ensure(options.bucket_name)
            yield module

    # --- names ------------------------------------------------------------------------------

    def _whole(self) -> tuple[str, str]:
        return self._options.bucket_name, self._options.object_prefix

    def _place(self, name: str) -> tuple[str, str]:
        bucket, found = self._split(name)
        if not found or found.endswith("/"):
            raise RemoteName(f"{name!r} names no object")
        return bucket, found

    def _call(self, method: str, name: str, phase: Phase, limit: timedelta | None = None) -> Call:
        bucket, found = self._place(name)
        return Call(
            method=method,
            about=f"{name!r}",
            path=f"/storage/v1/b/{_quoted(bucket)}/o/{_quoted(found)}",
            phase=phase,
            limit=limit or self._target.timeouts.command,
        )

    async def ensure(self, bucket: str) -> None:
        """Create a bucket; an existing one is fine."""
        known = {"name": bucket, "location": self._options.bucket_location}
        call = Call(
            method="POST",
            about=f"bucket {bucket!r}",
            path="/storage/v1/b",
            query=(("project", self._options.project_id),),
            headers={"Content-Type": "application/json"},
            content=json.dumps({key: value for key, value in known.items() if value}).encode(),
            phase=Phase.MKDIR,
            limit=self._target.timeouts.mkdir,
            accepted=(409,),
        )
        await self._demand(call)

    async def _demand(self, call: Call) -> Mapping[str, Any]:
        """Return the JSON object of an answer, empty where there is none."""
        try:
            answer = await self._client.demand(call)
        except RemoteAuth as error:
            if error.remote_code in ("401", "authError"):
                self._login.forget()
            raise
        if not answer.content or call.method == "DELETE":
            return {}
        try:
            found = json.loads(answer.content)
        except ValueError:
            raise RemoteTransient(
                f"{call.about}: the answer is no JSON", phase=call.phase
            ) from None
        return found if isinstance(found, dict) else {}

    async def stat(self, name: str) -> Entry:
        """Return size, time, tag and digest of an object."""
        found = await self._demand(self._call("GET", name, Phase.VERIFY))
        self._remember(name, str(found.get("generation", "")))
        return _entry(name, found)

    async def list(self, directory: str, *, filter_text: str = "") -> AsyncIterator[Entry]:
        """Yield objects and folders below a directory, a page at a time."""
        bucket, prefix = self._split(directory or "/")
        prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        asked = filter_text.lstrip("/").partition("*")[0]
        query = (
            ("delimiter", "/"),
            ("maxResults", str(LISTED)),
            *((("prefix", prefix + asked),) if prefix + asked else ()),
        )
        token = ""
        while True:
            call = Call(
                method="GET",
                about=f"listing of {directory!r}",
                path=f"/storage/v1/b/{_quoted(bucket)}/o",
                query=(*query, ("pageToken", token)) if token else query,
                phase=Phase.LIST,
                limit=self._target.timeouts.listing,
            )
            page = await self._demand(call)
            for entry in _listed(page, prefix):
                yield entry
            token = str(page.get("nextPageToken", ""))
            if not token:
                return

    async def delete(self, name: str) -> None:
        """Delete an object."""
        await self._demand(self._call("DELETE", name, Phase.VERIFY, self._target.timeouts.delete))

    async def checksum(self, name: str, algorithm: str) -> str | None:
        """Return the MD5 or CRC-32C that the service keeps."""
        key = {"md5": "md5Hash", "crc32c": "crc32c"}.get(algorithm)
        if key is None:
            return None
        found = await self._demand(self._call("GET", name, Phase.VERIFY))
        return _hex(found.get(key)) or None

    # --- content ----------------------------------------------------------------------------

    async def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content from `offset` on; RemoteVerify when the object has become another."""
        query: tuple[tuple[str, str], ...] = (("alt", "media"),)
        call = self._call("GET", name, Phase.DATA)
        if offset:
            if name not in self._tags:
                await self.stat(name)
            if generation := self._tags[name]:
                query += (("ifGenerationMatch", generation),)
            call = replace(call, headers={"Range": f"bytes={offset}-"}, accepted=(412, 416))
        stall = self._target.timeouts.stall.total_seconds()
        async with self._client.ask(replace(call, query=query, stall=stall)) as response:
            if response.status == 416:
                return
            if response.status == 412 or (offset and response.status != 206):
                raise RemoteVerify(f"{name!r} has changed", remote_code=str(response.status))
            while block := await response.content.readany():
                yield block

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Write an object; one that is broken off leaves nothing that anybody sees."""
        self.proven = None
        try:
            return await self._put(name, source, offset)
        except RemoteError as error:
            missing = "bucket does not exist" in error.remote_text
            if not missing or not self._options.make_bucket:
                raise
            await self.ensure(self._split(name)[0])
        return await self._put(name, source, offset)

    async def _put(self, name: str, source: ByteSource, offset: int) -> int:
        if not offset and 0 < source.size < self._options.multipart_size:
            return await self._put_whole(name, source)
        return await self._put_chunks(name, source, offset)

    def _upload(self, name: str, kind: str) -> Call:
        bucket, found = self._place(name)
        query: tuple[tuple[str, str], ...] = (("uploadType", kind), ("name", found))
        if not self._options.overwrite:
            query += (("ifGenerationMatch", "0"),)
        return Call(
            method="POST",
            about=f"{name!r}",
            path=f"/upload/storage/v1/b/{_quoted(bucket)}/o",
            query=query,
            headers={"Content-Type": "application/octet-stream"},
            limit=self._target.timeouts.command,
            once=True,
        )

    async def _put_whole(self, name: str, source: ByteSource) -> int:
        body = SourceBody(source, stall=self._target.timeouts.stall.total_seconds())
        call = replace(self._upload(name, "media"), body=lambda: body, length=source.size)
        self._prove(name, await self._demand(call), body.sent)
        return body.sent

    async def _put_chunks(self, name: str, source: ByteSource, offset: int) -> int:
        session = self._session(name, self.upload) if offset else await self._begin(name, source)
        if session is None:
            raise Unsupported("no upload under way reaches that byte", file=name, offset=offset)
        self.confirmed = 0
        chunk = self._options.chunk_size // QUANTUM * QUANTUM
        sent = await session.send(
            source,
            offset,
            Manner(chunk=chunk, again=0 if self._options.disable_retries else AGAIN),
            lambda reached: setattr(self, "confirmed", reached - offset),
        )
        self.upload = ""
        self._prove(name, session.result or {}, offset + sent)
        return sent

    def _prove(self, name: str, found: Mapping[str, Any], size: int) -> None:
        """Compare what the service says of the new object with what is known of the content."""
        md5 = self.digests.get("md5", "")
        theirs = _hex(found.get("md5Hash"))
        if md5 and theirs and md5.lower() != theirs:
            raise RemoteVerify(f"{name!r}: the MD5 of the object is {theirs}, not {md5}")
        if str(found.get("size", "")) == str(size):
            self.proven = size

    async def _begin(self, name: str, source: ByteSource) -> Session:
        call = self._upload(name, "resumable")
        headers = {"X-Upload-Content-Type": "application/octet-stream"}
        if source.size >= 0:
            headers["X-Upload-Content-Length"] = str(source.offset + source.size)
        answer = await self._client.demand(replace(call, headers=headers, once=False))
        address = answer.headers.get("Location", "")
        session = self._session(name, address)
        if session is None:
            raise RemoteTransient(f"{name!r}: the service names no session")
        self.began(address)
        return session

    def _session(self, name: str, address: str) -> Session | None:
        """Return the session at an address; an upload id is a right to write: never logged."""
        if not address or len(address) > 2000:
            return None
        return Session.of_address(self._client, self._target, self._around, name, address)

    async def uploaded(self, name: str, state: str) -> int:
        """Return how many bytes the session keeps."""
        session = self._session(name, state)
        if session is None or not await session.ask():
            return 0
        if session.result is not None:  # complete: only its answer was lost
            return 0
        self.upload = state if session.reached else ""
        return session.reached

    async def forget(self, name: str, state: str) -> None:
        """End the session."""
        session = self._session(name, state)
        if session is not None:
            await session.drop()


def base_of(target: Target, options: GcsOptions) -> URL:
    """Return the address of the service."""
    if options.url or not target.host:
        return endpoint(options.url or GOOGLE, option="gcs.url")
    port = f":{options.port}" if options.port else ""
    return endpoint(f"{options.scheme}://{target.host}{port}", option="host")


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def _listed(page: Mapping[str, Any], prefix: str) -> Iterator[Entry]:
    for folder in page.get("prefixes") or ():
        if name := str(folder).removeprefix(prefix).strip("/"):
            yield Entry(kind=Kind.DIRECTORY, name=name)
    for found in page.get("items") or ():
        if name := str(found.get("name", "")).removeprefix(prefix):
            yield _entry(name, found)


def _entry(name: str, found: Mapping[str, Any]) -> Entry:
    md5 = _hex(found.get("md5Hash"))
    return Entry(
        kind=Kind.FILE,
        name=name,
        size=number(str(found.get("size", ""))),
        mtime=_moment(str(found.get("updated", ""))),
        etag=str(found.get("etag", "")),
        checksum=f"md5:{md5}" if md5 else "",
    )


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _hex(value: object) -> str:
    try:
        return base64.b64decode(str(value or ""), validate=True).hex()
    except ValueError:
        return ""
