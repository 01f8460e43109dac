"""Which representation the Accept field asks for."""

from __future__ import annotations

import pytest

from ecpds.portals.https.listings import FORMATS
from ecpds.portals.https.negotiate import choose, names, quality

OFFERED = list(FORMATS.values())
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        (BROWSER, "text/html"),
        ("application/json", "application/json"),
        ("text/csv", "text/csv"),
        ("text/plain", "text/plain"),
        ("text/*", "text/html"),
        ("application/*", "application/json"),
        ("text/csv, application/json", "text/csv"),  # the first of equals
        ("text/csv;q=0.5, application/json", "application/json"),
        ("text/html;q=0.1, application/json;q=0.2", "application/json"),
        ("application/json, */*;q=0.1", "application/json"),
        ("text/html;q=0, */*", "application/json"),  # anything but a page
        ("TEXT/CSV ; Q=1.0", "text/csv"),
        ("image/png", None),
        ("*/*;q=0", None),
        ("nonsense", None),
        ("text/csv;q=nan", None),
        ("text/csv;q=x", None),
        (",,,;;q", None),
    ],
)
def test_choice(accept: str, chosen: str | None) -> None:
    assert choose(accept, OFFERED) == chosen


def test_the_closest_range_counts() -> None:
    assert quality("text/*;q=0.3, text/html;q=0.7, */*;q=0.5", "text/html") == 0.7
    assert quality("text/*;q=0.3, */*;q=0.5", "text/plain") == 0.3
    assert quality("text/html;q=7", "text/html") == 1.0


def test_wanting_anything_names_nothing() -> None:
    assert names("text/html, */*", "text/html")
    assert names("text/*", "text/csv")
    assert not names("*/*", "text/html")
    assert not names("text/html;q=0", "text/html")
