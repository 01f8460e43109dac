"""What is already known of many listed files, asked in one statement for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ecpds.store.codec import dump, maybe_time
from ecpds.store.db import Connection, statement

Key = tuple[str, str, str]  # destination, target, version

KNOWN = statement("""
    SELECT wanted.key AS place, transfer.data_file AS file, COUNT(*) AS transfers,
        COUNT(DISTINCT transfer.data_file) AS files, SUM(transfer.status = 'FAIL') AS failed,
        data_file.size AS size, data_file.file_time AS file_time
    FROM json_each(:keys) AS wanted
    CROSS JOIN transfer INDEXED BY transfer_key
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE transfer.key_destination = :destination
      AND transfer.key_target = json_extract(wanted.value, '$[0]')
      AND transfer.unique_name = json_extract(wanted.value, '$[1]') AND transfer.deleted = 0
    GROUP BY wanted.key""")


@dataclass(slots=True)
class KnownFile:
    """The file under one key; of several the first."""

    id: int
    size: int | None
    file_time: datetime | None
    has_failed: bool
    transfers: int


def known(db: Connection, destination: str, keys: Sequence[Key]) -> dict[Key, KnownFile]:
    """Return what the store has under each key that it has; all are of that destination.

    Keys of other destinations, which there are none of, would not be found.
    """
    values = {"destination": destination, "keys": dump([key[1:] for key in keys])}
    return {
        keys[row["place"]]: KnownFile(
            row["file"],
            None if row["size"] < 0 else row["size"],
            maybe_time(row["file_time"]),
            bool(row["failed"]),
            row["transfers"],
        )
        for row in db.execute(KNOWN.sql, values)
    }
