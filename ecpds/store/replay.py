"""Messages that were sent, in the order of their sending, for whoever has missed some.

Each question looks at a bounded number of rows and tells how far it looked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ecpds.store.codec import dump, from_micros, load
from ecpds.store.db import Connection, statement

SENT = statement(
    """
    SELECT id, kind, destination, event, topic, payload, sent_at
    FROM outbox INDEXED BY outbox_sent
    WHERE state = 'sent' AND topic != '' AND (sent_at, id) > (:moment, :id)
      AND kind IN (SELECT value FROM json_each(:kinds))
    ORDER BY sent_at, id LIMIT :limit""",
    hot=True,
)

Place = tuple[int, int]
"""Microseconds of the sending, and the number of the row: where a reader has come to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A message that was sent."""

    place: Place
    destination: str
    event: str
    topic: str
    sent_at: datetime
    content: dict[str, Any]


def sent(db: Connection, kinds: Iterable[str], after: Place, *, limit: int) -> Sequence[Replayed]:
    """Return up to `limit` messages of these kinds that were sent after that place."""
    moment, number = after
    values = {"kinds": dump(list(kinds)), "moment": moment, "id": number, "limit": limit}
    return [
        Replayed(
            place=(row["sent_at"], row["id"]),
            destination=row["destination"],
            event=row["event"],
            topic=row["topic"],
            sent_at=from_micros(row["sent_at"]),
            content=load(row["payload"]),
        )
        for row in db.execute(SENT.sql, values)
    ]
