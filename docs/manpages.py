"""`python -m docs.manpages DIR`: manual pages from the parsers of the commands.

One page for `ecpds`, one for each first word; `make docs` writes them to `docs/man`, the package
installs them.  They are not kept in the repository: the parsers are.
"""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from docs.reference.text import told
from ecpds import __version__
from ecpds.cli.access import add_arguments
from ecpds.cli.codes import MEANINGS
from ecpds.cli.main import COMMANDS, parser_of, verbs_of
from ecpds.cli.verbs import Verb

FILES: Final = (
    ("./ecpds.toml", "settings, unless --config names others"),
    ("~/.config/ecpds/NAME.toml", "profiles of login"),
    ("<data_dir>/endpoints.json", "where the running daemon listens"),
    ("<data_dir>/admin.token", "token of the first administrator"),
)


def escaped(text: str) -> str:
    """Return a text that roff prints as it is."""
    safe = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    safe = safe.replace("…", "...").replace("'", "\\(aq")
    return f"\\&{safe}" if safe[:1] in {".", "'"} else safe


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    found = {"ecpds.1": _page("ecpds", "a data hub in one process", _overview())}
    for command, (_, line) in COMMANDS.items():
        found[f"ecpds-{command}.1"] = _page(f"ecpds-{command}", line, _command(command))
    return found


def _page(name: str, line: str, body: Iterator[str]) -> str:
    head = [
        f'.TH {name.upper().replace("-", chr(92) + "-")} 1 "" "ecpds {__version__}" "ecpds"',
        ".SH NAME",
        f"{escaped(name)} \\- {escaped(line)}",
    ]
    return "\n".join([*head, *body]) + "\n"


def _overview() -> Iterator[str]:
    yield from (".SH SYNOPSIS", ".B ecpds", r".I COMMAND", "\\&...", ".SH DESCRIPTION")
    yield "A data hub: acquire, store, disseminate, serve, notify and watch."
    yield from (".SH COMMANDS",)
    for command, (_, line) in COMMANDS.items():
        yield from (".TP", f"\\fB{escaped(command)}\\fR", escaped(line))
    yield from (".SH CONNECTION", escaped(told("connection")), *_options(_connection()))
    yield ".SH EXIT STATUS"
    for code, text in MEANINGS.items():
        yield from (".TP", f"\\fB{int(code)}\\fR", escaped(text))
    yield ".SH FILES"
    for path, text in FILES:
        yield from (".TP", f"\\fI{escaped(path)}\\fR", escaped(text))
    yield ".SH SEE ALSO"
    yield ", ".join(f".BR ecpds\\-{one} (1)".removeprefix(".BR ") for one in COMMANDS)


def _command(command: str) -> Iterator[str]:
    verbs = verbs_of(command)
    yield ".SH SYNOPSIS"
    for number, verb in enumerate(verbs.values()):
        yield from ([".br"] if number else [])
        yield _synopsis(verb)
    yield ".SH DESCRIPTION"
    takes_connection = False
    for words, verb in verbs.items():
        if words:
            yield f".SS {escaped(verb.words)}"
        yield escaped(f"{verb.help[0].upper()}{verb.help[1:]}.")
        actions = _actions(parser_of(verb))
        if any(one.dest == "retry" for one in actions):
            takes_connection = True
            shared = {one.dest for one in _connection()}
            actions = [one for one in actions if one.dest not in shared]
        yield from _options(actions)
    if takes_connection:
        yield from (".SH CONNECTION", escaped(told("connection")), *_options(_connection()))
    yield from (".SH SEE ALSO", ".BR ecpds (1)")


def _synopsis(verb: Verb) -> str:
    actions = _actions(parser_of(verb))
    given = [f"\\fI{escaped(_value(one))}\\fR" for one in actions if not one.option_strings]
    options = " [\\fIoptions\\fR]" if any(one.option_strings for one in actions) else ""
    return f"\\fBecpds {escaped(verb.words)}\\fR{options} {' '.join(given)}".rstrip()


def _actions(parser: ArgumentParser) -> list[Action]:
    return [one for one in parser._actions if one.dest != "help"]  # noqa: SLF001 - no other way


def _connection() -> list[Action]:
    parser = ArgumentParser()
    add_arguments(parser)
    return _actions(parser)


def _value(one: Action) -> str:
    if one.choices is not None:
        return "|".join(str(choice) for choice in one.choices)
    return str(one.metavar or one.dest.upper())


def _options(actions: list[Action]) -> Iterator[str]:
    for one in actions:
        names = ", ".join(f"\\fB{escaped(name)}\\fR" for name in one.option_strings)
        value = "" if one.nargs == 0 else f"\\fI{escaped(_value(one))}\\fR"
        yield from (".TP", f"{names} {value}".strip(), escaped(one.help or ""))


def main() -> None:
    """Write all pages into the directory that is named, or `docs/man`."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "man"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
