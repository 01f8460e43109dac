"""The file of a backup: a tar of plain files, a manifest at its end, a digest behind it.

    backup.json          what this is: form, release, schema, time, volumes
    ecpds.toml, admin.token, keys/…, tls/…, ssh/…
    objects/<n>/…        content of volume n, with --content
    ecpds.db             the store as it was at one moment
    manifest.jsonl       a line for each of the above: name, size, SHA-256
    <tar ends>           ecpds-backup sha256 <digest of all bytes before>

Only plain files with short names below known directories are written and read: whatever else a
forged file has (links, devices, `..`, long names, extended headers) is refused before a byte of it
is stored.  Any tar can list and unpack it.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

from ecpds.cli.codes import CommandError, Exit

BLOCK: Final = 1024 * 1024
UNIT: Final = 512
RECORD: Final = 10240
FORM: Final = 1
HEAD: Final = "backup.json"
STORE: Final = "ecpds.db"
MANIFEST: Final = "manifest.jsonl"
TREES: Final = ("keys", "tls", "ssh")
SINGLE: Final = (HEAD, STORE, MANIFEST, "ecpds.toml", "admin.token")
MOST_HEAD: Final = 1024 * 1024
MOST_LINE: Final = 4096
OBJECT: Final = re.compile(r"objects/(\d{1,4})/(\d{8}/\d{2}/[0-9a-f]{1,64})")
_PART: Final = re.compile(r"[^/\x00-\x1f\x7f]{1,90}")
_MARK: Final = b"ecpds-backup sha256 "
TRAILER: Final = len(_MARK) + 65


class Damaged(CommandError):
    """A file is no backup, or not the one that was written."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.UNEXPECTED, reason="damaged")


def check_name(name: str) -> str:
    """Return a name that may stand in a backup; Damaged for all others."""
    if name in SINGLE or OBJECT.fullmatch(name):
        return name
    parts = name.split("/")
    plain = all(_PART.fullmatch(part) and part not in {".", ".."} for part in parts)
    if not plain or len(parts) < 2 or len(parts) > 6 or parts[0] not in TREES:
        raise Damaged(f"{name!r} is no name of a file in a backup")
    if len(name.encode("utf-8", "surrogateescape")) > 99:
        raise Damaged(f"{name!r} is too long for a backup")
    return name


def manifest_line(name: str, size: int, digest: str) -> bytes:
    """Return what the manifest says of one member."""
    return json.dumps({"name": name, "size": size, "sha256": digest}).encode() + b"\n"


class ArchiveWriter:
    """Writes members one after the other; nothing is kept in memory."""

    def __init__(self, sink: IO[bytes], manifest: IO[bytes], *, mtime: int) -> None:
        """`manifest`: a file to collect the lines in, empty, open for reading too."""
        self._sink, self._manifest, self._mtime = sink, manifest, mtime
        self._whole = hashlib.sha256()
        self.size = 0

    def add(self, name: str, size: int, blocks: Iterable[bytes]) -> None:
        """Add a member of exactly that size; CommandError when it has more or fewer bytes."""
        digest = self._member(check_name(name), size, blocks)
        self._manifest.write(manifest_line(name, size, digest))

    def add_text(self, name: str, data: bytes) -> None:
        """Add a small member."""
        self.add(name, len(data), [data])

    def finish(self) -> None:
        """Add the manifest, the end of the tar and the digest of it all."""
        size = self._manifest.tell()
        self._manifest.seek(0)
        self._member(MANIFEST, size, iter(lambda: self._manifest.read(BLOCK), b""))
        self._write(bytes(2 * UNIT))
        self._write(bytes(-self.size % RECORD))
        self._sink.write(_MARK + self._whole.hexdigest().encode() + b"\n")

    def _member(self, name: str, size: int, blocks: Iterable[bytes]) -> str:
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size, self._mtime, 0o600
        self._write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        one, count = hashlib.sha256(), 0
        for block in blocks:
            count += len(block)
            if count > size:
                break
            one.update(block)
            self._write(block)
        if count != size:
            raise CommandError(f"{name} changed while it was read")
        self._write(bytes(-size % UNIT))
        return one.hexdigest()

    def _write(self, data: bytes) -> None:
        self._whole.update(data)
        self._sink.write(data)
        self.size += len(data)


@dataclass(slots=True)
class Member:
    """One file of a backup; its blocks are to be read before the next one."""

    name: str
    size: int
    blocks: Iterator[bytes]


class ArchiveReader:
    """Reads members one after the other and says at the end whether all was as it was written."""

    def __init__(self, source: IO[bytes], size: int, lines: IO[bytes]) -> None:
        """`size` of the file in bytes; `lines`: an empty file, for what the manifest should say."""
        self._source, self._lines = source, lines
        self._left = size - TRAILER
        self._whole = hashlib.sha256()
        self.head: dict[str, Any] = {}
        self.count = 0
        self.size = 0

    def members(self) -> Iterator[Member]:
        """Yield all but head and manifest; Damaged as soon as something is wrong.

        What was yielded may be believed only when this has come to its end.
        """
        if self._left < RECORD:
            raise Damaged("this is no backup: it is too short")
        self.head = self._read_head()
        while (one := self._next()) is not None:
            if one.name == MANIFEST:
                self._compare(one)
                self._end()
                return
            yield one
        raise Damaged("the manifest is missing")

    def _read_head(self) -> dict[str, Any]:
        first = self._next()
        if first is None or first.name != HEAD or first.size > MOST_HEAD:
            raise Damaged("this is no backup of ecpds")
        try:
            head = json.loads(b"".join(first.blocks))
        except ValueError:
            raise Damaged(f"{HEAD} is no JSON") from None
        if not isinstance(head, dict) or not isinstance(head.get("volumes"), list):
            raise Damaged(f"{HEAD} is none of ours")
        if head.get("form") != FORM:
            raise Damaged(f"a backup of form {head.get('form')!r} is not known to this release")
        return head

    def _next(self) -> Member | None:
        block = self._exactly(UNIT)
        if not any(block):
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise Damaged(f"a header is damaged: {error}") from None
        if info.type != tarfile.REGTYPE or info.linkname:
            raise Damaged(f"{info.name!r} is no plain file")
        if info.size < 0 or info.size > self._left:
            raise Damaged(f"{info.name!r} is longer than the whole")
        return Member(check_name(info.name), info.size, self._blocks(info.name, info.size))

    def _blocks(self, name: str, size: int) -> Iterator[bytes]:
        one, left = hashlib.sha256(), size
        while left:
            block = self._exactly(min(left, BLOCK))
            left -= len(block)
            one.update(block)
            yield block
        self._exactly(-size % UNIT)
        if name != MANIFEST:
            self._lines.write(manifest_line(name, size, one.hexdigest()))
            self.count += 1
            self.size += size

    def _compare(self, manifest: Member) -> None:
        """Compare the manifest with what was read; line by line, as both may be long."""
        self._lines.seek(0)
        left = manifest.size
        for block in manifest.blocks:
            left -= len(block)
            if self._lines.read(len(block)) != block:
                raise Damaged("the files are not those of the manifest")
        if self._lines.read(1):
            raise Damaged("the manifest names fewer files than there are")

    def _end(self) -> None:
        while self._left:
            if any(self._exactly(min(self._left, BLOCK))):
                raise Damaged("there is something behind the end")
        trailer = self._source.read(TRAILER + 1)
        if trailer != _MARK + self._whole.hexdigest().encode() + b"\n":
            raise Damaged("the digest of the whole file differs")

    def _exactly(self, count: int) -> bytes:
        data = self._source.read(count) if count <= self._left else b""
        if len(data) != count:
            raise Damaged("it ends too early")
        self._left -= count
        self._whole.update(data)
        return data


def blocks_of(file: IO[bytes], watch: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """Yield what a file has."""
    while block := file.read(BLOCK):
        if watch is not None:
            watch(len(block))
        yield block
