"""Manual pages: every command and option, in roff that nothing of ours breaks."""

from __future__ import annotations

import re

import pytest

from docs.manpages import escaped, pages
from ecpds.cli.main import COMMANDS, parser_of, verbs_of

MACROS = {".TH", ".SH", ".SS", ".TP", ".B", ".BR", ".I", ".br"}


def test_there_is_a_page_for_every_command() -> None:
    """And each line is text or a macro that man knows."""
    found = pages()
    assert set(found) == {"ecpds.1", *(f"ecpds-{command}.1" for command in COMMANDS)}
    for name, text in found.items():
        lines = text.splitlines()
        assert lines[0].startswith(".TH "), name
        assert {line.split()[0] for line in lines if line.startswith(".")} <= MACROS, name
        assert not [line for line in lines if line.startswith("'")], name
        assert text.isascii(), [one for one in text if not one.isascii()]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_has_every_option(command: str) -> None:
    """Of all verbs that begin with that word."""
    text = pages()[f"ecpds-{command}.1"].replace("\\-", "-")
    for verb in verbs_of(command).values():
        assert f"ecpds {verb.words}" in text
        for option in parser_of(verb)._option_string_actions:
            if option not in {"-h", "--help"}:
                assert re.search(rf"\\fB{re.escape(option)}\\fR", text), option


def test_text_stays_text() -> None:
    """A leading dot, a backslash, a quote."""
    assert escaped(".x -y \\z it's") == "\\&.x \\-y \\ez it\\(aqs"
