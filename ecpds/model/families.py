"""Option families of destinations and portal users: `scheduler.`, `incoming.`, `mqtt.`, `portal.`.

Host families (`ectrans.`, `upload.`, `retrieval.` and those of each module) live beside the code
that uses them; `acquisition.` lives with the directory language.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

from ecpds.model.decode import opt
from ecpds.model.names import ByteCount, ByteRate
from ecpds.model.options import OptionFamily

TMP_PATTERN = r"(?:.*/)?(\.[^/]+|[^/]+(?i:\.tmp))"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOptions(OptionFamily):
    """Options of the `scheduler` family (schedulers.md section 6)."""

    prefix: ClassVar[str] = "scheduler"
    scopes: ClassVar[frozenset[str]] = frozenset({"destination"})

    active_time_range: str = opt("", "HH:mm-HH:mm list; no start outside.", key="activeTimeRange")
    time_zone: str = opt(
        "", "Zone of activeTimeRange, such as Europe/Paris; empty: node.timezone.", key="timeZone"
    )
    ageing: timedelta | None = opt(
        None, "A due transfer gains one priority after each so long; none: never.", low=1
    )
    recover: bool = opt(
        True, "After giving up, go on by itself when a host answers again; no: wait for a start."
    )
    standby: Literal["", "yes", "no", "never"] = opt("", "yes: queued becomes StandBy; never: not.")
    lifetime: timedelta | None = opt(None, "Replaces the submitted lifetime.")
    delay: timedelta | None = opt(None, "Added to start and expiry.")
    asap: bool | None = opt(None, "Replaces the flag.")
    no_retrieval: bool | None = opt(None, "Replaces the flag.", key="noRetrieval")
    transfer_group: str = opt("", "Storage group of new files.", key="transfergroup")
    version: str = opt("", "Template of the version in the unique key.")
    date_format: str = opt("yyyyMMdd", "Pattern of $date.", key="dateformat")
    force: str = opt("", "Rules that set values file by file.")
    requeue_on: str = opt("", "Expression that arbitrates duplicates.", key="requeueon")
    requeue_pattern: str = opt(".*", "Targets it applies to.", key="requeuepattern")
    requeue_ignore: str = opt("", "Targets it does not apply to.", key="requeueignore")
    reset_queue_on_change: bool = opt(
        True, "Fetched files are looked at at once; no: with the next look, within a minute.",
        key="resetQueueOnChange",
    )  # fmt: skip
    force_stop: bool = opt(
        False, "What comes while the destination is stopped is stopped too.", key="forceStop"
    )
    legacy_pause: bool = opt(
        False, "One failing file pauses the whole destination.", key="legacyPause"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingOptions(OptionFamily):
    """Options of the `incoming` family (portal.md section 4.2)."""

    prefix: ClassVar[str] = "incoming"
    scopes: ClassVar[frozenset[str]] = frozenset({"destination"})

    standby: bool = opt(False, "Uploads are held.")
    event: bool = opt(False, "Announce uploads and downloads.")
    fail_on_metadata: bool = opt(
        False, "Refuse an upload whose metadata fail.", key="failOnMetadataParsingError"
    )
    tmp_detect: bool = opt(False, "Hold files with a temporary name.", key="tmpDetect")
    tmp_pattern: str = opt(TMP_PATTERN, "Regex of temporary names.", key="tmpPattern")
    priority: int = opt(99, "0 first … 99 last.", low=0, high=99)
    delay: timedelta = opt(timedelta(0), "Added to the start.")
    lifetime: timedelta = opt(timedelta(days=2), "From start to expiry.", low=1)
    version: str = opt("", "Template of the version in the unique key.")
    metadata: str = opt("", "Template or rules of metadata.")
    rootdir: str = opt("", "Name of the top directory.")
    date_format: str = opt("yyyyMMdd", "Pattern of $date.", key="dateformat")
    sort: Literal["", "size", "target", "name", "time"] = opt("", "Listing order.")
    order: Literal["", "asc", "desc"] = opt("", "Listing direction.")
    max_rate_in: ByteRate | None = opt(None, "Download cap.", key="maxBytesPerSecForInput")
    max_rate_out: ByteRate | None = opt(None, "Upload cap.", key="maxBytesPerSecForOutput")
    max_upload: ByteCount = opt(ByteCount(0), "Upload quota.", key="maxUploadBytes")
    upload_period: timedelta | None = opt(None, "Its period.", key="uploadPeriod")
    max_download: ByteCount = opt(ByteCount(0), "Download quota.", key="maxDownloadBytes")
    download_period: timedelta | None = opt(None, "Its period.", key="downloadPeriod")
    delete_cascade: bool = opt(
        False, "A delete also removes the copies in other destinations.", key="deleteCascade"
    )
    s3_bucket: str = opt("", "Bucket name when the destination's is not valid.", key="s3Bucket")


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttOptions(OptionFamily):
    """Options of the `mqtt` family of a destination (notifications.md section 3)."""

    prefix: ClassVar[str] = "mqtt"
    scopes: ClassVar[frozenset[str]] = frozenset({"destination"})

    publish: bool = opt(False, "Publish a message for each event.")
    topic: str = opt("", "Topic; ends with / to have the name appended.")
    template: Literal["default", "wis2", "none"] = opt("default", "Payload.")
    payload: str = opt("", "Payload template (Jinja2), instead of `template`.")
    events: tuple[Literal["available", "delivered", "updated", "deleted"], ...] = opt(
        (), "What is published; none: delivered, or available where nothing is delivered to."
    )
    require_event: bool = opt(False, "Only transfers with the event flag.", key="requireEvent")
    qos: int = opt(1, "0, 1 or 2.", low=0, high=2)
    retain: bool = opt(False, "Keep the last message.")
    expiry_interval: timedelta | None = opt(None, "Message expiry.", key="expiryInterval")
    content_type: str = opt(
        "", "Content type; empty: application/json, of own payloads text/plain.", key="contentType"
    )
    client_id: str = opt("", "Only to this client.", key="clientId")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalOptions(OptionFamily):
    """Options of the `portal` family of a data user or policy (portal.md section 4.1)."""

    prefix: ClassVar[str] = "portal"
    scopes: ClassVar[frozenset[str]] = frozenset({"user", "policy"})

    access_guide: bool = opt(True, "Show the access guide.", key="accessGuide")
    login_button: bool = opt(True, "Show the login button.", key="loginButton")
    traffic_stats: bool = opt(True, "Show the traffic panel.", key="trafficStats")
    color: str = opt("", "Accent colour.")
    title: str = opt("", "Page title.")
    tab: str = opt("", "Browser tab.")
    footer: str = opt("", "Text at the end.")
    warning: str = opt("", "Warning on top.")
    msg_top: str = opt("", "Message above the listing.", key="msgTop")
    msg_down: str = opt("", "Message below the listing.", key="msgDown")
    welcome: str = opt("", "Text after login.")
    simple_list: bool = opt(False, "Plain names.", key="simpleList")
    sort: Literal["", "size", "target", "name", "time"] = opt("", "Listing order.")
    order: Literal["", "asc", "desc"] = opt("", "Listing direction.")
    list_time: Literal["arrival", "scheduled", "product", "source"] = opt(
        "arrival", "Time shown of a file.", key="listTime"
    )
    destination: str = opt("", "Destination shown as the root.")
    domain: str = opt("", "Domain shown as the root.")
    geoblocking: str = opt("", "Places that may log in.")
    geodeny: str = opt("", "Places that may not.")
    geo_private: Literal["allow", "deny"] = opt("allow", "Private addresses.", key="geoPrivate")
    exclude_protocols: str = opt(
        "", "Protocols refused: ftp sftp scp https webdav s3 mqtts; sftp means scp too.",
        key="excludeProtocols",
    )  # fmt: skip
    rename_replace: bool = opt(
        False, "Renames by FTP and SFTP replace what is there, as rclone and many feeds want it.",
        key="renameReplace",
    )  # fmt: skip
    ssh_auth: Literal["any", "both"] = opt(
        "any", "What SFTP and SCP ask for: a key or a password, or the one and then the other.",
        key="sshAuth",
    )  # fmt: skip
    links: Literal["both", "share", "request", "none"] = opt(
        "both", "Links that the user may give to others: to read, to upload."
    )
    link_lifetime: timedelta = opt(
        timedelta(days=30), "Longest life of a link.", key="linkLifetime", low=60
    )
    path_permissions: str = opt(
        "", "Operations by path, the longest prefix wins: `/MET/in: put,mkdir; /MET: dir,get`.",
        key="pathPermissions",
    )  # fmt: skip
    max_connections: int = opt(10, "At a time, 0 unlimited.", key="maxConnections", low=0)
    max_connections_schedule: str = opt(
        "", "HH:MM-HH:MM=N list, UTC.", key="maxConnectionsSchedule"
    )
    max_upload: ByteCount = opt(ByteCount(0), "Upload quota.", key="maxUploadBytes")
    upload_period: timedelta | None = opt(None, "Its period.", key="uploadPeriod")
    max_download: ByteCount = opt(ByteCount(0), "Download quota.", key="maxDownloadBytes")
    download_period: timedelta | None = opt(None, "Its period.", key="downloadPeriod")
    valid_until: str = opt(
        "", "Last day (2031-05-04) or end (2031-05-04T12:00Z) of the account.", key="validUntil"
    )
    networks: str = opt("", "Networks that may log in, such as 192.0.2.0/24; empty: all.")
    max_stored: ByteCount = opt(
        ByteCount(0), "Bytes of own uploads kept here; 0: any.", key="maxStoredBytes"
    )
    max_files: int = opt(0, "Own uploads kept here; 0: any.", key="maxStoredFiles", low=0)
    max_rate_in: ByteRate | None = opt(None, "Per download.", key="maxBytesPerSecForInput")
    max_rate_out: ByteRate | None = opt(None, "Per upload.", key="maxBytesPerSecForOutput")
    max_ranges: int = opt(100, "Ranges of one request.", key="maxRangesAllowed", low=1)
    header_registry: str = opt("", "Headers by path.", key="headerRegistry")
    cors_allow_origin: str = opt("", "Origins that may read.", key="corsAllowOrigin")
    mqtt_permission: str = opt("", "Topic filters allowed.", key="mqttPermission")
    get_regex: str = opt("", "Paths for get.", key="getPathPermRegex")
    put_regex: str = opt("", "Paths for put.", key="putPathPermRegex")
    delete_regex: str = opt("", "Paths for delete.", key="deletePathPermRegex")
    dir_regex: str = opt("", "Paths for dir.", key="dirPathPermRegex")
    mkdir_regex: str = opt("", "Paths for mkdir.", key="mkdirPathPermRegex")
    rmdir_regex: str = opt("", "Paths for rmdir.", key="rmdirPathPermRegex")
    rename_regex: str = opt("", "Paths for rename.", key="renamePathPermRegex")
    size_regex: str = opt("", "Paths for size.", key="sizePathPermRegex")
    mtime_regex: str = opt("", "Paths for mtime.", key="mtimePathPermRegex")
    record_history: bool = opt(True, "Downloads enter the transfer's history.", key="recordHistory")
    record_events: bool = opt(True, "INH events.", key="recordEvents")
    record_splunk: bool = opt(True, "The same, old name.", key="recordSplunk")
    trigger_event: bool = opt(True, "Downloads are recorded at all.", key="triggerEvent")
    trigger_last_range: bool = opt(
        True, "One event for a multi-range download.", key="triggerLastRangeOnly"
    )
    update_last_login: bool = opt(
        True, "Remember the last login.", key="updateLastLoginInformation"
    )
    registration_auto_approve: bool = opt(
        False, "Subscribers need no approval.", key="registrationAutoApprove"
    )
    registration_admin_email: str = opt("", "Address for notices.", key="registrationAdminEmail")
    registration_extra_verify: str = opt("", "Text added.", key="registrationEmailExtraVerify")
    registration_extra_access: str = opt("", "Text added.", key="registrationEmailExtraAccess")
