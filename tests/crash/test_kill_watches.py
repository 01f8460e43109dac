"""`kill -9` of what works beside the queue: mails, host checks, recovery, event sinks."""

from __future__ import annotations

import json
from email import message_from_bytes
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.crash.test_kill_copies import Api, dead, eventually, node

pytestmark = [pytest.mark.crash, pytest.mark.timeout(100)]


def site(folder: Path, host: dict[str, Any], **destination: Any) -> dict[str, Any]:
    """Return a destination that delivers to a directory."""
    directory = f"{folder}/data/out/D/"
    sender = {"name": "h", "method": "genericFile", "directory": directory, **host}
    return {
        "hosts": [sender],
        "destinations": [{"name": "D", "hosts": ["h"], **destination}],
    }


async def test_mails_that_nobody_had_noted_are_written_again(tmp_path: Path) -> None:
    """At least one mail of each transfer, and never a third of the first."""
    given = site(tmp_path, {}, user_mail="ann@example.org", mail_on_end=True)
    async with node(tmp_path, given) as daemon, aiohttp.ClientSession() as session:
        await daemon.start(ECPDS_FAILPOINTS="mail.posted:kill")
        api = Api(daemon, session)
        first = await api.push("a.grib")
        await dead(daemon)

        def mails() -> list[str]:
            found = sorted((daemon.data / "mail").glob("*.eml"))
            return [str(message_from_bytes(one.read_bytes()).get_payload()) for one in found]

        assert len(mails()) == 1
        await daemon.start()

        async def of(name: str) -> int:
            return sum(name in text for text in mails())

        await eventually(lambda: _is(of("a.grib"), 2))
        await api.push("b.grib")
        await eventually(lambda: _is(of("b.grib"), 1))
        assert await of("a.grib") == 2
        assert f"transfer {first} a.grib done" in mails()[0]


async def _is(count: Any, wanted: int) -> bool:
    return bool(await count == wanted)


async def test_a_check_that_nobody_had_noted_is_made_again(tmp_path: Path) -> None:
    """The file is there once, whole, without a temporary name."""
    given = site(tmp_path, {"check": True, "check_frequency": "1h"})
    async with node(tmp_path, given) as daemon, aiohttp.ClientSession() as session:
        await daemon.start(may_die=True, ECPDS_FAILPOINTS="check.written:kill")
        await dead(daemon)
        await daemon.start()
        api = Api(daemon, session)

        async def checked() -> Any:
            found = await api.call("GET", "/hosts/h")
            return found if found["checked"] else None

        found = await eventually(checked)
        assert found["valid"] is True
        (file,) = (daemon.data / "out" / "D").iterdir()
        assert file.name == "ecpds.tst"
        assert file.read_bytes().startswith(b"ecpds writes this file")


async def test_a_recovery_goes_on_after_death(tmp_path: Path) -> None:
    """A destination that gave up is started once, and its transfer arrives."""
    given = site(tmp_path, {"retry_count": 1, "retry_frequency": "10ms"}, retry_count=1)
    async with node(tmp_path, given) as daemon, aiohttp.ClientSession() as session:
        out = daemon.data / "out"
        out.mkdir(parents=True, exist_ok=True)
        (out / "D").write_text("no directory")
        await daemon.start()
        api = Api(daemon, session)
        await api.push("a.grib")

        async def status(wanted: str) -> bool:
            return bool((await api.call("GET", "/destinations/D"))["status"] == wanted)

        await eventually(lambda: status("gave-up"))
        daemon.kill()
        (out / "D").unlink()
        await daemon.start(may_die=True, ECPDS_FAILPOINTS="recovering.started:kill")
        await dead(daemon)
        await daemon.start()

        async def arrived() -> bool:
            return (out / "D" / "a.grib").exists()

        await eventually(arrived)
        assert (out / "D" / "a.grib").read_bytes() == b"a.grib"
        records = (daemon.data / "log" / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in records]
        told = {event["id"] for event in events if event.get("action") == "recover"}
        assert len(told) == 1  # a line may come twice after a crash, an event does not


async def test_events_that_a_sink_has_taken_may_come_twice(tmp_path: Path) -> None:
    """Death between telling and noting: told again, and nothing is missing."""
    async with node(tmp_path, site(tmp_path, {})) as daemon:
        daemon.config.write_text('[[events.sinks]]\nname = "out"\nurl = "stdout:"\n')
        await daemon.start(may_die=True, ECPDS_FAILPOINTS="sink.sent:kill")
        await dead(daemon)
        await daemon.start()

        async def told() -> list[str]:
            """Return the starts on standard output of both lives."""
            lines = (tmp_path / "daemon.log").read_text().splitlines()
            found = [json.loads(line) for line in lines if line.startswith("{")]
            return [one["id"] for one in found if one.get("action") == "start"]

        async def all_told() -> bool:
            return len(await told()) == 3

        await eventually(all_told)
        first, again, second = await told()
        assert first == again != second
