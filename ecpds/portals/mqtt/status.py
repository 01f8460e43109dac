"""`$SYS/…` topics and metrics of the broker; the topics go to those who may have them."""

from __future__ import annotations

from typing import Final

from ecpds import __version__
from ecpds.base.clock import Clock
from ecpds.base.metrics import Metrics
from ecpds.model.message import Message
from ecpds.portals.mqtt.broker import Broker

ROOT: Final = "$SYS/broker/"


class Status:
    """Tells figures; names as Mosquitto has them, so that its tools show them."""

    def __init__(self, broker: Broker, clock: Clock, metrics: Metrics | None) -> None:
        self._broker = broker
        self._clock = clock
        self._metrics = metrics
        self._since = clock.now()
        self._told: dict[str, str] = {}

    def tell(self, connected: int) -> None:
        """Publish what changed, set the gauges."""
        broker = self._broker
        sent = sum(session.sent for session in broker.sessions.values())
        figures = {
            "version": f"ecpds {__version__}",
            "uptime": f"{int((self._clock.now() - self._since).total_seconds())} seconds",
            "clients/connected": str(connected),
            "clients/total": str(len(broker.sessions)),
            "messages/received": str(broker.counts.published),
            "messages/sent": str(sent),
            "messages/dropped": str(broker.counts.dropped),
            "subscriptions/count": str(broker.subscription_count),
            "retained messages/count": str(len(broker.retained)),
        }
        for name, text in figures.items():
            if self._told.get(name) != text:
                self._told[name] = text
                broker.announce(Message(topic=ROOT + name, payload=text.encode(), qos=0))
        if self._metrics is not None:
            self._metrics.mqtt_clients.set(connected)
            self._metrics.mqtt_retained.set(len(broker.retained))
            counts, metrics = broker.counts, self._metrics
            metrics.raise_to(metrics.mqtt_messages, "mqtt messages", counts.published)
            metrics.raise_to(metrics.mqtt_dropped, "mqtt dropped", counts.dropped)
