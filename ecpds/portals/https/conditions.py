"""Conditional requests: entity tags and dates, in the order of RFC 9110 section 13.2.2."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum, auto

_TAG = re.compile(r'\s*(?P<weak>W/)?(?:"(?P<tag>[\x21\x23-\x7e\x80-\xff]*)"|(?P<bare>[^\s",]+))\s*')
_DATES = (  # RFC 9110 5.6.7: the one to send, and the two that old clients send
    "%a, %d %b %Y %H:%M:%S GMT",
    "%A, %d-%b-%y %H:%M:%S GMT",
    "%a %b %d %H:%M:%S %Y",
)
FIELDS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")


class Verdict(Enum):
    """What the conditions of a request say."""

    GO = auto()
    NOT_MODIFIED = auto()
    FAILED = auto()


def parse_date(text: str) -> datetime | None:
    """Return the moment, None if the text is no HTTP date; names are English in every locale."""
    for form in _DATES:
        try:
            return datetime.strptime(text.strip(), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def tags(field: str) -> list[tuple[bool, str]]:
    """Return (weak, quoted tag) for each member of the list, `*` as it is.

    Tags without quotes are taken too, because the product that we replace sends them so.
    """
    if field.strip() == "*":
        return [(False, "*")]
    found: list[tuple[bool, str]] = []
    place = 0
    while place < len(field):
        one = _TAG.match(field, place)
        if one is None:
            place += 1
            continue
        text = one["tag"] if one["tag"] is not None else one["bare"]
        found.append((one["weak"] is not None, f'"{text}"'))
        place = one.end()
        if place < len(field) and field[place] == ",":
            place += 1
    return found


def strong(field: str) -> Sequence[str]:
    """Return the quoted tags that If-Match can be met by, or `*`."""
    return [tag for weak, tag in tags(field) if not weak]


def has_tag(field: str, etag: str, *, weakly: bool) -> bool:
    """Tell whether `etag` (empty: there is no content) is in the list."""
    return bool(etag) and any(
        tag in ("*", etag) and (weakly or not weak) for weak, tag in tags(field)
    )


def judge(
    headers: Mapping[str, str], *, etag: str, mtime: datetime | None, reading: bool
) -> Verdict:
    """Weigh all conditions for a content with `etag` (empty: none there) last changed at `mtime`.

    `reading` is for GET and HEAD, where a content that the client has is 304 and not 412.
    """
    if not _unchanged(headers, etag, mtime):
        return Verdict.FAILED
    if "if-none-match" in headers:
        if has_tag(headers["if-none-match"], etag, weakly=True):
            return Verdict.NOT_MODIFIED if reading else Verdict.FAILED
    elif reading and _not_newer(headers.get("if-modified-since", ""), mtime):
        return Verdict.NOT_MODIFIED
    return Verdict.GO


def _unchanged(headers: Mapping[str, str], etag: str, mtime: datetime | None) -> bool:
    if "if-match" in headers:
        return has_tag(headers["if-match"], etag, weakly=False)
    if "if-unmodified-since" not in headers:
        return True
    limit = parse_date(headers["if-unmodified-since"])
    return limit is None or mtime is None or mtime.replace(microsecond=0) <= limit


def _not_newer(text: str, mtime: datetime | None) -> bool:
    since = parse_date(text) if text else None
    return since is not None and mtime is not None and mtime.replace(microsecond=0) <= since


def range_holds(headers: Mapping[str, str], *, etag: str, mtime: datetime | None) -> bool:
    """Tell whether If-Range lets the Range stand; without it, it stands."""
    text = headers.get("if-range")
    if text is None:
        return True
    moment = parse_date(text)
    if moment is not None:
        return mtime is not None and mtime.replace(microsecond=0) == moment
    return has_tag(text, etag, weakly=False) and text.strip() != "*"
