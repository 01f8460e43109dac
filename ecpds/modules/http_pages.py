"""Pages that list files: HTML links, FTP-like text, JSON, CSV and XML, as found references.

HTML is read as a stream: links are all that is wanted of it, and a page of 100,000 of them needs no
more memory than one of ten.  The other forms are read as a whole, within the largest page size.

Spec: transfer-modules-protocols.md 3.3-3.4.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote
from xml.parsers import expat

from ecpds.model.dates import MONTHS
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import Phase, RemoteConfig, RemoteTransient
from ecpds.model.listing import ListingFormat

MAX_SEGMENT: Final = 64 * 1024
"""Characters between two links that are kept in sight."""

MAX_DEPTH: Final = 100
"""Levels of an XML document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a page tells of one file.

    `reference` is an address relative to the page, or with `is_plain` a name that means itself.
    """

    reference: str
    is_plain: bool = False
    name: str = ""  # to be used instead of the last part of the address
    kind: Kind = Kind.FILE
    size: int | None = None
    mtime: datetime | None = None
    etag: str = ""
    checksum: str = ""


# --- HTML ----------------------------------------------------------------------------------------

_ANCHOR: Final = re.compile(r"<a\s([^<>]*)>", re.IGNORECASE)
_HREF: Final = re.compile(
    r"(?:^|\s)href\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE
)
_NOISE: Final = re.compile(r"<!--|<script\b|<style\b", re.IGNORECASE)
_NOISE_ENDS: Final = {"<!--": "-->", "<script": "</script", "<style": "</style"}
_TAG: Final = re.compile(r"<[^<>]*>")
_ROW_END: Final = re.compile(r"</?tr\b", re.IGNORECASE)
_LINE_END: Final = re.compile(r"\n|</?li\b", re.IGNORECASE)
_FACTS: Final = re.compile(
    r"(?:(?P<y1>\d{4})-(?P<m1>\d{2}|[A-Z][a-z]{2})-(?P<d1>\d{2})"
    r"|(?P<d2>\d{1,2})-(?P<m2>[A-Z][a-z]{2})-(?P<y2>\d{4}))"
    r"[ T]+(?P<H>\d{2}):(?P<M>\d{2})(?::(?P<S>\d{2}))?(?:\s+(?P<size>\d{1,18})(?=\s|$))?"
)
_MONTHS: Final = {name: number for number, name in enumerate(MONTHS, 1)}


class HtmlPage:
    """Links out of HTML that comes in pieces, with date and size where they stand beside.

    A rounded size (`1.2K`) is none.
    """

    def __init__(self, zone: tzinfo = UTC) -> None:
        self._zone = zone
        self._rest = ""

    def feed(self, text: str) -> Iterator[Found]:
        """Take a piece and give the links that are complete."""
        rest, held = _without_noise(self._rest + text)
        anchors = list(_ANCHOR.finditer(rest))
        for anchor, following in pairwise(anchors):
            yield from self._found(anchor[1], rest[anchor.end() : following.start()])
        keep = anchors[-1].start() if anchors else max(len(rest) - 1024, 0)
        if len(rest) - keep > MAX_SEGMENT and anchors:
            yield from self._found(anchors[-1][1], rest[anchors[-1].end() :])
            keep = len(rest)
        self._rest = rest[keep:] + held

    def close(self) -> Iterator[Found]:
        """Give the last link."""
        anchor = _ANCHOR.search(self._rest)
        if anchor is not None:
            yield from self._found(anchor[1], self._rest[anchor.end() :])
        self._rest = ""

    def _found(self, attributes: str, behind: str) -> Iterator[Found]:
        href = _HREF.search(attributes[:MAX_SEGMENT])
        if href is None:
            return
        reference = html.unescape(href[1] or href[2] or href[3] or "").strip()
        path = reference.partition("?")[0].partition("#")[0]
        if not path or reference.partition(":")[0].lower() in ("mailto", "javascript", "data"):
            return  # sort links, marks in the page, things that are no files
        mtime, size = self._facts(behind)
        if path.endswith("/"):
            yield Found(reference=reference, kind=Kind.DIRECTORY, mtime=mtime)
        else:
            yield Found(reference=reference, size=size, mtime=mtime)

    def _facts(self, behind: str) -> tuple[datetime | None, int | None]:
        _, _, behind = behind[:2000].partition("</a>")
        end = (_ROW_END if "<td" in behind.lower() else _LINE_END).search(behind)
        match = _FACTS.search(_TAG.sub(" ", behind[: end.start()] if end else behind))
        if match is None:
            return None, None
        month = match["m1"] or match["m2"]
        try:
            moment = datetime(
                int(match["y1"] or match["y2"]),
                _MONTHS.get(month) or int(month),
                int(match["d1"] or match["d2"]),
                int(match["H"]),
                int(match["M"]),
                int(match["S"] or 0),
                tzinfo=self._zone,
            )
        except ValueError:
            return None, None
        return moment, int(match["size"]) if match["size"] else None


def _without_noise(text: str) -> tuple[str, str]:
    """Return the text without comments and scripts, and the one that has begun and not ended."""
    kept, position, lowered = [], 0, text.lower()
    while (begun := _NOISE.search(text, position)) is not None:
        kept.append(text[position : begun.start()])
        mark = _NOISE_ENDS[begun[0].lower()]
        end = lowered.find(mark, begun.end())
        if end < 0:
            # only where it began, and the last bytes, which may be a part of its end
            return "".join(kept), f"{begun[0]} {text[begun.end() :][-16:]}"
        position = end + len(mark)
    return "".join([*kept, text[position:]]), ""


# --- text ----------------------------------------------------------------------------------------


def text_lines(text: str, form: ListingFormat) -> Iterator[Found]:
    """Give one reference for each line: a line like `ls -l` or of an FTP server, else a name."""
    for line in text.splitlines():
        entry = form.read(line)
        if entry is None or entry.name in (".", ".."):
            continue
        if entry.error:
            yield Found(reference=line.strip())
        else:
            yield _as_found(entry)


def _as_found(entry: Entry) -> Found:
    size = entry.size if entry.kind is Kind.FILE else None
    return Found(reference=entry.name, is_plain=True, kind=entry.kind, size=size, mtime=entry.mtime)


# --- records: JSON, CSV, XML ---------------------------------------------------------------------

RECORD: Final = {
    "arrayPath": "",
    "nameField": "name",
    "urlField": "url",
    "timeField": "time",
    "sizeField": "size",
    "checksumField": "checksum",
    "etagField": "etag",
    "urlTemplate": "",  # an address with {name}, for records without one
    "nextField": "",  # where the address of the next page is
}
COLUMNS: Final = {
    "delimiter": ",",
    "header": "yes",
    "trim": "yes",
    "nameCol": "0",
    "timeCol": "1",
    "urlCol": "2",
    "sizeCol": "",
}


def record_of(
    get: Callable[[str], Any], fields: Mapping[str, str], zone: tzinfo
) -> Iterator[Found]:
    """Yield what one record tells; nothing without name and address."""
    name, url = plain_text(get(fields["nameField"])), plain_text(get(fields["urlField"])).strip()
    if not name and not url:
        return
    if name and not url and fields.get("urlTemplate"):
        url = fields["urlTemplate"].replace("{name}", quote(name, safe="/"))
    kind = Kind.DIRECTORY if plain_text(get("type")) == "directory" else Kind.FILE
    size = plain_text(get(fields["sizeField"])).strip()
    time = plain_text(get(fields["timeField"])) or plain_text(get("mtime"))
    yield Found(
        reference=url or name,
        is_plain=not url,
        name=name if url else "",
        kind=kind,
        size=int(size) if size.isascii() and size.isdigit() and len(size) < 19 else None,
        mtime=moment(time.strip(), zone),
        etag=plain_text(get(fields["etagField"])),
        checksum=plain_text(get(fields["checksumField"])),
    )


def plain_text(value: Any) -> str:
    """Return a text or number as text, empty for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return str(value)


def csv_rows(text: str, fields: Mapping[str, str], zone: tzinfo) -> Iterator[Found]:
    """Read rows by the positions of their columns."""
    try:
        columns = {key: int(fields[key]) for key in fields if key.endswith("Col") and fields[key]}
        reader = csv.reader(io.StringIO(text), delimiter=fields["delimiter"] or ",")
    except (ValueError, TypeError) as error:
        raise RemoteConfig(f"http.parserOptions: {error}", phase=Phase.LIST) from None
    names = {"nameField": "nameCol", "urlField": "urlCol", "timeField": "timeCol"}
    names |= {"sizeField": "sizeCol"}
    keys = RECORD | names
    try:
        for number, row in enumerate(reader):
            if number or fields["header"] != "yes":
                cells = [cell.strip() for cell in row] if fields["trim"] == "yes" else row
                yield from record_of(partial(_cell, cells, columns), keys, zone)
    except csv.Error as error:
        raise RemoteTransient(f"the page is no CSV: {error}", phase=Phase.LIST) from None


def _cell(cells: list[str], columns: Mapping[str, int], key: str) -> str:
    column = columns.get(key)
    return cells[column] if column is not None and 0 <= column < len(cells) else ""


_BUCKET: Final = ("ListBucketResult", "Contents")  # of object stores
_BUCKET_FIELDS: Final = {"name": "Key", "size": "Size", "time": "LastModified", "etag": "ETag"}
_KNOWN: Final = frozenset({("list", "file"), ("list", "directory"), _BUCKET})


class XmlRecords:
    """Elements of an XML document as records; entities and document types are refused.

    nginx's autoindex (`<list><file mtime="…" size="…">name</file>`) is understood as it is.
    """

    def __init__(self, fields: Mapping[str, str], zone: tzinfo) -> None:
        self._fields = fields
        self._zone = zone
        self._array = tuple(filter(None, (fields["arrayPath"] or "items.item").split(".")))
        self._path: list[str] = []
        self._record: dict[str, str] | None = None
        self._texts: list[str] = []
        self._found: list[Found] = []
        self._told: dict[str, str] = {}  # what the listing of an object store says of itself

    @property
    def following(self) -> Mapping[str, str]:
        """Return what to add to the query for the next page of an object store, none at the end."""
        if self._told.get("IsTruncated") != "true":
            return {}
        if token := self._told.get("NextContinuationToken"):
            return {"continuation-token": token}
        marker = self._told.get("NextMarker") or self._told.get("Key", "")
        return {"marker": marker} if marker else {}

    def read(self, text: str) -> list[Found]:
        """Return the records of a document."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._texts.append
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        try:
            parser.Parse(text.encode(errors="replace"), True)
        except expat.ExpatError as error:
            raise RemoteTransient(f"the page is no XML: {error}", phase=Phase.LIST) from None
        return self._found

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag.rpartition(" ")[2])
        if len(self._path) > MAX_DEPTH:
            raise RemoteTransient("the page has too many levels", phase=Phase.LIST)
        self._texts.clear()
        if self._is_record():
            self._record = dict(attributes)

    def _is_record(self) -> bool:
        path = tuple(self._path)
        return path == self._array or path in _KNOWN

    def _end(self, tag: str) -> None:
        text = "".join(self._texts).strip()
        self._texts.clear()
        if self._record is not None and self._is_record():
            record, self._record = self._record, None
            if tuple(self._path) == _BUCKET:
                self._told["Key"] = record.get("Key", "")
                record = {ours: record.get(theirs, "") for ours, theirs in _BUCKET_FIELDS.items()}
                self._found += record_of(lambda key: record.get(key, ""), RECORD, self._zone)
                self._path.pop()
                return
            if self._path[0] == "list" and self._path[-1] != self._array[-1]:
                record |= {"name": text, "type": self._path[-1]}
            self._found += record_of(lambda key: record.get(key, ""), self._fields, self._zone)
        elif self._record is not None:
            depth = 2 if tuple(self._path[:2]) in _KNOWN else len(self._array)
            self._record[".".join(self._path[depth:])] = text
        elif self._path[0] == _BUCKET[0] and len(self._path) == 2:
            self._told[self._path[1]] = text
        self._path.pop()


def _refuse(*_: object) -> None:
    raise RemoteTransient("the page declares entities", phase=Phase.LIST)


def moment(text: str, zone: tzinfo) -> datetime | None:
    """Read a time: ISO 8601, an HTTP date, or seconds or milliseconds since 1970; else None."""
    try:
        if text.isascii() and text.isdigit():
            number = int(text)
            return datetime.fromtimestamp(number / 1000 if number > 10**11 else number, UTC)
        read = datetime.fromisoformat if text[:4].isdigit() else parsedate_to_datetime
        found = read(text)
    except (ValueError, OverflowError, OSError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)
