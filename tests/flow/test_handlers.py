"""Commands that send or fetch content in place of the module."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.model.status import TransferStatus
from ecpds.store import files
from tests.flow.test_engine import Bench, bench, plain
from tests.waiting import until

S = TransferStatus
CONTENT = b"0123456789" * 50_000


def program(rig: Bench, text: str) -> str:
    """Write a shell script below a file root."""
    place = rig.out.parent / "out" / "bin" / "handler"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(0o755)
    return str(place)


def site(rig: Bench, name: str, **options: Any) -> dict[str, Any]:
    """Return the plain site with `ectrans` options of one host."""
    document = plain(rig)
    host = next(one for one in document["hosts"] if one["name"] == name)
    host["options"] = {f"ectrans.{key}": value for key, value in options.items()}
    return document


async def test_a_command_sends_the_content(tmp_path: Path) -> None:
    """The module names, verifies and renames it; `$source` and `$target` are its arguments."""
    async with bench(tmp_path) as rig:
        script = program(rig, 'cat "$1" > "$2"; echo 50.0%; echo "$ECPDS_HOST"; echo all sent')
        await rig.apply(
            site(
                rig, "out", putHandler="yes", putHandlerCmd=f"{script} $source $target",
                putHandlerAck="all sent",
            )
        )  # fmt: skip
        number = await rig.push("a b.grib", CONTENT)
        await rig.wait(lambda all_: all(one.status is S.DONE for one in all_))
        assert (rig.out / "a b.grib").read_bytes() == CONTENT
        assert (await rig.get(number)).sent == len(CONTENT)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('cat "$1" > "$2"; exit 3', "ended with 3"),
        ('cat "$1" > "$2"; echo no', "did not say 'all sent'"),
        ('head -c 10 "$1" > "$2"; echo all sent', "instead of 500000 bytes"),
    ],
)
async def test_a_command_that_fails(text: str, words: str, tmp_path: Path) -> None:
    """By its code, its words, or what is there afterwards; no partial file stays visible."""
    async with bench(tmp_path) as rig:
        script = program(rig, text)
        await rig.apply(
            site(
                rig, "out", putHandler="yes", putHandlerCmd=f"{script} $source $target",
                putHandlerAck="all sent",
            )
        )  # fmt: skip
        await rig.push("f", CONTENT)
        (failed,) = await rig.wait(lambda all_: all(one.reason for one in all_))
        assert failed.reason is not None
        assert words in failed.reason.text
        assert not (rig.out / "f").exists()


async def test_a_command_outside_the_roots_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as rig:
        await rig.apply(site(rig, "out", putHandler="yes", putHandlerCmd="/bin/true $source"))
        await rig.push("f", CONTENT)
        (failed,) = await rig.wait(lambda all_: all(one.reason for one in all_))
        assert failed.reason is not None
        assert failed.reason.kind == "config"


async def test_a_command_fetches_the_content(tmp_path: Path) -> None:
    async with bench(tmp_path, {}) as rig:
        script = program(rig, 'echo talking; cat "$1" > "$2"')
        await rig.apply(
            site(rig, "feed", getHandler="yes", getHandlerCmd=f"{script} $source $target")
        )
        rig.lay("x", CONTENT)
        (one,) = await rig.wait(lambda all_: all_ and all(t.status is S.DONE for t in all_))
        file = await rig.node.core.store.read(files.get, one.data_file)
        assert file is not None
        assert file.size == len(CONTENT)
        assert (rig.out / "x").read_bytes() == CONTENT


@pytest.mark.parametrize("act", ["put", "get"])
async def test_a_command_that_hangs_is_ended_with_all_its_children(
    act: str, tmp_path: Path
) -> None:
    """By the guard against transfers that stand still; nothing of it stays visible."""
    async with bench(tmp_path, {}) as rig:
        mark = tmp_path / "pid"
        script = program(
            rig, f'sleep 1000 & echo $! > "{mark}.new"; mv "{mark}.new" "{mark}"; wait'
        )
        options = {f"{act}Handler": "yes", f"{act}HandlerCmd": f"{script} $source $target"}
        host = "out" if act == "put" else "feed"
        await rig.apply(site(rig, host, streamTimeout="1s", **options))
        rig.lay("x", CONTENT)
        (failed,) = await rig.wait(lambda all_: all_ and all(one.reason for one in all_))
        assert failed.reason is not None
        assert failed.reason.kind == "transient"
        assert not (rig.out / "x").exists()
        await until(lambda: not _lives(int(mark.read_text())), what="its child has ended")


async def test_a_command_is_ended_when_its_transfer_is_stopped(tmp_path: Path) -> None:
    async with bench(tmp_path) as rig:
        mark = tmp_path / "pid"
        script = program(rig, f'echo $$ > "{mark}.new"; mv "{mark}.new" "{mark}"; sleep 1000')
        await rig.apply(
            site(rig, "out", putHandler="yes", putHandlerCmd=f"{script} $source $target")
        )
        number = await rig.push("f", CONTENT)
        await until(mark.exists, what="the command runs")
        attempts = rig.node.engine.attempts
        await attempts.stop(number, "stopped", wait=timedelta(seconds=10))
        assert number not in attempts.running
        await until(lambda: not _lives(int(mark.read_text())), what="it has ended")
        assert not (rig.out / "f").exists()


def _lives(process: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
