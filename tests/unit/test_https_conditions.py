"""Conditional requests, row by row of portal.md 3.4, and the order of RFC 9110 13.2.2."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ecpds.portals.https.conditions import Verdict, judge, parse_date, range_holds, strong, tags
from ecpds.portals.https.head import http_date

TAG = '"00000000-0000-000a-0000-000000000002"'
AT = datetime(2031, 5, 4, 10, 0, 0, 900_000, tzinfo=UTC)
SAME = http_date(AT)
BEFORE, AFTER = http_date(AT - timedelta(seconds=1)), http_date(AT + timedelta(hours=1))
GO, NOT_MODIFIED, FAILED = Verdict.GO, Verdict.NOT_MODIFIED, Verdict.FAILED


@pytest.mark.parametrize(
    ("field", "value", "verdict"),
    [
        ("if-none-match", TAG, NOT_MODIFIED),
        ("if-none-match", f'"x", {TAG} ,"y"', NOT_MODIFIED),
        ("if-none-match", f"W/{TAG}", NOT_MODIFIED),
        ("if-none-match", "*", NOT_MODIFIED),
        ("if-none-match", TAG.strip('"'), NOT_MODIFIED),  # as the old product sent it
        ("if-none-match", '"x"', GO),
        ("if-none-match", "", GO),
        ("if-match", TAG, GO),
        ("if-match", "*", GO),
        ("if-match", f'"x",{TAG}', GO),
        ("if-match", '"x"', FAILED),
        ("if-match", f"W/{TAG}", FAILED),  # a weak tag proves nothing
        ("if-modified-since", SAME, NOT_MODIFIED),
        ("if-modified-since", AFTER, NOT_MODIFIED),
        ("if-modified-since", BEFORE, GO),
        ("if-modified-since", "yesterday", GO),
        ("if-modified-since", "Sunday, 04-May-31 10:00:00 GMT", NOT_MODIFIED),
        ("if-modified-since", "Sun May  4 10:00:00 2031", NOT_MODIFIED),
        ("if-unmodified-since", SAME, GO),
        ("if-unmodified-since", AFTER, GO),
        ("if-unmodified-since", BEFORE, FAILED),
        ("if-unmodified-since", "yesterday", GO),
    ],
)
def test_reading(field: str, value: str, verdict: Verdict) -> None:
    assert judge({field: value}, etag=TAG, mtime=AT, reading=True) is verdict


@pytest.mark.parametrize(
    ("field", "value", "etag", "verdict"),
    [
        ("if-none-match", "*", "", GO),
        ("if-none-match", "*", TAG, FAILED),
        ("if-none-match", TAG, TAG, FAILED),
        ("if-none-match", '"x"', TAG, GO),
        ("if-match", "*", "", FAILED),
        ("if-match", TAG, "", FAILED),
        ("if-match", TAG, TAG, GO),
        ("if-modified-since", SAME, TAG, GO),  # only for reading
    ],
)
def test_writing(field: str, value: str, etag: str, verdict: Verdict) -> None:
    assert judge({field: value}, etag=etag, mtime=AT, reading=False) is verdict


def test_tags_go_before_dates() -> None:
    both = {"if-none-match": '"x"', "if-modified-since": AFTER}
    assert judge(both, etag=TAG, mtime=AT, reading=True) is GO
    both = {"if-match": TAG, "if-unmodified-since": BEFORE}
    assert judge(both, etag=TAG, mtime=AT, reading=True) is GO
    both = {"if-match": '"x"', "if-none-match": TAG}
    assert judge(both, etag=TAG, mtime=AT, reading=True) is FAILED


@pytest.mark.parametrize(
    ("value", "holds"),
    [(TAG, True), ('"x"', False), (f"W/{TAG}", False), (SAME, True), (AFTER, False),
     (BEFORE, False), ("nonsense", False), ("*", False), (TAG.strip('"'), True)],
)  # fmt: skip
def test_if_range(value: str, holds: bool) -> None:
    assert range_holds({"if-range": value}, etag=TAG, mtime=AT) is holds
    assert range_holds({}, etag=TAG, mtime=AT)


def test_dates_of_http() -> None:
    assert http_date(AT) == "Sun, 04 May 2031 10:00:00 GMT"
    assert parse_date(http_date(AT)) == AT.replace(microsecond=0)
    for text in ("", "04 May 2031", "Sun, 04 May 2031 10:00:00 +0200", "1", "\x00"):
        assert parse_date(text) is None


def test_lists_of_tags() -> None:
    assert tags('W/"a","b" , c') == [(True, '"a"'), (False, '"b"'), (False, '"c"')]
    assert tags('"a,b",""') == [(False, '"a,b"'), (False, '""')]
    assert tags(" * ") == [(False, "*")]
    assert tags(',,"') == []
    assert strong('W/"a","b"') == ['"b"']
