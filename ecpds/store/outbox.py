"""Messages for other systems, in the order of what they tell, until they are accepted there.

A row is added in the transaction of the change that it tells of.  Within one destination and kind
only the first waiting row may be sent; the others wait behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ecpds.store.codec import dump, from_micros, load, maybe_micros, maybe_time, to_micros
from ecpds.store.db import Connection, Row, statement

HOST = "host:"  # kinds of what is told to the broker of a Host, followed by its name

ADD = statement(
    """
    INSERT INTO outbox (kind, destination, transfer, event, payload, due_at, expires_at, created_at)
    VALUES (:kind, :destination, :transfer, :event, '{}', :now, :expires_at, :now)""",
    hot=True,
)
NEXT_QUEUE = statement(
    """
    SELECT destination, kind FROM outbox INDEXED BY outbox_order
    WHERE state = 'waiting' AND (destination, kind) > (:destination, :kind)
    ORDER BY destination, kind LIMIT 1""",
    hot=True,
)
HEAD = statement(
    """
    SELECT * FROM outbox INDEXED BY outbox_order
    WHERE state = 'waiting' AND destination = :destination AND kind = :kind
    ORDER BY id LIMIT :limit""",
    hot=True,
)
SETTLE = statement(
    """
    UPDATE outbox SET state = :state, tries = tries + :tried, error = :error, topic = :topic,
        retained = :retained, payload = :payload, sent_at = :sent_at
    WHERE id = :id AND state = 'waiting'""",
    hot=True,
)
DELAY = statement(
    """
    UPDATE outbox SET tries = tries + 1, error = :error, due_at = :due_at
    WHERE id = :id AND state = 'waiting'""",
    hot=True,
)
OF_TRANSFER = statement(
    """
    SELECT DISTINCT kind, destination FROM outbox INDEXED BY outbox_transfer
    WHERE transfer = :transfer""",
    hot=True,
)
RETAINED = statement(
    """
    SELECT DISTINCT topic FROM outbox INDEXED BY outbox_transfer
    WHERE transfer = :transfer AND kind = :kind AND retained = 1 AND state = 'sent'""",
    hot=True,
)
LATEST = statement(
    """
    SELECT transfer FROM outbox INDEXED BY outbox_topic
    WHERE topic = :topic AND kind = :kind AND retained = 1 AND state = 'sent'
    ORDER BY id DESC LIMIT 1""",
    hot=True,
)
ONE = statement("SELECT * FROM outbox WHERE id = :id", hot=True)
LIST = statement("""
    SELECT * FROM outbox WHERE id < :before
      AND (:state IS NULL OR state = :state)
      AND (:destination IS NULL OR destination = :destination)
      AND (:transfer IS NULL OR transfer = :transfer)
    ORDER BY id DESC LIMIT :limit""")
ADD_RECORD = statement("""
    INSERT INTO outbox (kind, event, payload, due_at, created_at)
    VALUES (:kind, :event, :payload, :now, :now)""")
REFUSED = statement("""
    UPDATE outbox SET state = 'waiting', tries = 0, error = '', due_at = :now
    WHERE state = 'failed' AND error = :error
      AND (expires_at IS NULL OR expires_at > :now)""")
AGAIN = statement("""
    UPDATE outbox SET state = 'waiting', tries = 0, error = '', due_at = :now, sent_at = NULL
    WHERE id = :id""")
DROP = statement("UPDATE outbox SET state = 'dropped' WHERE id = :id AND state != 'sent'")
WAITING = statement(
    """
    SELECT COUNT(*) AS count FROM (SELECT 1 FROM outbox INDEXED BY outbox_due
        WHERE state = 'waiting' LIMIT :most)""",
)
COUNTS = statement("SELECT state, COUNT(*) AS count FROM outbox GROUP BY state")
PURGE = statement(
    "DELETE FROM outbox WHERE created_at < :before AND state != 'waiting'",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One row of the outbox."""

    id: int
    kind: str
    destination: str
    transfer: int | None
    event: str
    state: str  # waiting, sent, failed, dropped, expired
    tries: int
    error: str
    due_at: datetime
    expires_at: datetime | None
    created_at: datetime
    sent_at: datetime | None
    topic: str
    retained: bool
    content: dict[str, Any]  # what was sent, for people


def _row(row: Row) -> Publication:
    return Publication(
        id=row["id"],
        kind=row["kind"],
        destination=row["destination"],
        transfer=row["transfer"],
        event=row["event"],
        state=row["state"],
        tries=row["tries"],
        error=row["error"],
        due_at=from_micros(row["due_at"]),
        expires_at=maybe_time(row["expires_at"]),
        created_at=from_micros(row["created_at"]),
        sent_at=maybe_time(row["sent_at"]),
        topic=row["topic"],
        retained=bool(row["retained"]),
        content=load(row["payload"]),
    )


def add(
    db: Connection,
    kinds: Iterable[str],
    destination: str,
    transfer: int,
    event: str,
    *,
    expires_at: datetime | None,
    now: datetime,
) -> None:
    """Add a row for each kind."""
    values = {
        "destination": destination,
        "transfer": transfer,
        "event": event,
        "expires_at": maybe_micros(expires_at),
        "now": to_micros(now),
    }
    for kind in kinds:
        db.execute(ADD.sql, values | {"kind": kind})


def add_cleared(db: Connection, transfer: int, *, now: datetime) -> None:
    """Add what clears the retained messages of a transfer, if there were any messages."""
    add_deleted(db, transfer, expires_at=None, now=now, event="cleared")


def add_deleted(
    db: Connection,
    transfer: int,
    *,
    expires_at: datetime | None,
    now: datetime,
    event: str = "deleted",
) -> None:
    """Add `deleted` for those kinds that were told of the transfer before; mostly for none.

    Brokers of Hosts are told of deliveries only.
    """
    rows = db.execute(OF_TRANSFER.sql, {"transfer": transfer}).fetchall()
    for row in rows:
        if row["kind"].startswith(HOST):
            continue
        add(
            db, [row["kind"]], row["destination"], transfer, event, expires_at=expires_at, now=now
        )  # fmt: skip


def waiting_queues(db: Connection) -> list[tuple[str, str]]:
    """Return destination and kind of all queues in which something waits."""
    found: list[tuple[str, str]] = []
    after = {"destination": "", "kind": ""}
    while (row := db.execute(NEXT_QUEUE.sql, after).fetchone()) is not None:
        found.append((row["destination"], row["kind"]))
        after = {"destination": row["destination"], "kind": row["kind"]}
    return found


def add_record(
    db: Connection, kinds: Iterable[str], event: str, content: dict[str, Any], *, now: datetime
) -> None:
    """Add what is told of no transfer, such as a discovery record; it has a queue of its own."""
    for kind in kinds:
        values = {"kind": kind, "event": event, "payload": dump(content), "now": to_micros(now)}
        db.execute(ADD_RECORD.sql, values)


def try_refused(db: Connection, error: str, *, now: datetime) -> int:
    """Let wait again what failed for exactly that reason; return how many."""
    return db.execute(REFUSED.sql, {"error": error, "now": to_micros(now)}).rowcount


def head(db: Connection, kind: str, destination: str, *, limit: int) -> list[Publication]:
    """Return what waits first, in the order of what is told."""
    values = {"kind": kind, "destination": destination, "limit": limit}
    return [_row(row) for row in db.execute(HEAD.sql, values)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How a row ended."""

    id: int
    state: str
    error: str = ""
    topic: str = ""
    retained: bool = False
    content: dict[str, Any]
    tried: bool = True


def settle(db: Connection, ended: Sequence[Settled], *, now: datetime) -> None:
    """Store how rows ended."""
    for one in ended:
        values = {
            "id": one.id,
            "state": one.state,
            "tried": one.tried,
            "error": one.error[:1000],
            "topic": one.topic,
            "retained": one.retained,
            "payload": dump(one.content),
            "sent_at": to_micros(now) if one.state == "sent" else None,
        }
        db.execute(SETTLE.sql, values)


def delay(db: Connection, number: int, error: str, until: datetime) -> None:
    """Store a failed try of a row that stays."""
    db.execute(DELAY.sql, {"id": number, "error": error[:1000], "due_at": to_micros(until)})


def retained_topics(db: Connection, kind: str, transfer: int) -> list[str]:
    """Return the topics whose last retained message tells of that transfer."""
    values = {"transfer": transfer, "kind": kind}
    topics = [row["topic"] for row in db.execute(RETAINED.sql, values).fetchall()]
    return [topic for topic in topics if _latest(db, kind, topic) == transfer]


def _latest(db: Connection, kind: str, topic: str) -> int | None:
    row = db.execute(LATEST.sql, {"topic": topic, "kind": kind}).fetchone()
    return None if row is None else row["transfer"]


def get(db: Connection, number: int) -> Publication | None:
    """Return one row."""
    row = db.execute(ONE.sql, {"id": number}).fetchone()
    return _row(row) if row else None


def page(
    db: Connection,
    *,
    limit: int,
    before: int | None = None,
    state: str | None = None,
    destination: str | None = None,
    transfer: int | None = None,
) -> list[Publication]:
    """Return rows, newest first."""
    values = {
        "limit": limit,
        "before": before if before is not None else 2**62,
        "state": state,
        "destination": destination,
        "transfer": transfer,
    }
    return [_row(row) for row in db.execute(LIST.sql, values)]


def again(db: Connection, number: int, *, now: datetime) -> bool:
    """Make a row wait again, whatever became of it."""
    return db.execute(AGAIN.sql, {"id": number, "now": to_micros(now)}).rowcount > 0


def drop(db: Connection, number: int) -> bool:
    """Give a row up that was not sent."""
    return db.execute(DROP.sql, {"id": number}).rowcount > 0


def counts(db: Connection) -> dict[str, int]:
    """Return how many rows there are by state."""
    return {row["state"]: row["count"] for row in db.execute(COUNTS.sql)}


def waiting(db: Connection, *, most: int) -> int:
    """Return how many messages wait to be sent, counted up to `most`."""
    return int(db.execute(WAITING.sql, {"most": most}).fetchone()["count"])


def purge(db: Connection, *, before: datetime) -> None:
    """Forget what ended and is older."""
    db.execute(PURGE.sql, {"before": to_micros(before)})
