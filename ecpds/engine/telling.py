"""Makes event records (events.md section 5) and adds them in the transaction of the change.

The record is the JSON form; the classic line is rendered from it by `model.events`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ecpds.engine.core import DestinationEntry
from ecpds.model.transfer import DataFile, Reason, Transfer
from ecpds.store import history
from ecpds.store.db import Connection
from ecpds.transfer.contract import Delivered

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_uid(now: datetime) -> str:
    """Return a unique id that sorts by time (ULID: 48 bits of milliseconds, 80 random bits)."""
    random_part = random.getrandbits(80)  # unique, not secret; urandom is a system call
    number = (int(now.timestamp() * 1000) << 80) | random_part
    digits = []
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def stamp(time: datetime | None) -> str | None:
    """Return RFC 3339 UTC with milliseconds."""
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def millis(length: timedelta | None) -> int | None:
    """Return whole milliseconds."""
    return None if length is None else length // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Adds events of one node."""

    node: str

    def record(self, kind: str, now: datetime, **fields: Any) -> dict[str, Any]:
        """Return the fields that every event has, and `fields`."""
        head = {"v": 1, "id": new_uid(now), "ts": stamp(now), "type": kind, "node": self.node}
        return head | fields

    def tell(self, db: Connection, record: dict[str, Any], *, now: datetime) -> None:
        """Add a record."""
        history.add_event(db, record["id"], record["type"], record, time=now)

    def about(
        self, transfer: Transfer, file: DataFile, entry: DestinationEntry | None
    ) -> dict[str, Any]:
        """Return the fields of an event about a transfer."""
        destination = entry.destination if entry else None
        return {
            "transfer_id": transfer.id,
            "file_id": file.id,
            "destination": {
                "name": transfer.destination,
                "type": destination.type if destination else "Unknown",
                "monitored": destination.monitor if destination else False,
                "country": (destination.country or None) if destination else None,
            },
            "file": {
                "name": transfer.target,
                "size": file.size,
                "identity": transfer.identity,
                "checksum": f"adler32:{file.checksum}" if file.checksum else None,
                "source": file.source or file.original,
            },
            "meta": {
                "stream": file.meta_stream if file.meta_stream != "None" else None,
                "type": file.meta_type or None,
                "time": file.meta_time,
                "base": stamp(file.time_base),
                "step": file.time_step,
            },
            "scheduled": stamp(transfer.scheduled_at),
            "queued": stamp(transfer.queue_at),
            "expires": stamp(transfer.expires_at),
            "priority": transfer.priority,
            "requeues": transfer.requeue_history,
            "asap": transfer.asap,
            "caller": file.caller or None,
            "volume": file.volume,
        }

    def delivered(
        self,
        db: Connection,
        transfer: Transfer,
        file: DataFile,
        entry: DestinationEntry,
        *,
        protocol: str,
        address: str,
        network: str,
        close: timedelta,
        now: datetime,
        delivered: Delivered | None = None,
    ) -> None:
        """UPH: a transfer reached a remote host."""
        fields = self.about(transfer, file, entry) | {
            "net": {
                "protocol": protocol,
                "remote": address,
                "server": self.node,
                "network": network,
            },
            "started": stamp(transfer.started_at),
            "put": stamp(transfer.put_at),
            "finished": stamp(now),
            "retrieved": stamp(file.get_started_at),
            "duration_ms": millis(transfer.duration) or 0,
            "close_ms": millis(close),
            "bytes": transfer.sent,
            "status": "DONE",
            "outcome": "ok",
        }
        if delivered is not None and delivered.filters:
            fields["compression"] = {
                "name": delivered.filters,
                "on_the_fly": delivered.on_the_fly,
            }
        if delivered is not None and delivered.via:
            fields["proxy"] = {"host": delivered.via, "used": True}
        if delivered is not None and delivered.statistics:
            fields["tcp"] = dict(delivered.statistics)
        self.tell(db, self.record("UPH", now, **fields), now=now)

    def failed(
        self,
        db: Connection,
        transfer: Transfer,
        file: DataFile,
        entry: DestinationEntry | None,
        reason: Reason,
        *,
        protocol: str,
        address: str,
        network: str,
        login: str,
        started_at: datetime,
        now: datetime,
    ) -> None:
        """ERR: an attempt failed or was stopped."""
        error = {"code": reason.code, "class": reason.kind, "phase": reason.phase}
        fields = self.about(transfer, file, entry) | {
            "user": {"id": login or None, "kind": "remote"},
            "net": {
                "protocol": protocol,
                "remote": address,
                "server": self.node,
                "network": network,
            },
            "started": stamp(started_at),
            "duration_ms": millis(now - started_at),
            "bytes": transfer.sent,
            "status": transfer.status.code,
            "outcome": "failed",
            "error": error | {"message": reason.text, "retryable": transfer.status.code == "RETR"},
        }
        self.tell(db, self.record("ERR", now, **fields), now=now)

    def retrieved(
        self,
        db: Connection,
        transfer: Transfer,
        file: DataFile,
        entry: DestinationEntry | None,
        *,
        host_id: int,
        login: str,
        address: str,
        protocol: str,
        member: str,
        duration: timedelta,
        reason: Reason | None,
        started_at: datetime,
        now: datetime,
        tcp: Mapping[str, int] | None = None,
    ) -> None:
        """RET: content was fetched, or a try failed."""
        fields = self.about(transfer, file, entry) | {
            "host": {"id": host_id, "login": login or None},
            "net": {
                "protocol": protocol,
                "remote": address,
                "server": self.node,
                "member": member or None,
                "client": file.submitted_from or None,
            },
            "user": {"id": file.submitter or None, "kind": "source"},
            "started": stamp(started_at),
            "duration_ms": millis(duration),
            "data_ms": millis(duration),
            "bytes": max(file.size, 0),
            "standby": transfer.status.code == "HOLD",
            "outcome": "failed" if reason else "ok",
        }
        if tcp:
            fields["tcp"] = dict(tcp)
        if reason:
            fields["error"] = {"code": reason.code, "message": reason.text, "retryable": True}
        self.tell(db, self.record("RET", now, **fields), now=now)

    def incoming(
        self,
        db: Connection,
        transfer: Transfer,
        file: DataFile,
        entry: DestinationEntry | None,
        *,
        action: str,
        user: str,
        description: str,
        country: str,
        kind: str,
        protocol: str,
        client: str,
        sent: int,
        offset: int,
        error: Reason | None,
        started_at: datetime,
        now: datetime,
        trace: str = "",
    ) -> None:
        """INH: an upload or download through a portal, the API or the command line."""
        fields = self.about(transfer, file, entry) | {
            "user": {
                "id": user,
                "kind": kind,
                "description": description or None,
                "subscriber": None,
                "country": country or None,
            },
            "net": {"protocol": protocol, "client": client, "server": self.node, "tls": None},
            "action": action,
            "started": stamp(started_at),
            "duration_ms": millis(now - started_at),
            "bytes": sent,
            "offset": offset,
            "outcome": "failed" if error else "ok",
            "trace": trace,
        }
        if error:
            fields["error"] = {"code": error.code, "message": error.text, "retryable": True}
        self.tell(db, self.record("INH", now, **fields), now=now)

    def denied(
        self, db: Connection, *, user: str, message: str, protocol: str, peer: str, now: datetime
    ) -> None:
        """DEA: a login or an operation was refused."""
        context = f"Using {protocol} on DataMover={self.node} from {user}@{peer}"
        record = self.record(
            "DEA",
            now,
            user={"id": user, "kind": "data"},
            net={"protocol": protocol, "client": peer, "server": self.node},
            context=context,
            outcome="denied",
            error={"code": "denied", "message": message, "retryable": False},
        )
        self.tell(db, record, now=now)

    def denied_command(
        self, db: Connection, *, user: str, message: str, peer: str, now: datetime
    ) -> None:
        """DEA: a credential of the API or the command line was refused."""
        self.plain(
            db,
            "DEA",
            now=now,
            user={"id": user, "kind": "web"},
            net={"protocol": "ecpds", "client": peer, "server": self.node},
            context=f"From the ecpds command at {peer}",
            outcome="denied",
            error={"code": "denied", "message": message, "retryable": False},
        )

    def plain(self, db: Connection, kind: str, *, now: datetime, **fields: Any) -> None:
        """LOG, ADM, DEL, EXP, PUB, QTA, SYS: events of the JSON form only."""
        self.tell(db, self.record(kind, now, **fields), now=now)
