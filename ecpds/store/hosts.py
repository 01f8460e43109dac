"""Hosts, their links and their statistics."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ecpds.model.decode import decode
from ecpds.model.host import Host
from ecpds.store.codec import dump, load, maybe_time, plain, to_micros
from ecpds.store.db import Connection, Row, statement
from ecpds.store.gather import Sums, add_sum

UPSERT = statement("""
    INSERT INTO host (name, config, role, method, active, updated_at)
    VALUES (:name, :config, :role, :method, :active, :now)
    ON CONFLICT (name) DO UPDATE SET
        config = excluded.config, role = excluded.role, method = excluded.method,
        active = excluded.active, version = version + 1, updated_at = excluded.updated_at
    RETURNING id""")
ONE = statement("SELECT * FROM host WHERE name = :name", hot=True)
ALL = statement("SELECT * FROM host ORDER BY name")
DELETE = statement("DELETE FROM host WHERE name = :name")
USED_BY = statement(
    "SELECT destination FROM association WHERE host = :name ORDER BY destination", hot=True
)
COUNT = statement(
    """
    UPDATE host SET connections = connections + :connections, bytes = bytes + :bytes,
        duration = duration + :duration
    WHERE name = :name""",
    hot=True,
)
COUNTED = Sums(COUNT, ("name",), ("connections", "bytes", "duration"))
CHECKED = statement("""
    UPDATE host SET checked_at = :now, valid = :valid, last_error = :error WHERE name = :name""")
RESET = statement(
    "UPDATE host SET connections = 0, bytes = 0, duration = 0, last_error = '' WHERE name = :name"
)
FAILED = statement("UPDATE host SET last_error = :error WHERE name = :name")


class HostRow:
    """A Host as configured (secrets sealed) and its statistics."""

    def __init__(self, row: Row) -> None:
        data: dict[str, Any] = load(row["config"])
        data["id"] = row["id"]
        self.host = decode(Host, data)
        self.connections: int = row["connections"]
        self.bytes: int = row["bytes"]
        self.duration: int = row["duration"]  # microseconds
        self.checked_at = maybe_time(row["checked_at"])
        self.valid = None if row["valid"] is None else bool(row["valid"])
        self.error: str = row["last_error"]
        self.version: int = row["version"]
        self.updated_at = maybe_time(row["updated_at"])


def put(db: Connection, host: Host, sealed_password: str, *, now: datetime) -> int:
    """Create or replace by name; return the id.  The password comes sealed."""
    config = plain(host)
    config["password"] = sealed_password
    del config["id"]
    values: dict[str, object] = {"name": host.name, "config": dump(config), "role": host.role.value}
    values |= {"method": host.method, "active": host.active, "now": to_micros(now)}
    return int(db.execute(UPSERT.sql, values).fetchone()["id"])


def get(db: Connection, name: str) -> HostRow | None:
    """Return one host, None if there is none."""
    row = db.execute(ONE.sql, {"name": name}).fetchone()
    return HostRow(row) if row else None


def everything(db: Connection) -> list[HostRow]:
    """Return all hosts by name."""
    return [HostRow(row) for row in db.execute(ALL.sql)]


def used_by(db: Connection, name: str) -> list[str]:
    """Return the destinations that use a host."""
    return [row["destination"] for row in db.execute(USED_BY.sql, {"name": name})]


def delete(db: Connection, name: str) -> bool:
    """Remove a host that no destination uses; tell whether it was there."""
    return db.execute(DELETE.sql, {"name": name}).rowcount > 0


def count(db: Connection, name: str, *, sent: int, micros: int) -> None:
    """Add one connection with its bytes and time to the statistics."""
    add_sum(db, COUNTED, (name,), (1, sent, micros))


def reset(db: Connection, name: str) -> None:
    """Begin the statistics of a host anew."""
    db.execute(RESET.sql, {"name": name})


def checked(db: Connection, name: str, *, error: str, now: datetime) -> None:
    """Store the result of a test; an empty error means it works."""
    values: dict[str, object] = {
        "name": name,
        "valid": not error,
        "error": error,
        "now": to_micros(now),
    }
    db.execute(CHECKED.sql, values)


def failed(db: Connection, name: str, error: str) -> None:
    """Store the last error of a host."""
    db.execute(FAILED.sql, {"name": name, "error": error})
