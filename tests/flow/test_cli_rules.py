"""`ecpds explain`, `rules` and what else tells people about rules, as processes beside a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commandline import CommandLine, command_line


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Give the command beside a daemon that all tests of this file share."""
    with command_line(tmp_path_factory.mktemp("cli")) as found:
        found("destination", "add", "RULES")
        yield found


def test_explain_tells_causes_and_next(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    number = cli("push", "RULES", tmp_path / "a", "--output", "id").text.split()[0]
    told = cli("explain", number).text
    assert f"{number} RULES/a is queued" in told
    assert (
        "* The destination has no active dissemination host. [no-hosts, destination RULES]" in told
    )
    found = cli("explain", number, "--output", "json").json
    assert (found["next"], found["reasons"][0]["code"]) == (None, "no-hosts")
    assert cli("explain", "999999", code=6).text == ""


def test_rules_on_a_name(cli: CommandLine, tmp_path: Path) -> None:
    text = tmp_path / "directory"
    text.write_text("($metadata[type]==fc) /fc/\n/other/\n")
    told = cli("rules", "test", "RULES", "x.grib", "--meta", "type=fc", "--directory", text).text
    assert "host (tried): /fc/x.grib" in told
    assert "line 1 (1 conditions hold): ($metadata[type]==fc) /fc/" in told
    found = cli("rules", "test", "RULES", "x.grib", "--set", "size=10", "--force", "-",
                "--output", "json", stdin=b"(=. .grib) standby=yes").json  # fmt: skip
    assert found["transfers"][0]["standby"] is True
    assert "refused" in cli("rules", "test", "RULES", "../x", code=1).text
    assert cli("rules", "test", "RULEZ", "x", code=6).text == ""


def test_rules_check(cli: CommandLine, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("(== a standby=yes\n")
    told = cli("rules", "check", "force", text, code=2).text
    assert "line 1, column 1" in told
    assert "not ok" in told
    assert cli("rules", "check", "requeueon", "-", stdin=b"$size2 > $size1").text == "ok\n"


def test_a_dry_discovery_of_a_pasted_listing(cli: CommandLine, tmp_path: Path) -> None:
    cli("host", "add", "pasted", "role=acquisition", "method=genericFile",
        "directory=/in/{.*\\.nc}")  # fmt: skip
    cli("destination", "add", "PASTED", "hosts=pasted")
    told = cli("host", "acquire", "pasted", "--dry-run", "--names", "--listing", "-",
               stdin=b"a.nc\t10\nb.txt\n").text  # fmt: skip
    assert "line 1: /in/" in told
    assert "wrong pattern" in told
    assert "2 listed: 1 wrong pattern, 1 selected" in told
    cli("host", "acquire", "pasted", "--listing", "-", code=2)
    assert cli("host", "interrupt", "pasted", "--output", "json").json["destinations"] == []


def test_a_script_is_tried(cli: CommandLine, tmp_path: Path) -> None:
    code = tmp_path / "a.py"
    code.write_text("[dataTransfer.target, str(level + 1)]")
    told = cli("script", "try", code, "--destination", "RULES", "--target", "x.grib",
               "--set", "level:=4").text  # fmt: skip
    assert told == "x.grib\n5\n"
    failed = cli("script", "try", "-", code=1, stdin=b"nosuch")
    assert "not defined" in failed.error
