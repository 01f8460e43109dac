"""Backups of a node at work: everything acknowledged before is in them, nothing damaged passes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import sqlite3
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecpds.cli.access import Access
from ecpds.cli.backup_archive import ArchiveReader, ArchiveWriter, Damaged
from ecpds.cli.client import Client
from ecpds.cli.main import main
from ecpds.cli.upload import Form
from tests.commandline import CommandLine, command_line
from tests.daemon import DaemonProcess

SITE = {"destinations": [{"name": "MET", "active": False}]}


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Give the command beside a daemon with one destination."""
    with command_line(tmp_path_factory.mktemp("backup")) as found:
        (found.folder / "site.json").write_text(json.dumps(SITE))
        found("apply", "site.json")
        yield found


def client_of(daemon: DaemonProcess) -> Client:
    """Return a client of its API."""
    return Client(Access(server=daemon.endpoints["monitor"], token=daemon.token, insecure=True))


def push(client: Client, name: str, content: bytes) -> int:
    """Store one file; return its id once the node has acknowledged it."""
    form = Form(
        {"destination": "MET", "target": name}, name, io.BytesIO(content), size=len(content)
    )
    number: int = client.upload("/files", form)["data_file"]["id"]
    return number


class Pushing:
    """Pushes files until it is told to end."""

    def __init__(self, daemon: DaemonProcess, prefix: str) -> None:
        self.acknowledged: dict[int, bytes] = {}
        self._ends = threading.Event()
        self._client, self._prefix = client_of(daemon), prefix
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ends.is_set():
            name = f"{self._prefix}{len(self.acknowledged)}"
            content = os.urandom(2000)
            self.acknowledged[push(self._client, name, content)] = content

    def wait(self, limit: float) -> None:
        """Let it push for so many seconds."""
        self._ends.wait(limit)

    def __enter__(self) -> Pushing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self._client.close()


def content_of(client: Client, number: int) -> bytes:
    """Return the content of a data file."""
    return b"".join(client.download(f"/files/{number}/content"))


def test_a_backup_has_everything_that_was_acknowledged(cli: CommandLine, tmp_path: Path) -> None:
    """While files are pushed: create, verify, restore, start; all bytes and secrets are there."""
    assert cli.daemon is not None
    path, target = tmp_path / "node.backup", tmp_path / "restored"
    with Pushing(cli.daemon, "a") as one, Pushing(cli.daemon, "b") as two:
        while min(len(one.acknowledged), len(two.acknowledged)) < 20:
            one._ends.wait(0.01)
        before = one.acknowledged | two.acknowledged
        made = cli("backup", "create", path, "--content", "--output", "json").json
        during = len(one.acknowledged) + len(two.acknowledged)
    assert during > len(before)
    assert (made["lost"], made["damaged"]) == (0, 0)
    assert made["objects"] >= len(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [path.name]  # nothing is left beside it

    told = cli("backup", "verify", path, "--output", "json").json
    assert (told["missing"], told["damaged"], told["content"]) == (0, 0, True)
    with tarfile.open(path) as usual:
        assert usual.getnames()[0] == "backup.json"

    cli("backup", "restore", path, "--data-dir", target)
    assert (target / "keys" / "master.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "again").mkdir()
    again = DaemonProcess(tmp_path / "again")
    again.data = target
    again.environment["ECPDS_NODE__DATA_DIR"] = str(target)
    try:
        asyncio.run(again.start())
        assert again.token == cli.daemon.token
        with client_of(again) as client:
            assert {number: content_of(client, number) for number in before} == before
            push(client, "new", b"goes on")
    finally:
        asyncio.run(again.stop())
    found = cli("fsck", "--deep", "--data-dir", target, "--output", "json").json
    assert (found["problems"], found["files"] > len(before)) == (0, True)


def test_without_content_it_is_the_store_alone(cli: CommandLine, tmp_path: Path) -> None:
    """Of a node at work; FILE is not replaced unless it is asked for."""
    path = tmp_path / "node.backup"
    assert cli("backup", "create", path, "--output", "json").json["objects"] == 0
    assert "--force" in cli("backup", "create", path, code=5).error
    cli("backup", "create", path, "--force")
    assert cli("backup", "verify", path, "--output", "json").json["content"] is False
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    cli("backup", "restore", path, "--data-dir", tmp_path / "full", code=5)
    cli("backup", "create", tmp_path / "nowhere" / "x", code=2)


def test_damage_anywhere_is_refused(cli: CommandLine, tmp_path: Path) -> None:
    """One changed bit, wherever it is; a piece cut off; something appended: nothing is restored."""
    assert cli.daemon is not None
    with client_of(cli.daemon) as client:
        push(client, "damage", os.urandom(70_000))
    path = tmp_path / "node.backup"
    cli("backup", "create", path, "--content")
    whole = path.read_bytes()
    chance = random.Random(7)
    places = [0, 600, len(whole) - 1, len(whole) - 70, len(whole) - 4000]
    places += [chance.randrange(len(whole)) for _ in range(60)]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << chance.randrange(8)
        assert_refused(bytes(data))
    for length in (0, 100, 10_500, len(whole) // 2, len(whole) - 1):
        assert_refused(whole[:length])
    assert_refused(whole + b"\0")
    read_all(whole)
    path.write_bytes(whole[:-3000] + bytes(3000))
    for words in (["verify", path], ["restore", path, "--data-dir", tmp_path / "new"]):
        cli("backup", *words, code=1)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def read_all(data: bytes) -> list[str]:
    """Read a backup to its end."""
    names = []
    with tempfile.TemporaryFile() as lines:
        for one in ArchiveReader(io.BytesIO(data), len(data), lines).members():
            names.append(one.name)
            for _ in one.blocks:
                pass
    return names


def assert_refused(data: bytes) -> None:
    """Fail when a damaged backup is read to its end."""
    with pytest.raises(Damaged):
        read_all(data)


def forged(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Return a backup, right in every digest, with one member that has no business there."""
    sink, lines = io.BytesIO(), io.BytesIO()
    writer = ArchiveWriter(sink, lines, mtime=0)
    head = {"form": 1, "volumes": ["default"], "home": 0, "content": True}
    writer.add_text("backup.json", json.dumps(head).encode())
    made = tarfile.TarInfo.tobuf

    def tobuf(info: tarfile.TarInfo, *args: object) -> bytes:
        if info.name == "keys/x":
            info.name, info.type, info.linkname = name, kind, link
        return made(info, *args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tarfile.TarInfo, "tobuf", tobuf)
        writer.add_text("keys/x", b"hostile")
        writer.finish()
    return sink.getvalue().replace(b'"keys/x"', json.dumps(name).encode())


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("keys/../../escaped", tarfile.REGTYPE, ""),
        ("../escaped", tarfile.REGTYPE, ""),
        ("/tmp/escaped", tarfile.REGTYPE, ""),
        ("keys//x", tarfile.REGTYPE, ""),
        ("keys/.", tarfile.REGTYPE, ""),
        ("log/ecpds.log", tarfile.REGTYPE, ""),
        ("objects/0/../../x", tarfile.REGTYPE, ""),
        ("objects/0/20260101/00/" + "z" * 24, tarfile.REGTYPE, ""),
        ("keys/link", tarfile.SYMTYPE, "/etc/passwd"),
        ("keys/link", tarfile.LNKTYPE, "ecpds.db"),
        ("keys/device", tarfile.CHRTYPE, ""),
        ("keys/folder", tarfile.DIRTYPE, ""),
        ("keys/" + "x" * 150, tarfile.REGTYPE, ""),
        ("keys/header", tarfile.XHDTYPE, ""),
        ("backup.json", tarfile.REGTYPE, ""),
    ],
)  # fmt: skip
def test_hostile_members_are_refused(tmp_path: Path, name: str, kind: bytes, link: str) -> None:
    """Whatever the digests say: nothing is written but below the new directory."""
    path = tmp_path / "node.backup"
    path.write_bytes(forged(name, kind, link))
    assert main(["backup", "restore", str(path), "--data-dir", str(tmp_path / "new")]) == 1
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert not Path("/tmp/escaped").exists()


def test_a_head_that_lies_is_refused() -> None:
    """A form of tomorrow, a head that is no JSON or says too little."""
    for head in (b"no json", b"[]", b'{"form": 99, "volumes": []}', b'{"form": 1}'):
        sink = io.BytesIO()
        writer = ArchiveWriter(sink, io.BytesIO(), mtime=0)
        writer.add_text("backup.json", head)
        writer.finish()
        assert_refused(sink.getvalue())


def test_content_that_is_gone_is_told(tmp_path: Path) -> None:
    """The backup is made of what is there; the restored store knows what is lost."""
    with command_line(tmp_path) as cli:
        assert cli.daemon is not None
        (tmp_path / "site.json").write_text(json.dumps(SITE))
        cli("apply", "site.json")
        with client_of(cli.daemon) as client:
            gone, wrong = push(client, "gone", b"1" * 500), push(client, "wrong", b"2" * 500)
        with sqlite3.connect(cli.daemon.data / "ecpds.db") as db:
            keys = dict(db.execute("SELECT id, object_key FROM data_file"))
        db.close()
        (cli.daemon.data / "objects" / keys[gone]).unlink()
        (cli.daemon.data / "objects" / keys[wrong]).write_bytes(b"3" * 500)
        done = cli("backup", "create", "b", "--content", "--output", "json", code=4)
        assert (done.json["lost"], done.json["damaged"]) == (1, 1)
        assert f"data file {gone}" in done.error
        told = cli("backup", "verify", "b", "--output", "json", code=4).json
        assert (told["missing"], told["damaged"]) == (0, 1)
        cli("backup", "restore", "b", "--data-dir", "new", code=4)
        with sqlite3.connect(tmp_path / "new" / "ecpds.db") as db:
            found = db.execute(
                "SELECT stored, status, comment FROM transfer JOIN data_file"
                " ON data_file.id = data_file WHERE data_file.id = ?", (gone,)
            ).fetchone()  # fmt: skip
        db.close()
        assert found[:2] == (0, "FAIL")
        assert "gone" in found[2]
