"""Events told to other systems: HTTP collectors, syslog with and without TLS, standard output."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ecpds.base.clock import SystemClock
from ecpds.base.settings import SinkSettings, load
from ecpds.base.tls import make_self_signed
from ecpds.engine import sinks as feeding
from ecpds.engine.sinkkinds import StdoutSink, body_of, frame_of, make_sink, topic_of
from ecpds.engine.sinks import Feeder, Told
from ecpds.engine.telling import Teller
from ecpds.model.errors import ConfigError
from ecpds.model.secret import Secret
from ecpds.store import history, sinks
from ecpds.store.db import Connection
from tests.clock import START
from tests.daemon import DaemonProcess
from tests.node import SmallNode, small_node
from tests.peers.mosquitto import mosquitto
from tests.peers.programs import find

TELLER = Teller(node="m1")


async def tell(node: SmallNode, count: int, kind: str = "ADM", first: int = 0) -> None:
    """Add events with numbers."""

    def add(db: Connection) -> None:
        for number in range(first, first + count):
            record = TELLER.record(kind, START, action=str(number), destination={"name": "D"})
            history.add_event(db, record["id"], kind, record, time=START)  # shorter than real ones

    await node.store.write(add)


@dataclass
class Collector:
    """An HTTP collector that answers what the test says, one status after the other."""

    statuses: list[int] = field(default_factory=list)
    poison: str = ""  # a batch with this in it is refused
    requests: list[tuple[dict[str, str], str]] = field(default_factory=list)
    taken: list[Any] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["Content-Encoding"] == "gzip"
        text = (await request.read()).decode()  # aiohttp has unpacked it
        self.requests.append((dict(request.headers), text))
        status = self.statuses.pop(0) if self.statuses else 200
        if self.poison and self.poison in text:
            status = 400
        if status == 200:
            self.taken += [json.loads(line) for line in text.splitlines()]
        if request.path == "/_bulk":
            codes = [201] * (len(text.splitlines()) // 2)
            items = [{"create": {"status": code}} for code in codes]
            return web.json_response({"errors": False, "items": items}, status=status)
        return web.json_response({"text": "said"}, status=status)

    @property
    def actions(self) -> list[str]:
        """Return the numbers of the events, as they came."""
        return [one["action"] for one in self.taken if "action" in one]


@asynccontextmanager
async def collecting(**fields: Any) -> AsyncIterator[Collector]:
    made = Collector(**fields)
    app = web.Application()
    app.router.add_post("/{tail:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        made.url = f"http://{host}:{port}"
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def fed(node: SmallNode, settings: SinkSettings) -> AsyncIterator[Feeder]:
    """Run one feeder in the block, from the first event on."""
    feeder = Feeder(node.core, settings, make_sink(node.core, settings))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(feeder.run())
        try:
            yield feeder
        finally:
            task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def started(node: SmallNode, name: str = "s") -> None:
    """Let the sink begin with the first event."""
    await node.store.write(sinks.set_place, name, 0)


async def test_a_collector_gets_every_event_once_in_its_order(tmp_path: Path) -> None:
    """Also after a restart; only the types that were asked for."""
    async with small_node(tmp_path) as node, collecting() as collector:
        settings = SinkSettings(
            name="s", url=f"{collector.url}/in", token=Secret("abc"), types=("ADM",)
        )
        await started(node)
        await tell(node, 700)
        await tell(node, 5, "LOG")
        async with fed(node, settings):
            await until(lambda: len(collector.taken) == 700)
        await tell(node, 3, first=700)
        async with fed(node, settings):
            await until(lambda: len(collector.taken) == 703)
        assert collector.actions == [str(number) for number in range(703)]
        headers = collector.requests[0][0]
        assert headers["Authorization"] == "Bearer abc"
        assert headers["Content-Type"] == "application/x-ndjson"


async def test_a_new_sink_begins_with_what_comes_now(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node, collecting() as collector:
        await tell(node, 3)
        async with fed(node, SinkSettings(name="s", url=collector.url)) as feeder:
            await until(lambda: feeder._seen >= 0)
            await tell(node, 1, first=9)
            await until(lambda: bool(collector.taken))
        assert collector.actions == ["9"]


async def test_what_is_not_taken_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults of the collector cost time, one bad event only itself."""
    monkeypatch.setattr(feeding, "FIRST_PAUSE", feeding.FIRST_PAUSE / 1000)
    async with (
        small_node(tmp_path) as node,
        collecting(statuses=[503, 429, 401], poison='"action":"5"') as collector,
    ):
        await started(node)
        await tell(node, 8)
        async with fed(node, SinkSettings(name="s", url=collector.url)):
            await until(lambda: len(collector.taken) == 7)
        assert collector.actions == ["0", "1", "2", "3", "4", "6", "7"]
        told = node.core.metrics.event_sinks
        assert told.labels("s", "refused")._value.get() == 1
        assert told.labels("s", "failed")._value.get() == 8  # half of them, twice


@pytest.mark.parametrize("form", ["splunk", "elasticsearch"])
async def test_collectors_of_others(tmp_path: Path, form: str) -> None:
    async with small_node(tmp_path) as node, collecting() as collector:
        path = "/_bulk" if form == "elasticsearch" else "/services/collector/event"
        settings = SinkSettings(
            name="s", url=collector.url + path, token=Secret("abc"),
            format=form,  # type: ignore[arg-type] # one of its words
        )  # fmt: skip
        await started(node)
        await tell(node, 2)
        async with fed(node, settings):
            await until(lambda: len(collector.taken) >= 2)
        scheme = collector.requests[0][0]["Authorization"]
        if form == "splunk":
            assert scheme == "Splunk abc"
            assert [one["event"]["action"] for one in collector.taken] == ["0", "1"]
            assert collector.taken[0]["host"] == "m1"
        else:
            assert scheme == "ApiKey abc"
            assert collector.taken[0] == {"create": {"_id": collector.taken[1]["id"]}}
            assert [one["action"] for one in collector.taken[1::2]] == ["0", "1"]


SYSLOG = re.compile(
    rb"<(\d+)>1 (\S+) (\S+) ecpds \d+ (\S+) \[ecpds@32473 ([^]]*)\] (\{.*\})", re.DOTALL
)


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
async def test_syslog_frames(tmp_path: Path, *, secure: bool) -> None:
    """RFC 5424 with the octet count of RFC 6587; a connection that ends is opened anew."""
    certificate, key = make_self_signed(tmp_path / "tls", "localhost", SystemClock().now())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    frames: list[bytes] = []
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        try:
            while True:
                count = int((await reader.readuntil(b" ")).decode())
                frames.append(await reader.readexactly(count))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context if secure else None)
    port = server.sockets[0].getsockname()[1]
    scheme = "syslogs" if secure else "syslog"
    settings = SinkSettings(
        name="s", url=f"{scheme}://localhost:{port}", ca=str(certificate) if secure else ""
    )
    async with small_node(tmp_path / "node") as node, server:
        await started(node)
        await tell(node, 2)
        async with fed(node, settings):
            await until(lambda: len(frames) == 2)
            connections[0].close()
            await connections[0].wait_closed()
            await tell(node, 1, first=2)
            await until(lambda: len(frames) == 3)
    matches = [SYSLOG.fullmatch(frame) for frame in frames]
    assert [m and json.loads(m[6])["action"] for m in matches] == ["0", "1", "2"]
    first = matches[0]
    assert first is not None
    assert (first[1], first[3], first[4]) == (b"134", b"m1", b"ADM")
    assert b'destination="D"' in first[5]
    assert len(connections) == 2


def told(record: dict[str, Any]) -> Told:
    return Told(1, json.dumps(record), record)


def test_frames_of_failures_and_odd_names() -> None:
    record = TELLER.record("ERR", START, outcome="failed", destination={"name": 'a"]\\'})
    frame = frame_of(told(record)).decode()
    size, _, rest = frame.partition(" ")
    assert int(size) == len(rest.encode())
    assert rest.startswith("<132>1 2030-01-01T12:00:00.000Z m1 ecpds ")
    assert 'destination="a\\"\\]\\\\"' in rest
    assert topic_of(record) == 'events/ERR/a"]\\'
    assert topic_of({"type": "SYS"}) == "events/SYS"


def test_bodies_are_lines() -> None:
    events = [told({"id": "1", "node": "n"}), told({"id": "2", "node": "n"})]
    assert body_of(events, "ndjson").count(b"\n") == 2
    assert gzip.decompress(gzip.compress(body_of(events, "splunk"))).count(b'"event"') == 2


async def test_standard_output(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        async with small_node(tmp_path) as node:
            await StdoutSink(node.core, writer).send([told({"id": "1"})])
        assert os.read(reader, 100) == b'{"id": "1"}\n'
    finally:
        os.close(reader)
        os.close(writer)


def test_sinks_are_configured_as_tables(tmp_path: Path) -> None:
    path = tmp_path / "ecpds.toml"
    path.write_text(
        '[[events.sinks]]\nname = "a"\nurl = "stdout:"\ntypes = ["UPH"]\n'
        '[[events.sinks]]\nname = "b"\nurl = "mqtts://broker.example.org"\ntoken = "u:p@ss"\n'
    )
    first, second = load(path, {}).events.sinks
    assert (first.name, first.types) == ("a", ("UPH",))
    assert second.secret_url.reveal() == "mqtts://u:p%40ss@broker.example.org"
    path.write_text('[[events.sinks]]\nname = "a"\n[[events.sinks]]\nname = "a"\n')
    with pytest.raises(ConfigError, match="each sink needs a name of its own"):
        load(path, {})


async def test_a_broker_gets_a_message_an_event(tmp_path: Path) -> None:
    """Topic events/<type>/<destination>, acknowledged."""
    async with small_node(tmp_path / "node") as node, mosquitto(tmp_path / "broker") as broker:
        heard = await asyncio.create_subprocess_exec(
            find("mosquitto_sub"), "-p", str(broker.port), "-t", "events/#", "-C", "2", "-v",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await started(node)
        seen = asyncio.Event()

        async def subscribed() -> None:
            """Until the subscriber hears: what was told before it came is told again."""
            while not seen.is_set():
                await tell(node, 1)
                await asyncio.sleep(0.05)

        settings = SinkSettings(name="s", url=f"mqtt://127.0.0.1:{broker.port}")
        async with fed(node, settings), asyncio.TaskGroup() as group:
            group.create_task(subscribed())
            async with asyncio.timeout(15):
                out, _ = await heard.communicate()
            seen.set()
        topic, _, text = out.decode().splitlines()[0].partition(" ")
        assert topic == "events/ADM/D"
        assert json.loads(text)["type"] == "ADM"


async def test_the_daemon_tells_that_it_starts_and_stops(tmp_path: Path) -> None:
    """SYS; a sink of the configuration gets it, what the stop tells at the next start."""
    daemon = DaemonProcess(tmp_path)
    daemon.config.write_text('[[events.sinks]]\nname = "out"\nurl = "stdout:"\n')

    def told() -> list[str]:
        """Return what was on standard output of all lives."""
        lines = (tmp_path / "daemon.log").read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [one["action"] for one in found if one.get("action") in {"start", "stop"}]

    try:
        for count in (1, 2):
            await daemon.start()
            await until(lambda wanted=count: told().count("start") == wanted)  # type: ignore[misc]
            await daemon.stop()
        assert told() == ["start", "stop", "start"]
    finally:
        await daemon.stop()
    lines = (daemon.data / "log" / "events.jsonl").read_text().splitlines()
    found = [one["action"] for one in map(json.loads, lines) if one["type"] == "SYS"]
    assert found == ["start", "stop", "start", "stop"]


async def test_an_address_of_no_kind_is_refused(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        for url in ("", "ftp://x", "syslog:", "http:///x"):
            with pytest.raises(ConfigError, match="the address begins with"):
                make_sink(node.core, SinkSettings(name="s", url=url))
