"""Types, dispositions, CORS and cross-site checks."""

from __future__ import annotations

from typing import Any

import pytest

from ecpds.portals.https.exchange import Ask, NoBody
from ecpds.portals.https.fields import (
    OCTETS,
    PAGE_POLICY,
    Types,
    cross_origin,
    disposition,
    from_elsewhere,
    security,
    with_charset,
)


def ask(**headers: str) -> Ask:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    facts: dict[str, Any] = {"method": "GET", "target": "/", "peer": "127.0.0.1", "secure": True}
    return Ask(**facts, headers=fields, body=NoBody())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text/plain"),
        ("a.html", "text/html"),
        ("a.json", "application/json"),
        ("A.GRIB2", "application/x-grib"),
        ("a.b.nc", "application/x-netcdf"),
        ("a.nc.gz", "application/gzip"),
        ("a.tar.bz2", "application/x-bzip2"),
        ("a.png", "image/png"),
        ("a", OCTETS),
        ("a.", OCTETS),
        (".txt", OCTETS),
        ("a.unheard-of", OCTETS),
        ("data:text/html,x", OCTETS),
        ("http://x/a.html?b", OCTETS),
        ("é.csv", "text/csv"),
    ],
)
def test_types(name: str, kind: str) -> None:
    assert Types().of(name) == kind


def test_texts_are_utf_8() -> None:
    assert with_charset("text/csv") == "text/csv; charset=utf-8"
    assert with_charset("image/png") == "image/png"


@pytest.mark.parametrize(
    ("name", "kind", "accept", "value"),
    [
        ("a.txt", "text/plain", "*/*", 'attachment; filename="a.txt"'),
        ("a.txt", "text/plain", "text/plain", 'inline; filename="a.txt"'),
        ("a.txt", "text/plain; charset=utf-8", "text/*", 'inline; filename="a.txt"'),
        ("a.png", "image/png", "", 'inline; filename="a.png"'),
        (
            "é ü.nc",
            OCTETS,
            "",
            "attachment; filename=\"e u.nc\"; filename*=UTF-8''%C3%A9%20%C3%BC.nc",
        ),
        ('a"b\\c.nc', OCTETS, "", "attachment; filename=\"abc.nc\"; filename*=UTF-8''a%22b%5Cc.nc"),
        ("日本", OCTETS, "", "attachment; filename=\"file\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC"),
        (
            "a\r\nX: y",
            OCTETS,
            "",
            "attachment; filename=\"aX: y\"; filename*=UTF-8''a%0D%0AX%3A%20y",
        ),
    ],
)
def test_disposition(name: str, kind: str, accept: str, value: str) -> None:
    assert disposition(name, kind, accept) == value


def test_pages_allow_no_inline_code() -> None:
    fields = security(secure=True, policy=PAGE_POLICY)
    assert "unsafe" not in fields["Content-Security-Policy"]
    assert fields["X-Content-Type-Options"] == "nosniff"
    assert fields["X-Frame-Options"] == "SAMEORIGIN"
    assert "31536000" in fields["Strict-Transport-Security"]
    assert "Strict-Transport-Security" not in security(secure=False, policy=PAGE_POLICY)


def test_cross_origin() -> None:
    origin = {"origin": "https://a.example"}
    assert cross_origin(ask(), "*") == {}
    assert cross_origin(ask(**origin), "") == {}
    assert cross_origin(ask(**origin), "*")["Access-Control-Allow-Origin"] == "*"
    listed = cross_origin(ask(**origin), "https://b.example, https://a.example")
    assert listed["Access-Control-Allow-Origin"] == "https://a.example"
    assert listed["Vary"] == "Origin"
    assert listed["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
    assert "ETag" in listed["Access-Control-Expose-Headers"]
    assert cross_origin(ask(**origin), "https://b.example") == {"Vary": "Origin"}
    assert "Access-Control-Allow-Credentials" not in listed


@pytest.mark.parametrize(
    ("headers", "elsewhere"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"origin": "https://Node:7443"}, False),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "null"}, True),
    ],
)
def test_requests_from_other_sites(headers: dict[str, str], elsewhere: bool) -> None:
    assert from_elsewhere(headers, "node:7443") is elsewhere
