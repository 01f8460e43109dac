"""`cli.md` from the parsers of the commands."""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterator

from docs.reference.text import code, page, table, told
from ecpds.cli.access import add_arguments
from ecpds.cli.codes import MEANINGS
from ecpds.cli.main import COMMANDS, parser_of, verbs_of
from ecpds.cli.verbs import Verb

CONNECTION = "connection options"


def commands() -> str:
    """Return the page of all commands."""
    parts = [
        told("commands"),
        "## Exit codes",
        table(("Code", "Means"), [(str(int(one)), text) for one, text in MEANINGS.items()]),
        f"## {CONNECTION.capitalize()}",
        told("connection"),
        _arguments(_connection()),
    ]
    for command, (_, line) in COMMANDS.items():
        verbs = verbs_of(command)
        parts.append(f"## ecpds {command}")
        if "" not in verbs:
            parts.append(_sentence(line))
        for words, verb in verbs.items():
            parts += [f"### ecpds {command} {words}"] if words else []
            parts += [_sentence(verb.help), *_one(verb)]
    return page("Commands", parts)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _actions(parser: ArgumentParser) -> list[Action]:
    return [one for one in parser._actions if one.dest != "help"]  # noqa: SLF001 - no other way


def _connection() -> list[Action]:
    parser = ArgumentParser()
    add_arguments(parser)
    return _actions(parser)


def _one(verb: Verb) -> Iterator[str]:
    shared = {one.dest for one in _connection()}
    actions = _actions(parser_of(verb))
    takes_connection = any(one.dest == "retry" for one in actions)
    own = [one for one in actions if not (takes_connection and one.dest in shared)]
    words = [f"ecpds {verb.words}", *(_usage(one) for one in own if not one.option_strings)]
    yield f"    {' '.join(words)}{' [options]' if len(own) > len(words) - 1 else ''}"
    if own:
        yield _arguments(own)
    if takes_connection:
        yield f"And the [{CONNECTION}](#{CONNECTION.replace(' ', '-')})."


def _usage(one: Action) -> str:
    name = _metavar(one)
    return {"*": f"[{name} ...]", "+": f"{name} ...", "?": f"[{name}]"}.get(str(one.nargs), name)


def _metavar(one: Action) -> str:
    if one.choices is not None:
        return "|".join(str(choice) for choice in one.choices)
    return str(one.metavar or one.dest.upper())


def _arguments(actions: list[Action]) -> str:
    return table(("Argument", "Default", "Meaning"), [_row(one) for one in actions])


def _row(one: Action) -> tuple[str, str, str]:
    value = "" if one.nargs == 0 else f" {_metavar(one)}"
    names = ", ".join(f"{name}{value}" for name in one.option_strings) or _metavar(one)
    default = "" if one.default in (None, False, SUPPRESS, []) else str(one.default)
    if one.dest == "retry":
        default = ""
    return code(names), code(default), one.help or ""
