"""The reference in docs/ is what the code declares."""

from __future__ import annotations

import re

import pytest

from docs.reference.pages import EVENTS, SCHEMA, pages
from ecpds.model.events import FIELDS
from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "reference"
PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_the_generated_one(name: str) -> None:
    """Else: `make docs`, and commit what it wrote."""
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name]


def test_there_is_no_other_page() -> None:
    """What is no longer made goes away."""
    assert {path.name for path in FOLDER.glob("*.md")} == set(PAGES) - {SCHEMA}


def test_everything_says_what_it_is() -> None:
    """No setting, option, command, metric or error without a meaning."""
    bare = [
        f"{name}: {line}"
        for name, text in PAGES.items()
        for line in text.splitlines()
        if re.fullmatch(r"\|.*\|\s*\|", line)
    ]
    assert bare == []
    assert set(EVENTS) == set(FIELDS)
