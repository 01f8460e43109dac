"""The bodies that the API takes, as dataclasses for the one decoder; their help is documentation.

Bodies of destinations, hosts, users and policies are those of site files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from ecpds.model.decode import opt
from ecpds.model.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """A body that says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSubscriber:
    """A person who may use a self-service user."""

    name: str = opt("", "Name of the person.")
    email: str = opt("", "Mail address, unique for this user.")
    country: str = opt("", "Two letters, may be empty.")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3KeyRequest:
    """What a new S3 key pair is good for."""

    prefix: str = opt("", "What `<destination>/<path>` has to begin with.")
    read_only: bool = opt(False, "It signs no upload and no delete.")
    expires: datetime | None = opt(None, "Not after that time.")
    comment: str = opt("", "Shown to operators.")
    subscriber: int | None = opt(None, "Id of the subscriber whose pair it is.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest:
    """How to stop or restart."""

    mode: Literal["graceful", "immediate"] = opt(
        "graceful", "graceful lets running transfers end; immediate interrupts them."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRequest:
    """Why to hold."""

    mode: Literal["graceful", "immediate"] = opt(
        "graceful", "graceful lets running transfers end; immediate interrupts them."
    )
    reason: str = opt("", "Shown to operators.")
    until: datetime | None = opt(None, "Released then by itself.")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLink:
    """A host of a destination."""

    host: str = opt("", "Name of the host.")
    role: str = opt("", "Its role; read only.")
    priority: int = opt(0, "Its place in the order; read only, the order of the list counts.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataValues:
    """What stands in the metadata fields of a destination."""

    metadata: dict[str, Any] = opt(dict, "Category to field to value, list of values or null.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferChange:
    """What may be changed of a transfer."""

    priority: int | None = opt(None, "0 first to 99 last.", low=0, high=99)
    scheduled: datetime | None = opt(None, "Not before that time.")
    expires: datetime | None = opt(None, "Not after that time.")
    target: str | None = opt(None, "Another name at the destination; copies keep theirs.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityRequest:
    """A priority."""

    priority: int = opt(0, "0 first to 99 last.", low=0, high=99)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRequest:
    """Transfers by id, or all that fit; the search language is that of the lists."""

    ids: tuple[int, ...] = opt((), "Transfers, at most 10,000.")
    q: str = opt("", "Such as: status=failed target=*.grib size>=1mb.")
    destination: str = opt("", "Only of that destination.")
    status: tuple[str, ...] = opt((), "Only with one of these statuses.")
    target: str = opt("", "Only targets that match that glob.")
    host: str = opt("", "Only those last sent to that host.")
    since: datetime | None = opt(None, "Scheduled at that time or later.")
    until: datetime | None = opt(None, "Scheduled before that time.")
    limit: int | None = opt(None, "At most so many.", low=1)
    priority: int | None = opt(None, "For prioritise.", low=0, high=99)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneRequest:
    """A copy to be made."""

    name: str = opt("", "Name of the copy.")
    comment: str = opt("", "Its comment; default: that of the original.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRequest:
    """Which transfers of a destination are to be deleted."""

    what: Literal["all", "finished"] = opt("finished", "finished: done, stopped and failed ones.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """Objects to be created or updated."""

    data: dict[str, Any] = opt(dict, "A site document of hosts, destinations and data_users.")
    mode: Literal["create", "update"] = opt("create", "create refuses what exists.")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSpec:
    """An address that is told of events."""

    name: str = opt("", "Unique name, cannot be changed.")
    url: str = opt("", "https://… that takes POSTs; http:// only to allowed networks.")
    secret: Secret | None = opt(None, "Key of the signature; none: one is made, shown once.")
    types: tuple[str, ...] = opt((), "Only events of these types: UPH, ERR, ADM, …; none: all.")
    objects: tuple[str, ...] = opt(("*",), "Globs of destinations.")
    active: bool = opt(True, "Off: nothing is sent, and what happens meanwhile is left out.")
    comment: str = opt("", "Free text.")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionValue:
    """The value of one option."""

    value: str = opt("", "As in a site file.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A token to be made."""

    name: str = opt("", "For people.")
    scopes: tuple[str, ...] = opt(("*:read",), "area:verb, * for all areas or verbs.")
    objects: tuple[str, ...] = opt(("*",), "Globs of destinations.")
    networks: tuple[str, ...] = opt((), "Networks that it may come from; none: all.")
    expires: datetime | None = opt(None, "When it ends.")
    owner: str = opt("", "Web user whose rights bound it; administrators only, default oneself.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateRequest:
    """Another secret for a token."""

    overlap: timedelta = opt(
        timedelta(hours=1), "How long the secret before is good yet; 0s: not at all.", low=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """A request for a certificate."""

    names: tuple[str, ...] = opt((), "Host names and addresses; none: that of this node.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateImport:
    """A certificate to be put in place: PEM texts, or a PKCS #12 file."""

    certificate: str = opt("", "PEM: the certificate, then those above it.")
    key: Secret = opt(Secret(""), "PEM; none: that of the last request, or the present one.")
    pkcs12: str = opt("", "Instead of both: a PKCS #12 file in base64.")
    password: Secret = opt(Secret(""), "Opens the PKCS #12 file.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailTry:
    """A mail to try."""

    to: str = opt("", "Address that gets it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionFields:
    """Everything that may come with a file."""

    destination: str = opt("", "Destination that it is queued for.")
    target: str = opt("", "Name there; default: the name of the file.")
    original: str = opt("", "Name recorded as the original.")
    identity: str = opt("", "Name that recurs from day to day; default: the target.")
    metadata: dict[str, str] = opt(dict, "Keys and values: a JSON object, or a=b,c=d.")
    priority: int | None = opt(None, "0 first to 99 last.", low=0, high=99)
    lifetime: timedelta | None = opt(None, "How long it is kept, such as 2d.", low=1)
    delay: timedelta | None = opt(None, "Added to the start, such as 10m.", low=0)
    at: datetime | None = opt(None, "Start.")
    standby: bool = opt(False, "Store it and wait for a release.")
    asap: bool = opt(False, "Send it at once; a batch when it is complete.")
    event: bool | None = opt(None, "Announce it; default: what the destination says.")
    version: str | None = opt(None, "Tells equal targets apart.")
    group: str = opt("", "Name of a batch.")
    on_duplicate: Literal["fail", "overwrite", "skip"] = opt(
        "fail", "When a live transfer has the same destination, target and version."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterRequest(SubmissionFields):
    """A file whose content is fetched later."""

    source: str = opt("", "Path or URL at the source host.")
    host: str = opt("", "Host to fetch it from; default: the destination's source_host.")
    destinations: tuple[str, ...] = opt((), "Several destinations, each with a file of its own.")
    size: int = opt(-1, "Bytes, when known.", low=-1)
    index: bool = opt(False, "The source lists names; their contents become one file.")
    no_store: bool = opt(False, "Never stored: read from the source at each delivery.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterBatch:
    """Many files whose content is fetched later."""

    files: tuple[RegisterRequest, ...] = opt((), "At most 500, each with one destination.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductReport:
    """What a producer says of one product."""

    status: Literal["expected", "started", "completed"] = opt("expected", "What it is now.")
    schedule: datetime | None = opt(None, "When it is or was to be there.")
    base: datetime | None = opt(None, "Product date.")
    buffer: timedelta | None = opt(None, "Tolerance, such as 10m.", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalChange:
    """Limits of retrieval as a whole."""

    streams: int | None = opt(None, "Files at a time.", low=1, high=10000)
    stream_timeout: timedelta | None = opt(None, "No byte for so long ends one.", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A message to be shown."""

    transfer: int = opt(0, "The transfer that it tells of.")
    event: Literal["", "available", "delivered", "updated", "deleted"] = opt(
        "", "The event; default: the one that the destination publishes."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A message to be published now."""

    transfer: int = opt(0, "The transfer that it tells of.")
    event: Literal["available", "delivered", "updated"] = opt("available", "The event.")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentNote:
    """What people should know about an incident."""

    note: str | None = opt(None, "Free text, at most 4000 characters.")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentMute:
    """How long an incident is to be quiet."""

    until: datetime | None = opt(None, "Needed: not in what needs attention until then.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wis2Record:
    """A discovery record: WMO Core Metadata Profile 2; members that are not named here stay."""

    id: str = opt("", "urn:wmo:md:CENTRE:NAME.")
    type: str = opt("Feature", "Feature.")
    properties: dict[str, Any] = opt(dict, "title, description, type, contacts, themes …")
    links: tuple[Any, ...] = opt((), "One with rel items and a channel: the topic of the data.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wis2Message:
    """A WIS2 notification message to be checked."""

    message: dict[str, Any] = opt(dict, "The message.")
    topic: str = opt("", "The topic that it came on; empty: not checked.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wis2Test:
    """As whom the node is tried."""

    login: str = opt("everyone", "User that Global Brokers have.")
    password: Secret = opt(Secret("everyone"), "Its password.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRequest:
    """A site file."""

    data: dict[str, Any] = opt(dict, "The document.")
    file: str = opt("", "Its name, for messages and for pruning.")
    lines: tuple[Any, ...] = opt((), "[path, line] of each key, for messages.")
    dry_run: bool = opt(False, "Only tell what would change.")
    prune: bool = opt(False, "Remove what the file named before and names no longer.")
