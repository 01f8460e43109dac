"""Retained messages, durable sessions and their queues: what the MQTT broker finds after a start.

`apply` takes the broker's changes in their order; all of them are in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ecpds.model.message import Message
from ecpds.store.codec import dump, from_micros, length, load, maybe_micros, maybe_time, to_micros
from ecpds.store.db import Connection, Row, statement

PUT_RETAINED = statement(
    """
    INSERT INTO mqtt_retained
        (topic, payload, qos, properties, destination, transfer, created_at, expires_at)
    VALUES (:topic, :payload, :qos, :properties, :destination, :transfer, :now, :expires_at)
    ON CONFLICT (topic) DO UPDATE SET
        payload = excluded.payload, qos = excluded.qos, properties = excluded.properties,
        destination = excluded.destination, transfer = excluded.transfer,
        created_at = excluded.created_at, expires_at = excluded.expires_at""",
    hot=True,
)
DROP_RETAINED = statement("DELETE FROM mqtt_retained WHERE topic = :topic", hot=True)
RETAINED = statement("SELECT * FROM mqtt_retained ORDER BY created_at, topic")
PUT_SESSION = statement(
    """
    INSERT INTO mqtt_session (user, client, lasts, ends_at, subscriptions)
    VALUES (:user, :client, :lasts, :ends_at, :subscriptions)
    ON CONFLICT (user, client) DO UPDATE SET
        lasts = excluded.lasts, ends_at = excluded.ends_at,
        subscriptions = excluded.subscriptions""",
    hot=True,
)
DROP_SESSION = statement(
    "DELETE FROM mqtt_session WHERE user = :user AND client = :client", hot=True
)
DROP_QUEUE = statement("DELETE FROM mqtt_queue WHERE user = :user AND client = :client", hot=True)
SESSIONS = statement("SELECT * FROM mqtt_session ORDER BY user, client")
ENQUEUE = statement(
    """
    INSERT INTO mqtt_queue
        (id, user, client, topic, payload, retain, numbers, properties, expires_at)
    VALUES (:id, :user, :client, :topic, :payload, :retain, :numbers, :properties, :expires_at)""",
    hot=True,
)
DEQUEUE = statement("DELETE FROM mqtt_queue WHERE id = :id", hot=True)
QUEUE = statement("""
    SELECT * FROM mqtt_queue WHERE user = :user AND client = :client ORDER BY id""")
LAST = statement("SELECT MAX(id) AS last FROM mqtt_queue", hot=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSession:
    """A durable session."""

    user: str
    client: str
    lasts: timedelta
    ends_at: datetime | None = None  # None: connected, or it was when the node ended
    subscriptions: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A message that waits for a durable session, or for its acknowledgement."""

    id: int
    user: str
    client: str
    message: Message
    retain: bool = False  # flag of the delivery
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRetained:
    """Keep a message as that of its topic."""

    message: Message
    now: datetime


@dataclass(frozen=True, slots=True)
class DropRetained:
    """A topic has no message any more."""

    topic: str


@dataclass(frozen=True, slots=True)
class PutSession:
    """Keep a session as it is now."""

    session: KeptSession


@dataclass(frozen=True, slots=True)
class DropSession:
    """Forget a session and what waits for it."""

    user: str
    client: str


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Add to the queue of a session."""

    queued: Queued


@dataclass(frozen=True, slots=True)
class Dequeue:
    """A queued message was acknowledged, has expired or was dropped."""

    id: int


Change = PutRetained | DropRetained | PutSession | DropSession | Enqueue | Dequeue


def apply(db: Connection, changes: Sequence[Change]) -> None:
    """Write changes in their order."""
    for change in changes:
        _apply(db, change)


def _apply(db: Connection, change: Change) -> None:
    if isinstance(change, Enqueue):
        _enqueue(db, change.queued)
    elif isinstance(change, Dequeue):
        db.execute(DEQUEUE.sql, {"id": change.id})
    elif isinstance(change, PutRetained):
        _put_retained(db, change.message, change.now)
    elif isinstance(change, DropRetained):
        db.execute(DROP_RETAINED.sql, {"topic": change.topic})
    elif isinstance(change, PutSession):
        _put_session(db, change.session)
    else:
        whose = {"user": change.user, "client": change.client}
        db.execute(DROP_SESSION.sql, whose)
        db.execute(DROP_QUEUE.sql, whose)


def _put_session(db: Connection, session: KeptSession) -> None:
    values = {
        "user": session.user,
        "client": session.client,
        "lasts": length(session.lasts),
        "ends_at": maybe_micros(session.ends_at),
        "subscriptions": dump(session.subscriptions),
    }
    db.execute(PUT_SESSION.sql, values)


def _put_retained(db: Connection, message: Message, now: datetime) -> None:
    values = {
        "topic": message.topic,
        "payload": message.payload,
        "qos": message.qos,
        "properties": _properties(message),
        "destination": message.destination,
        "transfer": message.transfer,
        "now": to_micros(now),
        "expires_at": maybe_micros(message.expires_at),
    }
    db.execute(PUT_RETAINED.sql, values)


def _enqueue(db: Connection, queued: Queued) -> None:
    message = queued.message
    values = {
        "id": queued.id,
        "user": queued.user,
        "client": queued.client,
        "topic": message.topic,
        "payload": message.payload,
        "retain": queued.retain,
        "numbers": dump(list(queued.numbers)),
        "properties": _properties(message),
        "expires_at": maybe_micros(message.expires_at),
    }
    db.execute(ENQUEUE.sql, values)


def _properties(message: Message) -> str:
    found: dict[str, Any] = {}
    if message.content_type:
        found["content_type"] = message.content_type
    if message.user_properties:
        found["user"] = [list(pair) for pair in message.user_properties]
    if message.properties:
        found["more"] = [
            [key, ["hex", value.hex()] if isinstance(value, bytes) else value]
            for key, value in message.properties
        ]
    return dump(found) if found else "{}"


def _message(row: Row, *, qos: int, retain: bool) -> Message:
    found = load(row["properties"])
    return Message(
        topic=row["topic"],
        payload=row["payload"],
        qos=qos,
        retain=retain,
        expires_at=maybe_time(row["expires_at"]),
        content_type=found.get("content_type", ""),
        user_properties=tuple((name, value) for name, value in found.get("user", ())),
        properties=tuple(
            (key, bytes.fromhex(value[1]) if isinstance(value, list) else value)
            for key, value in found.get("more", ())
        ),
        destination=row["destination"] if retain else "",
        transfer=row["transfer"] if retain else None,
    )


def retained(db: Connection) -> list[tuple[Message, datetime]]:
    """Return all retained messages and when they came, the oldest first."""
    return [
        (_message(row, qos=row["qos"], retain=True), from_micros(row["created_at"]))
        for row in db.execute(RETAINED.sql)
    ]


def sessions(db: Connection) -> list[KeptSession]:
    """Return all durable sessions."""
    return [
        KeptSession(
            user=row["user"],
            client=row["client"],
            lasts=timedelta(microseconds=row["lasts"]),
            ends_at=maybe_time(row["ends_at"]),
            subscriptions=load(row["subscriptions"]),
        )
        for row in db.execute(SESSIONS.sql)
    ]


def queue(db: Connection, user: str, client: str) -> list[Queued]:
    """Return what waits for a session, in the order of publication."""
    return [
        Queued(
            id=row["id"],
            user=user,
            client=client,
            message=_message(row, qos=1, retain=False),
            retain=bool(row["retain"]),
            numbers=tuple(load(row["numbers"])),
        )
        for row in db.execute(QUEUE.sql, {"user": user, "client": client})
    ]


def last_queued(db: Connection) -> int:
    """Return the largest id of a queued message."""
    return int(db.execute(LAST.sql).fetchone()["last"] or 0)
