"""Each worked example of the pages names a test, and that test exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "worked-examples.md"
ENGINE = ["entities", "schedulers", "acquisition", "dissemination", "events"]
ROWS = re.findall(r"^\|.*\| `([^`]+)` \|$", PAGE.read_text("utf-8"), re.MULTILINE)


@cache
def functions(path: Path) -> frozenset[str]:
    """Return the names of the functions of a file."""
    found = ast.walk(ast.parse(path.read_text("utf-8")))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(one.name for one in found if isinstance(one, kinds))


def test_the_page_has_rows() -> None:
    assert len(ROWS) > 80
    titles = re.findall(r"^## (\w+)\.md$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert titles == [*ENGINE, "portal"]


@pytest.mark.parametrize("name", sorted(set(ROWS)))
def test_the_test_of_a_row_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert (TESTS / path).exists()
    assert not function or function in functions(TESTS / path)


@pytest.mark.parametrize(
    ("title", "sections"),
    [
        ("entities", {1, *range(3, 15)}),  # 2 are relations, 15 is told elsewhere
        ("schedulers", set(range(1, 10))),
        ("acquisition", set(range(1, 14))),
        ("dissemination", set(range(1, 8))),
        ("events", set(range(1, 6))),
    ],
)
def test_each_section_has_rows(title: str, sections: set[int]) -> None:
    page = PAGE.read_text("utf-8").partition(f"## {title}.md")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([0-9., ]+) \|", page, re.MULTILINE)
    assert {int(one.split(".")[0]) for cell in cells for one in cell.split(", ")} == sections


@pytest.mark.parametrize(("title", "last"), [("portal", 27), ("events", 8)])
def test_each_example_is_there(title: str, last: int) -> None:
    """By number."""
    page = PAGE.read_text("utf-8").partition(f"## {title}.md")[2].partition("\n## ")[0]
    found = {
        int(number)
        for group in re.findall(r"Ex ([0-9, ]+)", page)
        for number in re.findall(r"[0-9]+", group)
    }
    assert found == set(range(1, last + 1))
