"""Who carries publications: the embedded broker, or a client of another one.

Spec: notifications.md 6.2.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger
from ecpds.model.errors import ConfigError, RemoteTransient
from ecpds.model.message import ClientInfo, Message
from ecpds.model.secret import Secret
from ecpds.transfer.mqttlink import LinkOptions, MqttLink

log = get_logger(__name__)

ACCEPTED_WITHIN: Final = 20.0  # seconds for the acknowledgement of a batch
IDLE_CLOSE: Final = timedelta(minutes=5)  # of a broker of a Host


class Driver(Protocol):
    """Carries messages to subscribers."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish in this order; return when all are accepted.

        Raises an EcpdsError when that is not sure: all of them are published again.
        """

    async def clear(self, topics: Sequence[str]) -> int:
        """Forget retained messages."""


class Broker(Driver, Protocol):
    """The embedded broker, whose clients can be seen."""

    def clients(self) -> list[ClientInfo]:
        """Return connected clients and sessions that wait for theirs."""

    def disconnect(self, user: str, client: str) -> bool:
        """Hang up on a client and forget its session; tell whether there was one."""

    def retained(self, name: str = "#") -> list[Message]:
        """Return the retained messages that match a filter, by topic."""


class LinkDriver:
    """A client of one of several brokers that are operated elsewhere; connects at need."""

    def __init__(self, options: Sequence[LinkOptions], clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._used_at = clock.now()
        self._link: MqttLink | None = None
        self._lock = asyncio.Lock()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish in this order; return when the broker has acknowledged all."""
        async with self._lock:
            self._used_at = self._clock.now()
            try:
                async with asyncio.timeout(ACCEPTED_WITHIN):
                    link = await self._connected()
                    await link.publish(messages, self._clock.now())
            except TimeoutError:
                await self.close()
                raise RemoteTransient("the broker did not acknowledge in time") from None
            except BaseException:
                await self.close()
                raise

    async def _connected(self) -> MqttLink:
        if self._link is None or not self._link.is_connected:
            await self.close()
            self._link = await self._opened()
        return self._link

    async def _opened(self) -> MqttLink:
        """Connect to any of the brokers; the last one's error says why there is none."""
        options = list(self._options)
        random.shuffle(options)  # so that many nodes spread over them
        for last in range(len(options) - 1, -1, -1):
            link = MqttLink(options[last])
            try:
                await link.open()
            except RemoteTransient:
                if last == 0:
                    raise
            else:
                return link
        raise RemoteTransient("there is no broker")

    async def close_idle(self, idle: timedelta = IDLE_CLOSE) -> bool:
        """Disconnect when nothing was sent for so long; tell whether there is no connection."""
        if self._link is None:
            return True
        if self._lock.locked() or self._clock.now() - self._used_at < idle:
            return False
        await self.close()
        return True

    async def clear(self, topics: Sequence[str]) -> int:
        """Publish empty retained messages."""
        if topics:
            await self.publish([Message(topic=topic, retain=True) for topic in topics])
        return len(topics)

    async def close(self) -> None:
        """Disconnect; may be called twice."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()


class ExternalDriver(LinkDriver):
    """A client of the broker that the settings name."""

    def __init__(self, url: Secret, client_id: str, clock: Clock) -> None:
        """`url`: mqtt[s]://[user:password@]host[:port].  Raises ConfigError."""
        super().__init__((options_of(url, client_id),), clock)


def options_of(url: Secret, client_id: str) -> LinkOptions:
    """Return what a broker URL says; raises ConfigError."""
    parts = urlsplit(url.reveal())
    if parts.scheme not in ("mqtt", "mqtts", "ws", "wss") or not parts.hostname:
        raise ConfigError("mqtt.url is not mqtt[s]://[user:password@]host[:port]")
    default = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}[parts.scheme]
    return LinkOptions(
        host=parts.hostname,
        port=parts.port or default,
        scheme=parts.scheme,
        path=parts.path or "/mqtt",
        login=unquote(parts.username or ""),
        password=Secret(unquote(parts.password or "")),
        client_id=client_id,
    )
