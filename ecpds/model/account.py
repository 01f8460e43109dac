"""People and programs that log in: data users of the portal, web users of the dashboard."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Permission(StrEnum):
    """One operation of a data user in the portal (portal.md 1.3)."""

    DELETE = "delete"
    DIR = "dir"
    GET = "get"
    MKDIR = "mkdir"
    MTIME = "mtime"
    PUT = "put"
    RENAME = "rename"
    RMDIR = "rmdir"
    SIZE = "size"


class Service(StrEnum):
    """How a data user identifies."""

    STANDARD = "standard-login"
    OPEN = "open-access"
    SELF = "self-service"


class Protocol(StrEnum):
    """Door of the portal, as in events and `portal.excludeProtocols`."""

    FTP = "ftp"
    SFTP = "sftp"
    SCP = "scp"
    HTTPS = "https"
    WEBDAV = "webdav"
    S3 = "s3"
    MQTTS = "mqtts"


class Role(StrEnum):
    """Named set of rights of a web user; each includes the ones before it.

    These four are built in; a site may make others.
    """

    VIEWER = "viewer"
    OPERATOR = "operator"
    EDITOR = "editor"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """Higher may do more."""
        return list(Role).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role, built in or made by the site, over destinations that match `scope` (a glob)."""

    role: str
    scope: str = "*"
    restricted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Key:
    """Key pair of a data user; the secret is stored encrypted."""

    access_key: str
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Destinations, operations and options given to each data user linked to it."""

    name: str
    active: bool = True
    comment: str = ""
    destinations: tuple[str, ...] = ()
    operations: frozenset[Permission] = frozenset()
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUser:
    """Portal account."""

    login: str
    service: Service = Service.STANDARD
    active: bool = True
    comment: str = ""
    country: str = ""
    has_password: bool = False
    operations: frozenset[Permission] = frozenset()
    destinations: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    ssh_keys: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    last_login_at: datetime | None = None
    last_login_from: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a data user may do now: own settings and those of its active policies together."""

    user: DataUser
    destinations: tuple[str, ...]
    operations: frozenset[Permission]
    options: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebUser:
    """Dashboard account."""

    name: str
    active: bool = True
    comment: str = ""
    has_password: bool = False
    grants: tuple[Grant, ...] = ()
    made_roles: dict[str, tuple[str, ...]] = field(default_factory=dict)  # scopes, by the store
    last_login_at: datetime | None = None
    last_login_from: str = ""
