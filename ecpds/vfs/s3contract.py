"""What the S3 portal sees of the hub beyond `vfs.contract`: buckets, keys, attributes, parts.

A bucket is the top of a destination; the bucket named like the user is the user's whole tree.  A
key that ends with a slash is a made directory.  All paths are those of `vfs.contract`, the session
of an S3 client is an `ObjectSession`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, NamedTuple

from ecpds.vfs.contract import Node, Reader, Session, Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a client keeps with an object, beside its content."""

    fields: Mapping[str, str] = field(default_factory=dict)  # content-type, cache-control, …
    metadata: Mapping[str, str] = field(default_factory=dict)  # x-amz-meta-*, without that
    tags: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)  # crc32, … as Base64
    parts: Sequence[tuple[int, int]] = ()  # count and size of equal parts, in their order

    def __bool__(self) -> bool:
        return bool(self.fields or self.metadata or self.tags or self.checksums or self.parts)

    def dump(self) -> str:
        """Return the text that is stored, empty for nothing."""
        if not self:
            return ""
        given = {name: getattr(self, name) for name in _NAMES}  # asdict copies every text
        return _encode({name: value for name, value in given.items() if value})

    @classmethod
    def load(cls, text: str) -> Attributes:
        """Read what `dump` wrote."""
        if not text:
            return NOTHING
        given: dict[str, Any] = json.loads(text)
        given["parts"] = tuple((count, size) for count, size in given.get("parts", ()))
        return cls(**given)


_NAMES: Final = tuple(one.name for one in fields(Attributes))
_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
NOTHING: Final = Attributes()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyQuery:
    """Which keys of a bucket; `after` and `position` (of the page before) exclude each other."""

    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    position: str = ""
    limit: int = 1_000


class KeyLine(NamedTuple):
    """A key, or a common prefix (no `etag`); a page has a thousand of them."""

    name: str
    size: int = 0
    micros: int = 0  # time, since 1970
    etag: str = ""  # quoted


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Some keys in the order of their bytes; `position` goes on, empty: there are no more."""

    lines: Sequence[KeyLine]
    position: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One bucket of the user."""

    name: str
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectWish:
    """How an object is to be written."""

    size: int | None = None
    exclusive: bool = False
    if_match: Sequence[str] = ()
    attributes: Attributes = NOTHING


class ObjectUpload(ABC):
    """An object under way; use its writer, then `commit` here instead of there."""

    writer: Writer
    attributes: Attributes  # may be replaced until the commit: checksums come last

    @abstractmethod
    async def commit(self, size: int | None, etag: str, digests: Mapping[str, str]) -> Node:
        """Store the object; `digests` (hex) were computed by us while the bytes came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartInfo:
    """A stored part."""

    number: int
    size: int
    md5: str  # hex
    checksums: Mapping[str, str]
    stored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadInfo:
    """An upload in parts."""

    id: str
    path: str
    created_at: datetime
    attributes: Attributes
    checksum: str = ""  # algorithm that the parts are to come with
    whole: bool = False  # whether the checksum is one of the whole object
    etag: str = ""  # set once it is complete


class PartWriter(ABC):
    """A part under way; leaving the `async with` block without `finish` stores nothing."""

    descriptor: int
    offset: int  # where in that file the part begins
    received: int = 0  # bytes
    rate: int | None = None

    @abstractmethod
    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write behind what came before; raises as `Writer.write`."""

    def pause(self) -> float:
        """Return the seconds to sleep before the next block is taken from the client."""
        return 0.0

    @abstractmethod
    async def finish(self, *, md5: str, checksums: Mapping[str, str]) -> PartInfo:
        """Make the part durable; return what is stored of it.  This is the acknowledgement."""

    @abstractmethod
    async def close(self) -> None:
        """Release; may be called twice."""

    async def __aenter__(self) -> PartWriter:
        """Return itself."""
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Release."""
        await self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an upload is to be completed: which parts, and on which conditions."""

    parts: Sequence[PartInfo]
    etag: str
    attributes: Attributes
    exclusive: bool = False
    if_match: Sequence[str] = ()


class ObjectSession(Session):
    """A session of an S3 client."""

    @abstractmethod
    async def buckets(self) -> Sequence[Bucket]:
        """Return the buckets by name; needs dir."""

    @abstractmethod
    def bucket_path(self, name: str) -> str:
        """Return the path of a bucket, ending with a slash; NotFound for any other."""

    @abstractmethod
    async def keys(self, bucket: str, query: KeyQuery) -> KeyPage:
        """Return keys below the path of a bucket; needs dir on the directory of the prefix."""

    @abstractmethod
    async def find(self, path: str) -> tuple[Node, Attributes]:
        """Return an object, or the directory made at a path that ends with a slash."""

    @abstractmethod
    async def open_object(self, path: str) -> tuple[Reader, Attributes]:
        """Open an object; needs get."""

    @abstractmethod
    async def write_object(self, path: str, wish: ObjectWish) -> ObjectUpload:
        """Begin an upload; as `open_write`."""

    @abstractmethod
    async def copy_object(
        self,
        source: str,
        target: str,
        wish: ObjectWish,
        judge: Callable[[Node], None],
        change: Callable[[Attributes], Attributes],
    ) -> Node:
        """Copy an object without moving its content; `judge` may refuse the source.

        `change` makes the attributes of the copy from those of the source.
        """

    @abstractmethod
    async def delete_object(self, path: str) -> None:
        """Delete an object or, at a slash, the directory that was made; absent ones are fine."""

    @abstractmethod
    async def set_tags(self, path: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object; needs put."""

    # --- parts -------------------------------------------------------------------------------

    @abstractmethod
    async def begin_upload(
        self, path: str, attributes: Attributes, *, checksum: str, whole: bool
    ) -> str:
        """Begin an upload in parts; return its id.  Needs put."""

    @abstractmethod
    async def upload(self, path: str, number: str) -> UploadInfo:
        """Return an upload of this user at that path; NotFound."""

    @abstractmethod
    async def uploads_of(
        self, bucket: str, prefix: str, after: tuple[str, str], limit: int
    ) -> Sequence[UploadInfo]:
        """Return the open uploads of this user below a bucket, by path and id, behind `after`."""

    @abstractmethod
    async def write_part(self, upload: UploadInfo, number: int, size: int | None) -> PartWriter:
        """Begin a part of about `size` bytes."""

    @abstractmethod
    async def copy_part(
        self,
        upload: UploadInfo,
        number: int,
        source: str,
        span: Callable[[Node], tuple[int, int]],
    ) -> PartWriter:
        """Fill a part from an object without passing through this process; it is not finished.

        `span` chooses offset and length, and may refuse the source.
        """

    @abstractmethod
    async def parts(
        self, upload: UploadInfo, *, after: int = 0, limit: int = 10_000
    ) -> Sequence[PartInfo]:
        """Return the stored parts by number."""

    @abstractmethod
    async def complete(self, upload: UploadInfo, ending: Ending) -> Node:
        """Make the parts an object; all or nothing."""

    @abstractmethod
    async def abort(self, upload: UploadInfo) -> None:
        """Forget an upload and its parts."""
