"""Data files: content facts, metadata values, digests, purge lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from ecpds.model.transfer import DataFile
from ecpds.store import outgoing
from ecpds.store.codec import (
    by_name,
    dump,
    from_micros,
    length,
    maybe_length,
    maybe_micros,
    maybe_time,
    to_micros,
)
from ecpds.store.db import Connection, Row, statement

INSERT = statement(
    """
    INSERT INTO data_file
        (original, source, size, arrived_at, file_time, time_base, time_step, meta_stream,
         meta_target, meta_time, meta_type, group_by, host, stored, standby, delete_original,
         caller, submitter, submitted_from, checksum, volume, object_key, instance,
         get_started_at, get_duration, remote_host)
    VALUES (:original, :source, :size, :arrived_at, :file_time, :time_base, :time_step,
        :meta_stream, :meta_target, :meta_time, :meta_type, :group_by, :host, :stored, :standby,
        :delete_original, :caller, :submitter, :submitted_from, :checksum, :volume, :object_key,
        :instance, :get_started_at, :get_duration, :remote_host)""",
    hot=True,
)
ONE = statement("SELECT * FROM data_file WHERE id = :id", hot=True)
MANY = statement(
    "SELECT * FROM data_file WHERE id IN (SELECT value FROM json_each(:ids))", hot=True
)
METADATA = statement("SELECT name, value FROM metadata_value WHERE data_file = :id", hot=True)
METADATA_MANY = statement(
    """
    SELECT data_file, name, value FROM metadata_value
    WHERE data_file IN (SELECT value FROM json_each(:ids))""",
    hot=True,
)
SET_METADATA = statement(
    """
    INSERT INTO metadata_value (data_file, name, value) VALUES (:id, :name, :value)
    ON CONFLICT (data_file, name) DO UPDATE SET value = excluded.value""",
    hot=True,
)
CLEAR_METADATA = statement("DELETE FROM metadata_value WHERE data_file = :id")
SET_CONTENT = statement(
    """
    UPDATE data_file SET
        stored = 1, size = :size, checksum = :checksum, volume = :volume,
        object_key = :object_key, get_started_at = :started, get_duration = :duration,
        remote_host = :remote_host, arrived_at = :arrived_at
    WHERE id = :id""",
    hot=True,
)
REPLACE = statement("""
    UPDATE data_file SET
        instance = COALESCE(instance, 0) + 1, stored = :stored, size = :size,
        checksum = :checksum, volume = :volume, object_key = :object_key, original = :original,
        source = :source, arrived_at = :arrived_at, file_time = :file_time,
        time_base = :time_base, time_step = :time_step, meta_stream = :meta_stream,
        meta_target = :meta_target, meta_time = :meta_time, meta_type = :meta_type,
        standby = :standby, host = :host, group_by = :group_by, submitter = :submitter,
        submitted_from = :submitted_from, caller = :caller, delete_original = :delete_original,
        retrieval_count = 0, retrieval_at = NULL, filter_name = '', filter_key = ''
    WHERE id = :id""")
OLD_OBJECT = statement("""
    INSERT INTO replaced_object (volume, object_key, replaced_at)
    SELECT volume, object_key, :now FROM data_file WHERE id = :id AND object_key != ''
    ON CONFLICT DO NOTHING""")
SET_SOURCE = statement("UPDATE data_file SET source = :source WHERE id = :id", hot=True)
NOT_COPIED = statement("UPDATE transfer SET proxy_host = '' WHERE data_file = :id")
RETRIEVAL = statement(
    """
    UPDATE data_file SET retrieval_count = :count, retrieval_at = :at WHERE id = :id""",
    hot=True,
)
SET_FILE_COUNT = statement("UPDATE data_file SET file_count = :count WHERE id = :id")
SET_GROUP = statement("UPDATE data_file SET transfer_group = :name WHERE id = :id")
SET_FILE_TIME = statement("UPDATE data_file SET file_time = :time WHERE id = :id")
MARK_UNUSED = statement("""
    UPDATE data_file SET deleted = 1
    WHERE id = :id AND deleted = 0
      AND NOT EXISTS (SELECT 1 FROM transfer WHERE data_file = :id AND deleted = 0)""")
PURGEABLE = statement(
    """
    SELECT id, volume, object_key FROM data_file WHERE deleted = 1 AND removed = 0
    ORDER BY id LIMIT :limit""",
    hot=True,
)
REMOVED = statement("""
    UPDATE data_file SET removed = 1, object_key = ''
    WHERE id IN (SELECT value FROM json_each(:ids))""")
REPLACED = statement(
    "SELECT volume, object_key FROM replaced_object ORDER BY volume, object_key LIMIT :limit"
)
FORGET_REPLACED = statement("""
    DELETE FROM replaced_object WHERE volume = :volume AND object_key = :object_key""")
OBJECTS = statement(
    """
    SELECT id, object_key, size, checksum FROM data_file WHERE object_key > :after
    AND object_key != '' AND volume = :volume ORDER BY object_key LIMIT :limit""",
)
IS_REFERRED = statement(
    "SELECT 1 FROM data_file WHERE object_key = :key AND object_key != ''", hot=True
)
IS_REPLACED = statement(
    "SELECT 1 FROM replaced_object WHERE volume = :volume AND object_key = :key"
)
DIGESTS = statement("""
    SELECT algorithm, hex FROM digest WHERE data_file = :id AND instance = :instance""")
SET_DIGEST = statement("""
    INSERT INTO digest (data_file, instance, algorithm, hex)
    VALUES (:id, :instance, :algorithm, :hex)
    ON CONFLICT (data_file, instance, algorithm) DO UPDATE SET hex = excluded.hex""")
LIST = statement("""
    SELECT * FROM data_file
    WHERE id < :before AND (:deleted IS NULL OR deleted = :deleted)
      AND (:name IS NULL OR original GLOB :name OR source GLOB :name)
      AND (:since IS NULL OR arrived_at >= :since) AND (:until IS NULL OR arrived_at < :until)
    ORDER BY id DESC LIMIT :limit""")
TOTALS = statement("""
    SELECT volume, SUM(files) AS files, SUM(bytes) AS bytes FROM stored_hour
    GROUP BY volume HAVING SUM(files) > 0""")


def _values(file: DataFile) -> dict[str, object]:
    return {
        "original": file.original,
        "source": file.source,
        "size": file.size,
        "arrived_at": to_micros(file.arrived_at),
        "file_time": maybe_micros(file.file_time),
        "time_base": maybe_micros(file.time_base),
        "time_step": file.time_step,
        "meta_stream": file.meta_stream,
        "meta_target": file.meta_target,
        "meta_time": file.meta_time,
        "meta_type": file.meta_type,
        "group_by": file.group_by,
        "host": file.host,
        "stored": file.stored,
        "standby": file.standby,
        "delete_original": file.delete_original,
        "caller": file.caller,
        "submitter": file.submitter,
        "submitted_from": file.submitted_from,
        "checksum": file.checksum,
        "volume": file.volume,
        "object_key": file.object_key,
        "instance": file.instance,
        "get_started_at": maybe_micros(file.get_started_at),
        "get_duration": length(file.get_duration),
        "remote_host": file.remote_host,
    }


def insert(db: Connection, file: DataFile, metadata: Mapping[str, str]) -> int:
    """Add a data file (its `id` is ignored) with its metadata; return the new id."""
    number = db.execute(INSERT.sql, _values(file)).lastrowid
    assert number is not None  # noqa: S101 - an INSERT that worked has one
    _set_metadata(db, number, metadata)
    return number


def _set_metadata(db: Connection, number: int, metadata: Mapping[str, str]) -> None:
    for name, value in metadata.items():
        db.execute(SET_METADATA.sql, {"id": number, "name": name, "value": value})


def set_metadata(db: Connection, number: int, metadata: Mapping[str, str]) -> None:
    """Replace the metadata values of a file."""
    db.execute(CLEAR_METADATA.sql, {"id": number})
    _set_metadata(db, number, metadata)


def replace_content(
    db: Connection, file: DataFile, metadata: Mapping[str, str], *, now: datetime
) -> None:
    """Give the file of that id new content and facts: instance + 1, the old object is let go."""
    db.execute(OLD_OBJECT.sql, {"id": file.id, "now": to_micros(now)})
    db.execute(REPLACE.sql, _values(file) | {"id": file.id})
    db.execute(NOT_COPIED.sql, {"id": file.id})
    db.execute(CLEAR_METADATA.sql, {"id": file.id})
    _set_metadata(db, file.id, metadata)


def _row(found: Row) -> DataFile:
    row = by_name(found)
    return DataFile(
        id=row["id"],
        instance=row["instance"],
        original=row["original"],
        source=row["source"],
        size=row["size"],
        arrived_at=from_micros(row["arrived_at"]),
        file_time=maybe_time(row["file_time"]),
        time_base=maybe_time(row["time_base"]),
        time_step=row["time_step"],
        meta_stream=row["meta_stream"],
        meta_target=row["meta_target"],
        meta_time=row["meta_time"],
        meta_type=row["meta_type"],
        group_by=row["group_by"],
        host=row["host"],
        stored=bool(row["stored"]),
        standby=bool(row["standby"]),
        delete_original=bool(row["delete_original"]),
        caller=row["caller"],
        submitter=row["submitter"],
        submitted_from=row["submitted_from"],
        checksum=row["checksum"],
        volume=row["volume"],
        object_key=row["object_key"],
        get_started_at=maybe_time(row["get_started_at"]),
        get_duration=maybe_length(row["get_duration"]),
        remote_host=row["remote_host"],
        retrieval_count=row["retrieval_count"],
        retrieval_at=maybe_time(row["retrieval_at"]),
        deleted=bool(row["deleted"]),
        removed=bool(row["removed"]),
        file_count=row["file_count"],
        transfer_group=row["transfer_group"],
    )


def get(db: Connection, number: int) -> DataFile | None:
    """Return one data file, None if there is none."""
    row = db.execute(ONE.sql, {"id": number}).fetchone()
    return _row(row) if row else None


def many(db: Connection, numbers: Sequence[int]) -> dict[int, DataFile]:
    """Return the data files of these ids."""
    rows = db.execute(MANY.sql, {"ids": dump(list(numbers))})
    return {row["id"]: _row(row) for row in rows}


def metadata(db: Connection, number: int) -> dict[str, str]:
    """Return the metadata values of a file."""
    return {row["name"]: row["value"] for row in db.execute(METADATA.sql, {"id": number})}


def metadata_of(db: Connection, numbers: Sequence[int]) -> dict[int, dict[str, str]]:
    """Return the metadata values of those of these files that have some."""
    found: dict[int, dict[str, str]] = {}
    for row in db.execute(METADATA_MANY.sql, {"ids": dump(list(numbers))}):
        found.setdefault(row["data_file"], {})[row["name"]] = row["value"]
    return found


def set_content(
    db: Connection,
    number: int,
    *,
    size: int,
    checksum: str,
    volume: str,
    object_key: str,
    started: datetime,
    duration: timedelta,
    remote_host: str,
    now: datetime,
) -> None:
    """Tell where retrieved content is; the object that was there before is let go."""
    db.execute(OLD_OBJECT.sql, {"id": number, "now": to_micros(now)})
    db.execute(
        SET_CONTENT.sql,
        {
            "id": number,
            "size": size,
            "checksum": checksum,
            "volume": volume,
            "object_key": object_key,
            "started": to_micros(started),
            "duration": length(duration),
            "remote_host": remote_host,
            "arrived_at": to_micros(now),
        },
    )


def set_retrieval(db: Connection, number: int, *, count: int, at: datetime | None) -> None:
    """Store the failures of retrieval so far and when the next try is due."""
    db.execute(RETRIEVAL.sql, {"id": number, "count": count, "at": maybe_micros(at)})


def set_file_count(db: Connection, number: int, count: int) -> None:
    """Tell of how many files the content consists; 0: of those that the source lists."""
    db.execute(SET_FILE_COUNT.sql, {"id": number, "count": count})


def set_source(db: Connection, number: int, source: str) -> None:
    """Let the content be fetched from somewhere else."""
    db.execute(SET_SOURCE.sql, {"id": number, "source": source})


def set_group(db: Connection, number: int, name: str) -> None:
    """Store the name of the storage group."""
    db.execute(SET_GROUP.sql, {"id": number, "name": name})


def set_file_time(db: Connection, number: int, time: datetime) -> None:
    """Store the modification time at origin."""
    db.execute(SET_FILE_TIME.sql, {"id": number, "time": to_micros(time)})


def mark_unused(db: Connection, number: int) -> bool:
    """Mark the file deleted when no live transfer needs it; tell whether that happened."""
    return db.execute(MARK_UNUSED.sql, {"id": number}).rowcount > 0


def purgeable(db: Connection, *, limit: int) -> list[tuple[int, str, str]]:
    """Return id, volume and object key of deleted files whose bytes are still there."""
    rows = db.execute(PURGEABLE.sql, {"limit": limit})
    return [(row["id"], row["volume"], row["object_key"]) for row in rows]


def mark_removed(db: Connection, numbers: Sequence[int]) -> None:
    """Tell that the bytes of these files are gone."""
    db.execute(REMOVED.sql, {"ids": dump(list(numbers))})


def replaced(db: Connection, *, limit: int) -> list[tuple[str, str]]:
    """Return volume and key of objects that a newer instance replaced."""
    rows = db.execute(REPLACED.sql, {"limit": limit})
    return [(row["volume"], row["object_key"]) for row in rows]


def forget_replaced(db: Connection, keys: Sequence[tuple[str, str]]) -> None:
    """Tell that the bytes of these replaced objects are gone."""
    for volume, key in keys:
        db.execute(FORGET_REPLACED.sql, {"volume": volume, "object_key": key})


def unknown_objects(db: Connection, volume: str, keys: Sequence[str]) -> list[str]:
    """Return those of `keys` that no data file, replaced object or compressed copy refers to."""
    return [
        key
        for key in keys
        if db.execute(IS_REFERRED.sql, {"key": key}).fetchone() is None
        and db.execute(IS_REPLACED.sql, {"key": key, "volume": volume}).fetchone() is None
        and not outgoing.is_copy(db, key)
    ]


def objects_after(
    db: Connection, volume: str, after: str, *, limit: int
) -> list[tuple[int, str, int, str]]:
    """Return id, key, size and checksum of stored objects in key order, for checks."""
    rows = db.execute(OBJECTS.sql, {"volume": volume, "after": after, "limit": limit})
    return [(row["id"], row["object_key"], row["size"], row["checksum"]) for row in rows]


def digests(db: Connection, number: int, instance: int | None) -> dict[str, str]:
    """Return the digests known of the present content, algorithm to hex."""
    values = {"id": number, "instance": instance or 0}
    return {row["algorithm"]: row["hex"] for row in db.execute(DIGESTS.sql, values)}


def set_digests(
    db: Connection, number: int, instance: int | None, found: Mapping[str, str]
) -> None:
    """Remember digests of that content."""
    for algorithm, text in found.items():
        values = {"id": number, "instance": instance or 0, "algorithm": algorithm, "hex": text}
        db.execute(SET_DIGEST.sql, values)


def page(
    db: Connection,
    *,
    limit: int,
    before: int | None = None,
    name: str | None = None,
    deleted: bool | None = False,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[DataFile]:
    """Return data files, newest first, with id below `before`; `name` is a glob."""
    values = {
        "limit": limit,
        "before": before if before is not None else 2**62,
        "name": name,
        "deleted": deleted,
        "since": maybe_micros(since),
        "until": maybe_micros(until),
    }
    return [_row(row) for row in db.execute(LIST.sql, values)]


def totals(db: Connection) -> dict[str, tuple[int, int]]:
    """Return files and bytes stored on each volume."""
    return {row["volume"]: (row["files"], row["bytes"]) for row in db.execute(TOTALS.sql)}


PARK = statement("""
    INSERT INTO parked_upload (user, destination, path, volume, temporary, size, parked_at)
    VALUES (:user, :destination, :path, :volume, :temporary, :size, :now)
    ON CONFLICT (user, destination, path) DO UPDATE SET
        volume = excluded.volume, temporary = excluded.temporary, size = excluded.size,
        parked_at = excluded.parked_at""")
PARKED = statement("""
    SELECT volume, temporary, size FROM parked_upload
    WHERE user = :user AND destination = :destination AND path = :path""")
UNPARK = statement("""
    DELETE FROM parked_upload
    WHERE user = :user AND destination = :destination AND path = :path""")
FORGET_PARKED = statement("DELETE FROM parked_upload WHERE parked_at < :before")
PARKED_NAMES = statement("""
    SELECT temporary FROM parked_upload UNION ALL SELECT temporary FROM multipart_part
    UNION ALL SELECT temporary FROM multipart_upload WHERE temporary != ''""")


def park(
    db: Connection,
    user: str,
    destination: str,
    path: str,
    *,
    volume: str,
    temporary: str,
    size: int,
    now: datetime,
) -> None:
    """Remember an upload that broke off; `temporary` is its file name below `tmp/`."""
    values: dict[str, object] = {"user": user, "destination": destination, "path": path}
    values |= {"volume": volume, "temporary": temporary, "size": size, "now": to_micros(now)}
    db.execute(PARK.sql, values)


def parked(db: Connection, user: str, destination: str, path: str) -> tuple[str, str, int] | None:
    """Return volume, temporary name and length of a parked upload, None if there is none."""
    values = {"user": user, "destination": destination, "path": path}
    row = db.execute(PARKED.sql, values).fetchone()
    return (row["volume"], row["temporary"], row["size"]) if row else None


def unpark(db: Connection, user: str, destination: str, path: str) -> None:
    """Forget a parked upload; its file is the caller's now."""
    db.execute(UNPARK.sql, {"user": user, "destination": destination, "path": path})


def forget_parked(db: Connection, *, before: datetime) -> list[str]:
    """Drop uploads parked before that time; return the names of those that stay."""
    db.execute(FORGET_PARKED.sql, {"before": to_micros(before)})
    return parked_names(db)


def parked_names(db: Connection) -> list[str]:
    """Return the temporary names of all parked uploads, and of those in parts."""
    return [row["temporary"] for row in db.execute(PARKED_NAMES.sql)]
