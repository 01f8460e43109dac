"""Objects as JSON: names of interface.md 7, times RFC 3339, lengths ISO 8601, no secrets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

from ecpds.engine.operations.destinations import DestinationView
from ecpds.engine.operations.files import FileView
from ecpds.engine.operations.hosts import HostView
from ecpds.model.account import Policy, WebUser
from ecpds.model.decode import key_of
from ecpds.model.secret import Secret
from ecpds.model.status import PENDING, TransferStatus
from ecpds.model.transfer import DataFile, HistoryRow, Reason, Transfer, entity_tag
from ecpds.model.units import iso_duration
from ecpds.store.accounts import StoredUser, StoredWebUser, Token

Document = dict[str, Any]

STARS: Final = "***"
NOT_YET: Final = frozenset({TransferStatus.INIT, TransferStatus.SCHE, TransferStatus.FETC})


def moment(value: datetime | None) -> str | None:
    """Return an RFC 3339 time with Z, None for none."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """Return a model value as JSON; a secret as stars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            key_of(item): plain(getattr(value, item.name)) for item in dataclasses.fields(value)
        }
    if isinstance(value, (datetime, timedelta, Secret, Enum)):
        return _scalar(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    return value


def _scalar(value: datetime | timedelta | Secret | Enum) -> Any:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, timedelta):
        return iso_duration(value)
    if isinstance(value, Secret):
        return STARS if value else ""
    return value.value


def etag_of(document: Any) -> str:
    """Return the quoted entity tag of a JSON document."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:24]}"'


def reason(value: Reason | None) -> Document | None:
    """Return why a transfer is where it is."""
    if value is None:
        return None
    return {"class": value.kind, "phase": value.phase, "code": value.code, "text": value.text}


def transfer(one: Transfer, now: datetime, *, restricted: bool = False) -> Document:
    """Return a transfer; `restricted` hides size and plan before its time (monitor.md 2)."""
    hidden = restricted and one.scheduled_at > now
    word = "planned" if hidden and one.status in PENDING else one.status.word
    return {
        "id": one.id,
        "destination": one.destination,
        "target": one.target,
        "status": word,
        "status_by": one.status_by or None,
        "priority": one.priority,
        "size": None if hidden or one.size < 0 else one.size,
        "sent": one.sent,
        "attempts": one.attempts,
        "requeues": one.requeue_count,
        "scheduled": moment(one.scheduled_at),
        "queue_time": moment(one.queue_at),
        "due": moment(one.due_at),
        "expires": moment(one.expires_at),
        "created": moment(one.created_at),
        "started": moment(one.started_at),
        "finished": moment(one.finished_at),
        "failed": moment(one.failed_at),
        "duration": plain(one.duration),
        "host": one.host or None,
        "data_file_id": one.data_file,
        "version": one.unique_name or None,
        "identity": one.identity,
        "standby": one.status is TransferStatus.HOLD,
        "asap": one.asap,
        "event": one.event,
        "alias": one.is_alias,
        "deleted": one.deleted,
        "expired": one.expires_at <= now,
        "reason": reason(one.reason),
        "comment": one.comment,
    }


def transfer_etag(one: Transfer) -> str:
    """Return the tag of what a person may change; progress does not change it."""
    return etag_of(
        [one.id, one.status.code, one.priority, one.target, one.deleted,
         moment(one.scheduled_at), moment(one.expires_at)]
    )  # fmt: skip


def step(row: HistoryRow) -> Document:
    """Return one row of a transfer's history."""
    return {
        "time": moment(row.time),
        "status": row.status.word,
        "host": row.host or None,
        "sent": row.sent,
        "duration": plain(row.duration),
        "rate": row.rate,
        "reason": reason(row.reason),
        "user": row.user or None,
        "error": row.error,
        "comment": row.comment,
    }


def data_file(file: DataFile, metadata: Mapping[str, str], digests: Mapping[str, str]) -> Document:
    """Return a data file; digests that nobody asked for yet are null."""
    found: Document = {
        "id": file.id,
        "name": file.original,
        "source": file.source or None,
        "size": file.size if file.size >= 0 else None,
        "checksum": file.checksum or None,
        "md5": None,
        "sha256": None,
        **digests,
        "arrived": moment(file.arrived_at),
        "file_time": moment(file.file_time),
        "time_base": moment(file.time_base),
        "time_step": file.time_step if file.time_step >= 0 else None,
        "metadata": dict(metadata),
        "etag": entity_tag(file.id, file.instance),
        "instance": file.instance,
        "stored": file.stored,
        "deleted": file.deleted,
        "group": file.group_by or None,
        "host": file.host or None,
        "submitter": file.submitter or None,
    }
    return found


def file_view(view: FileView) -> Document:
    """Return a data file with what is known about it."""
    return data_file(view.file, view.metadata, view.digests)


def destination(view: DestinationView) -> Document:
    """Return a destination with its state; secret options come masked already."""
    found: Document = plain(view.destination)
    return found | status_of(view)


def status_of(view: DestinationView) -> Document:
    """Return the state of a destination."""
    state = view.state
    return {
        "status": view.status.value,
        "light": view.light.value,
        "queued": view.queued,
        "outstanding": view.outstanding,
        "counts": {status.word: count for status, count in view.counts.items()},
        "waits_for": view.waits_for or None,
        "current_host": state.current_host or None,
        "state_by": state.state_by or None,
        "state_reason": state.state_reason or None,
        "last_done": moment(state.last_ok_at),
        "last_done_id": state.last_ok_id,
        "last_failed": moment(state.last_failed_at),
        "last_failed_id": state.last_failed_id,
    }


def host(view: HostView) -> Document:
    """Return a host with its state; secrets come masked already."""
    found: Document = plain(view.host)
    found["has_password"] = bool(view.host.password)
    return found | {
        "destinations": list(view.destinations),
        "connections": view.connections,
        "bytes": view.bytes,
        "error": view.error or None,
        "problem": view.problem or None,
        "checked": moment(view.checked_at),
        "valid": view.valid,
        "breaker": reason(view.breaker),
    }


def data_user(stored: StoredUser, options: Mapping[str, Any], keys: list[str]) -> Document:
    """Return a data user; `options` masked, `keys` the access keys of S3 without secrets."""
    found: Document = plain(stored.user) | {"options": dict(options)}
    for field in ("last_login_at", "last_login_from"):
        found[field.removesuffix("_at")] = found.pop(field) or None
    return found | {
        "password": STARS if stored.password_hash else "",
        "has_totp": bool(stored.totp_secret),
        "totp": STARS if stored.totp_secret else "",
        "s3_keys": [{"access_key": key, "secret": STARS} for key in keys],
    }


def policy(one: Policy, options: Mapping[str, Any]) -> Document:
    """Return a policy; `options` masked."""
    found: Document = plain(one)
    return found | {"options": dict(options)}


def web_user(stored: StoredWebUser) -> Document:
    """Return a web user."""
    user: WebUser = stored.user
    return {
        "name": user.name,
        "active": user.active,
        "comment": user.comment,
        "roles": plain(user.grants),
        "has_password": user.has_password,
        "password": STARS if user.has_password else "",
        "has_totp": bool(stored.totp_secret),
        "totp": STARS if stored.totp_secret else "",
        "last_login": moment(user.last_login_at),
        "last_login_from": user.last_login_from or None,
    }


def token(one: Token) -> Document:
    """Return a token without its secret."""
    return {
        "id": one.id,
        "name": one.name,
        "owner": one.owner,
        "scopes": list(one.scopes),
        "objects": list(one.objects),
        "networks": list(one.networks),
        "expires": moment(one.expires_at),
        "last_used": moment(one.last_used_at),
        "last_address": one.last_address or None,
    }
