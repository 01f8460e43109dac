"""What is given to `Store.write` may run twice, and so changes nothing but the store.

When one call of a batch fails, the whole batch is undone and each call runs again: a function that
counted, told or kept something in memory would have done so twice, and before the commit.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTSIDE = {"bus", "metrics", "failpoints"}
CHANGING = {
    "append", "appendleft", "add", "update", "pop", "popleft", "popitem", "clear", "remove",
    "extend", "discard", "insert", "setdefault", "inc", "dec", "observe", "put_nowait",
}  # fmt: skip
_GIVEN = re.compile(r"\.write(?:_lazily)?\(\s*(?:[\w.]+\.)?(\w+)")
_TAKES = re.compile(r"\(\s*(?:self,\s*)?db\b|lambda db")
REMEMBERS = "vfs/recorder.py", "_all"  # rows that were read, for lines of history only
APART = ("store/db.py", "cli/")  # the store itself; commands with a connection of their own


@dataclass(frozen=True)
class Written:
    """A function that works in a transaction."""

    place: str
    node: ast.FunctionDef | ast.Lambda
    is_given: bool  # its name is handed to `Store.write` somewhere

    @property
    def parameters(self) -> list[str]:
        """Return the names of its parameters."""
        given = self.node.args
        return [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]

    @property
    def body(self) -> list[ast.AST]:
        """Return every node below it."""
        lines = self.node.body if isinstance(self.node.body, list) else [self.node.body]
        return [inner for line in lines for inner in ast.walk(line)]


@cache
def _texts() -> dict[str, str]:
    folder = ROOT / "ecpds"
    found = {str(one.relative_to(folder)): one for one in sorted(folder.rglob("*.py"))}
    return {name: one.read_text() for name, one in found.items() if not name.startswith(APART)}


def _given(texts: dict[str, str]) -> set[str]:
    """Return the names of what is handed to the writer."""
    return {name for text in texts.values() for name in _GIVEN.findall(text)}


def written(texts: dict[str, str]) -> Iterator[Written]:
    """Yield the functions that take a connection, first or behind `self`."""
    given = _given(texts)
    for name, text in texts.items():
        if not _TAKES.search(text):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, (ast.FunctionDef, ast.Lambda)):
                continue
            label = getattr(node, "name", "lambda")
            if label == "__init__" or (name, label) == REMEMBERS:
                continue
            if "db" in [one.arg for one in node.args.args[:2]]:
                yield Written(f"{name}:{node.lineno} {label}", node, label in given)


def wrongs(one: Written) -> Iterator[str]:
    """Yield what a function changes beside the store."""
    own = {
        inner.id
        for inner in one.body
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
    }
    kept = own if one.is_given else own | (set(one.parameters) - {"self", "core"})
    for inner in one.body:
        if isinstance(inner, ast.Attribute) and inner.attr in OUTSIDE:
            yield f"uses {ast.unparse(inner)}"
        elif isinstance(inner, (ast.Nonlocal, ast.Global)):
            yield f"changes {', '.join(inner.names)}"
        elif (changed := _changed(inner)) is not None and _root(changed) not in kept:
            yield f"changes {ast.unparse(changed)}"


def _changed(node: ast.AST) -> ast.expr | None:
    """Return what a node changes in place, None when it changes nothing."""
    if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
        is_whole = isinstance(node, ast.Subscript) and ast.unparse(node.slice) == ":"
        return None if is_whole else node.value  # what is put in whole may be put in twice
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    if node.func.attr not in CHANGING or _takes_the_connection(node):
        return None
    return node.func.value


def _takes_the_connection(node: ast.Call) -> bool:
    """Tell whether it is a function of ours that works in the same transaction."""
    return any(isinstance(given, ast.Name) and given.id == "db" for given in node.args)


def _root(node: ast.expr) -> str:
    if isinstance(node, ast.IfExp):
        node = node.body
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def test_what_runs_in_a_transaction_changes_nothing_else() -> None:
    """No message, no count, nothing kept in memory."""
    found = [f"{one.place} {text}" for one in written(_texts()) for text in wrongs(one)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("def f(db, core): core.bus.tell('x')", True),
        ("def f(self, db): self._metrics.done.inc()", True),
        ("def f(self, db): self._seen.add(1)", True),
        ("def f(db, run): run.count = 1\nstore.write(f)", True),
        ("def f(db, found): found[1] = 2", False),  # a part of another: `found` is that one's own
        ("def outer():\n    gone = []\n    def f(db): gone.extend([1])", True),
        ("def outer():\n    gone = []\n    def f(db): gone[:] = [1]", False),
        ("def f(db):\n    found = []\n    found.append(1)", False),
        ("def f(db, row): things.add(db, row)", False),
    ],
)
def test_what_is_found(text: str, *, wrong: bool) -> None:
    """The rule sees what it should, and no more."""
    found = [told for one in written({"x.py": text}) for told in wrongs(one)]
    assert bool(found) is wrong
