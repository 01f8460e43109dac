"""`genericExec`: which commands may run, what they get, and how their runs end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.conformance.site import Flowing, breaks
from ecpds.conformance.waiting import until
from ecpds.engine.core import HostEntry
from ecpds.engine.probe import probe
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteCancelled,
    RemoteConfig,
    RemoteError,
    RemoteTimeout,
    RemoteVerify,
    SourceBroke,
)
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.modules.exec import ExecModule
from ecpds.transfer.contract import ByteSource, Surroundings
from ecpds.transfer.deliver import deliver
from ecpds.transfer.pool import Pool
from ecpds.transfer.registry import Access, Registry
from ecpds.transfer.source import BytesSource


@dataclass
class Rig:
    """A root with commands, and what sends files to them."""

    root: Path
    around: Surroundings
    pool: Pool

    def command(self, text: str, name: str = "ingest") -> Path:
        """Write a shell script."""
        path = self.root / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def access(self, **options: object) -> Access:
        """Return how the host is used; `exec.` is put before the options."""
        given = {f"exec.{key}": value for key, value in {"command": "ingest", **options}.items()}
        host = Host(
            name="h", method="genericExec", login="feed", password=Secret("hush"), options=given
        )
        return Registry([ExecModule]).access(host, local_roots=(str(self.root),))

    async def send(
        self, content: bytes | ByteSource, name: str = "a.grib", **options: object
    ) -> None:
        """Deliver one file."""
        source = BytesSource(content) if isinstance(content, bytes) else content
        access = self.access(**options)
        async with self.pool.session(access) as module:
            await deliver(
                module, str(self.root / "in" / name), source, size=source.size,
                rules=access.delivery, clock=self.around.clock,
            )  # fmt: skip


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    threads = Threads()
    around = Surroundings(threads=threads, clock=SystemClock())
    made = Rig(folder / "root", around, Pool(around))
    (made.root / "in").mkdir(parents=True)
    try:
        yield made
        await made.pool.close()
    finally:
        await asyncio.to_thread(threads.close)


async def test_a_command_gets_the_path_and_no_secret_among_its_words(tmp_path: Path) -> None:
    """The environment is ours alone; blanks in a name stay in one word."""
    async with rig(tmp_path) as there:
        there.command('env | sort > "$ECPDS_FILE.env"; cat "$ECPDS_FILE" > "$1"; echo "$2" >> "$1"')
        seen = tmp_path / "root" / "seen"
        await there.send(
            b"content ", "a b.grib", command=f"ingest {seen} 'two words'", environment="STREAM=oper"
        )
        assert seen.read_text() == "content two words\n"
        env = (there.root / "in" / "a b.grib.env").read_text().splitlines()
        names = {line.partition("=")[0] for line in env} - {"PWD", "SHLVL", "_"}
        assert names == {
            "PATH", "LANG", "ECPDS_FILE", "ECPDS_NAME", "ECPDS_HOST", "ECPDS_ADDRESS",
            "ECPDS_LOGIN", "ECPDS_PASSWORD", "STREAM",
        }  # fmt: skip
        assert f"ECPDS_FILE={there.root}/in/a b.grib" in env


async def test_no_shell_reads_the_words(tmp_path: Path) -> None:
    """Neither in the option nor in names."""
    async with rig(tmp_path) as there:
        seen = there.root / "seen"
        there.command(f'printf "%s\\n" "$@" "$ECPDS_NAME" > {seen}')
        await there.send(b"x", "$(touch b).grib", command="ingest '; rm -rf /' $HOME `id`")
        assert seen.read_text().splitlines() == ["; rm -rf /", "$HOME", "`id`", "$(touch b).grib"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "empty"),
        ("/bin/sh -c true", "file_roots"),
        ("../../../bin/sh", "file_roots"),
        ("link", "file_roots"),
        ("none", "file_roots"),
        ("plain", "executable"),
        ("in", "executable"),
        ("'ingest", "quotation"),
    ],
)
async def test_a_command_that_may_not_run(tmp_path: Path, command: str, said: str) -> None:
    """Only programs below a file root, links followed."""
    async with rig(tmp_path) as there:
        there.command("true")
        (there.root / "plain").write_text("no program")
        (there.root / "link").symlink_to("/bin/true")
        with pytest.raises(RemoteConfig, match=said) as caught:
            await there.send(b"x", command=command)
        assert not caught.value.retryable


@pytest.mark.parametrize("stdin", ["none", "file"])
async def test_a_command_that_fails_tells_why(tmp_path: Path, stdin: str) -> None:
    """Exit code and the end of its output, without the password."""
    async with rig(tmp_path) as there:
        there.command("cat > /dev/null; echo out; echo no such stream >&2; exit 3")
        with pytest.raises(RemoteError, match="ended with 3: out no such stream") as caught:
            await there.send(b"x", stdin=stdin)
        assert (caught.value.phase, caught.value.remote_code) == (Phase.HOOK, "3")
        assert "hush" not in str(caught.value.facts) + str(caught.value)
        await there.send(b"x", stdin=stdin, returnCode=3)


async def test_an_acknowledgement_that_is_missing(tmp_path: Path) -> None:
    """The last line that is not empty must have it."""
    async with rig(tmp_path) as there:
        there.command("echo stored 17; echo")
        await there.send(b"x", ack="stored")
        with pytest.raises(RemoteVerify, match="queued"):
            await there.send(b"x", ack="queued")


@pytest.mark.parametrize("stdin", ["none", "file"])
async def test_a_command_that_takes_too_long_is_ended(tmp_path: Path, stdin: str) -> None:
    """With all that it has started."""
    async with rig(tmp_path) as there:
        pids = there.root / "pids"
        there.command(
            f"trap '' TERM; sleep 1000 & echo $! >> {pids}; echo $$ >> {pids}; wait; wait"
        )
        with pytest.raises(RemoteTimeout, match="more than"):
            await there.send(b"x", stdin=stdin, timeLimit="500ms")
        await until(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()))


def is_alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_command_that_says_too_much_is_ended(tmp_path: Path) -> None:
    """And nothing of that is kept."""
    async with rig(tmp_path) as there:
        there.command("exec yes")
        with pytest.raises(RemoteError, match="more than 1024 bytes"):
            await there.send(b"x", outputLimit="1KB")


async def test_the_content_on_standard_input(tmp_path: Path) -> None:
    """As it is, whole, and no file is written."""
    async with rig(tmp_path) as there:
        seen = tmp_path / "seen"
        there.command(f"cat > {seen}")
        content = os.urandom(3_000_000)
        await there.send(Flowing(content), stdin="file")
        assert seen.read_bytes() == content
        assert list((there.root / "in").iterdir()) == []


async def test_a_part_is_never_taken_for_the_whole(tmp_path: Path) -> None:
    """When the source breaks or a person stops the transfer, the command ends before its input."""
    async with rig(tmp_path) as there:
        done = tmp_path / "done"
        there.command(f"cat > /dev/null; touch {done}")
        with pytest.raises(SourceBroke):
            await there.send(Flowing(b"x" * 100_000, announced=200_000, end=breaks), stdin="file")
        waiting = Flowing(b"x" * 100_000, announced=200_000, end=asyncio.Event().wait)

        async def stop() -> None:
            await until(lambda: waiting.meter.moved >= 100_000)
            waiting.meter.stop("by an operator")

        async with asyncio.TaskGroup() as group:
            group.create_task(stop())
            with pytest.raises(RemoteCancelled):
                await there.send(waiting, stdin="file")
        assert not done.exists()


async def test_a_command_that_reads_only_a_part(tmp_path: Path) -> None:
    """Is no success, whatever it says in the end."""
    async with rig(tmp_path) as there:
        there.command("exec head -c 10 > /dev/null")
        with pytest.raises(ConnectionLost, match="bytes only"):
            await there.send(Flowing(os.urandom(3_000_000)), stdin="file")


async def test_a_file_need_not_stay(tmp_path: Path) -> None:
    """`exec.keepFile = no` deletes it after success only."""
    async with rig(tmp_path) as there:
        there.command("exit 1")
        with pytest.raises(RemoteError):
            await there.send(b"x", keepFile="no")
        assert [path.name for path in (there.root / "in").iterdir()] == ["a.grib"]
        there.command("test -f $ECPDS_FILE")
        await there.send(b"x", keepFile="no")
        assert list((there.root / "in").iterdir()) == []


async def test_a_probe_does_not_set_the_command_off(tmp_path: Path) -> None:
    """What a command has done cannot be taken back."""
    async with rig(tmp_path) as there:
        done = tmp_path / "done"
        there.command(f"touch {done}")
        access = there.access()
        host = Host(name="h", method="genericExec", directory=f"{there.root}/in/")
        report = await probe(HostEntry(host=host, access=access), there.around)
        assert report.error is None
        assert {step.step.value: step.outcome for step in report.ordered}["put"] == "skipped"
        assert not done.exists()
        broken = replace(host, name="b")
        access = there.access(command="none")
        report = await probe(HostEntry(host=broken, access=access), there.around)
        assert isinstance(report.error, RemoteConfig)
