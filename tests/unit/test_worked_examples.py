"""Each worked example of the engine's pages names a test, and that test exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "worked-examples.md"
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
    assert titles == ["entities", "schedulers", "acquisition", "dissemination", "events"]


@pytest.mark.parametrize("name", sorted(set(ROWS)))
def test_the_test_of_a_row_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert (TESTS / path).exists()
    assert not function or function in functions(TESTS / path)
