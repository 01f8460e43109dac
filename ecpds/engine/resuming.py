"""What a later attempt can go on with: told, kept, and found again.

Spec: transfer-modules.md 4.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING

from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Reason, Transfer
from ecpds.store import history, transfers
from ecpds.store.db import Connection
from ecpds.transfer.contract import Partial
from ecpds.transfer.registry import Access

if TYPE_CHECKING:
    from ecpds.engine.attempt_store import Claimed


def store_reached(
    db: Connection, found: Sequence[tuple[Claimed, Partial]], *, now: datetime
) -> None:
    """Store what later attempts could go on with."""
    for claimed, partial in found:
        present = transfers.get(db, claimed.transfer.id)
        if present is not None and present.status is TransferStatus.EXEC:
            history.put_resume(db, present.id, claimed.host.name, asdict(partial), now=now)


def store_interruption(
    db: Connection, claimed: Claimed, sent: int, partial: Partial | None, now: datetime
) -> None:
    """Store that the daemon or the destination stopped in the middle: INTR, to be sent again."""
    present = transfers.get(db, claimed.transfer.id)
    if present is None or present.status is not TransferStatus.EXEC:
        return
    reason = Reason(kind="interrupted", code="interrupted", text="interrupted by a stop")
    back = replace(
        present, status=TransferStatus.RETR, reason=reason, comment=reason.text, due_at=now
    )
    transfers.save(db, back, now=now)
    if partial is not None:
        history.put_resume(db, back.id, claimed.host.name, asdict(partial), now=now)
    history.step(
        db,
        back.id,
        back.destination,
        TransferStatus.INTR,
        time=now,
        host=claimed.host.name,
        sent=sent,
        comment=reason.text,
        error=True,
        reason=reason,
    )


def token_of(transfer: Transfer, attempt: int) -> str:
    """Return what makes the written name of an attempt unique, known again after a crash."""
    return f"{transfer.id}-{attempt}"


def left_behind(claimed: Claimed, access: Access, path: str) -> Partial | None:
    """Return the remote file that an earlier attempt may have left, to go on with or remove."""
    if claimed.resume and claimed.resume.get("name"):
        return Partial(**claimed.resume)
    attempts = claimed.transfer.attempts
    naming = access.delivery.naming
    if attempts < 2 or not naming.temporary:
        return None
    name = naming.written_name(path, token_of(claimed.transfer, attempts - 1))
    return Partial(name=name, offset=0, version="")
