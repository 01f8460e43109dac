"""A Destination: the queue for one remote place or bucket, and its transfer policy.

The fields are the keys of a site file; defaults are those of entities.md section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from ecpds.model.decode import opt
from ecpds.model.names import ByteCount
from ecpds.model.status import StoredState


class OnHostFailure(StrEnum):
    """What happens after a failover."""

    STAY = "stay"
    REVERT = "revert"


class IfTargetExist(StrEnum):
    """What a delivery does with a remote file of the same name."""

    OVERWRITE = "overwrite"
    RESUME = "resume"


class KeepInSpool(StrEnum):
    """When a transfer is marked deleted."""

    EXPIRATION = "expiration"
    SUCCESS = "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """Whatever enters the Destination that has this is also queued in `to`, if `rule` agrees."""

    to: str = opt("", "Destination that gets the copy.")
    rule: str = opt("", "Settings such as pattern=.*\\.grib2,priority=80; empty copies all.")
    comment: str = opt("", "Free text.")
    legacy: bool = opt(False, "The rule was imported and keeps its old meaning.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Configuration of one Destination."""

    name: str = opt("", "Key of the destination, cannot be changed.")
    type: str = opt("dissemination", "Group shown to operators; no effect on behaviour.")
    active: bool = opt(True, "Off: no dissemination and no acquisition, submissions are accepted.")
    comment: str = opt("", "Free text.")
    country: str = opt("", "ISO code of the country.")
    user_mail: str = opt("", "Addresses for notices, separated by ;.")
    acquisition: bool = opt(False, "Run the acquisition hosts.")
    max_connections: int = opt(1, "Parallel transfers; below 0 unlimited.", low=-1, high=10000)
    on_host_failure: OnHostFailure = opt(OnHostFailure.STAY, "After a failover.")
    retry_count: int = opt(-1, "Rounds over the hosts before giving up; -1 for ever.", low=-1)
    retry_frequency: timedelta = opt(timedelta(seconds=30), "Pause after a full round.", low=0)
    reset_frequency: timedelta = opt(
        timedelta(minutes=20), "Back to the first host this long after a switch; 0 never.", low=0
    )
    max_start: int = opt(2, "Attempts of one transfer before it is delayed; 0 unlimited.", low=0)
    start_frequency: timedelta = opt(timedelta(minutes=10), "That delay.", low=0)
    max_requeue: int = opt(-1, "Delays before a transfer fails; 0 or less unlimited.", low=-1)
    max_pending: int = opt(8000, "Most queued transfers accepted; 0 unlimited.", low=0)
    max_file_size: ByteCount | None = opt(None, "Largest file accepted.")
    max_inactivity: timedelta = opt(timedelta(0), "Red light without success for so long.", low=0)
    if_target_exist: IfTargetExist = opt(IfTargetExist.OVERWRITE, "overwrite or resume.")
    keep_in_spool: KeepInSpool = opt(KeepInSpool.EXPIRATION, "Delete on expiration or success.")
    mail_on_update: bool = opt(False, "Mail at each change by a person.")
    mail_on_start: bool = opt(False, "Mail when a transfer starts.")
    mail_on_end: bool = opt(False, "Mail when a transfer is done.")
    mail_on_error: bool = opt(False, "Mail when a transfer fails.")
    stop_if_dirty: bool = opt(False, "Restart the worker after a change of configuration.")
    monitor: bool = opt(True, "Show in the overview and keep statistics.")
    backup: bool = opt(False, "Copy files to the backup host of the group.")
    force_proxy: bool = opt(False, "Wait for the copy at an active proxy host.")
    filter_name: str = opt(
        "none", "Pre-compression: none lzma zip gzip bzip2 lbzip2 lz4 snappy zstd."
    )
    source_host: str = opt("", "Host from which missing content is fetched.")
    group_by_date: bool = opt(False, "Portal shows one directory per product date.")
    date_format: str = opt("yyyyMMdd", "Date pattern of these directories.")
    transfer_group: str = opt("", "Storage group of new files.")
    hosts: tuple[str, ...] = opt((), "Names of the hosts, in the order of their priority.")
    aliases: tuple[Alias, ...] = opt((), "Copies to other destinations.")
    options: dict[str, Any] = opt(dict, "Options such as scheduler.delay, by full key.")
    script: str = opt(
        "", "Script behind the options: gives payload and topic of what is published."
    )
    legacy: tuple[str, ...] = opt(
        (), "Options whose text was imported and keeps its old meaning: scheduler.force …"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationState:
    """What is stored of a Destination's run."""

    state: StoredState = StoredState.WAIT
    state_by: str = ""
    state_reason: str = ""
    current_host: str = ""
    round: int = 1
    failures: int = 0
    switched_at: datetime | None = None
    last_ok_at: datetime | None = None
    last_ok_id: int | None = None
    last_failed_at: datetime | None = None
    last_failed_id: int | None = None
    has_requeued: bool = False
    updated_at: datetime | None = None
