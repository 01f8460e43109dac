"""What the store says of content that is gone although nobody deleted it."""

from __future__ import annotations

from ecpds.model.transfer import Reason
from ecpds.store.codec import dump_reason
from ecpds.store.db import Connection, statement

OPEN_ONES = statement("""
    SELECT id, destination, host FROM transfer
    WHERE data_file = :id AND deleted = 0 AND status IN ('HOLD', 'WAIT', 'RETR', 'EXEC', 'INTR')""")
FAIL = statement("""
    UPDATE transfer SET status = 'FAIL', comment = :text, reason = :reason, failed_at = :now,
        changed_at = :now WHERE id = :id""")
STEP = statement("""
    INSERT INTO transfer_history (transfer, destination, time, status, host, comment, error)
    VALUES (:id, :destination, :now, 'FAIL', :host, :text, 1)""")
GONE = statement("""
    UPDATE data_file SET stored = 0, volume = '', object_key = '' WHERE id = :id""")


def lose(db: Connection, file: int, text: str, *, now: int) -> list[int]:
    """Mark the content of a file as lost; return its transfers that fail by that.

    The next discovery fetches an acquired file again, as after a failed retrieval.  `now` in
    microseconds.
    """
    reason = dump_reason(Reason(kind="lost", text=text))
    failed = db.execute(OPEN_ONES.sql, {"id": file}).fetchall()
    for row in failed:
        about = {"id": row["id"], "text": text, "now": now}
        db.execute(FAIL.sql, about | {"reason": reason})
        step = about | {"destination": row["destination"], "host": row["host"]}
        db.execute(STEP.sql, step)
    db.execute(GONE.sql, {"id": file})
    return [row["id"] for row in failed]
