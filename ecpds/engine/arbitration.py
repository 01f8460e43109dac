"""Holds back claimed transfers that another file of the same name beats (`scheduler.requeueon`).

Runs inside the transaction of the claim, so that nobody ever sees the loser being sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from ecpds.model.arbitration import Arbiter
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Reason, Transfer
from ecpds.store import history, queueing, transfers
from ecpds.store.db import Connection


def arbitrated(
    db: Connection, arbiter: Arbiter, claimed: Sequence[Transfer], *, now: datetime
) -> list[Transfer]:
    """Return those of the claimed that are sent; the others are on hold afterwards.

    A transfer that a person requeued is always sent.
    """
    return [one for one in claimed if _is_sent(db, arbiter, one, now)]


def _is_sent(db: Connection, arbiter: Arbiter, one: Transfer, now: datetime) -> bool:
    if one.status_by or not arbiter.concerns(one.target):
        return True
    same = queueing.rivals(db, one.destination, one.target)
    if len(same) < 2:
        return True
    current = next((rival for rival in same if rival.id == one.id), None)
    if current is None:
        return True
    verdict = arbiter.judge(
        current,
        [rival for rival in same if rival.id != one.id],
        destination=one.destination,
        target=one.target,
        is_retry=one.attempts > 1,
    )
    if not verdict.is_sent:
        text = f"transfer {verdict.by} is {verdict.why}"
        reason = Reason(kind="duplicate", code="duplicate", text=text)
        held = replace(
            one,
            status=TransferStatus.HOLD,
            start_count=max(one.start_count - 1, 0),
            attempts=max(one.attempts - 1, 0),
            started_at=one.started_at if one.attempts > 1 else None,
            reason=reason,
            comment=text,
        )
        transfers.save(db, held, now=now)
        history.step(
            db, one.id, one.destination, held.status, time=now, comment=text, reason=reason
        )
    return verdict.is_sent
