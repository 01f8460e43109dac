"""A message for subscribers, whoever carries it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is published on one topic; an empty retained payload clears the topic."""

    topic: str
    payload: bytes = b""
    qos: int = 1
    retain: bool = False
    expires_at: datetime | None = None
    content_type: str = ""
    user_properties: tuple[tuple[str, str], ...] = ()
    properties: tuple[tuple[int, int | str | bytes], ...] = ()  # of MQTT 5, passed on as they are
    client: str = ""  # only for sessions with this client id
    destination: str = ""
    transfer: int | None = None

    @property
    def size(self) -> int:
        """Return the bytes that keeping it costs, roughly."""
        return len(self.payload) + len(self.topic) + 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientInfo:
    """One client, for the list of operators; without a connection: a session that waits."""

    user: str
    client: str
    peer: str
    version: str
    since: datetime | None
    subscriptions: tuple[str, ...]
    queued: int
    in_flight: int
    sent: int
    dropped: int
    ends: datetime | None
