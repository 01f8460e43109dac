"""`genericMqtt`: files that a broker announces; the content comes in the message or from its link.

The connection is kept, with a stable client id and a session at the broker, so that what we miss
waits there.  Messages are acknowledged when the node has stored what they led to, and no more than
`mqtt.maxInFlight` are taken before: the rest waits at the broker.
Spec: notifications.md section 4, transfer-modules-protocols.md 3.6.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar, Final, Self

from ecpds.model.entry import Entry
from ecpds.model.secret import Secret
from ecpds.modules.http import HttpModule
from ecpds.modules.http_options import HttpOptions
from ecpds.modules.mqtt_listen import MqttSubscriber
from ecpds.modules.mqtt_options import MqttHostOptions
from ecpds.transfer.contract import Feature, Surroundings, Target, TransferModule
from ecpds.transfer.subscription import Subscriber

LINKS: Final = HttpOptions(dav="no")


class MqttModule(TransferModule[MqttHostOptions]):
    """A Host that is a broker: listened to by the engine, its links are fetched over HTTP."""

    name = "mqtt"
    options = MqttHostOptions
    features: ClassVar[Feature] = Feature.GET | Feature.RESUME_GET | Feature.SIZE

    def __init__(self, http: HttpModule) -> None:
        self._http = http

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: MqttHostOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Give a session for fetching; the broker's login goes to no link."""
        plain = replace(target, login="", password=Secret(""), directory="")
        async with HttpModule.connect(plain, LINKS, around) as http:
            yield cls(http)

    @classmethod
    def keep_alive(cls, options: MqttHostOptions) -> timedelta:
        """Return how long idle connections wait for the next link; a session costs 30 ms."""
        del options
        return HttpModule.keep_alive(LINKS)

    @classmethod
    def subscriber(
        cls, target: Target, options: MqttHostOptions, around: Surroundings
    ) -> Subscriber | None:
        """Return who listens to the broker."""
        return MqttSubscriber(target, options, around=around)

    @property
    def peer(self) -> str:
        """Return the address that content came from."""
        return self._http.peer

    async def stat(self, name: str) -> Entry:
        """Return size and time of a link."""
        return await self._http.stat(name)

    def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content of a link."""
        return self._http.get(name, offset=offset)
