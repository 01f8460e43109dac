"""Listings over HTTP: a page is fetched, read by the form it has, and its references made entries.

A file directly below a plain page gets its plain name; every other one (another directory, another
host, a query) gets its whole address as name, so that it can be fetched by it.  Links that lead
above the page and links that only sort it are left out.

Spec: transfer-modules-protocols.md 3.3; acquisition.md section 7.
"""

from __future__ import annotations

import asyncio
import codecs
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from urllib.parse import quote, unquote_to_bytes

import aiohttp
from yarl import URL

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    InputError,
    Phase,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteTransient,
)
from ecpds.model.listing import ListingFormat
from ecpds.modules.http_address import is_url, page_url
from ecpds.modules.http_client import HttpClient
from ecpds.modules.http_errors import Ask, refusal
from ecpds.modules.http_options import HttpOptions
from ecpds.modules.http_pages import (
    COLUMNS,
    RECORD,
    Found,
    HtmlPage,
    XmlRecords,
    csv_rows,
    text_lines,
)
from ecpds.modules.http_paths import STAC, JsonRecords
from ecpds.modules.http_select import selected
from ecpds.transfer.contract import Surroundings, Target

STEP: Final = 64 * 1024
"""Bytes of HTML that are read at a stretch, a few milliseconds' work."""

IN_LOOP: Final = 128 * 1024
"""Characters of other pages that are read in the loop; more goes to a thread."""

_MEMORY: Final = "http"
_PLAIN_LINKS: Final = ("a[href]", "href")
_PARSERS: Final = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/json": "json",
    "application/geo+json": "stac",
    "text/csv": "csv",
    "application/xml": "xml",
    "text/xml": "xml",
    "text/plain": "text",
}


@dataclass(frozen=True, slots=True)
class Page:
    """Where a listing came from."""

    url: URL
    base: str  # the address up to its last slash
    is_plain: bool  # names below it may be told without their address


class HttpLister:
    """Lists pages through one client."""

    def __init__(
        self, client: HttpClient, target: Target, options: HttpOptions, around: Surroundings
    ) -> None:
        self._client = client
        self._target = target
        self._options = options
        self._around = around
        self._root = ""  # the address of the listing up to its last slash
        self._is_plain = False
        self._following = ""  # the page behind the present one

    async def entries(self, directory: str, filter_text: str) -> AsyncGenerator[Entry, None]:
        """Yield the entries of one page, and with `listRecursive` of those below, each once."""
        options, url = self._options, self._url(directory, filter_text)
        walk = options.list_recursive and options.ask_each
        waiting: deque[tuple[URL, int]] = deque([(url, 0)])
        seen: set[int] = set()
        while waiting:
            place, depth = waiting.popleft()
            async with aclosing(self._pages(place, directory, is_first=not depth)) as batches:
                async for batch in batches:
                    for entry in batch:
                        # a hash each: a page of 500,000 links is allowed
                        mark = hash(entry.url)
                        if mark in seen:
                            continue
                        seen.add(mark)
                        if not walk or entry.kind is not Kind.DIRECTORY:
                            yield entry
                        elif depth < options.list_depth and entry.url.startswith(self._root):
                            waiting.append((URL(entry.url, encoded=True), depth + 1))
                    self._check_count(directory, len(seen), len(waiting))

    def _check_count(self, directory: str, entries: int, directories: int) -> None:
        for count, most, what in (
            (entries, self._options.list_files, "entries"),
            (directories, self._options.list_dirs, "directories"),
        ):
            if count > most:
                raise RemoteError(f"{directory!r} has more than {most} {what}", phase=Phase.LIST)

    async def _pages(
        self, url: URL, directory: str, *, is_first: bool
    ) -> AsyncGenerator[list[Entry], None]:
        """Yield what a page and those that follow it tell."""
        for _ in range(self._options.list_pages):
            self._following = ""
            try:
                async with aclosing(self._batches(url, directory)) as batches:
                    async for batch in batches:
                        yield batch
            except RemoteError as error:
                if is_first or not isinstance(error, RemoteMissing | RemoteName):
                    raise
                text = f"{url.path}: {error.message}"
                yield [Entry(kind=Kind.OTHER, name=url.path, url=str(url), error=text)]
            if not self._following:
                return
            following = url.join(URL(self._following, encoded=True))
            if following == url:
                return
            url = following
        raise RemoteError(f"{directory!r} has more pages than http.listMaxPages", phase=Phase.LIST)

    def single(self, directory: str) -> Entry:
        """Return the entry of an address that is a file by itself (`dodir = no`)."""
        url = page_url(self._client.origin, self._target.directory, directory)
        is_plain = url.origin() == self._client.origin and not {"?", "%"} & set(directory)
        name = url.path if is_plain and not is_url(directory) else str(url)
        return Entry(kind=Kind.FILE, name=name, url=str(url), link=self._options.file_name)

    def _url(self, directory: str, filter_text: str) -> URL:
        options = self._options
        path = directory.partition("?")[0]
        wanted = options.slash == "yes" or (
            options.slash == "auto"
            and "?" not in directory
            and not path.lower().endswith((".html", ".htm", ".txt"))
        )
        if wanted and not path.endswith("/"):
            directory = f"{path}/{directory[len(path) :]}"
        return page_url(self._client.origin, self._target.directory, directory + filter_text)

    async def _batches(self, url: URL, directory: str) -> AsyncGenerator[list[Entry], None]:
        limit = self._target.timeouts.listing.total_seconds()
        about = f"listing of {directory!r}"
        ask = Ask(
            method="GET", url=url, about=about, phase=Phase.LIST, missing=True, limit=limit,
            headers=self._headers(url),
        )  # fmt: skip
        async with self._client.ask(ask) as response:
            if response.status == 304:
                return
            if response.status != 200:
                raise refusal(response, ask)
            page = self._page(url, response.url, directory)
            link = response.links.get("next")
            self._following = str(link["url"]) if link else ""
            async with aclosing(self._found(response)) as pieces:
                async for found in pieces:
                    made = (self._entry(page, one) for one in found)
                    yield [entry for entry in made if entry is not None]
            self._remember(url, response)

    def _headers(self, url: URL) -> dict[str, str]:
        headers = {}
        if self._options.content_compression:
            headers["Accept-Encoding"] = "gzip, deflate"
        if self._options.conditional:
            memory = self._around.memory
            known = memory.recall(_MEMORY, self._target.host_name, f"page {url}")
            tag, _, time = known.partition("\n")
            headers |= {"If-None-Match": tag} if tag else {}
            headers |= {"If-Modified-Since": time} if time and not tag else {}
        return headers

    def _remember(self, url: URL, response: aiohttp.ClientResponse) -> None:
        """Keep what tells that a page has not changed, now that all of it was taken."""
        if self._options.conditional:
            told = response.headers
            value = f"{told.get('ETag', '')}\n{told.get('Last-Modified', '')}"
            memory = self._around.memory
            memory.keep(_MEMORY, self._target.host_name, f"page {url}", value.strip(" ") or "")

    def _page(self, asked: URL, answered: URL, directory: str) -> Page:
        """Whether names can be told plainly: engine and file names speak of the line's own path."""
        base = str(answered.with_query(None)).rpartition("/")[0] + "/"
        if not self._root:
            is_plain = asked == answered and not {"?", "%"} & set(directory)
            self._root, self._is_plain = base, is_plain and asked.raw_path.endswith("/")
        return Page(answered, base, self._is_plain and base.startswith(self._root))

    # --- reading ----------------------------------------------------------------------------

    async def _found(self, response: aiohttp.ClientResponse) -> AsyncGenerator[list[Found], None]:
        parser: str = self._options.parser
        if parser == "auto":
            parser = _PARSERS.get(response.content_type, "html")
        if parser == "html" and not self._options.select:
            parser = "text"
        chosen = (self._options.select, self._options.attribute) != _PLAIN_LINKS
        if parser == "html" and not chosen:
            async with aclosing(self._html(response)) as pieces:
                async for found in pieces:
                    yield found
            return
        text = "".join([piece async for piece in self._texts(response)])
        records = self._records(parser)
        read = records.read if records is not None else self._reader(parser)
        if len(text) <= IN_LOOP:
            found = list(read(text))
        else:
            found = await self._around.threads.run("codec", lambda: list(read(text)))
        if isinstance(records, JsonRecords):
            self._following = records.following or self._following
        elif records is not None and records.following:
            self._following = str(response.url.update_query(records.following))
        yield found

    def _records(self, parser: str) -> JsonRecords | XmlRecords | None:
        """Return the reader of a form whose pages may tell of a next one."""
        zone = self._target.listing.zone
        if parser == "xml":
            return XmlRecords(self._options.fields(RECORD), zone)
        if parser not in ("json", "stac"):
            return None
        defaults = STAC if parser == "stac" else RECORD
        return JsonRecords(self._options.fields(defaults), zone)

    def _reader(self, parser: str) -> Callable[[str], Iterable[Found]]:
        zone = self._target.listing.zone
        if parser == "text":
            return partial(text_lines, form=self._format())
        if parser == "csv":
            return partial(csv_rows, fields=self._options.fields(COLUMNS), zone=zone)
        select, attribute = self._options.select, self._options.attribute
        return partial(selected, select=select, attribute=attribute)

    def _format(self) -> ListingFormat:
        style = self._target.listing
        try:
            return ListingFormat.make(
                style.system,
                default_format=style.default_format,
                recent_format=style.recent_format,
                month_names=style.month_names,
                language=style.language,
                zone=style.zone,
                regex=style.regex,
                now=self._around.clock.now(),
            )
        except InputError as error:
            raise RemoteConfig(error.message, phase=Phase.LIST) from None

    async def _html(self, response: aiohttp.ClientResponse) -> AsyncGenerator[list[Found], None]:
        page = HtmlPage(self._target.listing.zone)
        async with aclosing(self._texts(response)) as texts:
            async for text in texts:
                yield list(page.feed(text))
        yield list(page.close())

    async def _texts(self, response: aiohttp.ClientResponse) -> AsyncGenerator[str, None]:
        """Yield the decoded page in steps, refusing one that is too large."""
        unpacker = _Unpacker(response.headers.get("Content-Encoding", "identity").lower())
        decoder = _decoder(response.charset or "utf-8")
        size = 0
        async for packed in response.content.iter_chunked(STEP):
            block = unpacker.feed(packed, self._options.max_size + 1)
            size += len(block)
            if size > self._options.max_size:
                raise RemoteError(
                    f"the page is larger than {self._options.max_size} bytes: see http.maxSize",
                    phase=Phase.LIST,
                )
            yield decoder.decode(block)
            await asyncio.sleep(0)
        unpacker.close()
        yield decoder.decode(b"", True)

    # --- entries ----------------------------------------------------------------------------

    def _entry(self, page: Page, found: Found) -> Entry | None:
        try:
            address = self._address(page, found)
        except ValueError:
            return Entry(kind=Kind.OTHER, name="", error=f"bad address {found.reference[:200]!r}")
        if address is None:
            return None
        name = _plain_name(self._root, address) if page.is_plain else None
        return Entry(
            kind=found.kind,
            name=address if name is None else name,
            url=address,
            size=found.size,
            mtime=found.mtime,
            link=found.name,
            etag=found.etag,
            checksum=found.checksum,
        )

    def _address(self, page: Page, found: Found) -> str | None:
        """Return the whole address, None for one that is no entry of the page."""
        reference = found.reference
        if found.is_plain:
            slash = "/" if found.kind is Kind.DIRECTORY and not reference.endswith("/") else ""
            return page.base + quote(reference, safe="/") + slash
        if reference.isascii() and not _SPECIAL & set(reference) and reference[0] != ".":
            return page.base + reference  # most of them, and parsing is slow
        url = page.url.join(URL(reference)).with_fragment(None)
        if url.scheme not in ("http", "https"):
            return None
        address = str(url)
        is_above = page.base.startswith(address.partition("?")[0])
        return None if is_above else address


_SPECIAL: Final = frozenset(":/?#&%\\ \"'<>[]{}|^`")


def _plain_name(root: str, address: str) -> str | None:
    """Return the name below the listing, None if it can only be told by its address."""
    if not address.startswith(root) or "?" in address:
        return None
    encoded = address[len(root) :].removesuffix("/")
    try:
        parts = [unquote_to_bytes(part).decode() for part in encoded.split("/")]
    except UnicodeDecodeError:
        return None
    if any(not part or part in (".", "..") or "/" in part for part in parts):
        return None
    name = "/".join(parts)
    return name if name.isprintable() else None


class _Unpacker:
    """Opens a compressed page while it comes."""

    def __init__(self, coding: str) -> None:
        self._opened = None if coding == "identity" else zlib.decompressobj(47)  # either form
        if coding not in ("identity", "gzip", "x-gzip", "deflate"):
            raise RemoteTransient(f"the page is compressed ({coding})", phase=Phase.LIST)

    def feed(self, block: bytes, most: int) -> bytes:
        """Return what a block holds, so many bytes of it at most."""
        if self._opened is None:
            return block
        try:
            return self._opened.decompress(block, most)
        except zlib.error as error:
            raise RemoteTransient(f"the page is badly compressed: {error}") from None

    def close(self) -> None:
        """Raise RemoteTransient when the end is missing."""
        if self._opened is not None and not self._opened.eof:
            raise RemoteTransient("the page ends before its end", phase=Phase.LIST)


def _decoder(charset: str) -> codecs.IncrementalDecoder:
    try:
        return codecs.getincrementaldecoder(charset)(errors="replace")
    except LookupError:
        return codecs.getincrementaldecoder("utf-8")(errors="replace")


def completed(entry: Entry, told: Entry) -> Entry:
    """Return an entry with what the server says about the file itself."""
    return replace(
        entry,
        size=told.size if entry.size is None else entry.size,
        mtime=entry.mtime or told.mtime,
        etag=entry.etag or told.etag,
    )


def failed(entry: Entry, error: RemoteError) -> Entry:
    """Return an entry whose question failed: a message for people, never selected."""
    text = "not there" if isinstance(error, RemoteMissing) else error.message
    return replace(entry, kind=Kind.OTHER, error=f"{entry.name}: {text}")
