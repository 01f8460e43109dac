"""The rules of the house that no other tool holds."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "ecpds").rglob("*.py"))
MOST_LINES = 600
BAD_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def relative(path: Path) -> str:
    """Return the path for a message."""
    return str(path.relative_to(ROOT))


def test_files_fit_one_reading() -> None:
    """At most 600 lines."""
    long = {relative(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: count for name, count in long.items() if count > MOST_LINES} == {}


def test_no_file_is_named_after_nothing() -> None:
    """No utils, helpers, common, manager."""
    assert [relative(path) for path in SOURCES if path.stem in BAD_NAMES] == []


def test_only_the_store_imports_sqlite3() -> None:
    """SQL has one home."""
    found = [
        relative(path)
        for path in SOURCES
        if path.parent.name != "store"
        and re.search(r"^\s*(import|from) sqlite3", path.read_text(), re.MULTILINE)
    ]
    assert found == []


def test_every_package_is_listed() -> None:
    """The wheel has all that the checkout has."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    on_disk = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "ecpds").rglob("__init__.py")
    }
    shared = {"ecpds._share.templates", "ecpds._share.config"}
    assert listed == on_disk | shared


def test_every_file_says_what_lives_in_it() -> None:
    """A docstring that is more than a full stop."""
    bare = []
    for path in SOURCES:
        text = ast.get_docstring(ast.parse(path.read_text()))
        if not text or len(text) < 10:
            bare.append(relative(path))
    assert bare == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_no_marks_are_left(word: str) -> None:
    """What is missing is an issue, not a comment."""
    found = [relative(path) for path in SOURCES if re.search(rf"\b{word}\b", path.read_text())]
    assert found == []


def test_importing_a_file_declares_and_does_nothing_else() -> None:
    """No mutable state at module level: no lists, dicts or sets that code appends to."""
    found = [
        f"{relative(path)}: {ast.unparse(node)}"
        for path in SOURCES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and _is_empty(node.value)
    ]
    assert [one for one in found if "Final" not in one] == []


def _is_empty(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Dict):
        return not value.keys
    return isinstance(value, ast.List | ast.Set) and not value.elts
