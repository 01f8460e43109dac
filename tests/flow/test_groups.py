"""Batches: fetched together, sent together, waited for; a failed file is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commandline import CommandLine, command_line

Cli = CommandLine


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Give the command beside a daemon with a source directory and two destinations."""
    with command_line(tmp_path_factory.mktemp("groups")) as found:
        assert found.daemon is not None
        data = found.daemon.data
        site = {
            "hosts": [
                {"name": "out", "method": "genericFile", "directory": f"{data}/out/"},
                {"name": "source", "role": "source", "method": "genericFile"},
            ],
            "destinations": [
                {"name": "MET", "hosts": ["out"], "source_host": "source", "max_connections": 4},
                {"name": "NOSOURCE"},
            ],
        }
        (found.folder / "site.json").write_text(json.dumps(site))
        found("apply", "site.json")
        yield found


def feed(cli: Cli, name: str, content: bytes = b"content") -> str:
    """Lay a file at the source; return its path there."""
    assert cli.daemon is not None
    path = cli.daemon.data / "feeds" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def sent(cli: Cli, name: str) -> Path:
    assert cli.daemon is not None
    return cli.daemon.data / "out" / name


def test_a_group_is_fetched_and_waited_for(cli: Cli) -> None:
    """Exit 0, and the words of the original."""
    places = [feed(cli, f"g1/{number}.grib") for number in range(3)]
    cli("register", "MET", *places, "--group", "G1")
    done = cli("group", "wait", "G1", "--timeout", "30s", "-q")
    assert done.text == "Group G1 completed (3 DataFile(s))\n"
    found = cli("group", "show", "G1", "--output", "json").json
    assert (found["files"], found["done"], found["failed"]) == (3, 3, 0)
    assert "G1" in cli("group", "list").text


def test_ex_9_one_of_three_failed(cli: Cli) -> None:
    """It is listed, exit 4."""
    places = [feed(cli, "g2/a"), "feeds/missing", feed(cli, "g2/b")]
    places[1] = str(Path(places[0]).with_name("missing"))
    cli("register", "MET", *places, "--group", "G2")
    done = cli("group", "wait", "G2", "--timeout", "30s", code=4)
    assert "failed: " + places[1] in done.text
    assert "1 of 3 DataFile(s) failed" in done.text
    found = cli("group", "wait", "G2", "--output", "json", code=4).lines[-1]
    assert [one["source"] for one in found["failed_files"]] == [places[1]]
    assert found["failed_files"][0]["reason"]["class"] == "missing"


def test_a_failed_file_that_was_deleted_still_failed(cli: Cli) -> None:
    """Deleting its transfer does not make the batch look whole."""
    place = str(Path(feed(cli, "g3/x")).with_name("nothing"))
    cli("register", "MET", place, "--group", "G3")
    cli("group", "wait", "G3", "--timeout", "30s", code=4)
    number = cli("transfer", "list", "--destination", "MET", "--target", "nothing",
                 "--output", "id").text.strip()  # fmt: skip
    cli("purge", number, "--yes")
    assert "failed: " in cli("group", "wait", "G3", code=4).text


def test_without_a_source_host_it_fails_with_a_reason(cli: Cli) -> None:
    """Refused at the door."""
    assert "source_host" in cli("register", "NOSOURCE", "/x", "--group", "G4", code=2).error


def test_an_unknown_group(cli: Cli) -> None:
    """It may be on its way until the time is over."""
    assert "Group G5 not found" in cli("group", "wait", "G5", "--timeout", "1s", code=6).error


def test_asap_waits_for_the_whole_group(cli: Cli) -> None:
    """With a delay of an hour nothing is sent; the last file of the group releases all."""
    cli("retrieval", "stop")
    try:
        places = [feed(cli, f"g6/{number}") for number in range(2)]
        cli("register", "MET", *places, "--group", "G6", "--asap", "--delay", "1h")
        assert "Scheduler stopped" in cli("retrieval", "status").text
        assert cli("group", "show", "G6", "--output", "json").json["waiting"] == 2
        wait = cli("group", "wait", "G6", "--timeout", "1s", code=9)
        assert "Still 2 DataFile(s) to process for group G6" in wait.text
    finally:
        cli("retrieval", "start")
    cli("group", "wait", "G6", "--timeout", "30s")
    for number in range(2):
        cli("transfer", "wait", "--destination", "MET", "--target", str(number),
            "--timeout", "30s")  # fmt: skip
    assert sent(cli, "0").exists()


def test_a_delayed_file_without_asap_is_fetched_but_not_sent(cli: Cli) -> None:
    """Retrieval does not wait for the schedule."""
    cli("register", "MET", feed(cli, "g7/late"), "--group", "G7", "--delay", "1h")
    cli("group", "wait", "G7", "--timeout", "30s")
    (one,) = cli("transfer", "list", "--target", "late", "--output", "json").lines
    assert one["status"] == "queued"


def test_index_makes_one_file_of_many(cli: Cli) -> None:
    """Names with comments; relative ones are beside the index."""
    feed(cli, "g8/one", b"11111")
    feed(cli, "g8/two", b"22")
    index = feed(cli, "g8/list.idx", b"# parts\none\ntwo # the last\n\n")
    cli("register", "MET", index, "--group", "G8", "--index", "--target", "both")
    cli("group", "wait", "G8", "--timeout", "30s")
    cli("transfer", "wait", "--target", "both", "--timeout", "30s")
    assert sent(cli, "both").read_bytes() == b"1111122"


@pytest.mark.parametrize("content", [b"", b"# nothing\n"])
def test_an_empty_index_fails(cli: Cli, content: bytes) -> None:
    """`no file(s) found in index`."""
    index = feed(cli, f"g9/empty{len(content)}.idx", content)
    name = f"G9{len(content)}"
    cli("register", "MET", index, "--group", name, "--index")
    done = cli("group", "wait", name, "--timeout", "30s", code=4)
    assert "no file(s) found in index" in done.text


def test_a_manifest_in_bulk(cli: Cli) -> None:
    """JSON lines, each with its own target, priority and metadata."""
    lines = [
        {"source": feed(cli, "g10/a"), "target": "m/a", "priority": 3, "metadata": {"step": "6"}},
        {"source": feed(cli, "g10/b"), "target": "m/b", "lifetime": "3d", "size": 7},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = cli("register", "MET", "--manifest", "-", "--group", "G10", "--output", "json",
               stdin=text.encode())  # fmt: skip
    assert [line["target"] for line in done.lines] == ["m/a", "m/b"]
    cli("group", "wait", "G10", "--timeout", "30s")
    cli("transfer", "wait", "--target", "m/*", "--timeout", "30s")
    assert sent(cli, "m/a").read_bytes() == b"content"


def test_products_from_the_command_line(cli: Cli) -> None:
    """Words, exit 0, reset is explicit."""
    key = ("--stream", "wave", "--time", "06", "--step", "12")
    assert "(-at option required)" in cli("product", "started", *key).text
    cli("product", "expected", *key, "--at", "2031-05-04T12:00:00Z")
    assert "updated to Started" in cli("product", "started", *key).text
    assert cli("product", "completed", *key, "--output", "json").json["outcome"] == "updated"
    assert "completed" in cli("product", "show", "--stream", "wave", "--time", "06").text
    assert "wave" in cli("product", "show").text
    cli("product", "reset", code=2)
    assert cli("product", "reset", "--all").text == "1 product(s) status reseted\n"


def test_mv_gives_another_name(cli: Cli) -> None:
    """The old name is free afterwards."""
    cli("push", "MET", "-", "--target", "d/old", "--standby", stdin=b"1")
    assert "now e/old" in cli("mv", "MET/d/old", "e/").text
    cli("push", "MET", "-", "--target", "d/old", "--standby", stdin=b"2")
    cli("mv", "MET/d/old", "e/old", code=5)
    cli("mv", "MET/nothing", "x", code=6)


def test_a_job_from_the_command_line(cli: Cli) -> None:
    """Count, do, look."""
    for number in range(3):
        cli("push", "MET", "-", "--target", f"job/{number}", "--standby", stdin=b"1")
    what = ("prioritise", "--query", "target=job/* status=standby", "--priority", "5")
    assert cli("job", "start", *what, "--dry-run").text == "3 transfers\n"
    found = cli("job", "start", *what, "--wait", "--timeout", "30s", "--output", "json").json
    assert (found["state"], found["done"]) == ("done", 3)
    assert "prioritise" in cli("job", "list").text
    assert "done" in cli("job", "wait", found["id"]).text
    cli("job", "cancel", found["id"], code=5)
    cli("job", "show", 999, code=6)
