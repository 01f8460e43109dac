"""Keys of a bucket as entries of a directory.

Spec: AWS ListObjectsV2; transfer-modules-protocols.md section 5.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote_plus

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import Phase, RemoteError, RemoteTransient
from ecpds.modules.s3_client import Call, S3Client
from ecpds.modules.s3_xml import Document, read
from ecpds.transfer.contract import Surroundings, Target

IN_LOOP: Final = 64 * 1024
"""Bytes of an answer that is read in the loop; more goes to a thread."""

PAGE: Final = 1000

_WILD: Final = re.compile(r"[*?\[]")
_MD5: Final = re.compile(r'"?([0-9a-fA-F]{32})"?')


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is listed."""

    bucket: str
    prefix: str  # of the keys, up to the directory's last slash
    pattern: str = ""  # of names, as shells have it
    levels: int = 1  # 0 = all

    @property
    def start(self) -> str:
        """Return what every wanted key begins with."""
        return self.prefix + _WILD.split(self.pattern, maxsplit=1)[0]

    def takes(self, name: str) -> bool:
        """Whether a name, relative to the directory, is wanted."""
        if self.pattern and not fnmatch.fnmatchcase(name, self.pattern):
            return False
        return not self.levels or name.rstrip("/").count("/") < self.levels


class S3Lister:
    """Lists through one client."""

    def __init__(self, client: S3Client, target: Target, around: Surroundings) -> None:
        self._client = client
        self._target = target
        self._around = around

    async def buckets(self) -> AsyncGenerator[Entry, None]:
        """Yield the buckets as directories."""
        call = Call(
            method="GET", about="buckets", phase=Phase.LIST, limit=self._target.timeouts.listing
        )
        for record in read((await self._client.demand(call)).content, ("Bucket",)).of("Bucket"):
            yield Entry(
                kind=Kind.DIRECTORY,
                name=record.get("Name", ""),
                mtime=moment(record.get("CreationDate", "")),
            )

    async def entries(self, wanted: Wanted) -> AsyncGenerator[Entry, None]:
        """Yield the entries, page by page."""
        more: tuple[tuple[str, str], ...] = ()
        while True:
            document = await self._page(wanted, more)
            for entry in _entries(document, wanted):
                yield entry
            following = _next(document)
            if not following:
                return
            if following == more:
                raise RemoteError("the service lists one page for ever", phase=Phase.LIST)
            more = following

    async def _page(self, wanted: Wanted, more: tuple[tuple[str, str], ...]) -> Document:
        query = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", str(PAGE)), *more]
        if wanted.start:
            query.append(("prefix", wanted.start))
        if wanted.levels == 1:
            query.append(("delimiter", "/"))
        call = Call(
            method="GET",
            about=f"listing of {wanted.prefix!r}",
            bucket=wanted.bucket,
            query=tuple(query),
            phase=Phase.LIST,
            limit=self._target.timeouts.listing,
        )
        content = (await self._client.demand(call)).content
        kinds = ("Contents", "CommonPrefixes")
        if len(content) <= IN_LOOP:
            document = read(content, kinds)
        else:
            document = await self._around.threads.run("codec", read, content, kinds)
        if document.root != "ListBucketResult":
            raise RemoteTransient(f"{call.about}: the answer is no listing", phase=Phase.LIST)
        return document


def _entries(document: Document, wanted: Wanted) -> Iterator[Entry]:
    plain = document.fields.get("EncodingType", "") != "url"
    for kind, record in document.records:
        text = record.get("Key" if kind == "Contents" else "Prefix", "")
        key = text if plain else unquote_plus(text, errors="surrogateescape")
        name = key[len(wanted.prefix) :]
        if not name or not key.startswith(wanted.prefix) or not wanted.takes(name):
            continue
        if name.endswith("/"):
            yield Entry(kind=Kind.DIRECTORY, name=name.rstrip("/") or name)
        else:
            yield _file(name, record)


def _file(name: str, record: dict[str, str]) -> Entry:
    size = record.get("Size", "")
    etag = record.get("ETag", "")
    digest = _MD5.fullmatch(etag)
    return Entry(
        kind=Kind.FILE,
        name=name,
        size=int(size) if size.isascii() and size.isdigit() else None,
        mtime=moment(record.get("LastModified", "")),
        owner=record.get("DisplayName", ""),
        etag=etag,
        checksum=f"md5:{digest[1].lower()}" if digest else "",
    )


def _next(document: Document) -> tuple[tuple[str, str], ...]:
    """Return the question for the following page, nothing at the end."""
    fields = document.fields
    if fields.get("IsTruncated", "") != "true":
        return ()
    if token := fields.get("NextContinuationToken", ""):
        return (("continuation-token", token),)
    # services that only know the first version of listings
    keys = [record.get("Key") or record.get("Prefix", "") for _, record in document.records]
    marker = fields.get("NextMarker", "") or (keys[-1] if keys else "")
    if not marker:
        raise RemoteTransient("a listing goes on and tells not where", phase=Phase.LIST)
    if fields.get("EncodingType", "") == "url":
        marker = unquote_plus(marker)
    return (("marker", marker), ("start-after", marker))


def moment(text: str) -> datetime | None:
    """Return a time of S3's answers, None for none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
