"""Small parts of the commands: exit codes, words, times, TOML."""

from __future__ import annotations

import tomllib
from argparse import ArgumentTypeError
from collections.abc import Iterator
from typing import Any

import pytest

from ecpds.cli.access import seconds
from ecpds.cli.client import decoded
from ecpds.cli.codes import EXITS, CommandError, Exit, exit_of, of_answer, of_several
from ecpds.cli.keyvalues import read_values
from ecpds.cli.main import COMMANDS, parser_of, verbs_of
from ecpds.cli.tomltext import toml_text
from ecpds.model import errors
from ecpds.model.errors import EcpdsError
from ecpds.web.errors import status_of


def tree(cls: type[EcpdsError]) -> Iterator[type[EcpdsError]]:
    """Yield the error tree of the model."""
    yield cls
    for below in cls.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


@pytest.mark.parametrize("cls", list(tree(EcpdsError)), ids=lambda cls: cls.__name__)
def test_an_error_ends_a_command_the_same_here_and_there(cls: type[EcpdsError]) -> None:
    """Raised in this process or answered by the node: one exit code."""
    error = cls("x")
    if cls is EcpdsError:
        assert exit_of(error) is Exit.UNEXPECTED
    else:
        assert exit_of(error) is of_answer(status_of(error), error.code)


def test_every_row_of_the_table_is_needed() -> None:
    """No class repeats what the one above says."""
    for cls, code in EXITS.items():
        above = next((EXITS[one] for one in cls.__mro__[1:] if one in EXITS), None)
        assert code is not above, cls


@pytest.mark.parametrize(
    ("failures", "done", "code"),
    [
        ([], 3, Exit.DONE),
        ([], 0, Exit.DONE),
        ([Exit.LIMIT], 1, Exit.PARTIAL),
        ([Exit.LIMIT], 0, Exit.LIMIT),
        ([Exit.LIMIT, Exit.LIMIT], 0, Exit.LIMIT),
        ([Exit.LIMIT, Exit.CONFLICT], 0, Exit.UNEXPECTED),
    ],
)
def test_several_acts_have_one_code(failures: list[Exit], done: int, code: Exit) -> None:
    """4 when some worked, else what all of them failed with."""
    assert of_several(failures, done) is code


def test_problems_are_told_in_the_words_of_the_node() -> None:
    """The detail, and what it does not name."""
    problem = b'{"code": "x", "detail": "wrong", "errors": [{"pointer": "/a", "message": "bad"}]}'
    with pytest.raises(CommandError) as caught:
        decoded(422, problem)
    assert str(caught.value) == "wrong\n  /a: bad"
    assert (caught.value.exit_code, caught.value.reason) == (Exit.USAGE, "x")
    with pytest.raises(CommandError, match="HTTP 418"):
        decoded(418, b"[]")
    assert decoded(204, b"") is None


@pytest.mark.parametrize(("text", "found"), [("5", 5), ("0.5", 0.5), ("200ms", 0.2), ("PT1M", 60)])
def test_times_may_have_a_unit(text: str, found: float) -> None:
    """A bare number means seconds."""
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["", "-1", "0", "nan", "inf", "1e9", "soon"])
def test_what_is_no_time_to_wait(text: str) -> None:
    """Refused."""
    with pytest.raises(ArgumentTypeError):
        seconds(text)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["comment=a=b"], {"comment": "a=b"}),
        (["comment="], {"comment": ""}),
        (["hosts=a, b,"], {"hosts": ["a", "b"]}),
        (["sftp.port=22", "options.ftp.port="], {"options": {"sftp.port": "22", "ftp.port": None}}),
        (["aliases:=[]"], {"aliases": []}),
        (["roles=operator:N*, viewer"],
         {"roles": [{"role": "operator", "scope": "N*"}, {"role": "viewer", "scope": "*"}]}),
        (["password="], {"password": ""}),
    ],
)  # fmt: skip
def test_words_make_a_document(words: list[str], found: dict[str, Any]) -> None:
    """KEY=VALUE, options by their key, JSON behind :=."""
    assert read_values(words) == found


@pytest.mark.parametrize("word", ["x", "=x", ":=x", "password=x", "totp=x", "a:={"])
def test_words_that_are_none(word: str) -> None:
    """Refused with what to do instead."""
    with pytest.raises(CommandError) as caught:
        read_values([word])
    assert caught.value.exit_code is Exit.USAGE


@pytest.mark.parametrize("command", COMMANDS)
def test_arguments_are_declared_well(command: str) -> None:
    """Every parser can be made and shows its help; no two words mean the same."""
    verbs = verbs_of(command)
    assert verbs
    for verb in verbs.values():
        assert verb.words in parser_of(verb).format_help()


def test_toml_is_read_back() -> None:
    """Tables, lists of tables, odd keys and texts."""
    document = {
        "plain": 'a"b\\c\n\x7f\x01ü',
        "numbers": [1, 2.5, True],
        "empty": [],
        "mixed": [{"a": 1}, "x"],
        "a b": {"c.d": 1, "deeper": {"e": [{"f": {"g": "h"}}, {"f": {}}]}},
        "many": [{"name": "x", "options": {"sftp.port": "22"}, "rows": [{"to": "y"}]}, {}],
    }
    assert tomllib.loads(toml_text(document)) == document
    assert tomllib.loads(toml_text({"nothing": None})) == {"nothing": ""}
