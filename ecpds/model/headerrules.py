"""`portal.headerRegistry`: answer fields that a site gives to files by their path.

One rule a line, `(<op> <value>) H=v;H2=v2`, first match wins.  Operators: `==` the very path, or a
regular expression in braces; `!=` any other path; `.=` the path begins so; `=.` the path ends so.
Braces hold a glob when they hold no valid expression: the documentation of the product that we
replace does that.
Spec: portal.md 3.4 and Ex 17.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ecpds.model.errors import RuleError

# What we decide ourselves, and what would break the message or the session.
FIXED = frozenset(
    {
        "accept-ranges",
        "connection",
        "content-disposition",
        "content-encoding",
        "content-length",
        "content-range",
        "date",
        "etag",
        "keep-alive",
        "last-modified",
        "location",
        "server",
        "set-cookie",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
    }
)
RULES = 200  # of one text; more are refused
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_OPERATORS = ("==", "!=", ".=", "=.")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line."""

    matches: Callable[[str], bool]
    fields: Mapping[str, str]


def parse(text: str) -> list[Rule]:
    """Return the rules of an option text; raise RuleError naming the line that cannot be read."""
    lines = [line.strip() for line in text.replace("\\n", "\n").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) > RULES:
        raise RuleError(f"more than {RULES} header rules")
    return [_rule(line) for line in lines]


def apply(rules: Sequence[Rule], path: str) -> Mapping[str, str]:
    """Return the fields of the first rule that matches `path` (absolute, normal)."""
    return next((rule.fields for rule in rules if rule.matches(path)), {})


def _rule(line: str) -> Rule:
    condition, rest = _parenthesised(line)
    operator, value = condition[:2], condition[2:].strip()
    if operator not in _OPERATORS:
        raise RuleError(f"header rule {line!r}: the operator is one of {' '.join(_OPERATORS)}")
    return Rule(_matcher(operator, value), _fields(rest, line))


def _parenthesised(line: str) -> tuple[str, str]:
    """Split `(condition) fields` at the parenthesis that balances the first."""
    depths = accumulate((char == "(") - (char == ")") for char in line)
    end = next((place for place, depth in enumerate(depths) if depth == 0), 0)
    if not line.startswith("(") or not end:
        raise RuleError(f"header rule {line!r} has the form (<op> <value>) Header=value;…")
    return line[1:end].strip(), line[end + 1 :].strip()


def _matcher(operator: str, value: str) -> Callable[[str], bool]:
    """Return the test; values without a leading slash are compared with the path without it."""

    def seen(path: str) -> str:
        return path if value.startswith("/") else path.removeprefix("/")

    if operator == ".=":
        return lambda path: seen(path).startswith(value)
    if operator == "=.":
        return lambda path: path.endswith(value)
    wanted = operator == "=="
    if value.startswith("{") and value.endswith("}"):
        pattern = _pattern(value[1:-1])
        return lambda path: any(map(pattern.fullmatch, (path, path[1:]))) is wanted
    return lambda path: (seen(path) == value) is wanted


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error:
        return re.compile(fnmatch.translate(text))


def _fields(text: str, line: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, mark, value = (piece.strip() for piece in part.partition("="))
        if not mark or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise RuleError(f"header rule {line!r}: {part!r} is no Header=value")
        if name.lower() not in FIXED:
            found[name] = value
    return found
