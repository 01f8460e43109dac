"""What sites note about their destinations beside the configuration: fields and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ecpds.model.destmeta import MetadataField
from ecpds.store.codec import dump, load
from ecpds.store.db import Connection, Row, statement

PUT_FIELD = statement("""
    INSERT INTO metadata_field
        (name, label, type, category, position, max_occurrences, active, destination_types, tooltip)
    VALUES (:name, :label, :type, :category, :position, :most, :active, :types, :tooltip)
    ON CONFLICT (name) DO UPDATE SET
        label = excluded.label, type = excluded.type, category = excluded.category,
        position = excluded.position, max_occurrences = excluded.max_occurrences,
        active = excluded.active, destination_types = excluded.destination_types,
        tooltip = excluded.tooltip""")
FIELD = statement("SELECT * FROM metadata_field WHERE name = :name")
FIELDS = statement("SELECT * FROM metadata_field ORDER BY category, position, name")
DELETE_FIELD = statement("DELETE FROM metadata_field WHERE name = :name")
VALUES = statement("""
    SELECT field, value FROM destination_metadata WHERE destination = :destination
    ORDER BY field, position""")
DROP_VALUES = statement("DELETE FROM destination_metadata WHERE destination = :destination")
ADD_VALUE = statement("""
    INSERT INTO destination_metadata (destination, field, position, value)
    VALUES (:destination, :field, :position, :value)""")
USES = statement("""
    SELECT COUNT(*) AS count FROM destination_metadata
    WHERE field = (SELECT id FROM metadata_field WHERE name = :name)""")


def _field(row: Row) -> MetadataField:
    return MetadataField(
        id=row["id"],
        name=row["name"],
        label=row["label"],
        type=row["type"],
        category=row["category"],
        tooltip=row["tooltip"],
        max_occurrences=row["max_occurrences"],
        position=row["position"],
        active=bool(row["active"]),
        destination_types=tuple(load(row["destination_types"])),
    )


def put_field(db: Connection, field: MetadataField) -> None:
    """Create or replace the definition of a field; its `id` is ignored."""
    db.execute(
        PUT_FIELD.sql,
        {
            "name": field.name,
            "label": field.label,
            "type": field.type,
            "category": field.category,
            "position": field.position,
            "most": field.max_occurrences,
            "active": field.active,
            "types": dump(list(field.destination_types)),
            "tooltip": field.tooltip,
        },
    )


def field(db: Connection, name: str) -> MetadataField | None:
    """Return the definition of a field, None if there is none."""
    row = db.execute(FIELD.sql, {"name": name}).fetchone()
    return _field(row) if row else None


def fields(db: Connection) -> list[MetadataField]:
    """Return all definitions, by category and position."""
    return [_field(row) for row in db.execute(FIELDS.sql)]


def delete_field(db: Connection, name: str) -> None:
    """Remove a field with its values."""
    db.execute(DELETE_FIELD.sql, {"name": name})


def uses(db: Connection, name: str) -> int:
    """Return how many values a field has."""
    return int(db.execute(USES.sql, {"name": name}).fetchone()["count"])


def values(db: Connection, destination: str) -> dict[int, list[Any]]:
    """Return the values of a destination by id of the field."""
    found: dict[int, list[Any]] = {}
    for row in db.execute(VALUES.sql, {"destination": destination}):
        found.setdefault(row["field"], []).append(load(row["value"]))
    return found


def set_values(db: Connection, destination: str, given: Mapping[int, Sequence[Any]]) -> None:
    """Replace all values of a destination."""
    db.execute(DROP_VALUES.sql, {"destination": destination})
    for number, several in given.items():
        for position, value in enumerate(several):
            db.execute(
                ADD_VALUE.sql,
                {
                    "destination": destination,
                    "field": number,
                    "position": position,
                    "value": dump(value),
                },
            )
