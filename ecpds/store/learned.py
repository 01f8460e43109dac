"""What was learned of hosts and outlives a restart: last addresses, quirks of servers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ecpds.store.codec import to_micros
from ecpds.store.db import Connection, statement

Fact = tuple[str, str, str, str]
"""Module, host, name of the fact, value."""

PUT = statement("""
    INSERT INTO remote_fact (host, module, fact, value, learned_at)
    SELECT :host, :module, :fact, :value, :now
    WHERE EXISTS (SELECT 1 FROM host WHERE name = :host)
    ON CONFLICT (host, module, fact) DO UPDATE SET
        value = excluded.value, learned_at = excluded.learned_at""")
ALL = statement("SELECT * FROM remote_fact ORDER BY learned_at DESC LIMIT :limit")
OF_HOST = statement("SELECT * FROM remote_fact WHERE host = :host ORDER BY module, fact")
FORGET = statement("""
    DELETE FROM remote_fact WHERE learned_at < (
        SELECT learned_at FROM remote_fact ORDER BY learned_at DESC LIMIT 1 OFFSET :limit)""")


def put(db: Connection, facts: Iterable[Fact], *, limit: int, now: datetime) -> None:
    """Store facts of hosts that there are; about the `limit` latest ones are kept."""
    for module, host, fact, value in facts:
        values = {"host": host, "module": module, "fact": fact, "value": value}
        db.execute(PUT.sql, values | {"now": to_micros(now)})
    db.execute(FORGET.sql, {"limit": limit})


def everything(db: Connection, *, limit: int) -> list[Fact]:
    """Return the latest facts, oldest first."""
    found = db.execute(ALL.sql, {"limit": limit}).fetchall()
    return [(row["module"], row["host"], row["fact"], row["value"]) for row in reversed(found)]


def of_host(db: Connection, host: str) -> list[tuple[str, str, str]]:
    """Return what is known of one host as module, fact and value."""
    found = db.execute(OF_HOST.sql, {"host": host})
    return [(row["module"], row["fact"], row["value"]) for row in found]
