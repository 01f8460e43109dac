"""What a command is: its words, its arguments and what it does; and how it prints."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ecpds.cli.codes import CommandError, Exit
from ecpds.model.errors import EcpdsError
from ecpds.model.names import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One command; `run` returns its exit code or raises EcpdsError."""

    words: str  # such as "transfer list"
    help: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


class Parser(ArgumentParser):
    """Arguments in any order; mistakes are errors like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise CommandError (usage) with the nearest option that there is."""
        start, _, word = message.partition("unrecognized arguments: ")
        if not start and word.startswith("--"):
            near = nearest(word.split("=")[0].split()[0], self._option_string_actions)
            message += f" (did you mean {near}?)" if near else ""
        raise CommandError(f"{message}; see {self.prog} --help", Exit.USAGE)


def add_output(parser: ArgumentParser, *, ids: bool = True) -> None:
    """Add `--output`."""
    choices = ("text", "json", "id") if ids else ("text", "json")
    parser.add_argument("--output", choices=choices, default="text", help="form of the answer")


def as_json(value: Any) -> None:
    """Print one document in one line."""
    print(json.dumps(value, ensure_ascii=False))


def table(rows: Sequence[Sequence[Any]], titles: Sequence[str]) -> None:
    """Print aligned columns below their titles; nothing without rows."""
    if not rows:
        return
    lines = [[cell(one) for one in row] for row in rows]
    lines.insert(0, [title.upper().replace("_", " ") for title in titles])
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        padded = [one.ljust(width) for one, width in zip(line, widths, strict=True)]
        print("  ".join(padded).rstrip())


def cell(value: Any) -> str:
    """Return a value of a document as text for people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def card(document: Mapping[str, Any]) -> None:
    """Print one document, a line for each key."""
    width = max((len(key) for key in document), default=0)
    for key, value in document.items():
        print(f"{key:<{width}}  {cell(value)}".rstrip())


def listed(
    args: Namespace, items: Iterable[Mapping[str, Any]], key: str, columns: Sequence[str]
) -> None:
    """Print a list in the form that was asked for; `key` identifies an item."""
    if args.output == "text":
        table([[one.get(column) for column in columns] for one in items], columns)
        return
    for one in items:
        if args.output == "json":
            as_json(one)
        else:
            print(one[key])


def complain(args: Namespace, what: object, error: EcpdsError) -> None:
    """Print why one of several acts failed; the command goes on."""
    if args.output == "json":
        facts = {"item": what, "error": error.message, "code": reason_of(error)}
        print(json.dumps(facts, ensure_ascii=False), file=sys.stderr)
    else:
        print(f"error: {what}: {error}", file=sys.stderr)


def reason_of(error: EcpdsError) -> str:
    """Return the code of an error for machines: that of the node, or what our exit code means."""
    return error.reason if isinstance(error, CommandError) else error.code


def is_fatal(error: CommandError) -> bool:
    """Tell whether the other acts of the command would fail the same way."""
    return error.exit_code is Exit.UNREACHABLE or error.reason in {"unauthenticated", "banned"}
