"""Listening to a broker: the connection of a Host, and messages until they are acknowledged."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from ecpds.model.errors import ConnectionLost, Phase, RemoteConfig
from ecpds.model.secret import Secret
from ecpds.modules.mqtt_options import MqttHostOptions
from ecpds.modules.mqtt_payload import PayloadReader
from ecpds.modules.mqtt_replay import replayed
from ecpds.modules.mqtt_script import said, unread
from ecpds.modules.trust import client_context
from ecpds.transfer.contract import Surroundings, Target
from ecpds.transfer.mqttlink import LinkOptions, MqttLink
from ecpds.transfer.subscription import Arrived, Notification, Subscriber, Subscription

Read = Callable[[str, bytes, datetime], Notification]
PORTS: Final = {"mqtts": 8883, "mqtt": 1883, "wss": 443, "ws": 80}


class MqttSubscriber(Subscriber):
    """See `Subscriber`."""

    def __init__(
        self,
        target: Target,
        options: MqttHostOptions,
        url: str = "",
        *,
        around: Surroundings,
    ) -> None:
        """`url` overrides host, port and scheme."""
        self._around = around
        self._target = target
        self._options = options
        self._urls = [url, *options.brokers.reveal().replace(",", " ").split()]
        self.brokers = len(self._urls)
        self.replays = bool(options.replay_url)

    async def missed(
        self, topics: Sequence[str], since: datetime, now: datetime, *, is_raw: bool = False
    ) -> AsyncIterator[Sequence[Notification]]:
        """Yield what was announced since then."""
        read = self._reader(is_raw=is_raw)
        async for page in replayed(self._target, self._around, self._options.replay_url, since):
            yield [read(topic, message, now) for topic, message in page]

    def _reader(self, *, is_raw: bool) -> Read:
        """Return how messages are read; raises RemoteConfig."""
        if is_raw:
            return lambda topic, message, _: unread(topic, message, self._options.largest)
        return PayloadReader(self._options).read

    def said(self, raw: Notification, values: Mapping[str, Any]) -> Notification:
        """Return what a script made of a message."""
        return said(raw, values, self._options)

    @asynccontextmanager
    async def listen(
        self,
        topics: Sequence[str],
        client_id: str,
        now: datetime,
        *,
        broker: int = 0,
        is_raw: bool = False,
    ) -> AsyncIterator[Subscription]:
        """Connect and subscribe."""
        options = self._options
        subscription = MqttSubscription(self._reader(is_raw=is_raw), now, options.in_flight)
        loop = asyncio.get_running_loop()
        tls = await loop.run_in_executor(None, self._context)
        link = MqttLink(
            self._link_options(self._urls[broker], options.client_id or client_id, tls),
            received=subscription.received,
            lost=subscription.lost,
        )
        subscription.link = link
        try:
            subscription.was_known = await link.open()
            await link.subscribe(list(topics), options.qos)
            yield subscription
        finally:
            await link.close()

    def _context(self) -> ssl.SSLContext:
        trust = self._target.tls
        return client_context(replace(trust, verify=trust.verify and self._options.ssl_validation))

    def _link_options(self, url: str, client_id: str, tls: ssl.SSLContext) -> LinkOptions:
        options, target = self._options, self._target
        host, port, scheme, login = target.host, options.port, options.scheme, target.login
        password = target.password
        if url:
            parts = urlsplit(url)
            scheme = _SCHEMES.get(parts.scheme, scheme)
            host, port = parts.hostname or host, parts.port or port
            login = unquote(parts.username or "") or login
            password = Secret(unquote(parts.password)) if parts.password else password
        if not host:
            raise RemoteConfig("the host has no address", phase=Phase.CONNECT)
        return LinkOptions(
            host=host,
            port=port or PORTS[scheme],
            scheme=scheme,
            path=options.path,
            login=options.login or login,
            password=options.password or password,
            client_id=client_id,
            version=5 if options.version == "5" else 4,
            clean=options.clean_start,
            session_expiry=int(options.session_expiry.total_seconds()),
            keep_alive=int(options.keep_alive.total_seconds()),
            receive_maximum=options.in_flight,
            timeout=options.connect_timeout.total_seconds(),
            tls=tls,
        )


_SCHEMES: Final[dict[str, Any]] = {
    "ssl": "mqtts", "mqtts": "mqtts", "tls": "mqtts", "tcp": "mqtt", "mqtt": "mqtt",
    "wss": "wss", "ws": "ws",
}  # fmt: skip


class MqttSubscription(Subscription):
    """Messages between their arrival and their acknowledgement."""

    link: MqttLink

    def __init__(self, read: Read, now: datetime, most: int) -> None:
        self._read = read
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._most = most
        self._waiting: deque[Any] = deque()
        self._ready = asyncio.Event()
        self._end = ""
        self._given = 0  # out and not acknowledged

    def received(self, message: Any) -> None:
        """Take a message; above the limit nothing more is read from the broker."""
        self._waiting.append(message)
        if len(self._waiting) + self._given >= 2 * self._most:
            self.link.hold()
        self._ready.set()

    def lost(self, reason: str) -> None:
        """Take note of the end of the connection."""
        self._end = reason or "closed"
        self._ready.set()

    async def next(self) -> Sequence[Arrived]:
        """Return what has arrived."""
        await self._ready.wait()
        if self._end:
            raise ConnectionLost(f"the broker hung up: {self._end}", phase=Phase.LIST)
        self._ready.clear()
        messages, self._waiting = self._waiting, deque()
        self._given += len(messages)
        now = self._now + timedelta(seconds=self._loop.time() - self._begun)
        return [Arrived(self._read(one.topic, one.payload, now), one) for one in messages]

    def acknowledge(self, arrived: Sequence[Arrived]) -> None:
        """Tell the broker that these are safe."""
        for one in arrived:
            message: Any = one.token
            self.link.acknowledge(message)
        self._given -= len(arrived)
        if len(self._waiting) + self._given <= self._most:
            self.link.go_on()
