"""A multipart form with one file, streamed from where it is read (RFC 7578)."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Final

from ecpds.cli.codes import CommandError, Exit

BLOCK: Final = 256 * 1024  # bytes


class Form:
    """The body of one upload; counts and sums what it reads.

    With a `size` exactly that many bytes must come: a file that is still being written is refused
    instead of being stored half.
    """

    def __init__(
        self,
        fields: Mapping[str, str],
        name: str,
        content: IO[bytes],
        *,
        size: int | None,
        sha256: bool = False,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        self._boundary = f"ecpds{os.urandom(12).hex()}"
        self._head = _head(self._boundary, fields, name)
        self._tail = f"\r\n--{self._boundary}--\r\n".encode()
        self._content, self._size = content, size
        self._watch = watch
        self._sha256 = hashlib.sha256() if sha256 else None
        self._adler32 = zlib.adler32(b"")
        self.count = 0

    @property
    def content_type(self) -> str:
        """Return the Content-Type."""
        return f"multipart/form-data; boundary={self._boundary}"

    @property
    def length(self) -> int | None:
        """Return the Content-Length, None when the size is not known before."""
        if self._size is None:
            return None
        return len(self._head) + self._size + len(self._tail)

    @property
    def can_repeat(self) -> bool:
        """Whether the content can be read from its start again."""
        return self._size is not None

    @property
    def adler32(self) -> str:
        """Return the checksum of what was read, as the store writes it."""
        return f"{self._adler32:08x}"

    @property
    def sha256(self) -> str | None:
        """Return the SHA-256 of what was read, None when it is not wanted."""
        return None if self._sha256 is None else self._sha256.hexdigest()

    def blocks(self) -> Iterator[bytes]:
        """Yield the body; CommandError when the content cannot be read, shrinks or grows."""
        if self.count:
            self._rewind()
        yield self._head
        while block := self._read():
            yield block
        if self._size is not None and self.count != self._size:
            raise CommandError("it changed while it was read", Exit.UNEXPECTED)
        yield self._tail

    def _read(self) -> bytes:
        try:
            block = self._content.read(BLOCK)
        except OSError as error:
            raise CommandError(f"cannot be read: {error.strerror}", Exit.USAGE) from None
        self.count += len(block)
        if self._size is not None and self.count > self._size:
            raise CommandError("it grows while it is read", Exit.UNEXPECTED)
        self._adler32 = zlib.adler32(block, self._adler32)
        if self._sha256 is not None:
            self._sha256.update(block)
        if self._watch is not None:
            self._watch(len(block))
        return block

    def _rewind(self) -> None:
        self._content.seek(0)
        if self._watch is not None:
            self._watch(-self.count)
        self._adler32, self.count = zlib.adler32(b""), 0
        if self._sha256 is not None:
            self._sha256 = hashlib.sha256()


def _head(boundary: str, fields: Mapping[str, str], name: str) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    ]
    shown = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{shown}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    try:
        return "".join(parts).encode()
    except UnicodeEncodeError:
        message = "the name is not UTF-8: give another with --target and --original"
        raise CommandError(message, Exit.USAGE) from None
