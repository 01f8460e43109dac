"""Header tables of GRIB, BUFR and NetCDF files, read without any library of theirs.

The files are other people's: every length is checked against what is there, nothing is unpacked,
and no more than a stated number of messages, variables and bytes is looked at.
Spec: WMO Manual on Codes I.2 (FM 92 GRIB 1 and 2, FM 94 BUFR 3 and 4); NetCDF classic format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MOST_ROWS: Final = 100
"""Messages or variables of one table."""

MOST_BYTES: Final = 1024 * 1024
"""Bytes of a NetCDF header."""

SECTIONS: Final = 4_096  # bytes of a message in which its headers have to lie
LEAD: Final = 4_096  # bytes in front of the first message: bulletin headers
Read = Callable[[int, int], bytes]  # offset and length to bytes, fewer at the end

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a file says of itself."""

    kind: str
    columns: Row
    rows: Sequence[Row]
    note: str = ""


class _Bad(Exception):
    """A header that cannot be read."""


def table_of(read: Read, size: int) -> Table | None:
    """Return the header table, None for a file of another kind or a broken one."""
    start = read(0, LEAD)
    try:
        if start[:3] == b"CDF":
            return _netcdf(read(0, MOST_BYTES))
        if start[:8] == b"\x89HDF\r\n\x1a\n":
            return Table(
                kind="NetCDF-4 or HDF5", columns=(), rows=(), note="Its header is not shown."
            )
        if (place := start.find(b"GRIB")) >= 0:
            return _messages("GRIB", GRIB, _grib, read, place, size)
        if (place := start.find(b"BUFR")) >= 0:
            return _messages("BUFR", BUFR, _bufr, read, place, size)
    except (_Bad, struct.error, IndexError, UnicodeDecodeError):
        return None
    return None


def _messages(
    kind: str,
    columns: Row,
    parse: Callable[[bytes], tuple[int, Row]],
    read: Read,
    place: int,
    size: int,
) -> Table | None:
    rows: list[Row] = []
    note = ""
    while place < size and len(rows) < MOST_ROWS:
        block = read(place, SECTIONS)
        gap = block.find(kind.encode())
        if gap < 0:
            break
        place, block = place + gap, read(place + gap, SECTIONS)
        length, row = parse(block)
        if length < 8:
            raise _Bad
        rows.append((str(len(rows) + 1), *row, str(length)))
        if place + length > size:
            note = "The last message is cut off."
        place += length
    if place < size and len(rows) == MOST_ROWS:
        note = f"Only the first {MOST_ROWS} messages are shown."
    return Table(kind=kind, columns=columns, rows=rows, note=note) if rows else None


# --- GRIB ------------------------------------------------------------------------------------

GRIB: Final[Row] = (
    "No.", "Edition", "Centre", "Parameter", "Level", "Reference time", "Step", "Points", "Bytes",
)  # fmt: skip


def _time(year: int, *parts: int) -> str:
    month, day, hour, minute = parts
    year += 2000 if year < 100 else 0  # seen in BUFR 4 of 2015
    return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}"


def _number(block: bytes, place: int, length: int) -> int:
    part = block[place : place + length]
    if len(part) < length:
        raise _Bad
    return int.from_bytes(part, "big")


def _grib(block: bytes) -> tuple[int, Row]:
    edition = _number(block, 7, 1)
    if edition == 1:
        return _number(block, 4, 3), _grib1(block)
    if edition == 2:
        return _number(block, 8, 8), _grib2(block)
    raise _Bad


def _grib1(block: bytes) -> Row:
    pds = block[8:]
    century = _number(pds, 24, 1)
    year = (century - 1) * 100 + _number(pds, 12, 1)
    parts = (_number(pds, place, 1) for place in (13, 14, 15, 16))
    parameter = f"{_number(pds, 3, 1)}.{_number(pds, 8, 1)}"
    level = f"{_number(pds, 9, 1)}: {_number(pds, 10, 2)}"
    return ("1", str(_number(pds, 4, 1)), parameter, level, _time(year, *parts),
            str(_number(pds, 18, 1)), "")  # fmt: skip


def _grib2(block: bytes) -> Row:
    found = dict(_sections(block))
    one, three, four = found.get(1, b""), found.get(3, b""), found.get(4, b"")
    when = _time(_number(one, 12, 2), *(_number(one, place, 1) for place in (14, 15, 16, 17)))
    parameter = level = step = ""
    if four:
        parameter = f"{_number(block, 6, 1)}.{_number(four, 9, 1)}.{_number(four, 10, 1)}"
        if _number(four, 7, 2) <= 15:  # templates that begin alike
            step = str(_number(four, 18, 4))
            level = f"{_number(four, 22, 1)}: {_scaled(four, 23)}"
    points = str(_number(three, 6, 4)) if three else ""
    return ("2", str(_number(one, 5, 2)), parameter, level, when, step, points)


def _scaled(block: bytes, place: int) -> str:
    scale, value = _number(block, place, 1), _number(block, place + 1, 4)
    if value == 0xFFFFFFFF:
        return ""
    if scale & 0x80:  # negative, and 0xFF is missing
        return str(value * 10 ** min(scale & 0x7F, 9)) if scale != 0xFF else str(value)
    return f"{value / 10**scale:g}" if scale <= 20 else str(value)


def _sections(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the sections of a GRIB 2 message as far as they lie in the block, each kind once."""
    place, seen = 16, 0
    while place + 5 <= len(block) and block[place : place + 4] != b"7777" and seen < 16:
        length, number = _number(block, place, 4), _number(block, place + 4, 1)
        if length < 5:
            raise _Bad
        yield number, block[place : place + length]
        if number >= 4:
            return
        place, seen = place + length, seen + 1


# --- BUFR ------------------------------------------------------------------------------------

BUFR: Final[Row] = (
    "No.", "Edition", "Centre", "Category", "Tables", "Typical time", "Subsets", "Bytes",
)  # fmt: skip


def _bufr(block: bytes) -> tuple[int, Row]:
    length, edition = _number(block, 4, 3), _number(block, 7, 1)
    one = block[8:]
    if edition == 4:
        centre, category = _number(one, 4, 2), f"{_number(one, 10, 1)}.{_number(one, 11, 1)}"
        tables, has_two = _number(one, 13, 1), _number(one, 9, 1) & 0x80
        when = _time(_number(one, 15, 2), *(_number(one, place, 1) for place in (17, 18, 19, 20)))
    elif edition in (2, 3):
        centre, category = _number(one, 5, 1), f"{_number(one, 8, 1)}.{_number(one, 9, 1)}"
        tables, has_two = _number(one, 10, 1), _number(one, 7, 1) & 0x80
        year = _number(one, 12, 1)
        year += 1900 if year > 50 else 2000
        when = _time(year, *(_number(one, place, 1) for place in (13, 14, 15, 16)))
    else:
        raise _Bad
    place = 8 + _number(one, 0, 3)
    if has_two:
        place += _number(block, place, 3)
    subsets = str(_number(block, place + 4, 2)) if place + 6 <= len(block) else ""
    return length, (str(edition), str(centre), category, str(tables), when, subsets)


# --- NetCDF ----------------------------------------------------------------------------------

NETCDF: Final[Row] = ("Variable", "Type", "Dimensions", "Units", "Long name")
_TYPES: Final = {1: "byte", 2: "char", 3: "short", 4: "int", 5: "float", 6: "double", 7: "ubyte",
                 8: "ushort", 9: "uint", 10: "int64", 11: "uint64"}  # fmt: skip
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_MOST: Final = 10_000  # dimensions, attributes and variables of one list


class _Cdf:
    """Reads the header of the classic formats piece by piece."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._place = 4
        version = block[3] if len(block) > 3 else 0
        if version not in (1, 2, 5):
            raise _Bad
        self._count = 8 if version == 5 else 4
        self._offset = 4 if version == 1 else 8

    def take(self, length: int) -> int:
        found = _number(self._block, self._place, length)
        self._place += length
        return found

    def count(self) -> int:
        return self.take(self._count)

    def bytes(self, length: int) -> bytes:
        part = self._block[self._place : self._place + length]
        if len(part) < length:
            raise _Bad
        self._place += length + -length % 4
        return part

    def name(self) -> str:
        return self.bytes(self.count()).decode("utf-8", "replace")

    def items(self, tag: int) -> range:
        found, count = self.take(4), self.count()
        if (found not in (0, tag)) or (found == 0 and count) or count > _MOST:
            raise _Bad
        return range(count)

    def attributes(self) -> dict[str, str]:
        found = {}
        for _ in self.items(0x0C):
            name, kind, count = self.name(), self.take(4), self.count()
            if kind not in _SIZES:
                raise _Bad
            raw = self.bytes(count * _SIZES[kind])
            if kind == 2:
                found[name] = raw.decode("utf-8", "replace")[:200]
        return found

    def variable(self, dimensions: Sequence[tuple[str, int]]) -> Row:
        name = self.name()
        wanted = [self.count() for _ in range(min(self.count(), 1024))]
        attributes, kind = self.attributes(), self.take(4)
        self.count()
        self.take(self._offset)
        shown = ", ".join(f"{dimensions[one][0]}={dimensions[one][1]}" for one in wanted)
        return (name, _TYPES.get(kind, "?"), shown, attributes.get("units", ""),
                attributes.get("long_name", attributes.get("standard_name", "")))  # fmt: skip


def _netcdf(block: bytes) -> Table:
    reader = _Cdf(block)
    records = reader.count()
    dimensions = []
    for _ in reader.items(0x0A):
        name, length = reader.name(), reader.count()
        dimensions.append((name, length or records))
    title = reader.attributes().get("title", "")
    count = reader.items(0x0B)
    rows = [reader.variable(dimensions) for _ in count[:MOST_ROWS]]
    note = title if len(count) <= MOST_ROWS else f"{title} ({len(count)} variables)".strip()
    return Table(kind="NetCDF", columns=NETCDF, rows=rows, note=note)
