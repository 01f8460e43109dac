"""The kinds of sinks, by the scheme of their address.

`stdout:`, `syslog://`, `syslogs://` (RFC 5424 over TCP, RFC 6587 frames, RFC 5425 TLS), `http://`,
`https://` (batches, gzip), `mqtt://`, `mqtts://` (topic `events/<type>/<destination>`).
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import ssl
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from ecpds import __version__
from ecpds.base.settings import SinkSettings
from ecpds.engine.core import Core
from ecpds.engine.proxy import tls_of
from ecpds.engine.publish_drivers import ExternalDriver
from ecpds.engine.sinks import Sink, SinkRefused, Told
from ecpds.model.errors import ConfigError, ConnectionLost, RemoteTransient
from ecpds.model.message import Message
from ecpds.transfer.contract import TlsTrust

TIMEOUT: Final = 30.0  # seconds for one delivery
LONGEST: Final = 1024 * 1024  # bytes of an answer that is read
LOCAL0: Final = 16  # syslog facility
WARNING, INFORMATION = 4, 6  # syslog severities
# 32473 is the enterprise number for those who have none of their own (RFC 5612).
SD_ID: Final = "ecpds@32473"
REFUSED: Final = frozenset({400, 411, 413, 415, 422})  # sending the same again does not help


class StdoutSink:
    """JSON lines on standard output, for containers."""

    def __init__(self, core: Core, descriptor: int = 1) -> None:
        self._core = core
        self._descriptor = descriptor

    async def send(self, events: Sequence[Told]) -> None:
        """Write lines; a reader that is slow slows only this sink down."""
        data = "".join(f"{event.text}\n" for event in events).encode()
        await self._core.threads.run("disk", self._write, data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    async def close(self) -> None:
        """Leave it open."""


class SyslogSink:
    """RFC 5424 messages over one TCP connection, which is kept."""

    def __init__(self, core: Core, host: str, port: int, trust: TlsTrust | None) -> None:
        self._core = core
        self._place = (host, port)
        self._trust = trust
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None

    async def send(self, events: Sequence[Told]) -> None:
        """Send frames; the protocol knows no acknowledgement, so a broken connection may lose."""
        frames = b"".join(frame_of(event) for event in events)
        try:
            async with asyncio.timeout(TIMEOUT):
                writer = await self._connected()
                writer.write(frames)
                await writer.drain()
        except BaseException:
            await self.close()
            raise

    async def _connected(self) -> asyncio.StreamWriter:
        if self._reader is not None and self._reader.at_eof():
            await self.close()
        if self._writer is None:
            context: ssl.SSLContext | None = None
            if self._trust is not None:
                believed = await self._core.threads.run("disk", tls_of, self._trust)
                context = believed if isinstance(believed, ssl.SSLContext) else None
            self._reader, self._writer = await asyncio.open_connection(*self._place, ssl=context)
        return self._writer

    async def close(self) -> None:
        """Hang up."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.close()


def frame_of(event: Told) -> bytes:
    """Return one message with its length in front."""
    record = event.record
    severity = INFORMATION if record.get("outcome", "ok") == "ok" else WARNING
    fields = {"id": record["id"], "type": record["type"]}
    destination = record.get("destination", {}).get("name")
    fields |= {"destination": destination} if destination else {}
    data = "".join(f' {name}="{_quoted(str(value))}"' for name, value in fields.items())
    node = "".join(c for c in record["node"] if "!" <= c <= "~")[:255] or "-"
    head = f"<{LOCAL0 * 8 + severity}>1 {record['ts']} {node} ecpds {os.getpid()} {record['type']}"
    message = f"{head} [{SD_ID}{data}] {event.text}".encode()
    return f"{len(message)} ".encode() + message


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


class HttpSink:
    """Batches by POST: plain NDJSON, Splunk's HTTP event collector, Elasticsearch's bulk API."""

    def __init__(self, core: Core, settings: SinkSettings) -> None:
        self._core = core
        self._url = settings.url
        self._format = settings.format
        self._trust = TlsTrust(ca=settings.ca)
        self._session: aiohttp.ClientSession | None = None
        self._headers = {
            "Content-Type": TYPES[settings.format],
            "Content-Encoding": "gzip",
            "User-Agent": f"ecpds/{__version__}",
        }
        if settings.token:
            scheme = {"splunk": "Splunk", "elasticsearch": "ApiKey"}.get(settings.format, "Bearer")
            self._headers["Authorization"] = f"{scheme} {settings.token.reveal()}"

    async def send(self, events: Sequence[Told]) -> None:
        """Post one batch."""
        session = await self._opened()
        body = gzip.compress(body_of(events, self._format), 5)
        try:
            async with session.post(self._url, data=body) as answer:
                found = await answer.content.read(LONGEST)
                _check(answer.status, found)
                if self._format == "elasticsearch":
                    _check_items(found)
        except aiohttp.ClientError as error:
            raise ConnectionLost(f"{type(error).__name__}: {error}") from error

    async def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            believed = await self._core.threads.run("disk", tls_of, self._trust)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=believed, limit=1),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            )
        return self._session

    async def close(self) -> None:
        """End the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


TYPES: Final = {
    "ndjson": "application/x-ndjson",
    "splunk": "application/json",
    "elasticsearch": "application/x-ndjson",
}


def body_of(events: Sequence[Told], form: str) -> bytes:
    """Return the batch as the collector wants it."""
    return "".join(_line(event, form) for event in events).encode()


def _line(event: Told, form: str) -> str:
    if form == "splunk":
        head = {"host": event.record["node"], "source": "ecpds", "sourcetype": "_json"}
        return json.dumps(head)[:-1] + f', "event": {event.text}}}\n'
    if form == "elasticsearch":  # the id makes a repeated delivery harmless
        return json.dumps({"create": {"_id": event.record["id"]}}) + f"\n{event.text}\n"
    return f"{event.text}\n"


def _check(status: int, found: bytes) -> None:
    if status < 300:
        return
    text = f"the collector answers {status}: {found[:200].decode('utf-8', 'replace')}"
    raise (SinkRefused if status in REFUSED else RemoteTransient)(text)


def _check_items(found: bytes) -> None:
    """Look at the single answers of a bulk request; one that is there already is fine."""
    try:
        answer: Any = json.loads(found)
        codes = [one["create"]["status"] for one in answer["items"]] if answer["errors"] else []
    except (ValueError, KeyError, TypeError):
        raise RemoteTransient("the collector's answer cannot be read") from None
    wrong = {code for code in codes if code >= 300 and code != 409}
    if wrong & REFUSED:
        raise SinkRefused(f"the collector refuses single events: {sorted(wrong)}")
    if wrong:
        raise RemoteTransient(f"the collector did not take all events: {sorted(wrong)}")


class MqttSink:
    """A client of a broker: one message an event."""

    def __init__(self, core: Core, settings: SinkSettings) -> None:
        self._driver = ExternalDriver(
            settings.secret_url, f"ecpds-{core.node}-{settings.name}", core.clock
        )

    async def send(self, events: Sequence[Told]) -> None:
        """Publish, QoS 1."""
        await self._driver.publish(
            [Message(topic=topic_of(event.record), payload=event.text.encode()) for event in events]
        )

    async def close(self) -> None:
        """Disconnect."""
        await self._driver.close()


def topic_of(record: dict[str, Any]) -> str:
    """Return `events/<type>/<destination>`, without the last part for events of none."""
    name = record.get("destination", {}).get("name", "")
    return f"events/{record['type']}" + (f"/{name}" if name else "")


def make_sink(core: Core, settings: SinkSettings) -> Sink:
    """Return the sink of one table of [[events.sinks]]; raises ConfigError for its address."""
    parts = urlsplit(settings.url)
    if parts.scheme == "stdout":
        return StdoutSink(core)
    if parts.scheme in {"syslog", "syslogs"} and parts.hostname:
        trust = TlsTrust(ca=settings.ca) if parts.scheme == "syslogs" else None
        port = parts.port or (6514 if trust else 514)
        return SyslogSink(core, parts.hostname, port, trust)
    if parts.scheme in {"http", "https"} and parts.hostname:
        return HttpSink(core, settings)
    if parts.scheme in {"mqtt", "mqtts"} and parts.hostname:
        return MqttSink(core, settings)
    raise ConfigError(
        f"events.sinks: {settings.name}: the address begins with stdout:, syslog://, syslogs://, "
        "http://, https://, mqtt:// or mqtts://"
    )
