"""SFTP version 3 on the wire: numbers, fields, attributes and answers.

Pure encoding: bytes in, values out, and back.  Everything that reads knows where it must end; a
request that is cut short or carries a length beyond its packet raises `Malformed`.

Spec: draft-ietf-secsh-filexfer-02 sections 3-7; OpenSSH PROTOCOL section 4; check-file of
draft-ietf-secsh-filexfer-extensions-00 section 3.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import TYPE_CHECKING

from ecpds.model.errors import Malformed

if TYPE_CHECKING:
    from ecpds.vfs.contract import Node

VERSION = 3

# Requests.
INIT, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT = 1, 3, 4, 5, 6, 7, 8, 9
FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH = 10, 11, 12, 13, 14, 15, 16
STAT, RENAME, READLINK, SYMLINK, EXTENDED = 17, 18, 19, 20, 200
# Answers.
VERSION_REPLY, STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 2, 101, 102, 103, 104, 105, 201
# Status codes.
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, OP_UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
# Flags of OPEN.
F_READ, F_WRITE, F_APPEND, F_CREATE, F_TRUNCATE, F_EXCLUSIVE = 1, 2, 4, 8, 16, 32
# Flags of attributes.
A_SIZE, A_OWNER, A_MODE, A_TIMES, A_EXTENDED = 1, 2, 4, 8, 0x80000000

HANDLE_BYTES = 4
# What OpenSSH's own server accepts; clients that do not ask for limits stay far below.
MAX_PACKET = 256 * 1024
MAX_DATA = MAX_PACKET - 1024

FILE_MODE = stat.S_IFREG | 0o644
DIRECTORY_MODE = stat.S_IFDIR | 0o750

# type, request id, length of the handle, handle, offset, length
TRANSFER = Struct(f">BII{HANDLE_BYTES}sQI")
_U32 = Struct(">I")
_U64 = Struct(">Q")
_HEAD = Struct(">IBI")
_DATA_HEAD = Struct(">IBII")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_RECENT = timedelta(days=182)
_MAX_EXTENDED = 16


class Fields:
    """Reads the fields of one request in their order."""

    __slots__ = ("_data", "_place")

    def __init__(self, data: bytes, place: int = 0) -> None:
        self._data = data
        self._place = place

    def _take(self, count: int) -> int:
        start = self._place
        if count > len(self._data) - start:
            raise Malformed("the request is cut short")
        self._place = start + count
        return start

    def u32(self) -> int:
        """Return the next 32 bits."""
        value: int = _U32.unpack_from(self._data, self._take(4))[0]
        return value

    def u64(self) -> int:
        """Return the next 64 bits."""
        value: int = _U64.unpack_from(self._data, self._take(8))[0]
        return value

    def string(self) -> bytes:
        """Return the next string as bytes."""
        count = self.u32()
        start = self._take(count)
        return self._data[start : start + count]

    def text(self) -> str:
        """Return the next string as text; names are UTF-8."""
        try:
            return self.string().decode()
        except UnicodeDecodeError as error:
            raise Malformed("names are UTF-8") from error

    def more(self) -> bool:
        """Tell whether anything is left."""
        return self._place < len(self._data)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a client may ask to be set; None where it said nothing."""

    size: int | None = None
    mode: int | None = None
    mtime: datetime | None = None


def read_attributes(fields: Fields) -> Attributes:
    """Read an attribute block; owner, access time and extensions are read over."""
    if not fields.more():  # some clients leave the empty block out
        return Attributes()
    flags = fields.u32()
    size = fields.u64() if flags & A_SIZE else None
    if flags & A_OWNER:
        fields.u64()
    mode = fields.u32() if flags & A_MODE else None
    mtime = None
    if flags & A_TIMES:
        fields.u32()
        mtime = datetime.fromtimestamp(fields.u32(), UTC)
    if flags & A_EXTENDED:
        _skip_extended(fields)
    return Attributes(size, mode, mtime)


def _skip_extended(fields: Fields) -> None:
    count = fields.u32()
    if count > _MAX_EXTENDED:
        raise Malformed("too many extended attributes")
    for _ in range(2 * count):
        fields.string()


def string(value: bytes) -> bytes:
    """Encode a string."""
    return _U32.pack(len(value)) + value


def u32(value: int) -> bytes:
    """Encode 32 bits."""
    return _U32.pack(value)


def u64(value: int) -> bytes:
    """Encode 64 bits."""
    return _U64.pack(value)


def answer(kind: int, request: int, body: bytes) -> bytes:
    """Encode a whole answer."""
    return _HEAD.pack(5 + len(body), kind, request) + body


def data_head(request: int, count: int) -> bytes:
    """Encode what precedes `count` bytes of file data."""
    return _DATA_HEAD.pack(9 + count, DATA, request, count)


def status(request: int, code: int, message: str = "") -> bytes:
    """Encode a status answer; without a message the code's own name."""
    text = (message or _MESSAGES.get(code, "Failure")).encode()
    return answer(STATUS, request, _U32.pack(code) + string(text) + _LANGUAGE)


def attributes(node: Node) -> bytes:
    """Encode the attributes of a node; owner numbers mean nothing here and are left out."""
    mode = DIRECTORY_MODE if node.is_directory else FILE_MODE
    return _attributes(node.size, mode, node.mtime)


def file_attributes(size: int, mtime: datetime | None) -> bytes:
    """Encode the attributes of a file that is still being written."""
    return _attributes(size, FILE_MODE, mtime)


def _attributes(size: int, mode: int, mtime: datetime | None) -> bytes:
    if mtime is None:
        return _U32.pack(A_SIZE | A_MODE) + _U64.pack(size) + _U32.pack(mode)
    seconds = _seconds(mtime)
    return b"".join(
        (
            _U32.pack(A_SIZE | A_MODE | A_TIMES),
            _U64.pack(size),
            _U32.pack(mode),
            _U32.pack(seconds),
            _U32.pack(seconds),
        )
    )


def _seconds(when: datetime) -> int:
    """Return seconds since 1970, held within what 32 bits can say (until 2106)."""
    return min(max(int(when.timestamp()), 0), 0xFFFFFFFF)


def name_entry(node: Node, now: datetime) -> bytes:
    """Encode one member of a directory listing."""
    return string(node.name.encode()) + string(long_name(node, now).encode()) + attributes(node)


def one_name(request: int, name: str) -> bytes:
    """Encode the answer to REALPATH: one name, of which nothing else is told."""
    path = string(name.encode())
    return answer(NAME, request, u32(1) + path + path + u32(0))


def long_name(node: Node, now: datetime) -> str:
    """Return the line that `ls -l` would print; clients parse it, so it has no locale."""
    when = node.mtime or datetime.fromtimestamp(0, UTC)
    day = f"{_MONTHS[when.month - 1]} {when.day:2d}"
    recent = -timedelta(days=1) < now - when < _RECENT
    clock = f"{when:%H:%M}" if recent else f"{when.year:5d}"
    mode = stat.filemode(DIRECTORY_MODE if node.is_directory else FILE_MODE)
    owner, group = (_word(text) for text in (node.owner, node.group))
    return f"{mode} {1:4d} {owner:<8} {group:<8} {node.size:12d} {day} {clock} {node.name}"


def _word(text: str) -> str:
    """Return `text` as one column."""
    return "_".join(text.split()) or "-"


_LANGUAGE = string(b"en")
_MESSAGES = {
    OK: "Success",
    EOF: "End of file",
    NO_SUCH_FILE: "No such file",
    PERMISSION_DENIED: "Permission denied",
    FAILURE: "Failure",
    BAD_MESSAGE: "Bad message",
    OP_UNSUPPORTED: "Operation unsupported",
}
