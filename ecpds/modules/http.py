"""`genericHttp`: files to and from web servers.

An upload is one request: to servers without WebDAV it goes to the final name, because HTTP has no
rename, and they take a request as a whole or not at all (an upload that breaks off is no request).
Servers with WebDAV may keep a broken one (RFC 9110 leaves it to them), so that there a temporary
name and MOVE are used, as with every module that can rename.

Spec: transfer-modules-protocols.md section 3; RFC 9110, RFC 4918.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import ClassVar, Final, Self, cast

import aiohttp
from yarl import URL

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteError,
    RemoteName,
    RemoteVerify,
    Unsupported,
)
from ecpds.modules.http_address import file_url
from ecpds.modules.http_body import FormBody, SourceBody
from ecpds.modules.http_client import HttpClient
from ecpds.modules.http_errors import Ask, refusal
from ecpds.modules.http_listing import HttpLister, completed, failed
from ecpds.modules.http_options import HttpOptions
from ecpds.modules.mqtt_listen import MqttSubscriber
from ecpds.modules.trust import certificate_of
from ecpds.transfer.contract import (
    ByteSource,
    Feature,
    Identity,
    Naming,
    Surroundings,
    Target,
    TransferModule,
)
from ecpds.transfer.subscription import Subscriber

VALIDATORS: Final = 256
"""Files whose validators are remembered from `stat`, for going on with a download."""

SETTLED: Final = timedelta(minutes=1)

_MEMORY: Final = "http"
_COLLECTION: Final = re.compile(rb"<(?:\w+:)?collection\b")
_PROPFIND: Final = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<propfind xmlns="DAV:"><prop><resourcetype/></prop></propfind>'
)


class HttpModule(TransferModule[HttpOptions]):
    """A session with a web server that speaks WebDAV (class 1) too."""

    name = "http"
    options = HttpOptions
    features: ClassVar[Feature] = (
        Feature.LIST
        | Feature.GET
        | Feature.PUT
        | Feature.RESUME_GET
        | Feature.SIZE
        | Feature.DELETE
        | Feature.RENAME
        | Feature.MKDIR
    )

    def __init__(
        self, client: HttpClient, target: Target, options: HttpOptions, around: Surroundings
    ) -> None:
        self._client = client
        self._target = target
        self._options = options
        self._around = around
        self._validators: OrderedDict[str, str] = OrderedDict()
        self._doubted = ""  # the directory that an upload missed last

    @classmethod
    def naming(cls, options: HttpOptions) -> Naming:
        """Return how files are named until complete, where the server can rename."""
        return options.naming()

    @classmethod
    def subscriber(
        cls, target: Target, options: HttpOptions, around: Surroundings
    ) -> Subscriber | None:
        """Return who listens to the broker of a host with `http.mqttMode`."""
        if not options.mqtt_mode:
            return None
        wanted = options.as_mqtt(ssl_validation=options.ssl_validation)
        return MqttSubscriber(target, wanted, options.mqtt_url, around=around)

    @classmethod
    def keep_alive(cls, options: HttpOptions) -> timedelta:
        """Return how long idle connections may wait for their next use."""
        return options.keep_alive

    @classmethod
    def address(cls, target: Target, options: HttpOptions) -> tuple[str, int] | None:
        """Return where sessions connect to, unless a proxy does that for us."""
        return None if options.proxy else (target.host.strip("[]"), options.origin_port)

    @classmethod
    async def identity(
        cls, target: Target, options: HttpOptions, around: Surroundings
    ) -> Identity | None:
        """Return the certificate."""
        if options.scheme != "https" or options.proxy:
            return None
        return await certificate_of(target, options.origin_port, around, minimum=options.protocol)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: HttpOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Give a session of the class that fits the server.

        The server is asked for WebDAV once in the life of the process; apart from that, nothing
        is connected before the first act.
        """
        async with HttpClient.open(target, options, around) as client:
            kind = await _kind_of(client, target, options, around)
            yield cast(Self, kind(client, target, options, around))

    @property
    def _makes_directories(self) -> bool:
        return Feature.MKDIR in self.features

    @property
    def peer(self) -> str:
        """Return the address of the server, once it was asked something."""
        return self._client.peer

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the latest connection."""
        return self._client.statistics()

    def _url(self, name: str) -> URL:
        return file_url(self._client.origin, self._target.directory, name)

    def _ask(
        self, method: str, url: URL, about: str, phase: Phase, limit: timedelta | None = None
    ) -> Ask:
        seconds = (limit or self._target.timeouts.command).total_seconds()
        return Ask(method=method, url=url, about=about, phase=phase, limit=seconds)

    # --- names ------------------------------------------------------------------------------

    async def stat(self, name: str) -> Entry:
        """Return size, time and tag of a file: by HEAD, else by a GET of its first byte."""
        return await self._stat(name)

    async def _stat(self, name: str) -> Entry:
        url = self._url(name)
        ask = replace(self._ask("HEAD", url, f"size of {name!r}", Phase.VERIFY), missing=True)
        if self._options.use_head:
            async with self._client.ask(ask) as response:
                if response.status not in (405, 501):
                    entry = self._described(name, url, response, ask)
                    if entry.size is not None or entry.kind is Kind.DIRECTORY:
                        return entry
        ask = replace(ask, method="GET", headers={"Range": "bytes=0-0"})
        async with self._client.ask(ask) as response:
            return self._described(name, url, response, ask)

    def _described(self, name: str, url: URL, response: aiohttp.ClientResponse, ask: Ask) -> Entry:
        size = _whole_size(response)
        if not (200 <= response.status < 300 or (response.status == 416 and size == 0)):
            raise refusal(response, ask)
        etag = response.headers.get("ETag", "")
        modified = response.headers.get("Last-Modified", "")
        is_strong = bool(etag) and not etag.startswith("W/")
        self._remember(url, etag if is_strong else _settled(response, modified))
        is_directory = response.url.path.endswith("/") and not url.path.endswith("/")
        return Entry(
            kind=Kind.DIRECTORY if is_directory else Kind.FILE,
            name=name,
            size=None if is_directory else size,
            mtime=_http_date(modified),
            etag=etag,
            url=str(url),
            link=_disposition(response),
        )

    def _remember(self, url: URL, validator: str) -> None:
        self._validators[str(url)] = validator
        self._validators.move_to_end(str(url))
        if len(self._validators) > VALIDATORS:
            self._validators.popitem(last=False)

    async def list(self, directory: str, *, filter_text: str = "") -> AsyncIterator[Entry]:
        """Yield the entries of one page; where it does not tell, each file is asked for."""
        lister = self._lister()
        if not self._options.is_directory or self._options.url_is_file:
            for entry in await self._asked([lister.single(directory)]):
                yield entry
            return
        waiting: deque[Entry] = deque()
        async with aclosing(lister.entries(directory, filter_text)) as entries:
            async for entry in entries:
                if not self._must_ask(entry):
                    yield entry
                    continue
                waiting.append(entry)
                if len(waiting) >= self._options.list_threads:
                    for told in await self._asked(waiting):
                        yield told
                    waiting.clear()
        for told in await self._asked(waiting):
            yield told

    def _lister(self) -> HttpLister:
        target = self._target
        if self.listing is not None:
            target = replace(target, listing=self.listing)
        return HttpLister(self._client, target, self._options, self._around)

    def _must_ask(self, entry: Entry) -> bool:
        is_known = entry.size is not None and entry.mtime is not None
        return self._options.ask_each and entry.kind is Kind.FILE and not is_known

    async def _asked(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the entries with size and time, all asked at once; a failure is an entry too."""

        async def one(entry: Entry) -> Entry:
            try:
                told = await self._stat(entry.url)
                return self._named(completed(entry, told), told.link)
            except RemoteError as error:
                return failed(entry, error)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(entry)) for entry in entries]
        return [task.result() for task in tasks]

    def _named(self, entry: Entry, name: str) -> Entry:
        """Return an entry that stands for something else with the name that it has there."""
        is_link = entry.size is None if self._options.is_symlink == "auto" else True
        if self._options.is_symlink == "no" or not is_link or entry.link:
            return entry
        if name:
            return replace(entry, link=name)
        if self._options.fail_on_empty_symlink:
            return replace(entry, kind=Kind.OTHER, error=f"{entry.name}: it has no name")
        return entry

    async def delete(self, name: str) -> None:
        """Delete a file."""
        limit = self._target.timeouts.delete
        ask = self._ask("DELETE", self._url(name), f"deletion of {name!r}", Phase.VERIFY, limit)
        response = await self._client.demand(replace(ask, missing=True))
        if response.status == 207:  # WebDAV: parts of it failed
            raise RemoteName(f"{name!r} is no file", phase=Phase.VERIFY, remote_code="207")

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Rename by MOVE."""
        limit = self._target.timeouts.rename
        ask = self._ask("MOVE", self._url(old), f"rename to {new!r}", Phase.RENAME, limit)
        headers = {"Destination": str(self._url(new)), "Overwrite": "T" if replace else "F"}
        response = await self._client.demand(
            dataclasses.replace(ask, headers=headers, missing=True)
        )
        if response.status == 207:
            raise RemoteName(f"{old!r} is no file", phase=Phase.RENAME, remote_code="207")

    async def mkdir(self, path: str) -> None:
        """Create a directory by MKCOL; an existing one is fine."""
        limit = self._target.timeouts.mkdir
        url = self._url(path.rstrip("/") + "/")
        ask = self._ask("MKCOL", url, f"creation of {path!r}", Phase.MKDIR, limit)
        async with self._client.ask(ask) as response:
            if 200 <= response.status < 300:
                return
            error = refusal(response, ask)
        if response.status != 405:
            raise error
        if not await self._is_collection(url):
            raise RemoteName(f"{path!r} is a file", phase=Phase.MKDIR, remote_code="405")

    async def _is_collection(self, url: URL) -> bool:
        ask = self._ask("PROPFIND", url, f"kind of {url.path!r}", Phase.MKDIR)
        headers = {"Depth": "0", "Content-Type": "application/xml; charset=utf-8"}
        ask = replace(ask, headers=headers, content=_PROPFIND)
        async with self._client.ask(ask) as response:
            if response.status != 207:
                return False
            text = await response.content.read(64 * 1024)
            return _COLLECTION.search(text) is not None

    # --- content ----------------------------------------------------------------------------

    async def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content from `offset` on.

        RemoteVerify: the server sends no part, or the file has become another one.
        """
        url = self._url(name)
        stall = self._target.timeouts.stall.total_seconds()
        ask = replace(self._ask("GET", url, f"{name!r}", Phase.DATA), missing=True, stall=stall)
        if offset:
            ask = replace(ask, headers=await self._range(name, url, offset))
        async with self._client.ask(ask) as response:
            if response.status == 416 and offset and _whole_size(response) == offset:
                return
            if response.status not in (200, 206):
                raise refusal(response, ask)
            if offset:
                _check_part(response, name, offset)
            while block := await response.content.readany():
                yield block

    async def _range(self, name: str, url: URL, offset: int) -> dict[str, str]:
        if str(url) not in self._validators:
            await self._stat(name)
        headers = {"Range": f"bytes={offset}-"}
        if validator := self._validators.get(str(url), ""):
            headers["If-Range"] = validator
        return headers

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Send the content in one request; return after a positive answer to all of it."""
        if offset:
            raise Unsupported("HTTP uploads begin at the first byte", file=name, offset=offset)
        options = self._options
        url = self._url(options.upload_end_point or name)
        ask = replace(
            self._ask("POST" if options.use_post else "PUT", url, f"{name!r}", Phase.DATA),
            body=self._body(name, source),
        )
        async with self._client.ask(ask) as response:
            if _is_taken(response, ask):
                return _all_of(ask, name)
            error = refusal(response, ask)
        raise await self._missing_parent(name, response.status) or error

    async def _missing_parent(self, name: str, status: int) -> RemoteError | None:
        """Return the error for an upload into a directory that was not there (nginx says 500)."""
        parent = name.rpartition("/")[0]
        if status != 500 or self._options.upload_end_point or not parent:
            return None
        ask = self._ask("HEAD", self._url(f"{parent}/"), "directory of an upload", Phase.DATA)
        async with self._client.ask(ask) as response:
            # somebody else may have made it meanwhile: worth one more try
            if response.status != 404 and (self._doubted == parent or not self._makes_directories):
                return None
        self._doubted = parent
        return RemoteName(f"there was no directory {parent!r}", remote_code="500")

    def _body(self, name: str, source: ByteSource) -> SourceBody:
        stall = self._target.timeouts.stall.total_seconds()
        if not self._options.use_multipart:
            return SourceBody(source, stall=stall)
        file_name = name.rpartition("/")[2]
        field = self._options.filename_attribute
        return FormBody(source, stall=stall, field=field, file_name=file_name)


def _is_taken(response: aiohttp.ClientResponse, ask: Ask) -> bool:
    # 303 after a form: "see the result there"
    return 200 <= response.status < 300 or (response.status == 303 and ask.method == "POST")


def _all_of(ask: Ask, name: str) -> int:
    body = ask.body
    if body is None or not body.is_complete:
        raise ConnectionLost(f"{name!r}: the server answered before all was sent")
    return body.sent


class PlainHttp(HttpModule):
    """A session with a web server without WebDAV: uploads go to the final name at once."""

    features: ClassVar[Feature] = (
        HttpModule.features & ~(Feature.RENAME | Feature.MKDIR) | Feature.ATOMIC_PUT
    )

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Refuse."""
        raise Unsupported("the server cannot rename", old=old, new=new, replace=replace)

    async def mkdir(self, path: str) -> None:
        """Refuse."""
        raise Unsupported("the server cannot make directories", path=path)


class UploadHttp(PlainHttp):
    """A session with a server that takes files as forms: what was sent has no address."""

    features: ClassVar[Feature] = PlainHttp.features & ~(Feature.SIZE | Feature.DELETE)

    async def stat(self, name: str) -> Entry:
        """Refuse."""
        raise Unsupported("uploads to this host have no address", name=name)

    async def delete(self, name: str) -> None:
        """Refuse."""
        raise Unsupported("uploads to this host have no address", name=name)


async def _kind_of(
    client: HttpClient, target: Target, options: HttpOptions, around: Surroundings
) -> type[HttpModule]:
    if not options.renames_uploads:
        return UploadHttp
    if options.dav != "auto":
        return HttpModule if options.dav == "yes" else PlainHttp
    fact = f"dav {client.origin}"
    known = around.memory.recall(_MEMORY, target.host_name, fact)
    if not known:
        known = await _asked_for_dav(client, target)
        around.memory.keep(_MEMORY, target.host_name, fact, known)
    return HttpModule if known == "yes" else PlainHttp


async def _asked_for_dav(client: HttpClient, target: Target) -> str:
    """Return yes or no; a refused login is told at once."""
    url = file_url(client.origin, target.directory, "")
    ask = Ask(
        method="OPTIONS",
        url=url,
        about="OPTIONS",
        phase=Phase.CONNECT,
        limit=target.timeouts.command.total_seconds(),
    )
    async with client.ask(ask) as response:
        if response.status in (401, 407) and client.has_login:
            raise refusal(response, ask)
        allowed = {method.strip() for method in response.headers.get("Allow", "").split(",")}
        speaks = response.status < 300 and {"PUT", "MOVE", "MKCOL"} <= allowed
        return "yes" if speaks else "no"


_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18}|\*)")


def _whole_size(response: aiohttp.ClientResponse) -> int | None:
    """Return the size of the whole file, None if the answer does not tell."""
    if response.status in (206, 416):
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        return int(found[2]) if found and found[2] != "*" else None
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _check_part(response: aiohttp.ClientResponse, name: str, offset: int) -> None:
    if response.status == 200:
        raise RemoteVerify(f"{name!r} has changed, or the server sends no parts", remote_code="200")
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if found is None or found[1] is None or int(found[1]) != offset:
        raise RemoteVerify(f"{name!r}: the server sends another part than asked for")


def _disposition(response: aiohttp.ClientResponse) -> str:
    """Return the plain file name that an answer proposes, empty when it has none."""
    found = response.content_disposition
    name = (found.filename or "") if found is not None else ""
    return re.split(r"[/\\]", name)[-1]


def _settled(response: aiohttp.ClientResponse, modified: str) -> str:
    """Return the time of a file if it names one version of it (RFC 9110, 8.8.2.2), else nothing.

    Apache 2.4 takes a date for a condition from the age of a minute on, and sends all of it before.
    """
    then, now = _http_date(modified), _http_date(response.headers.get("Date", ""))
    return modified if then and (now is None or now - then >= SETTLED) else ""


def _http_date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
