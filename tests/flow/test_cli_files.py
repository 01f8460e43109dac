"""Commands on files and transfers, as processes beside a daemon, and against servers that fail."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ecpds.cli.access import Access
from ecpds.cli.client import Client
from tests.commandline import LIMIT, CommandLine, command_line, interrupted, on_terminal

Cli = CommandLine
ODD = "a b'ü*[1]?.grib"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Give the command beside a daemon that all tests of this file share.

    MET has no host: what is pushed stays queued.  OUT delivers into a directory.
    """
    with command_line(tmp_path_factory.mktemp("cli")) as found:
        assert found.daemon is not None
        out = found.daemon.data / "out"
        site = {
            "hosts": [{"name": "out", "role": "dissemination", "method": "genericFile",
                       "directory": f"{out}/$dataTransfer[target]"}],
            "destinations": [
                {"name": "MET"},
                {"name": "OUT", "hosts": ["out"]},
                {"name": "FULL", "max_pending": 1},
                {"name": "SMALL", "max_file_size": 1000},
            ],
        }  # fmt: skip
        (found.folder / "site.json").write_text(json.dumps(site))
        found("apply", "site.json")
        yield found


@pytest.fixture
def local(cli: Cli) -> Callable[..., str]:
    """Make a local file; its name relative to where commands run is returned."""

    def make(name: str, content: bytes = b"content") -> str:
        path = cli.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name

    return make


def targets(cli: Cli, destination: str) -> list[str]:
    """Return the targets of a destination's transfers."""
    rows = cli("transfer", "list", "--destination", destination, "--output", "json").lines
    return sorted(row["target"] for row in rows)


# --- push ----------------------------------------------------------------------------------------


def test_a_push_tells_what_became_of_it(cli: Cli, local: Callable[..., str]) -> None:
    """The result as one JSON object, as one id, as one line."""
    name = local("one.grb", b"x" * 42)
    found = cli("push", "MET", name, "--output", "json", "--checksum", "sha256").json
    sha256 = hashlib.sha256(b"x" * 42).hexdigest()
    assert found.items() >= {
        "file": "one.grb", "destination": "MET", "target": "one.grb", "status": "queued",
        "updated": False, "skipped": False, "bytes": 42, "sha256": sha256,
    }.items()  # fmt: skip
    assert isinstance(found["data_file_id"], int)
    shown = cli("transfer", "show", *found["transfers"], "--output", "json").json
    assert (shown["size"], shown["data_file_id"]) == (42, found["data_file_id"])
    assert found["scheduled"] == shown["scheduled"]
    number = cli("push", "MET", name, "--target", "two", "--output", "id").text
    assert int(number) > found["data_file_id"]
    assert re.fullmatch(r"one.grb: data file \d+, 42 bytes, transfer \d+\n",
                        cli("push", "MET", name, "--target", "three").text)  # fmt: skip


def test_example_6_one_file_fits(cli: Cli, local: Callable[..., str]) -> None:
    """A limit for one file: one id, one error line, exit 4; then none fits: 7."""
    names = [local("full-a"), local("full-b")]
    done = cli("push", "FULL", *names, "--output", "id", code=4)
    assert re.fullmatch(r"\d+\n", done.text)
    assert re.fullmatch(r"error: full-b: .*pending.*\n", done.error)
    refused = cli("push", "FULL", names[1], "--output", "json", code=7)
    assert json.loads(refused.error)["code"] == "too-many-pending"
    assert refused.text == ""


def test_example_7_standard_input(cli: Cli) -> None:
    """`printf x | push MET - --target t --output id` prints the id and nothing else."""
    done = cli("push", "MET", "-", "--target", "from/stdin", "--output", "id", stdin=b"x")
    assert re.fullmatch(r"\d+\n", done.text)
    assert done.error == ""
    assert cli("get", "MET/from/stdin", "-o", "-").out == b"x"
    for words in (["-"], ["-", "--target", "d/"], ["-", "ecpds.toml", "--target", "x"]):
        assert "standard input" in cli("push", "MET", *words, code=2).error


def test_example_8_a_wrong_destination_gets_no_content(cli: Cli) -> None:
    """Exit 6 before standard input is read: here it never comes."""
    with subprocess.Popen(
        cli.command("push", "NOWHERE", "-", "--target", "t"),
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cli.folder, env=cli.variables(),
    ) as child:  # fmt: skip
        assert child.wait(LIMIT) == 6
        assert child.stderr is not None
        assert "NOWHERE not found" in child.stderr.read().decode()


def test_several_files_go_where_they_should(cli: Cli, local: Callable[..., str]) -> None:
    """Into a directory, by a glob, with metadata, priority, version; bad words send nothing."""
    assert cli.daemon is not None
    local("many/a.bin", b"a")
    local("many/b.bin", b"bb")
    words = ["--priority", "7", "--lifetime", "1h", "--meta", "date=20310504,time=06"]
    words += ["--meta", "note=a,b", "--output", "json"]
    done = cli("push", "MET", "many/*.bin", "--target", "in/", *words).lines
    assert [(one["file"], one["target"]) for one in done] == [
        ("many/a.bin", "in/a.bin"), ("many/b.bin", "in/b.bin"),
    ]  # fmt: skip
    shown = cli("transfer", "show", done[0]["transfers"][0], "--output", "json").json
    assert shown["priority"] == 7
    with Client(Access(server=cli.daemon.endpoints["monitor"], token=cli.daemon.token,
                       insecure=True)) as client:  # fmt: skip
        metadata = client.call("GET", f"/files/{done[0]['data_file_id']}")["metadata"]
    assert metadata.items() >= {"date": "20310504", "time": "06", "note": "a,b"}.items()
    assert cli("push", "MET", "many/a.bin", "--target", "in/a.bin", "--version", "2")
    local("--force", b"odd")
    assert (
        cli("push", "MET", "--priority", "5", "--output", "json", "--", "--force").json["bytes"]
        == 3
    )
    for words in (
        ["many/a.bin", "many/b.bin", "--target", "x"],
        ["many/none"],
        ["many"],
        ["many/*.none"],
        ["many/a.bin", "--meta", "x"],
        ["many/a.bin", "--priority", "100"],
        ["many/a.bin", "--lifetime", "5"],
    ):
        cli("push", "MET", *words, code=2)


def test_a_duplicate_is_refused_skipped_or_overwritten(cli: Cli, local: Callable[..., str]) -> None:
    """`--on-duplicate`; a source goes away only when its own bytes were stored."""
    name = local("dup", b"first")
    number = cli("push", "MET", name, "--output", "json").json["data_file_id"]
    local("dup", b"second")
    failure = cli("push", "MET", name, "--remove-source", code=5)
    assert "Duplicate" in failure.error
    skipped = cli(
        "push", "MET", name, "--on-duplicate", "skip", "--remove-source", "--output", "json"
    )
    assert (skipped.json["skipped"], skipped.json["data_file_id"]) == (True, number)
    assert cli("get", "MET/dup", "-o", "-").out == b"first"
    assert (cli.folder / name).exists()
    forced = cli("push", "MET", name, "--force", "--remove-source", "--output", "json").json
    assert (forced["updated"], forced["data_file_id"]) == (True, number)
    assert cli("get", "MET/dup", "-o", "-").out == b"second"
    assert not (cli.folder / name).exists()


def test_a_refusal_in_the_middle_is_told_in_the_words_of_the_node(
    cli: Cli, local: Callable[..., str]
) -> None:
    """The node stops reading at the limit of the destination; that is 7, no broken connection."""
    name = local("large", bytes(64 * MIB))
    assert "accepts at most 1000 bytes" in cli("push", "SMALL", name, code=7).error
    with (cli.folder / name).open("rb") as file:
        content = file.read()
    done = cli("push", "SMALL", "-", "--target", "x", stdin=content, code=7)
    assert "accepts at most 1000 bytes" in done.error
    (cli.folder / name).unlink()
    assert targets(cli, "SMALL") == []


def test_sent_means_delivered(cli: Cli, local: Callable[..., str]) -> None:
    """`--wait sent` ends when the remote side has it; 9 when that takes too long."""
    assert cli.daemon is not None
    name = local("sent", b"delivered")
    cli("push", "OUT", name, "--target", "deep/sent", "--wait", "sent", "--timeout", "50s")
    assert (cli.daemon.data / "out" / "deep" / "sent").read_bytes() == b"delivered"
    late = cli("push", "MET", name, "--wait", "sent", "--timeout", "100ms", code=9)
    assert "1 of 1 transfers are not yet done" in late.error
    assert re.search(r"data file \d+", late.text)


def test_names_that_are_no_text(cli: Cli) -> None:
    """A local name that is no UTF-8 needs another one."""
    (cli.folder / os.fsdecode(b"bad-\xff")).write_bytes(b"x")
    words = cli.command("push", "MET", os.fsdecode(b"bad-\xff"))
    ended = subprocess.run(words, capture_output=True, cwd=cli.folder, env=cli.variables(),
                           timeout=LIMIT, check=False)  # fmt: skip
    assert ended.returncode == 2
    assert b"not UTF-8" in ended.stderr
    cli("push", "MET", os.fsdecode(b"bad-\xff"), "--target", "good", "--original", "good", code=2)


def test_a_pipe_is_read_to_its_end(cli: Cli) -> None:
    """Its size is not known before; what comes is what is stored."""
    fifo = cli.folder / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(b"piped" * 100_000))
    writer.start()
    assert cli("push", "MET", "fifo", "--output", "json").json["bytes"] == 500_000
    writer.join(LIMIT)


def test_ctrl_c_registers_nothing(cli: Cli) -> None:
    """130, and no such target."""
    ended = interrupted(cli, ["push", "MET", "-", "--target", "half"])
    assert ended == (130, "interrupted\n")
    assert "half" not in targets(cli, "MET")


def test_a_bar_is_shown_to_people(cli: Cli, local: Callable[..., str]) -> None:
    """On a terminal, unless they do not want it."""
    name = local("bar", bytes(8 * MIB))
    code, shown = on_terminal(cli, "push", "MET", name)
    assert code == 0, shown
    assert "8.4/8.4 MB" in shown
    code, shown = on_terminal(cli, "push", "MET", name, "--force", "--quiet")
    assert code == 0, shown
    assert "MB" not in shown


# --- register ------------------------------------------------------------------------------------


def test_registered_files_are_fetched_by_the_node(cli: Cli) -> None:
    """From a host, by path or manifest; a wrong line stops all of them."""
    assert cli.daemon is not None
    feed = cli.daemon.data / "feeds" / "reg"
    feed.mkdir()
    for name in ("a.grb", "b.grb", "c.grb"):
        (feed / name).write_bytes(name.encode())
    cli("host", "add", "reg", "role=source", "method=genericFile")
    cli("destination", "add", "REG", "source_host=reg")
    words = ["register", "REG", "--output", "json"]
    first = cli(*words, feed / "a.grb", "--group", "g", "--priority", "5").json
    assert (first["file"], first["target"]) == (str(feed / "a.grb"), "a.grb")
    lines = [{"source": f"{feed}/b.grb", "target": "in/b", "metadata": {"step": "6"}},
             {"source": f"{feed}/c.grb", "priority": 3, "lifetime": "1h", "size": 5}]  # fmt: skip
    manifest = "".join(json.dumps(line) + "\n" for line in lines)
    found = cli(*words, "--manifest", "-", "--meta", "stream=wave", stdin=manifest.encode()).lines
    assert [one["target"] for one in found] == ["in/b", "c.grb"]
    ids = [number for one in (first, *found) for number in one["transfers"]]
    cli("transfer", "wait", *ids, "--for", "stored", "--timeout", "50s")
    assert cli("get", "REG/in/b", "-o", "-").out == b"b.grb"
    shown = cli("transfer", "show", *ids, "--output", "json").lines
    assert [one["priority"] for one in shown] == [5, 99, 3]
    assert cli("register", "REG", feed / "a.grb", "--from", "reg", code=5).text == ""
    skip = ["--on-duplicate", "skip"]
    assert "skipped" in cli("register", "REG", feed / "a.grb", feed / "a.grb", *skip).text
    for text, hint in (
        ('{"source": "x"}\n{"sorce": "y"}', "standard input:2: source is missing"),
        ('{"source": "x", "prioriti": 1}', "did you mean 'priority'?"),
        ('{"source": "x"', "no JSON"),
        ('{"source": "x", "metadata": 1}', "metadata"),
        ("", "name a SOURCE"),
        ("x" * 70_000, "more than"),
    ):
        error = cli("register", "REG", "--manifest", "-", stdin=text.encode(), code=2).error
        assert hint in error
    (cli.folder / "manifest").write_text('{"source": 1}')
    assert "manifest:1:" in cli("register", "REG", "--manifest", "manifest", code=2).error
    cli("register", "REG", "--manifest", "nowhere", code=2)
    cli("register", "REG", "a", "b", "--target", "x", code=2)
    cli("register", "REG", "a", "--from", "nowhere", code=6)
    cli("register", "NOWHERE", "a", code=6)
    assert "source_host" in cli("register", "MET", "a", code=2).error
    assert targets(cli, "REG") == ["a.grb", "c.grb", "in/b"]


# --- get, ls, rm ---------------------------------------------------------------------------------


def test_files_are_listed_fetched_and_deleted(cli: Cli, local: Callable[..., str]) -> None:
    """By name, whatever signs it has."""
    content = os.urandom(3 * MIB)
    local(f"src/{ODD}", content)
    local("src/plain", b"")
    cli("push", "MET", f"src/{ODD}", "src/plain", "--target", "tree/sub/")
    assert cli("ls", "MET/tree").text == "sub/\n"
    assert cli("ls", "MET/tree/sub/").text.splitlines() == [ODD, "plain"]
    assert cli("ls", "MET/tree/sub/plain").text == "tree/sub/plain\n"
    assert re.search(rf"3 MB .*Z +queued +{re.escape(ODD)}\n", cli("ls", "-l", "MET/tree/sub").text)
    rows = cli("ls", "MET/tree", "--output", "json").lines
    assert rows == [{"name": "sub/", "directory": True, "transfer": None}]
    ids = cli("ls", "MET/tree/sub", "--output", "id").text.split()
    assert len(ids) == 2
    for path, code in (("MET/tree/no", 6), ("NOWHERE", 6), ("a b", 6)):
        cli("ls", path, code=code)
    place = cli.folder / "fetched"
    place.mkdir()
    cli("get", f"MET/tree/sub/{ODD}", "MET/tree/sub/plain", "-o", "fetched")
    assert (place / ODD).read_bytes() == content
    assert (place / "plain").read_bytes() == b""
    assert cli("get", f"MET/tree/sub/{ODD}", "-o", "fetched/other", "--output", "json").json == {
        "file": "fetched/other", "target": f"tree/sub/{ODD}", "transfer": int(ids[0]),
        "bytes": len(content),
    }  # fmt: skip
    partial = cli("get", "MET/tree/sub/plain", "MET/tree/no", "-o", "fetched", code=4)
    assert "error: MET/tree/no: there is no such file" in partial.error
    cli("get", "MET/tree/no", "-o", "fetched", code=6)
    cli("get", "MET", code=2)
    cli("get", "MET/tree/sub/plain", "-o", "nowhere/x", code=2)
    cli("get", "MET/tree/sub/plain", "MET/tree/sub/plain", "-o", "nowhere", code=2)
    assert {entry.name for entry in place.iterdir()} == {ODD, "plain", "other"}
    assert cli("rm", "MET/tree/sub/plain", "--dry-run").text.endswith("would be deleted\n")
    assert cli("rm", "MET/tree/sub/plain", "MET/tree/no", code=4).text.endswith(": deleted\n")
    assert cli("ls", "MET/tree/sub").text.splitlines() == [ODD]
    assert cli("rm", f"MET/tree/sub/{ODD}", "--output", "json").json["deleted"] is True
    cli("ls", "MET/tree", code=6)


# --- transfers -----------------------------------------------------------------------------------


def test_transfers_are_held_released_stopped_requeued_and_purged(
    cli: Cli, local: Callable[..., str]
) -> None:
    """By id and by filter; `--dry-run` only tells; a state that forbids it is 5."""
    cli("destination", "add", "LIFE")
    names = [local("life-a"), local("life-b")]
    pushed = cli("push", "LIFE", *names, "--output", "json").lines
    first, second = (one["transfers"][0] for one in pushed)

    def statuses() -> list[str]:
        rows = cli("transfer", "show", first, second, "--output", "json").lines
        return [row["status"] for row in rows]

    dry = cli("hold", "--destination", "LIFE", "--dry-run").text
    assert f"would hold {first} LIFE/life-a (queued)\n" in dry
    assert dry.endswith("2 transfers would be held\n")
    assert cli("release", "--destination", "LIFE", "--dry-run", "--output", "id").text.split() == [
        str(second), str(first),
    ]  # fmt: skip
    assert statuses() == ["queued", "queued"]
    assert cli("hold", first).text == "1 transfers held\n"
    assert cli("hold", "--destination", "LIFE", "--output", "json").json == {
        "held": 1, "ids": [second], "skipped": 1, "refused": 0,
    }  # fmt: skip
    assert statuses() == ["standby", "standby"]
    assert "standby already" in cli("hold", first, code=5).error
    cli("hold", "--destination", "LIFE", code=5)
    cli("release", first)
    assert cli("release", first, second, code=4).text == "1 transfers released\n"
    assert cli("stop", "--file", pushed[0]["data_file_id"], "--output", "id").text == f"{first}\n"
    assert statuses() == ["stopped", "queued"]
    assert "no active dissemination host" in cli("requeue", first, code=5).error
    assert "Stopped by admin" in cli("transfer", "history", first).text
    rows = cli("transfer", "history", first, "--output", "json").lines
    assert [row["status"] for row in rows][-1] == "stopped"
    cli("requeue", 10**9, code=6)
    cli("requeue", "--status", "interrupted", code=6)
    cli("requeue", "--status", "brokn", code=2)
    cli("requeue", code=2)
    cli("requeue", first, "--destination", "LIFE", code=2)
    assert "--yes" in cli("purge", "--destination", "LIFE", code=2).error
    purge = ["purge", "--destination", "LIFE"]
    code, shown = on_terminal(cli, *purge, answer=b"n\n")
    assert (code, "Delete 2 transfers?" in shown) == (130, True), shown
    assert cli(*purge, "--yes").text == "2 transfers deleted\n"
    assert targets(cli, "LIFE") == []
    cli("destination", "delete", "LIFE", "--cascade")


def test_a_delivered_one_is_requeued(cli: Cli, local: Callable[..., str]) -> None:
    """It goes out once more."""
    assert cli.daemon is not None
    name = local("again", b"again")
    number = cli("push", "OUT", name, "--wait", "sent", "--output", "json").json["transfers"][0]
    place = cli.daemon.data / "out" / "again"
    place.unlink()
    assert cli("requeue", number).text == "1 transfers requeued\n"
    assert cli("transfer", "wait", number).text == f"{number} done OUT/again\n"
    assert place.read_bytes() == b"again"


def test_lists_are_bounded_and_filtered(cli: Cli, local: Callable[..., str]) -> None:
    """`--limit`, `--target`, `--status`; a table for people."""
    cli("destination", "add", "LIST")
    for name in ("list-a", "list-b", "list-c"):
        local(name)
    cli("push", "LIST", "list-?")
    words = ["transfer", "list", "--destination", "LIST"]
    assert len(cli(*words, "--output", "id").text.split()) == 3
    assert len(cli(*words, "--output", "id", "--limit", "2").text.split()) == 2
    assert len(cli(*words, "--output", "id", "--limit", "0").text.split()) == 3
    assert [row["target"] for row in cli(*words, "--target", "*b", "--output", "json").lines] == [
        "list-b"
    ]  # fmt: skip
    table = cli(*words).text.splitlines()
    assert table[0].split() == ["ID", "STATUS", "PRIORITY", "SIZE", "DESTINATION", "TARGET"]
    assert table[1].endswith("LIST         list-c")
    assert cli(*words, "--status", "done").text == ""
    assert "did you mean" in cli(*words, "--status", "doen", code=2).error
    assert cli("transfer", "list", "--destination", "NOWHERE", code=6).text == ""


def test_waiting_ends_with_what_it_waits_for(cli: Cli, local: Callable[..., str]) -> None:
    """0 done or stored, 4 when one never will be, 9 too late, 6 nothing to wait for."""
    name = local("wait")
    number = cli("push", "MET", name, "--output", "json").json["transfers"][0]
    assert cli("transfer", "wait", number, "--for", "stored").text == f"{number} queued MET/wait\n"
    cli("transfer", "wait", number, "--timeout", "50ms", code=9)
    cli("stop", number)
    assert cli("transfer", "wait", number, code=4).text == f"{number} stopped MET/wait\n"
    cli("transfer", "wait", "--target", "no-such", code=6)
    cli("transfer", "wait", 10**9, code=6)
    cli("transfer", "wait", code=2)


# --- servers that fail ---------------------------------------------------------------------------

EMPTY = b'{"items":[],"next_cursor":null}'
Serve = Callable[[socket.socket], None]


def answered(body: bytes, status: str = "200 OK") -> bytes:
    """Return an HTTP answer."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


def head_of(connection: socket.socket) -> bytes:
    """Read the head of a request."""
    data = b""
    while b"\r\n\r\n" not in data:
        block = connection.recv(65536)
        if not block:
            return data
        data += block
    return data


@contextmanager
def scripted(*acts: Serve) -> Iterator[dict[str, str]]:
    """Serve each connection by the next act; give the environment that leads there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(LIMIT)

        def serve() -> None:
            for act in acts:
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(LIMIT)
                    act(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        yield {"ECPDS_SERVER": f"http://127.0.0.1:{port}", "ECPDS_TOKEN": "token"}
        thread.join(LIMIT)
        assert not thread.is_alive(), "it was asked less often than expected"


def hangs_up(connection: socket.socket) -> None:
    """Read a request and say nothing."""
    head_of(connection)


def tells(data: bytes) -> Serve:
    """Answer one request with these bytes."""

    def act(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(data)

    return act


def test_a_lost_answer_is_asked_for_again(tmp_path: Path) -> None:
    """With `--retry`; without it, 8.  503 is a node that is not there yet."""
    cli = CommandLine(tmp_path)
    busy = tells(answered(b"{}", "503 Service Unavailable"))
    with scripted(hangs_up, busy, tells(answered(EMPTY))) as where:
        cli("transfer", "list", "--retry", "2:1ms", environment=where)
    with scripted(hangs_up) as where:
        assert "lost" in cli("transfer", "list", code=8, environment=where).error
    with scripted(busy, busy) as where:
        cli("transfer", "list", "--retry", "1:1ms", code=8, environment=where)


def too_fast(seconds: int) -> Serve:
    """Answer that a request came too fast."""
    head = f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {seconds}\r\nConnection: close\r\n"
    return tells(f"{head}Content-Length: 2\r\n\r\n{{}}".encode())


def test_a_node_that_wants_it_slower_is_obeyed(tmp_path: Path) -> None:
    """A second later; what a quota refuses for longer is told at once."""
    cli = CommandLine(tmp_path)
    with scripted(too_fast(1), tells(answered(EMPTY))) as where:
        cli("transfer", "list", environment=where)
    with scripted(too_fast(5)) as where:
        cli("transfer", "list", code=7, environment=where)


def test_what_may_have_been_done_is_not_done_again(tmp_path: Path) -> None:
    """A whole upload without an answer may be registered: the person decides."""
    cli = CommandLine(tmp_path)
    (tmp_path / "x").write_bytes(b"x")

    def takes_all(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(answered(b'{"name": "MET"}'))
        data = b""
        while not data.endswith(b"--\r\n"):
            data += connection.recv(65536)

    with scripted(takes_all) as where:
        words = ["push", "MET", "x", "--retry", "5:1ms"]
        assert "lost" in cli(*words, code=8, environment=where).error

    def takes_half(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(answered(b'{"name": "MET"}'))
        connection.recv(1000)

    document = {"data_file": {"id": 7, "size": 8 * MIB, "checksum": None},
                "transfers": [], "updated": False, "skipped": False}  # fmt: skip

    def takes_it(connection: socket.socket) -> None:
        data = head_of(connection)
        while not data.endswith(b"--\r\n"):
            data = data[-10:] + connection.recv(65536)
        connection.sendall(answered(json.dumps(document).encode(), "201 Created"))

    (tmp_path / "x").write_bytes(bytes(8 * MIB))
    with scripted(takes_half, takes_it) as where:
        done = cli(*words, "--output", "id", environment=where)
        assert done.text == "7\n"


def test_other_bytes_than_ours_are_told(tmp_path: Path) -> None:
    """A node that has stored another size or checksum: 1, and the source stays."""
    cli = CommandLine(tmp_path)
    (tmp_path / "x").write_bytes(b"x")
    document: dict[str, Any] = {"data_file": {"id": 7, "size": 1, "checksum": "00000000"},
                                "transfers": []}  # fmt: skip

    def serve(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(answered(b'{"name": "MET"}'))
        data = b""
        while not data.endswith(b"--\r\n"):
            data += connection.recv(65536)
        connection.sendall(answered(json.dumps(document).encode(), "201 Created"))

    with scripted(serve) as where:
        failure = cli("push", "MET", "x", "--remove-source", code=1, environment=where)
    assert "other bytes" in failure.error
    assert (tmp_path / "x").exists()


def test_a_silent_server_is_given_up(tmp_path: Path) -> None:
    """9 after `--timeout`."""
    cli = CommandLine(tmp_path)
    ended = threading.Event()

    def silent(connection: socket.socket) -> None:
        head_of(connection)
        ended.wait(LIMIT)

    with scripted(silent) as where:
        late = cli("transfer", "list", "--timeout", "200ms", code=9, environment=where)
        ended.set()
    assert "no answer within 0.2 s" in late.error


def test_half_a_file_is_no_file(tmp_path: Path) -> None:
    """A content that breaks off leaves nothing; an answer that is no JSON is told."""
    cli = CommandLine(tmp_path)
    row = {"id": 1, "target": "x", "size": 100}
    found = answered(json.dumps({"items": [row], "next_cursor": None}).encode())

    def breaks(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(found)
        head_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with scripted(breaks) as where:
        assert "lost" in cli("get", "MET/x", code=8, environment=where).error
    assert list(tmp_path.iterdir()) == []
    with scripted(tells(answered(b"<html>"))) as where:
        assert "no JSON" in cli("transfer", "list", code=1, environment=where).error
    with scripted(tells(answered(b"oops", "500 Internal Server Error"))) as where:
        assert "HTTP 500" in cli("transfer", "list", code=1, environment=where).error
    with scripted(tells(b"SSH-2.0-x\r\n")) as where:
        cli("transfer", "list", code=8, environment=where)


def test_a_push_goes_on_and_several_go_side_by_side(cli: Cli, local: Callable[..., str]) -> None:
    """What an earlier `--resume` sent is not sent again; results come in the order of the words."""
    name = local("large.bin", os.urandom(3 * MIB))
    first = cli("push", "MET", name, "--resume", "--checksum", "sha256", "--output", "json").json
    content = (cli.folder / name).read_bytes()
    assert first["sha256"] == hashlib.sha256(content).hexdigest()
    assert cli("push", "MET", name, "--resume", code=5).error  # a duplicate; its bytes stay
    again = cli("push", "MET", name, "--resume", "--force", "--output", "json").json
    assert (again["updated"], again["bytes"]) == (True, 3 * MIB)
    assert "cannot be resumed" in cli("push", "MET", "-", "--target", "t", "--resume", code=2).error

    names = [local(f"side/{number:02}.bin", b"x" * number) for number in range(12)]
    rows = cli("push", "MET", *names, "--target", "side/", "--parallel", "5", "--output", "json")
    assert [(one["file"], one["bytes"]) for one in rows.lines] == [
        (name, number) for number, name in enumerate(names)
    ]
    assert cli("push", "MET", *names, "--target", "side/", code=5).error
    assert "1 to 16" in cli("push", "MET", name, "--parallel", "99", code=2).error


def test_secrets_roles_and_the_certificate(cli: Cli, local: Callable[..., str]) -> None:
    """A token gets another secret, a site a role of its own, the listeners a certificate."""
    made = cli("token", "add", "feed", "--scope", "files:write", "--output", "json").json
    turned = cli(
        "token", "rotate", "feed", "--overlap", "0s", "--into", "secret", "--output", "json"
    )
    assert turned.json["id"] == made["id"]
    assert (cli.folder / "secret").read_text().startswith("ddt_")
    assert "exists" in cli("token", "rotate", "feed", "--into", "secret", code=2).error
    cli("role", "add", "night", "scopes=transfers:read,transfers:operate")
    assert "night" in cli("role", "list", "--output", "id").text.split()
    cli("role", "set", "night", "comment=by night")
    assert cli("role", "show", "night", "--output", "json").json["comment"] == "by night"
    cli("role", "delete", "night")

    before = cli("certificate", "show", "--output", "json").json
    assert "BEGIN CERTIFICATE REQUEST" in cli("certificate", "csr", "a.example").text
    own = cli("certificate", "self-sign", "--output", "json").json
    assert own["sha256"] != before["sha256"]
    assert cli("certificate", "reload", "--output", "json").json == own  # and we trust the new one
    assert "PEM" in cli("certificate", "import", local("no.pem", b"x"), code=2).error
    assert "anew" in cli("reload").text

    for version in ("1", "2"):
        cli("push", "MET", local("versioned"), "--version", version)
    words = ("--destination", "MET", "--target", "versioned", "--version", "2", "--output", "json")
    assert len(cli("purge", *words, "--yes").lines) == 1
    left = cli("transfer", "list", "--target", "versioned", "--output", "json").lines
    assert [one["version"] for one in left] == ["1"]
