"""All tables of `ecpds.toml`: one dataclass each, every key with its default and help.

Order: defaults, the file, environment variables `ECPDS_<TABLE>__<KEY>`
(`ECPDS_PORTAL__FTP__LISTEN`). An unknown key or wrong type names file, line, key and the nearest
known name.
"""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ecpds.model.decode import Where, declared, decode, key_of, opt
from ecpds.model.errors import ConfigError
from ecpds.model.names import ByteCount
from ecpds.model.options import as_text
from ecpds.model.secret import Secret


def minutes(count: float) -> timedelta:
    """Return so many minutes."""
    return timedelta(minutes=count)


def seconds(count: float) -> timedelta:
    """Return so many seconds."""
    return timedelta(seconds=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Table [node]."""

    name: str = opt(socket.gethostname, "Shown as mover name.", reload=False)
    data_dir: Path = opt(Path("./data"), "Store, objects, keys and logs.", reload=False)
    public_host: str = opt(socket.gethostname, "Used in links and the access guide.", reload=False)
    timezone: str = opt("UTC", "Zone of date tokens without one.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Table [store]."""

    url: str = opt("", "sqlite:///PATH; empty: <data_dir>/ecpds.db.", reload=False)
    durability: Literal["full", "normal"] = opt(
        "full",
        "full: acknowledged means on disk; normal: a power cut may lose moments.",
        reload=False,
    )
    readers: int = opt(3, "Read connections, one thread each.", low=1, high=64, reload=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSettings:
    """One table of [[volumes]]."""

    name: str = opt("", "Unique name.", reload=False)
    path: Path = opt(Path(), "Directory.", reload=False)
    reserve: ByteCount = opt(ByteCount(64 * 1024 * 1024), "Kept free.")
    weight: int = opt(100, "Share of new files, relative.", low=0, high=1_000_000)
    groups: tuple[str, ...] = opt(
        (), "Only for new files of these storage groups (transfer_group), which go nowhere else.",
        reload=False,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """Table [tls]."""

    certificate: str = opt("", "PEM file; empty: self-signed, made at the first start.")
    key: str = opt("", "PEM file.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSettings:
    """Table [monitor]: dashboard and API."""

    listen: str = opt("127.0.0.1:8443", "host:port; empty: off; port 0: any free.", reload=False)
    tls: bool = opt(True, "Serve HTTPS.", reload=False)
    metrics_allow: tuple[str, ...] = opt(
        ("127.0.0.0/8", "::1/128"), "Networks that may read /metrics without a token."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsSettings:
    """Table [portal.https]."""

    listen: str = opt("0.0.0.0:7443", "host:port; empty: off.", reload=False)
    tls: bool = opt(True, "Serve HTTPS.", reload=False)
    hosts: dict[str, str] = opt(dict, "Host name = path of the home it shows.")
    cors_allow_origin: str = opt("", "Origins allowed to read, comma list or *.")
    webdav: bool = opt(True, "Serve WebDAV below /webdav/.", reload=False)
    public_url: str = opt(
        "", "Address in mails and links; empty: https://<public_host>:<port>.", reload=False
    )
    max_connections: int = opt(2000, "Open connections.", low=1, reload=False)
    idle_timeout: timedelta = opt(seconds(75), "Keep-alive.", low=1)
    data_timeout: timedelta = opt(minutes(5), "No byte moved.", low=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Table [portal.s3]."""

    listen: str = opt("", "host:port of an extra listener with S3 at the root.", reload=False)
    tls: bool = opt(True, "Serve HTTPS.", reload=False)
    on_https: bool = opt(True, "Serve /s3/ on the HTTPS portal too.", reload=False)
    hosts: tuple[str, ...] = opt(
        (),
        "Host names whose subdomains are buckets; default: the node's public_host.",
        reload=False,
    )
    region: str = opt("us-east-1", "Region that clients are told.")
    cors_allow_origin: str = opt("", "Origins of web pages that may ask, comma list or *.")
    clock_skew: timedelta = opt(minutes(15), "Clocks of clients may differ by.", low=1, high=86400)
    max_connections: int = opt(1000, "Open connections.", low=1, reload=False)
    idle_timeout: timedelta = opt(seconds(75), "Keep-alive.", low=1)
    data_timeout: timedelta = opt(minutes(5), "No byte moved.", low=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FtpSettings:
    """Table [portal.ftp]."""

    listen: str = opt("0.0.0.0:7021", "host:port; empty: off.", reload=False)
    tls: Literal["off", "optional", "required", "implicit"] = opt("optional", "FTPS.", reload=False)
    passive_ports: str = opt(
        "7100-7199", "Port range of data connections; 0: any free.", reload=False
    )
    active: bool = opt(False, "Allow PORT and EPRT.")
    session_reuse: bool = opt(False, "Data connections have to resume the TLS session.")
    public_address: str = opt(
        "", "Address in PASV replies; empty: that of the connection.", reload=False
    )
    login_timeout: timedelta = opt(seconds(60), "From connect to login.", low=0.1)
    idle_timeout: timedelta = opt(minutes(120), "Between commands after login.", low=0.1)
    data_timeout: timedelta = opt(minutes(5), "No byte moved.", low=0.1)
    max_connections: int = opt(1000, "Open control connections.", low=1, reload=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SftpSettings:
    """Table [portal.sftp]: SFTP and SCP."""

    listen: str = opt("0.0.0.0:7022", "host:port; empty: off.", reload=False)
    local_socket: str = opt(
        "", "Unix socket for ecpds sftp-stdio; root and the node's user only; empty: off.",
        reload=False,
    )  # fmt: skip
    nist_curves: bool = opt(
        False, "Offer ECDSA host key and ECDH on NIST curves, which audits call weak.", reload=False
    )
    auth_timeout: timedelta = opt(seconds(30), "From connect to login.", low=0.1)
    idle_timeout: timedelta = opt(minutes(10), "No request.", low=0.1)
    max_connections: int = opt(1000, "Open connections.", low=1, reload=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalSettings:
    """Table [portal]."""

    https: HttpsSettings = opt(HttpsSettings(), "HTTPS.")
    s3: S3Settings = opt(S3Settings(), "S3.")
    ftp: FtpSettings = opt(FtpSettings(), "FTP and FTPS.")
    sftp: SftpSettings = opt(SftpSettings(), "SFTP and SCP.")
    banner: str = opt("", "Text before login.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """Table [mqtt]."""

    listen: str = opt("", "host:port of the plain listener.", reload=False)
    tls_listen: str = opt("0.0.0.0:8883", "host:port of the TLS listener.", reload=False)
    driver: Literal["embedded", "external", "both"] = opt(
        "embedded", "Who carries publications.", reload=False
    )
    url: Secret = opt(
        Secret(""), "External broker, mqtt[s]://user:password@host:port.", reload=False
    )
    mosquitto_files: str = opt(
        "", "Directory for password and ACL file of a Mosquitto; empty: none.", reload=False
    )
    mosquitto_pid: str = opt("", "Its pid file: SIGHUP after each change.", reload=False)
    password_rounds: int = opt(
        100_000,
        "Rounds of PBKDF2 in the password file.",
        low=1_000,
        high=10_000_000,
        reload=False,
    )
    session_max: timedelta = opt(timedelta(hours=1), "Longest session expiry.", low=0, high=86400)
    test_publish: bool = opt(False, "Every client may publish; loopback only.", reload=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptSettings:
    """Table [scripts]: scripts of directories, metadata and payloads."""

    processes: int = opt(
        4, "Scripts at a time; as many processes wait for the next run.", low=1, reload=False
    )
    time_limit: timedelta = opt(seconds(10), "Longest run.", low=0.1, reload=False)
    memory: ByteCount = opt(
        ByteCount(256 * 1024 * 1024), "Memory of one process.", low=64 * 1024 * 1024, reload=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """Table [scheduler]."""

    acquisition_hosts: int = opt(100, "Discoveries at a time.", low=1, reload=False)
    retrievals: int = opt(60, "Retrievals at a time.", low=1, reload=False)
    transfers: int = opt(400, "Deliveries at a time over all destinations.", low=1, reload=False)
    housekeeping_interval: timedelta = opt(seconds(30), "Between two purges.", low=0.05)
    acquisition_maximum: timedelta = opt(minutes(10), "Longest discovery.", low=1)
    shed_below: ByteCount = opt(
        ByteCount(1024**3),
        "With less room (at most a tenth of a volume) low priorities wait; 0: never.",
    )
    ignore_missing_schedule: bool = opt(
        True, "A product that nobody expects, told without a schedule, is a message, no error."
    )
    finish_timeout: timedelta = opt(seconds(30), "Stop: running transfers may finish.", low=0)
    history_for: timedelta = opt(timedelta(days=7), "Transfers and history are kept.", low=60)
    events_for: timedelta = opt(timedelta(days=10), "Events are kept in the store.", low=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """Table [transfer]."""

    file_roots: tuple[str, ...] = opt(
        (),
        "Directories for genericFile; default <data_dir>/feeds and <data_dir>/out.",
        reload=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuritySettings:
    """Table [security]."""

    ban_score: int = opt(15, "Points that ban an address.", low=1, reload=False)
    ban_window: timedelta = opt(minutes(10), "Within this time.", low=1, reload=False)
    ban_time: timedelta = opt(minutes(30), "For so long.", low=1, reload=False)
    allow: tuple[str, ...] = opt((), "Networks that are never banned.", reload=False)
    egress_allow: tuple[str, ...] = opt(
        (), "Private networks that links may lead to.", reload=False
    )
    trusted_proxies: tuple[str, ...] = opt(
        (), "Networks whose X-Forwarded-* is believed.", reload=False
    )
    geo_database: str = opt("", "MaxMind-format database file.", reload=False)
    session_lifetime: timedelta = opt(
        timedelta(hours=1), "Sliding, portal and dashboard.", low=60, reload=False
    )
    password_length: int = opt(12, "Shortest new password.", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """Table [mail]."""

    url: str = opt("", "smtp://user:password@host:port; empty: files below <data_dir>/mail.")
    from_: str = opt("ecpds@localhost", "Sender.", key="from")
    admin: str = opt("", "Addresses for notices to the operators.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSettings:
    """One table of [[events.sinks]]."""

    name: str = opt("", "Unique name; how far it is is kept under it.", reload=False)
    url: str = opt("", "stdout:, syslog[s]://, http[s]://, mqtt[s]://", reload=False)
    format: Literal["ndjson", "splunk", "elasticsearch"] = opt(
        "ndjson", "What an HTTP collector expects.", reload=False
    )
    token: Secret = opt(Secret(""), "Of the HTTP collector; of MQTT: user:password.", reload=False)
    ca: str = opt("", "PEM file of the authority; empty: the system's.", reload=False)
    types: tuple[str, ...] = opt((), "Only these types; none: all.", reload=False)

    @property
    def secret_url(self) -> Secret:
        """Return the address with the credentials in it."""
        scheme, _, place = self.url.partition("://")
        user, _, password = self.token.reveal().partition(":")
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if self.token else ""
        return Secret(f"{scheme}://{login}{place}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """Table [events]."""

    classic: str = opt("log/events.log", "Classic lines; off: none.", reload=False)
    json: str = opt("log/events.jsonl", "JSON lines; off: none.", reload=False)
    rotate_size: ByteCount = opt(
        ByteCount(100 * 1024 * 1024), "A larger file is rotated.", reload=False
    )
    rotate_every: timedelta = opt(
        timedelta(0), "Length of one file's period, UTC; 0: none.", low=0, reload=False
    )
    gzip: bool = opt(False, "Compress rotated files.", reload=False)
    keep_files: int = opt(10, "Rotated files kept.", low=1, high=1000, reload=False)
    types: tuple[str, ...] = opt((), "Only these types, such as UPH, ERR; none: all.", reload=False)
    sinks: tuple[SinkSettings, ...] = opt((), "Others that are told of events.", reload=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Table [log]."""

    level: Literal["debug", "info", "warning", "error"] = opt("info", "Least level written.")
    format: Literal["text", "json"] = opt("text", "For people or machines.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiV1Settings:
    """Table [api.v1]."""

    http_errors: bool = opt(False, "Business errors have HTTP statuses too, not only `success`.")
    version: bool = opt(True, "`version` tells the release to everybody.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Table [api]."""

    password_login: bool = opt(False, "Web users may use Basic on the API.")
    requests_per_minute: int = opt(6000, "For each token.", low=1)
    cors_allow_origin: tuple[str, ...] = opt(
        (), "Origins whose pages may call the API with a token, such as https://ops.example.org."
    )
    v1: ApiV1Settings = opt(ApiV1Settings(), "The calls of OpenECPDS below /ecpds/v1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Table [metrics]."""

    max_destinations: int = opt(
        500, "Destinations with labels of their own; the others are summed up.", low=1,
        high=100_000, reload=False,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """Table [demo]."""

    enabled: bool = opt(False, "Create the sample site on the first start.", reload=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole file."""

    node: NodeSettings = opt(NodeSettings, "This node.")
    store: StoreSettings = opt(StoreSettings(), "Metadata.")
    volumes: tuple[VolumeSettings, ...] = opt((), "Where content is kept.")
    tls: TlsSettings = opt(TlsSettings(), "Certificate of all listeners.")
    monitor: MonitorSettings = opt(MonitorSettings(), "Dashboard and API.")
    portal: PortalSettings = opt(PortalSettings(), "Data portal.")
    mqtt: MqttSettings = opt(MqttSettings(), "Notifications.")
    scheduler: SchedulerSettings = opt(SchedulerSettings(), "Engine.")
    scripts: ScriptSettings = opt(ScriptSettings(), "Scripts.")
    transfer: TransferSettings = opt(TransferSettings(), "Outgoing connections.")
    security: SecuritySettings = opt(SecuritySettings(), "Protection.")
    mail: MailSettings = opt(MailSettings(), "Mail.")
    events: EventSettings = opt(EventSettings(), "Event log.")
    log: LogSettings = opt(LogSettings(), "The daemon's own log.")
    api: ApiSettings = opt(ApiSettings(), "API.")
    metrics: MetricsSettings = opt(MetricsSettings(), "What /metrics tells.")
    demo: DemoSettings = opt(DemoSettings(), "Sample site.")

    @property
    def data_dir(self) -> Path:
        """Return the absolute data directory."""
        return self.node.data_dir.absolute()

    @property
    def store_path(self) -> Path:
        """Return the database file."""
        url = self.store.url
        if not url:
            return self.data_dir / "ecpds.db"
        return Path(url.removeprefix("sqlite:///").replace("<data_dir>", str(self.data_dir)))

    @property
    def file_roots(self) -> tuple[str, ...]:
        """Return the directories that genericFile may use, absolute."""
        if self.transfer.file_roots:
            return tuple(str(Path(root).absolute()) for root in self.transfer.file_roots)
        return (str(self.data_dir / "feeds"), str(self.data_dir / "out"))

    @property
    def volume_list(self) -> tuple[VolumeSettings, ...]:
        """Return the volumes, the default one if none is configured."""
        if self.volumes:
            return self.volumes
        return (VolumeSettings(name="default", path=self.data_dir / "objects"),)


_TABLE = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"))*)\s*="
)
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")


def line_map(text: str) -> dict[tuple[str | int, ...], int]:
    """Return the line of each key of a TOML text, good enough for messages."""
    lines: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            table = _enter(_parts(header[2]), header[1] == "[[", counts)
            _note(lines, table, number)
        elif key := _KEY.match(line):
            _note(lines, (*table, *_parts(key[1])), number)
    return lines


def _note(
    lines: dict[tuple[str | int, ...], int], path: tuple[str | int, ...], number: int
) -> None:
    """Remember the line of a key, and of the tables around it that no line has named before."""
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], number)


def _parts(text: str) -> list[str]:
    return [a or b or c for a, b, c in _PART.findall(text)]


def _enter(
    parts: list[str], is_array: bool, counts: dict[tuple[str | int, ...], int]
) -> tuple[str | int, ...]:
    path: tuple[str | int, ...] = ()
    for position, part in enumerate(parts):
        path = (*path, part)
        if is_array and position == len(parts) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def read_toml(path: Path) -> tuple[dict[str, Any], Where]:
    """Read a TOML file; errors name file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("there is no such file", file=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(path)) from None
    try:
        return tomllib.loads(text), Where(file=str(path), lines=line_map(text))
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else len(text.splitlines())
        bare = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(f"no valid TOML: {bare}", file=str(path), line=line) from None


def load(path: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings; `path` None means defaults and environment only."""
    data, where = ({}, Where()) if path is None else read_toml(path)
    _override(data, os.environ if environment is None else environment)
    settings = decode(Settings, data, where)
    _check(settings, where)
    return settings


def _override(data: dict[str, Any], environment: Mapping[str, str]) -> None:
    tables = {key_of(item).upper() for item in dataclasses.fields(Settings)}
    for name, value in environment.items():
        if not name.startswith("ECPDS_") or "__" not in name:
            continue
        parts = name.removeprefix("ECPDS_").split("__")
        if parts[0] not in tables:
            raise ConfigError(f"the environment variable {name} names no table", key=name)
        here = data
        for part in parts[:-1]:
            here = here.setdefault(part.lower(), {})
        here[parts[-1].lower()] = value


def _check(settings: Settings, where: Where) -> None:
    try:
        ZoneInfo(settings.node.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        place = where.at("node").at("timezone")
        raise place.error(f"there is no zone {settings.node.timezone!r}") from None
    if settings.mqtt.driver != "embedded" and not settings.mqtt.url:
        place = where.at("mqtt").at("url")
        raise place.error(f"the driver {settings.mqtt.driver} needs the address of a broker")
    if settings.store.url and not settings.store.url.startswith("sqlite:///"):
        raise where.at("store").at("url").error("only sqlite:///PATH is known by this release")
    for table, key in (
        ("security", "allow"),
        ("security", "egress_allow"),
        ("security", "trusted_proxies"),
        ("monitor", "metrics_allow"),
    ):
        for text in getattr(getattr(settings, table), key):
            _check_network(text, where.at(table).at(key))
    _check_listeners(settings, where)
    _check_names([volume.name for volume in settings.volumes], "volume", where.at("volumes"))
    sinks = [sink.name for sink in settings.events.sinks]
    _check_names(sinks, "sink", where.at("events").at("sinks"))


def _check_names(names: Sequence[str], what: str, where: Where) -> None:
    for number, name in enumerate(names):
        if not name or names.index(name) != number:
            raise where.at(number).error(f"each {what} needs a name of its own")


def _check_network(text: str, where: Where) -> None:
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise where.error(f"{text!r} is no network such as 192.0.2.0/24") from None


def _check_listeners(settings: Settings, where: Where) -> None:
    portal = where.at("portal")
    for text, place in (
        (settings.monitor.listen, where.at("monitor").at("listen")),
        (settings.portal.https.listen, portal.at("https").at("listen")),
        (settings.portal.s3.listen, portal.at("s3").at("listen")),
        (settings.portal.ftp.listen, portal.at("ftp").at("listen")),
        (settings.portal.sftp.listen, portal.at("sftp").at("listen")),
        (settings.mqtt.listen, where.at("mqtt").at("listen")),
        (settings.mqtt.tls_listen, where.at("mqtt").at("tls_listen")),
    ):
        host, _, port = text.rpartition(":")
        if text and not (host and port.isdigit() and int(port) < 65536):
            raise place.error(f"{text!r} is not host:port")
    first, _, last = settings.portal.ftp.passive_ports.partition("-")
    if not (first.isdigit() and (last or first).isdigit() and int(first) <= int(last or first)):
        raise portal.at("ftp").at("passive_ports").error("write for instance 7100-7199, or 0")


def effective(settings: Any) -> dict[str, Any]:
    """Return the settings as nested tables of texts, numbers and lists; secrets masked."""
    result: dict[str, Any] = {}
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        key = key_of(item)
        if dataclasses.is_dataclass(value):
            result[key] = effective(value)
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            result[key] = [effective(one) for one in value]
        elif isinstance(value, Secret) or declared(item).secret:
            result[key] = "***" if value else ""
        elif key == "url" and "@" in str(value):
            result[key] = re.sub(r"//[^@]*@", "//***@", str(value))
        elif isinstance(value, (timedelta, Path)):
            result[key] = as_text(value)
        else:
            result[key] = list(value) if isinstance(value, tuple) else value
    return result
