"""DataFile, Transfer, Attempt and history row: what moves, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ecpds.model.status import TransferStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a transfer is in its present status, as typed codes."""

    kind: str  # error class of the retry rules, or expired, template, stopped, …
    phase: str = ""
    code: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One stored product."""

    id: int
    instance: int | None = None  # None at first, then 1, 2… each time the content is replaced
    original: str = ""
    source: str = ""
    size: int = -1  # bytes, -1 unknown
    arrived_at: datetime
    file_time: datetime | None = None
    time_base: datetime | None = None
    time_step: int = -1
    meta_stream: str = "None"
    meta_target: str = "None"
    meta_time: str = "00"
    meta_type: str = ""
    group_by: str = ""
    host: str = ""  # acquisition or source host
    stored: bool = False
    standby: bool = False
    delete_original: bool = False
    caller: str = ""
    submitter: str = ""
    submitted_from: str = ""
    checksum: str = ""  # adler32, 8 hex digits
    volume: str = ""
    object_key: str = ""
    get_started_at: datetime | None = None
    get_duration: timedelta | None = None
    remote_host: str = ""
    retrieval_count: int = 0
    retrieval_at: datetime | None = None
    deleted: bool = False
    removed: bool = False
    transfer_group: str = ""  # storage group
    file_count: int = 1  # 0: the content is that of all files that the source lists

    @property
    def is_list(self) -> bool:
        """Tell whether the source is a list of the files that make up the content."""
        return self.file_count == 0

    @property
    def etag(self) -> str:
        """Return the entity tag of the present content, without quotes (portal.md Ex 16)."""
        return entity_tag(self.id, self.instance)


def entity_tag(file_id: int, instance: int | None) -> str:
    """Return the UUID form of file id and instance."""
    text = f"{file_id:016x}{instance or 0:016x}"  # as uuid.UUID, in a third of its time
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Request to deliver one DataFile to one Destination."""

    id: int
    destination: str
    data_file: int
    target: str
    unique_name: str = ""
    identity: str = ""
    priority: int = 99
    status: TransferStatus
    status_by: str = ""
    comment: str = ""
    reason: Reason | None = None
    scheduled_at: datetime
    queue_at: datetime
    due_at: datetime  # queue_at, or the end of a pause after a failure
    expires_at: datetime
    created_at: datetime
    start_count: int = 0
    requeue_count: int = 0
    requeue_history: int = 0
    attempts: int = 0
    started_at: datetime | None = None
    first_finish_at: datetime | None = None
    finished_at: datetime | None = None
    failed_at: datetime | None = None
    put_at: datetime | None = None
    duration: timedelta | None = None
    sent: int = 0
    host: str = ""
    asap: bool = False
    event: bool = False
    temporary: bool = False  # held because its name is a temporary one
    is_alias: bool = False
    deleted: bool = False
    size: int = -1  # of the DataFile


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One visible step of a Transfer."""

    id: int = 0
    transfer: int = 0
    destination: str = ""
    time: datetime
    status: TransferStatus
    host: str = ""
    sent: int = 0
    duration: timedelta | None = None
    comment: str = ""
    user: str = ""
    error: bool = False
    reason: Reason | None = None

    @property
    def rate(self) -> float | None:
        """Return bytes per second, None when nothing was measured."""
        if not self.sent or not self.duration:
            return None
        return self.sent / max(self.duration.total_seconds(), 1e-6)
