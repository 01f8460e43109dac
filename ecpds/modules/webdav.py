"""`genericWebdav`: files on WebDAV servers.

What WebDAV shares with HTTP (content, MKCOL, MOVE) is done by the HTTP module; listings, sizes,
digests and locks are asked for in WebDAV's own words here.

Spec: transfer-modules-protocols.md section 4; RFC 4918, RFC 4331.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import ClassVar, Final, Self

from yarl import URL

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    Phase,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteTransient,
    Unsupported,
)
from ecpds.modules.http import HttpModule
from ecpds.modules.http_client import HttpClient
from ecpds.modules.http_errors import Ask, refusal
from ecpds.modules.webdav_options import WebdavOptions
from ecpds.modules.webdav_xml import PROPFIND, MultiStatus, Resource, lock_body, path_of
from ecpds.transfer.contract import (
    ByteSource,
    Feature,
    Identity,
    Naming,
    Surroundings,
    Target,
    TransferModule,
)

PAUSES: Final = (0.1, 0.3, 0.6)
"""Seconds until what the server has not settled is tried again.

rclone 1.75 stores the rest of a broken upload after we hung up, and locks a name while it moves.
"""

UNLOCK: Final = timedelta(seconds=10)
"""Longest wait for the end of a lock after a failure; it ends by itself later."""


class _Files(HttpModule):
    """The HTTP session below; requests carry the token of the lock that we hold."""

    lock: str = ""

    def url(self, name: str) -> URL:
        """Return the address of a name."""
        return self._url(name)

    def ask(
        self, method: str, url: URL, about: str, phase: Phase, limit: timedelta | None = None
    ) -> Ask:
        """Return a request."""
        return self._ask(method, url, about, phase, limit)

    def _ask(
        self, method: str, url: URL, about: str, phase: Phase, limit: timedelta | None = None
    ) -> Ask:
        ask = super()._ask(method, url, about, phase, limit)
        if self.lock and method == "PUT":
            return replace(ask, headers={"If": f"(<{self.lock}>)"})
        return ask


class WebdavModule(TransferModule[WebdavOptions]):
    """A session with a WebDAV server."""

    name = "webdav"
    options = WebdavOptions
    features: ClassVar[Feature] = (
        Feature.LIST
        | Feature.GET
        | Feature.PUT
        | Feature.RESUME_GET
        | Feature.SIZE
        | Feature.DELETE
        | Feature.RENAME
        | Feature.MKDIR
        | Feature.RMDIR
        | Feature.CHECKSUM
        | Feature.COPY
    )

    def __init__(
        self, client: HttpClient, files: _Files, target: Target, options: WebdavOptions
    ) -> None:
        self._client = client
        self._files = files
        self._target = target
        self._options = options
        self._broken = ""  # what a put that failed may have left

    @classmethod
    def naming(cls, options: WebdavOptions) -> Naming:
        """Return how files are named until complete."""
        return options.naming()

    @classmethod
    def keep_alive(cls, options: WebdavOptions) -> timedelta:
        """Return how long idle connections may wait for their next use."""
        return options.keep_alive

    @classmethod
    def address(cls, target: Target, options: WebdavOptions) -> tuple[str, int] | None:
        """Return where sessions connect to, unless a proxy does that for us."""
        return None if options.proxy else (target.host.strip("[]"), options.origin_port)

    @classmethod
    async def identity(
        cls, target: Target, options: WebdavOptions, around: Surroundings
    ) -> Identity | None:
        """Return the certificate."""
        return await HttpModule.identity(target, options.http(target), around)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: WebdavOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Give a session; nothing is connected before the first act."""
        there = _adapted(target, options)
        http = options.http(target)
        async with HttpClient.open(there, http, around) as client:
            yield cls(client, _Files(client, there, http, around), there, options)

    @property
    def peer(self) -> str:
        """Return the address of the server, once it was asked something."""
        return self._client.peer

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the last connection."""
        return self._client.statistics()

    def _name(self, name: str) -> str:
        """Return the path of a name on the server: all are below `webdav.path`."""
        base = self._options.path.strip("/")
        if not name.startswith("/") and self._target.directory:
            name = f"{self._target.directory.rstrip('/')}/{name}"
        return f"/{base}/{name.lstrip('/')}" if base else f"/{name.lstrip('/')}"

    # --- names ------------------------------------------------------------------------------

    async def stat(self, name: str) -> Entry:
        """Return kind, size, time and tag."""
        return _entry(name, await self._resource(name))

    async def _resource(self, name: str) -> Resource:
        url = self._files.url(self._name(name))
        ask = self._files.ask("PROPFIND", url, f"size of {name!r}", Phase.VERIFY)
        async with aclosing(self._resources(ask, depth="0")) as resources:
            async for resource in resources:
                return resource
        raise RemoteTransient(f"{name!r}: the server tells nothing of it", phase=Phase.VERIFY)

    async def _resources(self, ask: Ask, *, depth: str) -> AsyncGenerator[Resource, None]:
        headers = {"Depth": depth, "Content-Type": "application/xml; charset=utf-8"}
        ask = replace(ask, headers=headers, content=PROPFIND, missing=True)
        async with self._client.ask(ask) as response:
            if response.status != 207:
                raise refusal(response, ask)
            parser = MultiStatus()
            while block := await response.content.readany():
                for resource in parser.feed(block):
                    yield resource
            for resource in parser.feed(b"", last=True):
                yield resource

    async def list(self, directory: str, *, filter_text: str = "") -> AsyncIterator[Entry]:
        """Yield the entries of one directory."""
        path = self._name(directory).rstrip("/") + "/"
        url = self._files.url(path)
        limit = self._target.timeouts.listing
        ask = self._files.ask("PROPFIND", url, f"listing of {directory!r}", Phase.LIST, limit)
        ask = replace(ask, stall=limit.total_seconds())
        own, count = path.rstrip("/") or "/", 0
        async with aclosing(self._resources(ask, depth="1")) as resources:
            async for resource in resources:
                if resource.path in (own, path_of(str(url))):
                    self._check_kind(directory, resource)
                    continue
                name = resource.path.rpartition("/")[2]
                if filter_text and not fnmatchcase(name, filter_text):
                    continue
                count += 1
                if count > self._options.list_files:
                    raise RemoteError(
                        f"{directory!r} has more than {self._options.list_files} entries",
                        phase=Phase.LIST,
                    )
                yield _entry(name, resource)

    def _check_kind(self, directory: str, resource: Resource) -> None:
        if not resource.is_collection:
            raise RemoteName(f"{directory!r} is a file", phase=Phase.LIST)

    async def delete(self, name: str) -> None:
        """Delete a file; a directory is refused, because its content would go with it.

        A name that is locked just now is tried again: its server may still write what it had of an
        upload that broke, in an earlier session too.
        """
        for pause in PAUSES:
            try:
                await self._delete(name)
            except (RemoteMissing, RemoteTransient) as error:
                if error.remote_code != "423" and name != self._broken:
                    raise
            else:
                return
            await asyncio.sleep(pause)
        await self._delete(name)

    async def _delete(self, name: str) -> None:
        if (await self._resource(name)).is_collection:
            raise RemoteName(f"{name!r} is a directory", phase=Phase.VERIFY)
        await self._files.delete(self._name(name))

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Rename by MOVE.

        A name that is locked just now is tried again: else all of the file would be sent again.
        """
        for pause in PAUSES:
            try:
                await self._files.rename(self._name(old), self._name(new), replace=replace)
            except RemoteTransient as error:
                if error.remote_code != "423":
                    raise
            else:
                return
            await asyncio.sleep(pause)
        await self._files.rename(self._name(old), self._name(new), replace=replace)

    async def copy(self, old: str, new: str) -> None:
        """Let the server copy a file by COPY."""
        limit = self._target.timeouts.rename
        url = self._files.url(self._name(old))
        ask = self._files.ask("COPY", url, f"copy to {new!r}", Phase.RENAME, limit)
        place = str(self._files.url(self._name(new)))
        headers = {"Destination": place, "Overwrite": "T", "Depth": "0"}
        response = await self._client.demand(replace(ask, headers=headers, missing=True))
        if response.status == 207:
            raise RemoteName(f"{old!r} is no file", phase=Phase.RENAME, remote_code="207")

    async def mkdir(self, path: str) -> None:
        """Create a directory by MKCOL; an existing one is fine."""
        await self._files.mkdir(self._name(path))

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory.

        WebDAV deletes what is in it too, so that it is listed first; what somebody adds in between
        is lost.
        """
        async with aclosing(self.list(path)) as entries:  # type: ignore[type-var]  # a generator
            async for entry in entries:
                raise RemoteName(f"{path!r} has {entry.name!r} in it", phase=Phase.MKDIR)
        limit = self._target.timeouts.rmdir
        url = self._files.url(self._name(path).rstrip("/") + "/")
        ask = self._files.ask("DELETE", url, f"removal of {path!r}", Phase.MKDIR, limit)
        await self._client.demand(replace(ask, missing=True))

    async def checksum(self, name: str, algorithm: str) -> str | None:
        """Return the digest that servers of the ownCloud family keep."""
        return (await self._resource(name)).digest(algorithm.replace("-", ""))

    # --- content ----------------------------------------------------------------------------

    async def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content from `offset` on."""
        if offset and (await self.stat(name)).size == offset:
            return
        blocks = self._files.get(self._name(name), offset=offset)
        async with aclosing(blocks):  # type: ignore[type-var]  # a generator
            async for block in blocks:
                yield block

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Send the content in one request, under a lock if told so."""
        if offset:
            raise Unsupported("WebDAV uploads begin at the first byte", file=name, offset=offset)
        self._broken = name
        sent = await self._put(name, source)
        self._broken = ""
        return sent

    async def _put(self, name: str, source: ByteSource) -> int:
        if not self._options.use_lock:
            return await self._files.put(self._name(name), source)
        self._files.lock = await self._locked(name)
        try:
            return await self._files.put(self._name(name), source)
        except RemoteName as error:
            if error.remote_code != "412":
                raise
            raise RemoteTransient(
                f"{name!r}: the server has lost our lock", remote_code="412"
            ) from error
        finally:
            token, self._files.lock = self._files.lock, ""
            await self._unlock(name, token)

    async def _locked(self, name: str) -> str:
        options = self._options
        url = self._files.url(self._name(name))
        ask = self._files.ask("LOCK", url, f"lock of {name!r}", Phase.DATA)
        seconds = f"Second-{options.lock_timeout}" if options.lock_timeout else "Infinite"
        headers: Mapping[str, str] = {
            "Depth": "0",
            "Timeout": seconds,
            "Content-Type": "application/xml; charset=utf-8",
        }
        ask = replace(ask, headers=headers, content=lock_body(options.lock_owner))
        response = await self._client.demand(ask)
        token = response.headers.get("Lock-Token", "").strip().strip("<>")
        if not token or ">" in token:
            raise RemoteTransient(f"lock of {name!r}: the server names no lock")
        return token

    async def _unlock(self, name: str, token: str) -> None:
        url = self._files.url(self._name(name))
        ask = self._files.ask("UNLOCK", url, f"unlock of {name!r}", Phase.CLOSE)
        try:
            async with asyncio.timeout(UNLOCK.total_seconds()):
                await self._client.demand(replace(ask, headers={"Lock-Token": f"<{token}>"}))
        except (RemoteError, TimeoutError):
            return  # it ends by itself; the content is there or its own error is told


def _adapted(target: Target, options: WebdavOptions) -> Target:
    """Return the target with the time limits of the module's own options."""
    timeouts = target.timeouts
    if options.connect_timeout is not None:
        timeouts = replace(timeouts, connect=options.connect_timeout)
    if (limit := options.socket_timeout) is not None:
        timeouts = replace(
            timeouts, command=limit, delete=limit, listing=limit, mkdir=limit, rename=limit,
            rmdir=limit, stall=limit,
        )  # fmt: skip
    return replace(target, timeouts=timeouts)


def _entry(name: str, resource: Resource) -> Entry:
    is_directory = resource.is_collection
    return Entry(
        kind=Kind.DIRECTORY if is_directory else Kind.FILE,
        name=name,
        size=None if is_directory else resource.size,
        mtime=resource.mtime,
        etag=resource.texts.get("etag", ""),
        checksum=resource.texts.get("checksums", "").split(" ")[0].lower(),
    )
