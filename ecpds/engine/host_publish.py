"""From a delivery to the message for the Host's own broker, and to that broker.

Spec: transfer-modules.md 4.12, notifications.md section 3.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from ecpds.engine.core import Core
from ecpds.engine.host_notices import PUBLISH, HostNotice, checked_texts
from ecpds.engine.proxy import tls_of
from ecpds.engine.publish_drivers import LinkDriver
from ecpds.engine.publish_text import (
    LONGEST_PAYLOAD,
    Subject,
    compiled,
    rendered,
    topic_text,
    values_of,
)
from ecpds.model.decode import Where
from ecpds.model.errors import RemoteConfig, TemplateError
from ecpds.model.message import Message
from ecpds.store.outbox import HOST
from ecpds.transfer.contract import TlsTrust

QOS: Final = 2  # as OpenECPDS
LONGEST_PROPERTY: Final = 4096  # characters


def message_for(subject: Subject, notice: HostNotice, now: datetime) -> Message | None:
    """Return the message, None when topic or payload is empty.  Raises TemplateError."""
    values = values_of(subject, now)
    topic = rendered(compiled(notice.topic, braced=True), values, LONGEST_PROPERTY)
    payload = rendered(compiled(notice.payload), values, LONGEST_PAYLOAD).encode()
    if not topic.strip() or not payload:
        return None
    if len(payload) > LONGEST_PAYLOAD:
        raise TemplateError(f"the payload is longer than {LONGEST_PAYLOAD} bytes")
    metadata = tuple(
        (key, rendered(compiled(text), values, LONGEST_PROPERTY)) for key, text in notice.metadata
    )
    ends = None if notice.lifetime is None else subject.noted_at + notice.lifetime
    return Message(
        topic=topic_text(topic),
        payload=payload,
        qos=QOS,
        expires_at=ends,
        user_properties=metadata,
        destination=subject.transfer.destination,
        transfer=subject.transfer.id,
    )


def asks_sha512(notice: HostNotice) -> bool:
    """Tell whether a template wants the digest, which is computed only then."""
    texts = (notice.topic, notice.payload, *(text for _, text in notice.metadata))
    return any("sha512" in text for text in texts)


def check_notice(options: Mapping[str, str], where: Where) -> None:
    """Read the notice that the options of a Host make, templates too; raises ConfigError."""
    for text, braced in checked_texts(options, where):
        try:
            compiled(text, braced=braced)
        except TemplateError as error:
            raise where.at(PUBLISH).error(error.message) from None


class HostBrokers:
    """The brokers of Hosts: one connection each, kept for a while after its last message."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._drivers: dict[HostNotice, LinkDriver] = {}  # an edited Host has another notice

    def notice(self, kind: str) -> HostNotice | None:
        """Return what the Host of these rows wants now."""
        entry = self._core.snapshot.hosts.get(kind.removeprefix(HOST))
        return entry.notice if entry is not None else None

    def driver(self, kind: str) -> HostBroker:
        """Return the carrier of these rows."""
        return HostBroker(self, kind)

    async def publish(self, kind: str, messages: Sequence[Message]) -> None:
        """Publish in this order; return when the broker has all."""
        notice = self.notice(kind)
        if notice is None:
            raise RemoteConfig("the host names no broker any more")
        driver = self._drivers.get(notice)
        if driver is None:
            driver = await self._made(notice)
            driver = self._drivers.setdefault(notice, driver)
        await driver.publish(messages)

    async def _made(self, notice: HostNotice) -> LinkDriver:
        links = notice.links(f"ecpds-{self._core.node}-{notice.host}")
        if notice.brokers[0][0] == "mqtts":
            trust = TlsTrust(ca=notice.ca)
            context = await self._core.threads.run("disk", tls_of, trust)
            assert isinstance(context, ssl.SSLContext)  # noqa: S101 - only a pin gives another
            links = [replace(one, tls=context) for one in links]
        return LinkDriver(links, self._core.clock)

    async def close_idle(self) -> None:
        """Hang up on brokers that were told nothing for a while."""
        for notice, driver in list(self._drivers.items()):
            if await driver.close_idle():
                self._drivers.pop(notice, None)

    async def close(self) -> None:
        """Hang up on all."""
        for driver in self._drivers.values():
            await driver.close()
        self._drivers.clear()


class HostBroker:
    """The driver of one queue."""

    def __init__(self, brokers: HostBrokers, kind: str) -> None:
        self._brokers = brokers
        self._kind = kind

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish in this order; return when the broker has all."""
        await self._brokers.publish(self._kind, messages)

    async def clear(self, topics: Sequence[str]) -> int:
        """Do nothing: these messages are never retained."""
        del topics
        return 0
