"""Webhooks: addresses that are told of events, and how far each has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ecpds.store.codec import dump, from_micros, load, maybe_micros, maybe_time, to_micros
from ecpds.store.db import Connection, Row, statement

ALL = statement("SELECT * FROM webhook ORDER BY name")
ONE = statement("SELECT * FROM webhook WHERE name = :name")
ADD = statement("""
    INSERT INTO webhook
        (name, url, secret, types, owner, objects, active, comment, sent_up_to, created_at,
         updated_at)
    VALUES (:name, :url, :secret, :types, :owner, :objects, :active, :comment, :sent_up_to, :now,
        :now)""")
CHANGE = statement("""
    UPDATE webhook SET
        url = :url, secret = :secret, types = :types, owner = :owner, objects = :objects,
        active = :active, comment = :comment, sent_up_to = :sent_up_to, tries = 0,
        failing_since = NULL, due_at = 0, error = '', version = version + 1, updated_at = :now
    WHERE name = :name""")
DELETE = statement("DELETE FROM webhook WHERE name = :name")
SENT = statement("""
    UPDATE webhook SET sent_up_to = :up_to, sent = sent + :count, tries = 0, failing_since = NULL,
        due_at = 0, error = ''
    WHERE id = :id AND version = :version""")
FAILED = statement("""
    UPDATE webhook SET tries = tries + 1, failing_since = COALESCE(failing_since, :now),
        due_at = :due, error = :error, active = :active
    WHERE id = :id AND version = :version""")
NEWEST = statement("SELECT COALESCE(MAX(id), 0) AS id FROM event")
OLDEST = statement("SELECT COALESCE(MIN(id), 0) AS id FROM event")
AFTER = statement(
    "SELECT id, type, record FROM event WHERE id > :after ORDER BY id LIMIT :limit", hot=True
)
GIVEN_UP = statement(
    "SELECT name, error FROM webhook WHERE active = 0 AND failing_since IS NOT NULL"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One address; `secret` is sealed."""

    id: int = 0
    name: str
    url: str
    secret: str
    types: tuple[str, ...]
    owner: str
    objects: tuple[str, ...]
    active: bool
    comment: str
    sent_up_to: int = 0
    sent: int = 0
    tries: int = 0
    failing_since: datetime | None = None
    due_at: datetime | None = None
    error: str = ""
    version: int = 0

    @property
    def is_given_up(self) -> bool:
        """Whether it was switched off because it failed for long."""
        return not self.active and self.failing_since is not None


def _webhook(row: Row) -> Webhook:
    return Webhook(
        id=row["id"],
        name=row["name"],
        url=row["url"],
        secret=row["secret"],
        types=tuple(load(row["types"])),
        owner=row["owner"],
        objects=tuple(load(row["objects"])),
        active=bool(row["active"]),
        comment=row["comment"],
        sent_up_to=row["sent_up_to"],
        sent=row["sent"],
        tries=row["tries"],
        failing_since=maybe_time(row["failing_since"]),
        due_at=from_micros(row["due_at"]) if row["due_at"] else None,
        error=row["error"],
        version=row["version"],
    )


def everything(db: Connection) -> list[Webhook]:
    """Return all webhooks by name."""
    return [_webhook(row) for row in db.execute(ALL.sql)]


def get(db: Connection, name: str) -> Webhook | None:
    """Return one webhook, None if there is none."""
    row = db.execute(ONE.sql, {"name": name}).fetchone()
    return _webhook(row) if row else None


def put(db: Connection, hook: Webhook, *, is_new: bool, now: datetime) -> None:
    """Create a webhook, or change it: it begins without failures."""
    values: dict[str, Any] = {
        "name": hook.name,
        "url": hook.url,
        "secret": hook.secret,
        "types": dump(list(hook.types)),
        "owner": hook.owner,
        "objects": dump(list(hook.objects)),
        "active": hook.active,
        "comment": hook.comment,
        "sent_up_to": hook.sent_up_to,
        "now": to_micros(now),
    }
    db.execute((ADD if is_new else CHANGE).sql, values)


def delete(db: Connection, name: str) -> None:
    """Remove a webhook."""
    db.execute(DELETE.sql, {"name": name})


def sent(db: Connection, hook: Webhook, up_to: int, count: int) -> None:
    """Remember how far a webhook has come; one that was changed meanwhile stays."""
    db.execute(SENT.sql, {"id": hook.id, "version": hook.version, "up_to": up_to, "count": count})


def failed(
    db: Connection,
    hook: Webhook,
    error: str,
    *,
    due: datetime | None,
    active: bool,
    now: datetime,
) -> None:
    """Remember a failure and when to try again."""
    values = {
        "id": hook.id,
        "version": hook.version,
        "error": error,
        "due": maybe_micros(due) or 0,
        "active": active,
        "now": to_micros(now),
    }
    db.execute(FAILED.sql, values)


def given_up(db: Connection) -> list[tuple[str, str]]:
    """Return name and error of the webhooks that were switched off because they failed."""
    return [(row["name"], row["error"]) for row in db.execute(GIVEN_UP.sql)]


def newest(db: Connection) -> int:
    """Return the number of the latest event, 0 when there is none."""
    return int(db.execute(NEWEST.sql).fetchone()["id"])


def oldest(db: Connection) -> int:
    """Return the number of the oldest event that is kept, 0 when there is none."""
    return int(db.execute(OLDEST.sql).fetchone()["id"])


def events_after(
    db: Connection, after: int, *, limit: int
) -> Sequence[tuple[int, str, dict[str, Any]]]:
    """Return number, type and record of events behind that number, in their order."""
    rows = db.execute(AFTER.sql, {"after": after, "limit": limit})
    return [(row["id"], row["type"], load(row["record"])) for row in rows]
