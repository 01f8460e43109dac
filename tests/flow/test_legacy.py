"""The original command's options against a daemon: texts of cli.md 4 to 7, both kinds of exit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commandline import CommandLine, command_line

Cli = CommandLine


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Give the command beside a daemon; MET fetches from this machine."""
    with command_line(tmp_path_factory.mktemp("legacy")) as found:
        site = {
            "hosts": [{"name": "source", "role": "source", "method": "genericFile"}],
            "destinations": [{"name": "MET", "source_host": "source"}, {"name": "B"}],
        }
        (found.folder / "site.json").write_text(json.dumps(site))
        found("apply", "site.json")
        yield found


def local(cli: Cli, name: str, content: bytes = b"content") -> str:
    (cli.folder / name).write_bytes(content)
    return name


def test_push_force_requeue_purge(cli: Cli) -> None:
    """cli.md 5 Ex 1, and the words for each."""
    file = local(cli, "a")
    first = cli("-destination", "MET", "-source", file)
    match = re.fullmatch(
        r"1 DataTransfer\(s\) will start at: \w{3} \d\d \d\d:\d\d:\d\d \(DatafileId=(\d+)\)\n",
        first.text,
    )
    assert match, first.text
    again = cli("-destination", "MET", "-source", file, code=5)
    assert f"Duplicate DataFile found with 1 DataTransfer(s) (DataFileId={match[1]})" in again.error
    assert "please use the '-requeue/force/purge' option!" in again.error
    cli("-destination", "MET", "-source", file, "--legacy-exit", code=255)
    forced = cli("-destination", "MET", "-source", file, "-force")
    assert f"(DatafileId={match[1]}) (updated)" in forced.text
    assert "(updated)" in cli("-destination", "MET", "-source", file, "-requeue").text
    purged = cli("-destination", "MET", "-source", file, "-purge")
    assert purged.text == "Purge completed with 1 DataTransfer(s) deleted\n"
    gone = cli("-destination", "MET", "-source", file, "-purge", code=6)
    assert "No corresponding DataTransfer(s) to purge" in gone.error
    gone = cli("-destination", "MET", "-source", file, "-requeue", code=6)
    assert "No corresponding DataTransfer(s) to requeue" in gone.error


def test_versions_stdin_standby_metadata_and_remove(cli: Cli) -> None:
    """Ex 3 and the options of a push."""
    for version in "12":
        cli("-destination", "MET", "-source", local(cli, "v"), "-version", version)
    said = cli("-destination", "MET", "-target", "piped", "-standby", "-priority", "3",
               "-metadata", "date=20310504,time=06,stream=wave,step=12,note=a,b", "-lifetime", "3",
               stdin=b"x").text  # fmt: skip
    number = re.search(r"in standby \(DatafileId=(\d+)\)", said)
    assert number, said
    (one,) = cli("transfer", "list", "--target", "piped", "--output", "json").lines
    assert (one["status"], one["priority"]) == ("standby", 3)
    file = local(cli, "gone")
    cli("-destination", "MET", "-source", file, "-remove", "-target", "d/")
    assert not (cli.folder / file).exists()
    assert cli("ls", "MET/d").text == "gone\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-source", "missing"), "getting source file status"),
        (("-source", "five", "-s", "4"), "size of file differs from specified value"),
        (("-source", "five", "-M", "4"), "size of file exceeds maximum specified"),
    ],
)
def test_run_time_errors(cli: Cli, words: tuple[str, ...], text: str) -> None:
    """255 as in the original."""
    local(cli, "five", b"12345")
    done = cli("-destination", "MET", *words, "--legacy-exit", code=255)
    assert f"error: {text}" in done.error


def test_an_unknown_destination(cli: Cli) -> None:
    done = cli("-destination", "NOPE", "-source", local(cli, "x"), code=6)
    assert "Destination NOPE not found" in done.error


def test_group(cli: Cli) -> None:
    """Registered, fetched, waited for; the second time accepted silently."""
    assert cli.daemon is not None
    feed = cli.daemon.data / "feeds" / "g"
    feed.parent.mkdir(exist_ok=True)
    feed.write_bytes(b"content")
    words = ("-destination", "MET", "-source", feed, "-groupby", "G")
    assert "1 DataTransfer(s) initialized for group G: " in cli(*words).text
    assert "Group G completed" in cli("-waitfor", "G").text
    assert cli(*words).text.startswith("DataFile already exist")


def test_index_in_a_group(cli: Cli) -> None:
    """Sizes are summed here, contents there."""
    assert cli.daemon is not None
    feeds = cli.daemon.data / "feeds"
    for name, content in (("p1", b"111"), ("p2", b"22")):
        (feeds / name).write_bytes(content)
    index = feeds / "list"
    index.write_text(f"{feeds}/p1\n{feeds}/p2\n")
    words = ("-destination", "MET", "-source", index, "-groupby", "GI", "-index")
    cli(*words, "-target", "both")
    cli("-waitfor", "GI")
    assert cli("get", "MET/both", "--into", "-").out == b"11122"
    empty = feeds / "none"
    empty.write_text("# nothing\n")
    done = cli("-destination", "MET", "-source", empty, "-groupby", "GE", "-index", code=2)
    assert "no file(s) found in index" in done.error


def test_products(cli: Cli) -> None:
    """Same words as today's commands."""
    what = ("-metadata", "stream=wave,domain=g,time=06,step=12,date=20310504")
    assert "(-at option required)" in cli("-expected", *what).text
    assert "created as Expected" in cli("-expected", *what, "-at", "20310504120000").text
    assert "updated to Started" in cli("-started", *what).text
    assert cli("-reset", *what).text == "Product status reseted\n"
    assert "0 product(s)" in cli("-reset").text
    cli("-started", "-metadata", "stream=wave", "--legacy-exit", code=1)


def test_schedulers(cli: Cli) -> None:
    assert "Scheduler stopped (streams=" in cli("-scheduler", "-stop").text
    assert "Scheduler started" in cli("-scheduler", "-start").text
    words = ("-scheduler", "-check", "-streams", "7", "-timeout", "9000")
    assert "Scheduler started (streams=7,timeout=PT9S)" in cli(*words).text
    assert cli("-scheduler", "-stop", "-destination", "B").text == "Destination stopped\n"
    assert cli("-scheduler", "-start", "-destination", "B").text == "Destination started\n"


def test_a_server_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    done = cli("-destination", "MET", "-source", local(cli, "y"), "-echost", "127.0.0.1",
               "-ecport", "1", "-pass", "t", code=8)  # fmt: skip
    assert "cannot be reached" in done.error
