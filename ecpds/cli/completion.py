"""`ecpds completion`: scripts that complete words in a shell.

The scripts ask this program for the words (`ecpds completion words …`), so that they never know
less than the release that is installed.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from ecpds.cli.codes import Exit
from ecpds.cli.main import COMMANDS, parser_of, verbs_of
from ecpds.cli.verbs import Parser, Verb

SCRIPTS: Final[Mapping[str, str]] = {
    "bash": """\
_ecpds() {
    local words
    words=$(ecpds completion words -- "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}")
}
complete -o default -F _ecpds ecpds
""",
    "zsh": """\
_ecpds() {
    local -a found
    found=(${(f)"$(ecpds completion words -- "${(@)words[2,CURRENT-1]}" 2>/dev/null)"})
    compadd -a found
    _files
}
compdef _ecpds ecpds
""",
    "fish": """\
complete -c ecpds -a '(ecpds completion words -- (commandline -opc)[2..-1] 2>/dev/null)'
""",
}


def _no_arguments(parser: ArgumentParser) -> None:
    del parser


def _print(shell: str, args: Namespace) -> int:
    del args
    print(SCRIPTS[shell], end="")
    return Exit.DONE


def _words_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("given", nargs="*", metavar="WORD", help="what stands there already")


def _words(args: Namespace) -> int:
    for word in next_words(args.given):
        print(word)
    return Exit.DONE


def next_words(given: Sequence[str]) -> list[str]:
    """Return commands, verbs, options or choices that may follow the words."""
    if not given:
        return list(COMMANDS)
    if given[0] not in COMMANDS:
        return []
    verbs, rest = verbs_of(given[0]), given[1:]
    if "" in verbs:
        return _options(parser_of(verbs[""]), rest)
    if not rest:
        return list(verbs)
    return _options(parser_of(verbs[rest[0]]), rest[1:]) if rest[0] in verbs else []


def _options(parser: Parser, given: Sequence[str]) -> list[str]:
    known = parser._option_string_actions  # noqa: SLF001 - argparse has no other list of them
    last = known.get(given[-1]) if given else None
    if last is not None and last.nargs != 0:  # its value comes next
        return [str(choice) for choice in last.choices or ()]
    return [name for name in known if name.startswith("--")]


VERBS: Final = (
    *(
        Verb(words=f"completion {shell}", arguments=_no_arguments, run=partial(_print, shell),
             help=f"print the script for {shell}: {how}")
        for shell, how in (
            ("bash", "eval \"$(ecpds completion bash)\""),
            ("zsh", "eval \"$(ecpds completion zsh)\""),
            ("fish", "ecpds completion fish | source"),
        )
    ),
    Verb(words="completion words", help="print what may follow some words",
         arguments=_words_arguments, run=_words),
)  # fmt: skip
