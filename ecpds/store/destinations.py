"""Destinations, their hosts in order, their aliases and their stored run state."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from ecpds.model.decode import decode
from ecpds.model.destination import Alias, Destination, DestinationState
from ecpds.model.status import StoredState
from ecpds.store.codec import dump, load, maybe_micros, maybe_time, plain, to_micros
from ecpds.store.db import Connection, Row, statement
from ecpds.store.gather import Last, set_last

UPSERT = statement("""
    INSERT INTO destination
        (name, config, active, acquisition, type, comment, max_pending, updated_at)
    VALUES (:name, :config, :active, :acquisition, :type, :comment, :max_pending, :now)
    ON CONFLICT (name) DO UPDATE SET
        config = excluded.config, active = excluded.active, acquisition = excluded.acquisition,
        type = excluded.type, comment = excluded.comment, max_pending = excluded.max_pending,
        version = version + 1, updated_at = excluded.updated_at""")
UNLINK = statement("DELETE FROM association WHERE destination = :name")
LINK = statement("""
    INSERT INTO association (destination, host, priority) VALUES (:name, :host, :priority)""")
UNALIAS = statement("DELETE FROM alias WHERE source = :name")
ALIAS = statement("""
    INSERT INTO alias (source, copy, rule, comment, legacy, position)
    VALUES (:name, :to, :rule, :comment, :legacy, :position)""")
ONE = statement("SELECT * FROM destination WHERE name = :name", hot=True)
ALL = statement("SELECT * FROM destination ORDER BY name")
STATES = statement("""
    SELECT name, state, state_by, state_reason, current_host, round, failures, switched_at,
        last_ok_at, last_ok_id, last_failed_at, last_failed_id, has_requeued, updated_at
    FROM destination""")
PENDING = statement(
    """
    SELECT COALESCE(SUM(files), 0) FROM transfer_count
    WHERE destination = :name AND status IN ('WAIT', 'RETR')""",
    hot=True,
)
HOSTS = statement(
    "SELECT host FROM association WHERE destination = :name ORDER BY priority, host", hot=True
)
ALIASES = statement("SELECT * FROM alias WHERE source = :name ORDER BY position, copy", hot=True)
ALIASED_FROM = statement("SELECT source FROM alias WHERE copy = :name ORDER BY source")
ALL_LINKS = statement(
    "SELECT destination, host FROM association ORDER BY destination, priority, host"
)
ALL_ALIASES = statement("SELECT * FROM alias ORDER BY source, position, copy")
DELETE = statement("DELETE FROM destination WHERE name = :name")
SET_STATE = statement("""
    UPDATE destination SET state = :state, state_by = :by, state_reason = :reason
    WHERE name = :name""")
SET_RUN = statement(
    """
    UPDATE destination SET
        current_host = :current_host, round = :round, failures = :failures,
        switched_at = :switched_at, last_ok_at = :last_ok_at, last_ok_id = :last_ok_id,
        last_failed_at = :last_failed_at, last_failed_id = :last_failed_id,
        has_requeued = :has_requeued
    WHERE name = :name""",
    hot=True,
)
SET_OK = statement(
    "UPDATE destination SET last_ok_at = :now, last_ok_id = :id WHERE name = :name", hot=True
)
LAST_OK = Last(SET_OK, "name")


def put(db: Connection, destination: Destination, *, now: datetime) -> None:
    """Create or replace the configuration; secrets in the options are sealed by the caller.

    Hosts and aliases become exactly what `destination` says.
    """
    config = plain(replace(destination, hosts=(), aliases=()))
    name = destination.name
    db.execute(
        UPSERT.sql,
        {
            "name": name,
            "config": dump(config),
            "active": destination.active,
            "acquisition": destination.acquisition,
            "type": destination.type,
            "comment": destination.comment,
            "max_pending": destination.max_pending,
            "now": to_micros(now),
        },
    )
    db.execute(UNLINK.sql, {"name": name})
    for priority, host in enumerate(destination.hosts):
        db.execute(LINK.sql, {"name": name, "host": host, "priority": priority})


def put_aliases(db: Connection, name: str, aliases: tuple[Alias, ...]) -> None:
    """Replace the aliases; apart from `put`, so that two new destinations may name each other."""
    db.execute(UNALIAS.sql, {"name": name})
    for position, alias in enumerate(aliases):
        values: dict[str, object] = {
            "name": name,
            "to": alias.to,
            "rule": alias.rule,
            "comment": alias.comment,
        }
        values |= {"legacy": alias.legacy, "position": position}
        db.execute(ALIAS.sql, values)


def _alias(row: Row) -> Alias:
    return Alias(
        to=row["copy"], rule=row["rule"], comment=row["comment"], legacy=bool(row["legacy"])
    )


def _destination(row: Row, hosts: tuple[str, ...], aliases: tuple[Alias, ...]) -> Destination:
    data: dict[str, Any] = load(row["config"])
    return replace(decode(Destination, data), hosts=hosts, aliases=aliases)


def _state(row: Row) -> DestinationState:
    return DestinationState(
        state=StoredState(row["state"]),
        state_by=row["state_by"],
        state_reason=row["state_reason"],
        current_host=row["current_host"],
        round=row["round"],
        failures=row["failures"],
        switched_at=maybe_time(row["switched_at"]),
        last_ok_at=maybe_time(row["last_ok_at"]),
        last_ok_id=row["last_ok_id"],
        last_failed_at=maybe_time(row["last_failed_at"]),
        last_failed_id=row["last_failed_id"],
        has_requeued=bool(row["has_requeued"]),
        updated_at=maybe_time(row["updated_at"]),
    )


def get(db: Connection, name: str) -> tuple[Destination, DestinationState, int] | None:
    """Return configuration, run state and version of one destination, None if there is none."""
    row = db.execute(ONE.sql, {"name": name}).fetchone()
    if row is None:
        return None
    hosts = tuple(link["host"] for link in db.execute(HOSTS.sql, {"name": name}))
    aliases = tuple(_alias(one) for one in db.execute(ALIASES.sql, {"name": name}))
    return _destination(row, hosts, aliases), _state(row), row["version"]


def state(db: Connection, name: str) -> DestinationState | None:
    """Return only the run state of one destination; the configuration is not read."""
    row = db.execute(ONE.sql, {"name": name}).fetchone()
    return _state(row) if row else None


def pending(db: Connection, name: str) -> int:
    """Return the count of live WAIT and RETR transfers, 0 for an unknown destination."""
    return int(db.execute(PENDING.sql, {"name": name}).fetchone()[0])


def states(db: Connection) -> dict[str, DestinationState]:
    """Return only the run states of all destinations; no configuration is read."""
    return {row["name"]: _state(row) for row in db.execute(STATES.sql)}


def everything(db: Connection) -> list[tuple[Destination, DestinationState]]:
    """Return all destinations with their state, by name."""
    hosts: dict[str, list[str]] = {}
    for link in db.execute(ALL_LINKS.sql):
        hosts.setdefault(link["destination"], []).append(link["host"])
    aliases: dict[str, list[Alias]] = {}
    for row in db.execute(ALL_ALIASES.sql):
        aliases.setdefault(row["source"], []).append(_alias(row))
    found = []
    for row in db.execute(ALL.sql):
        name = row["name"]
        destination = _destination(row, tuple(hosts.get(name, ())), tuple(aliases.get(name, ())))
        found.append((destination, _state(row)))
    return found


def aliased_from(db: Connection, name: str) -> list[str]:
    """Return the destinations whose files are copied to this one."""
    return [row["source"] for row in db.execute(ALIASED_FROM.sql, {"name": name})]


def delete(db: Connection, name: str) -> bool:
    """Remove a destination with its links and aliases; tell whether it was there."""
    return db.execute(DELETE.sql, {"name": name}).rowcount > 0


def set_state(
    db: Connection, name: str, state: StoredState, *, by: str = "", reason: str = ""
) -> None:
    """Store what a person or a give-up decided."""
    values = {"name": name, "state": state.value, "by": by, "reason": reason}
    db.execute(SET_STATE.sql, values)


def set_run(db: Connection, name: str, state: DestinationState) -> None:
    """Store the failover part of the run state."""
    db.execute(
        SET_RUN.sql,
        {
            "name": name,
            "current_host": state.current_host,
            "round": state.round,
            "failures": state.failures,
            "switched_at": maybe_micros(state.switched_at),
            "last_ok_at": maybe_micros(state.last_ok_at),
            "last_ok_id": state.last_ok_id,
            "last_failed_at": maybe_micros(state.last_failed_at),
            "last_failed_id": state.last_failed_id,
            "has_requeued": state.has_requeued,
        },
    )


def set_ok(db: Connection, name: str, transfer: int, *, now: datetime) -> None:
    """Store the last success; the hot path of a destination without trouble."""
    set_last(db, LAST_OK, {"name": name, "id": transfer, "now": to_micros(now)})
