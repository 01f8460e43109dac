"""Uploads in parts, and what S3 clients keep with objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ecpds.store.codec import dump, from_micros, to_micros
from ecpds.store.db import Connection, Row, statement

ATTRIBUTES = statement(
    "SELECT document FROM object_attribute WHERE data_file = :file AND instance = :instance",
    hot=True,
)
SET_ATTRIBUTES = statement(
    """
    INSERT INTO object_attribute (data_file, instance, document)
    VALUES (:file, :instance, :document)
    ON CONFLICT (data_file) DO UPDATE SET
        instance = excluded.instance, document = excluded.document""",
    hot=True,
)
CREATE = statement("""
    INSERT INTO multipart_upload (id, user, destination, path, document, created_at)
    VALUES (:id, :user, :destination, :path, :document, :now)""")
UPLOAD = statement("SELECT * FROM multipart_upload WHERE id = :id", hot=True)
OPEN_UPLOADS = statement("""
    SELECT COUNT(*) AS found FROM multipart_upload WHERE user = :user AND etag IS NULL""")
UPLOADS = statement("""
    SELECT * FROM multipart_upload
    WHERE user = :user AND destination = :destination AND etag IS NULL
      AND path >= :low AND path < :high AND (path, id) > (:after, :after_id)
    ORDER BY path, id LIMIT :limit""")
SET_BASE = statement("""
    UPDATE multipart_upload SET volume = :volume, temporary = :temporary, stride = :stride
    WHERE id = :id AND etag IS NULL""")
FINISH = statement("""
    UPDATE multipart_upload SET etag = :etag, temporary = '', volume = '' WHERE id = :id""")
DROP = statement("DELETE FROM multipart_upload WHERE id = :id")
OLD = statement("SELECT id FROM multipart_upload WHERE created_at < :before LIMIT :limit")
PUT_PART = statement(
    """
    INSERT INTO multipart_part
        (upload, number, volume, temporary, place, size, adler, md5, checksums, stored_at)
    VALUES (:upload, :number, :volume, :temporary, :place, :size, :adler, :md5, :checksums, :now)
    ON CONFLICT (upload, number) DO UPDATE SET
        volume = excluded.volume, temporary = excluded.temporary, place = excluded.place,
        size = excluded.size, adler = excluded.adler, md5 = excluded.md5,
        checksums = excluded.checksums, stored_at = excluded.stored_at""",
    hot=True,
)
PART = statement("SELECT * FROM multipart_part WHERE upload = :upload AND number = :number")
PARTS = statement("""
    SELECT * FROM multipart_part WHERE upload = :upload AND number > :after
    ORDER BY number LIMIT :limit""")
STORED = statement("""
    SELECT COALESCE(SUM(size), 0) AS bytes FROM multipart_part
    WHERE upload = :upload AND number != :number""")
DROP_PARTS = statement("DELETE FROM multipart_part WHERE upload = :upload")
FILES = statement("""
    SELECT volume, temporary FROM multipart_part WHERE upload = :upload
    UNION SELECT volume, temporary FROM multipart_upload WHERE id = :upload AND temporary != ''""")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUpload:
    """An upload in parts; `etag` is set once the object exists."""

    id: str
    user: str
    destination: str
    path: str
    document: str
    volume: str
    temporary: str
    stride: int
    created_at: datetime
    etag: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPart:
    """One part: where its bytes are and what they are."""

    number: int
    volume: str
    temporary: str
    place: int
    size: int
    adler: int
    md5: str
    checksums: Mapping[str, str] = field(default_factory=dict)
    stored_at: datetime


def attributes(db: Connection, file: int, instance: int | None) -> str:
    """Return the document kept with that content, empty if there is none."""
    row = db.execute(ATTRIBUTES.sql, {"file": file, "instance": instance or 0}).fetchone()
    return str(row["document"]) if row else ""


def set_attributes(db: Connection, file: int, instance: int | None, document: str) -> None:
    """Keep a document with that content."""
    values = {"file": file, "instance": instance or 0, "document": document}
    db.execute(SET_ATTRIBUTES.sql, values)


def _upload(row: Row) -> StoredUpload:
    return StoredUpload(
        id=row["id"],
        user=row["user"],
        destination=row["destination"],
        path=row["path"],
        document=row["document"],
        volume=row["volume"],
        temporary=row["temporary"],
        stride=row["stride"],
        created_at=from_micros(row["created_at"]),
        etag=row["etag"],
    )


def _part(row: Row) -> StoredPart:
    return StoredPart(
        number=row["number"],
        volume=row["volume"],
        temporary=row["temporary"],
        place=row["place"],
        size=row["size"],
        adler=row["adler"],
        md5=row["md5"],
        checksums=json.loads(row["checksums"]),
        stored_at=from_micros(row["stored_at"]),
    )


def create(
    db: Connection,
    number: str,
    *,
    user: str,
    destination: str,
    path: str,
    document: str,
    now: datetime,
) -> None:
    """Begin an upload."""
    values = {"id": number, "user": user, "destination": destination, "path": path}
    db.execute(CREATE.sql, values | {"document": document, "now": to_micros(now)})


def upload(db: Connection, number: str) -> StoredUpload | None:
    """Return an upload, finished ones too."""
    row = db.execute(UPLOAD.sql, {"id": number}).fetchone()
    return _upload(row) if row else None


def open_uploads(db: Connection, user: str) -> int:
    """Return how many unfinished uploads a user has."""
    return int(db.execute(OPEN_UPLOADS.sql, {"user": user}).fetchone()["found"])


def uploads(
    db: Connection,
    user: str,
    destination: str,
    *,
    low: str,
    high: str,
    after: tuple[str, str],
    limit: int,
) -> list[StoredUpload]:
    """Return unfinished uploads by path and id, behind `after`."""
    values: dict[str, object] = {"user": user, "destination": destination, "low": low}
    values |= {"high": high, "after": after[0], "after_id": after[1], "limit": limit}
    return [_upload(row) for row in db.execute(UPLOADS.sql, values)]


def set_base(db: Connection, number: str, volume: str, temporary: str, stride: int) -> None:
    """Tell in which file parts of that length lie one behind the other."""
    values = {"id": number, "volume": volume, "temporary": temporary, "stride": stride}
    db.execute(SET_BASE.sql, values)


def put_part(db: Connection, upload: str, part: StoredPart) -> StoredPart | None:
    """Add a part, or replace one; return the one that was there."""
    before = part_of(db, upload, part.number)
    values = {
        "upload": upload,
        "number": part.number,
        "volume": part.volume,
        "temporary": part.temporary,
        "place": part.place,
        "size": part.size,
        "adler": part.adler,
        "md5": part.md5,
        "checksums": dump(dict(part.checksums)),
        "now": to_micros(part.stored_at),
    }
    db.execute(PUT_PART.sql, values)
    return before


def part_of(db: Connection, upload: str, number: int) -> StoredPart | None:
    """Return one part."""
    row = db.execute(PART.sql, {"upload": upload, "number": number}).fetchone()
    return _part(row) if row else None


def parts(db: Connection, upload: str, *, after: int = 0, limit: int = 10_000) -> list[StoredPart]:
    """Return the parts by number, behind `after`."""
    values = {"upload": upload, "after": after, "limit": limit}
    return [_part(row) for row in db.execute(PARTS.sql, values)]


def stored_bytes(db: Connection, upload: str, *, beside: int) -> int:
    """Return the bytes of all parts but the one of that number."""
    values = {"upload": upload, "number": beside}
    return int(db.execute(STORED.sql, values).fetchone()["bytes"])


def _files(db: Connection, upload: str) -> list[tuple[str, str]]:
    rows = db.execute(FILES.sql, {"upload": upload})
    return [(row["volume"], row["temporary"]) for row in rows]


def finish(db: Connection, upload: str, etag: str) -> list[tuple[str, str]]:
    """Tell that the object exists; return volume and name of the files that nobody needs now."""
    gone = _files(db, upload)
    db.execute(DROP_PARTS.sql, {"upload": upload})
    db.execute(FINISH.sql, {"id": upload, "etag": etag})
    return gone


def drop(db: Connection, upload: str) -> list[tuple[str, str]]:
    """Forget an upload; return volume and name of its files."""
    gone = _files(db, upload)
    db.execute(DROP.sql, {"id": upload})
    return gone


def drop_old(db: Connection, *, before: datetime, limit: int) -> list[tuple[str, str]]:
    """Forget uploads that began before that time; return volume and name of their files."""
    rows = db.execute(OLD.sql, {"before": to_micros(before), "limit": limit}).fetchall()
    gone: Sequence[tuple[str, str]] = []
    for row in rows:
        gone = [*gone, *drop(db, row["id"])]
    return list(gone)
