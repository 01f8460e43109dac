"""Looks at this node from outside: as a Global Broker subscribes, as a Global Cache fetches.

Spec: notifications.md section 5.3; Guide to WIS volume II, duties of a WIS2 node.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from ecpds.engine.core import Core, DestinationEntry
from ecpds.engine.outbox import Outbox
from ecpds.engine.wis2_text import record_address
from ecpds.model.errors import EcpdsError, RemotePin
from ecpds.model.secret import Secret
from ecpds.model.wis2 import metadata_topic
from ecpds.model.wis2_check import Finding, check_message
from ecpds.model.wis2_record import topics_of
from ecpds.store import wis2
from ecpds.store.wis2 import Record
from ecpds.transfer.mqttlink import LinkOptions, MqttLink

PATIENCE: Final = 10.0  # seconds for each step
LARGEST: Final = 64 * 1024 * 1024  # bytes of a file that is fetched for the test


@dataclass(slots=True)
class _Test:
    """One run."""

    core: Core
    outbox: Outbox
    login: str
    password: Secret
    findings: list[Finding] = field(default_factory=list)
    received: list[tuple[str, bytes, bool]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, requirement: str, severity: Any = "ok", text: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(requirement, severity, text))

    @property
    def entries(self) -> list[DestinationEntry]:
        """Return the destinations that publish own data."""
        found = self.core.snapshot.destinations.values()
        return [one for one in found if one.wis2.publish]

    # --- the broker ---------------------------------------------------------------------

    async def broker(self) -> None:
        """Subscribe as a Global Broker and look whether a message arrives."""
        places = self.core.endpoints
        place = places.get("mqtts") or places.get("mqtt")
        if place is None:
            self.add("broker", "error", "the embedded broker does not listen")
            return
        if "mqtts" not in places:
            self.add("broker", "warn", "there is no listener with TLS (mqtt.tls_listen)")
        client = f"wis2-selftest-{secrets.token_hex(6)}"
        link = await self._connected(place, client)
        if link is None:
            return
        try:
            await self._subscribed(link)
            await self._message(client)
        except (EcpdsError, OSError, TimeoutError) as error:
            self.add("broker", "error", str(error) or type(error).__name__)
        finally:
            await link.close()

    async def _connected(self, place: str, client: str) -> MqttLink | None:
        try:
            link = await self._link(place, client, verify=True)
        except RemotePin as error:
            self.add("certificate", "warn", error.message)
            try:
                link = await self._link(place, client, verify=False)
            except EcpdsError as other:
                self.add("login", "error", other.message)
                return None
        except EcpdsError as error:
            self.add("login", "error", f"{self.login}: {error.message}")
            return None
        self.add("login")
        return link

    async def _link(self, place: str, client: str, *, verify: bool) -> MqttLink:
        parts = urlsplit(place)
        context = await asyncio.get_running_loop().run_in_executor(None, _context, verify)
        options = LinkOptions(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 8883,
            scheme=parts.scheme,
            login=self.login,
            password=self.password,
            client_id=client,
            timeout=PATIENCE,
            tls=context,
        )
        link = MqttLink(options, received=self._take)
        await link.open()
        return link

    def _take(self, message: Any) -> None:
        self.received.append((message.topic, bytes(message.payload), bool(message.retain)))
        self.arrived.set()

    async def _subscribed(self, link: MqttLink) -> None:
        centres = sorted({one.wis2.centre_id for one in self.entries if one.wis2.centre_id})
        for centre in centres:
            channels = sorted(
                {one.wis2.channel for one in self.entries if one.wis2.centre_id == centre}
            )
            wanted = [
                f"{channel}/a/wis2/{centre}/#" if channel == "origin" else f"{channel}/a/wis2/#"
                for channel in channels
            ]
            try:
                await link.subscribe([*wanted, metadata_topic(centre)], 1)
            except EcpdsError as error:
                self.add("subscribe", "error", f"{error.message}: check portal.mqttPermission")
                return
        self.add("subscribe")

    async def _message(self, client: str) -> None:
        """Send the message of the file that was told last to our own session only."""
        told = await self.core.store.read(wis2.last_told)
        driver = self.outbox.broker
        if told is None or driver is None:
            self.add("message", "warn", "no file has been told yet")
            return
        message = await self.outbox.preview(told.transfer)
        self.arrived.clear()
        self.received.clear()
        await driver.publish([replace(message, client=client)])
        async with asyncio.timeout(PATIENCE):
            while not any(one[1] == message.payload for one in self.received):
                self.arrived.clear()
                await self.arrived.wait()
        topic, payload, is_retained = next(
            one for one in self.received if one[1] == message.payload
        )
        self.findings += check_message(
            payload, topic, now=self.core.clock.now(), known_topics=self.outbox.wis2.known_topics
        )
        if is_retained or any(one[2] for one in self.received):
            self.add("retain", "error", "messages are retained")
        await self._content(json.loads(payload))

    # --- the links ----------------------------------------------------------------------

    async def _content(self, document: Mapping[str, Any]) -> None:
        """Fetch what the message names, as a Global Cache does."""
        link, told = document["links"][0], document["properties"].get("integrity", {})
        if "security" in link:
            self.add("download", "ok", "recommended data need a login")
            return
        content = await self._fetched("download", link["href"])
        if content is None:
            return
        method = str(told.get("method", "sha512")).replace("-", "_")
        digest = base64.b64encode(hashlib.new(method, content).digest()).decode()
        if digest != told.get("value") or len(content) != link.get("length"):
            self.add("download", "error", "the content is not what the message says")
            return
        self.add("download")

    async def _fetched(self, requirement: str, address: str) -> bytes | None:
        try:
            async with (
                asyncio.timeout(PATIENCE),
                aiohttp.ClientSession() as http,
                http.get(address, ssl=False, allow_redirects=False) as answer,
            ):
                content = await answer.content.read(LARGEST)
                if answer.status == 200:
                    return content
                self.add(requirement, "error", f"{address}: status {answer.status}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.add(requirement, "error", f"{address}: {error or type(error).__name__}")
        return None

    async def records(self, found: Sequence[Record]) -> None:
        """Look whether every destination has a record that is announced, served and fits."""
        known = {one.id: one for one in found}
        for entry in self.entries:
            if entry.wis2.channel == "cache":
                continue
            record = known.get(entry.wis2.metadata_id)
            if record is None:
                severity = "error" if entry.wis2.require_record else "warn"
                self.add("record", severity, f"{entry.name}: there is no discovery record")
                continue
            await self._record(entry, record)

    async def _record(self, entry: DestinationEntry, record: Record) -> None:
        if record.announced_at is None:
            self.add("record", "error", f"{record.id} was not announced yet")
        wanted = entry.wis2.data_topic.partition("/")[2]
        topics = [one.partition("/")[2] for one in topics_of(json.loads(record.text))]
        if not any(_covers(topic, wanted) for topic in topics):
            text = f"{record.id} does not name the topic of {entry.name}"
            self.add("record", "error", text)
        base = entry.wis2.base_url or self.outbox.base_url
        served = await self._fetched("record", record_address(base, record.id))
        if served is not None and served.decode() == record.text:
            self.add("record", "ok", record.id)
        elif served is not None:
            self.add("record", "error", f"{record.id} is served with another text")


async def selftest(core: Core, outbox: Outbox, login: str, password: Secret) -> list[Finding]:
    """Return one finding for each thing that was looked at; raises nothing."""
    test = _Test(core, outbox, login, password)
    if not test.entries:
        test.add("destinations", "error", "no destination has wis2.publish = yes")
        return test.findings
    test.add("destinations")
    await test.records(await core.store.read(wis2.records))
    await test.broker()
    return test.findings


def _covers(wanted: str, topic: str) -> bool:
    return topic == wanted or (wanted.endswith("/#") and topic.startswith(wanted[:-1]))


def _context(verify: bool) -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.check_hostname = False  # the test connects by address
    if not verify:
        made.verify_mode = ssl.CERT_NONE
    return made
