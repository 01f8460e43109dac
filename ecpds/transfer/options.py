"""Option families that every module obeys: `ectrans`, `upload`, `retrieval`, base of sessions.

Spec: transfer-modules.md 5.1-5.3, transfer-modules-protocols.md 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta, tzinfo
from typing import ClassVar, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ecpds.model.acquisition import AcquisitionOptions
from ecpds.model.decode import opt
from ecpds.model.errors import OptionError
from ecpds.model.host import Host
from ecpds.model.names import ByteCount, ByteRate
from ecpds.model.options import OptionFamily, as_text
from ecpds.model.rules import Policy, RuleSet
from ecpds.model.secret import Secret
from ecpds.model.tokens import Vocabulary
from ecpds.transfer.contract import ListingStyle, Naming, Target, Timeouts, TlsTrust
from ecpds.transfer.deliver import DeliveryRules
from ecpds.transfer.meter import SlowRule, Watch
from ecpds.transfer.proxies import parse_proxy
from ecpds.transfer.sockets import SocketTuning

HOST = frozenset({"host"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EctransOptions(OptionFamily):
    """What the hub does around every session with a Host."""

    prefix: ClassVar[str] = "ectrans"
    scopes: ClassVar[frozenset[str]] = HOST

    connect_timeout: timedelta = opt(
        timedelta(minutes=1), "For all tries to connect together.", key="connectTimeOut", low=0.001
    )
    retry_count: int = opt(1, "Further tries to connect.", key="retryCount", low=0, high=100)
    retry_frequency: timedelta = opt(
        timedelta(seconds=1), "Pause between them.", key="retryFrequency", low=0
    )
    del_timeout: timedelta = opt(
        timedelta(seconds=90), "Longest deletion.", key="delTimeOut", low=0.001
    )
    list_timeout: timedelta = opt(
        timedelta(seconds=90),
        "Longest wait for the next part of a listing.",
        key="listTimeOut",
        low=0.001,
    )
    mkdir_timeout: timedelta = opt(
        timedelta(seconds=90), "Longest creation of a directory.", key="mkdirTimeOut", low=0.001
    )
    move_timeout: timedelta = opt(
        timedelta(seconds=90), "Longest rename.", key="moveTimeOut", low=0.001
    )
    rmdir_timeout: timedelta = opt(
        timedelta(seconds=90), "Longest removal of a directory.", key="rmdirTimeOut", low=0.001
    )
    size_timeout: timedelta = opt(
        timedelta(seconds=90), "Longest question for a size.", key="sizeTimeOut", low=0.001
    )
    get_timeout: timedelta | None = opt(None, "Longest GET; empty = any.", key="getTimeOut", low=0)
    put_timeout: timedelta | None = opt(None, "Longest PUT; empty = any.", key="putTimeOut", low=0)
    close_timeout: timedelta = opt(
        timedelta(minutes=1), "Longest end of a session.", key="closeTimeOut", low=0.001
    )
    stream_timeout: timedelta = opt(
        timedelta(minutes=5), "Longest GET or PUT without any byte.", key="streamTimeout", low=0.001
    )
    close_in_background: bool = opt(
        False, "Do not wait for the end of a session that is not kept.", key="closeAsynchronous"
    )
    get_handler: bool = opt(
        False, "A command fetches the content, not the protocol.", key="getHandler"
    )
    get_command: str = opt(
        "",
        "That command: a program below transfer.file_roots; $source, $target.",
        key="getHandlerCmd",
        secret=True,
    )
    get_ack: str = opt("", "Text in the last line of its output.", key="getHandlerAck")
    get_code: int = opt(0, "Its exit code.", key="getHandlerExitCode", low=0, high=255)
    put_handler: bool = opt(
        False, "A command sends the content, not the protocol.", key="putHandler"
    )
    put_command: str = opt(
        "",
        "That command: a program below transfer.file_roots; $source, $target.",
        key="putHandlerCmd",
        secret=True,
    )
    put_ack: str = opt("", "Text in the last line of its output.", key="putHandlerAck")
    put_code: int = opt(0, "Its exit code.", key="putHandlerExitCode", low=0, high=255)
    debug: bool = opt(False, "Log every act of every session.")
    progress_every: timedelta | None = opt(
        None, "Log the progress of long transfers so often.", key="putMonitoredInputDelta", low=1
    )
    use_dns_name: bool = opt(
        False, "Never use addresses that were found earlier.", key="usednsname"
    )
    host_selector: str = opt(
        "",
        "Rules that give another name; tokens $mover $host $network $group.",
        key="hostSelector",
    )
    block_size: ByteCount = opt(
        ByteCount(256 * 1024),
        "Bytes moved at once.",
        key="blockSize",
        low=4096,
        high=16 * 1024 * 1024,
    )
    filter_pattern: str = opt(
        ".*",
        "Original names (last part) that are compressed: a regex.",
        key="filterpattern",
        scope="host destination",
    )
    filter_minimum: ByteCount = opt(
        ByteCount(0),
        "Smaller files are sent as they are.",
        key="filterMinimumSize",
        low=0,
        scope="host destination",
    )
    filter_levels: tuple[str, ...] = opt(
        (), "Levels of compression, for example zstd=9,gzip=6.", key="filterLevel"
    )
    check_filter_size: bool = opt(
        True, "Send the original when its compressed copy is not smaller.", key="checkfiltersize"
    )
    create_checksum: bool = opt(
        False, "Write a sidecar file with the checksum.", key="createChecksum"
    )
    checksum: tuple[str, ...] = opt(
        ("md5",), "Algorithms of sidecar and verification: md5, sha256, …"
    )
    sidecar_form: Literal["raw", "sum"] = opt(
        "raw", "raw: only the digest; sum: digest, two blanks, name, newline.", key="sidecarForm"
    )
    verify: Literal["none", "size", "hash"] = opt(
        "size", "What is compared after a PUT; hash: told by the server or read again."
    )
    resume: Literal["auto", "never", "required"] = opt(
        "auto", "Whether a retry goes on with a partial file."
    )
    max_sessions: int = opt(
        10, "Sessions with this host at a time.", key="maxSessions", low=1, high=1000
    )
    tls_verify: bool = opt(True, "Check certificates.", key="tlsVerify")
    tls_ca: str = opt("", "Authorities: a path or PEM text; empty = the system's.", key="tlsCa")
    tls_pin: str = opt("", "SHA-256 of the expected certificate in hex.", key="tlsPin")
    tls_min_version: Literal["", "1.2", "1.3"] = opt(
        "", "Least TLS version, also where a protocol's own option says less.", key="tlsMinVersion"
    )
    tls_client_certificate: str = opt(
        "", "Own certificate and key: a path or PEM text.", key="tlsClientCert", secret=True
    )
    local_address: str = opt("", "Local address to connect from.", key="localAddress")
    proxy: Secret = opt(
        Secret(""), "socks5:// or http://[login:password@]host:port through which to connect."
    )
    notify_auth: Secret = opt(
        Secret(""),
        "MQTT broker told of each delivery: url=mqtt[s]://host:port|host:port;name=…;password=….",
        key="notifyAuth",
    )
    notify_publish: str = opt(
        "",
        "What it is told, as templates: topic=…;payload=…;metadata=k=v,…;lifetime=milliseconds.",
        key="notifyPublish",
    )
    socket_statistics: bool = opt(
        True, "Keep what the kernel knows of the connection.", key="socketStatistics"
    )
    tcp_no_delay: bool = opt(True, "Send small packets at once.", key="tcpNoDelay")
    tcp_keep_alive: bool | None = opt(None, "Probe idle connections.", key="tcpKeepAlive")
    tcp_keep_alive_time: int | None = opt(
        None, "Seconds before the first probe.", key="tcpKeepAliveTime", low=1, high=32767
    )
    tcp_keep_alive_interval: int | None = opt(
        None, "Seconds between probes.", key="tcpKeepAliveInterval", low=1, high=32767
    )
    tcp_keep_alive_probes: int | None = opt(
        None, "Probes before giving up.", key="tcpKeepAliveProbes", low=1, high=127
    )
    tcp_user_timeout: int | None = opt(
        None, "Milliseconds that sent data may stay unconfirmed.", key="tcpUserTimeout", low=0
    )
    tcp_congestion_control: str = opt("", "For example bbr.", key="tcpCongestionControl")
    tcp_max_segment: int | None = opt(
        None, "Bytes in a segment.", key="tcpMaxSegment", low=88, high=65535
    )
    tcp_window_clamp: int | None = opt(
        None, "Largest window in bytes.", key="tcpWindowClamp", low=0
    )
    tcp_quick_ack: bool | None = opt(None, "Confirm at once.", key="tcpQuickAck")
    tcp_linger_enable: bool | None = opt(
        None, "Wait for unsent data when closing.", key="tcpLingerEnable"
    )
    tcp_linger_time: int | None = opt(
        None, "Seconds of that wait.", key="tcpLingerTime", low=0, high=32767
    )
    pacing_rate: ByteRate | None = opt(
        None, "Rate at which the kernel sends.", key="soMaxPacingRate", low=1
    )

    def timeouts(self) -> Timeouts:
        """Return the time limits of a session."""
        return Timeouts(
            connect=self.connect_timeout,
            command=self.size_timeout,
            stall=self.stream_timeout,
            close=self.close_timeout,
            delete=self.del_timeout,
            listing=self.list_timeout,
            mkdir=self.mkdir_timeout,
            rename=self.move_timeout,
            rmdir=self.rmdir_timeout,
        )

    def tls(self) -> TlsTrust:
        """Return how certificates are checked."""
        return TlsTrust(
            verify=self.tls_verify,
            ca=self.tls_ca,
            pin=self.tls_pin,
            client_certificate=self.tls_client_certificate,
            minimum=self.tls_min_version,
        )

    def sockets(self) -> SocketTuning:
        """Return the socket options."""
        linger = self.tcp_linger_time if self.tcp_linger_enable else None
        return SocketTuning(
            no_delay=self.tcp_no_delay,
            keep_alive=self.tcp_keep_alive,
            keep_alive_time=self.tcp_keep_alive_time,
            keep_alive_interval=self.tcp_keep_alive_interval,
            keep_alive_probes=self.tcp_keep_alive_probes,
            user_timeout=self.tcp_user_timeout,
            congestion_control=self.tcp_congestion_control,
            max_segment=self.tcp_max_segment,
            window_clamp=self.tcp_window_clamp,
            quick_ack=self.tcp_quick_ack,
            linger=linger,
            pacing_rate=self.pacing_rate,
            local_address=self.local_address,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateOptions(OptionFamily):
    """Fields of the families `upload` and `retrieval`."""

    scopes: ClassVar[frozenset[str]] = HOST

    interrupt_slow: bool = opt(False, "End slow transfers.", key="interruptSlow")
    minimum_duration: timedelta = opt(
        timedelta(minutes=1), "Length of a measuring window.", key="minimumDuration", low=0.001
    )
    minimum_rate: ByteRate = opt(
        ByteRate(2_359_296), "Least mean rate in each window.", key="minimumRate", low=0
    )
    maximum_duration: timedelta = opt(
        timedelta(minutes=10), "Longest transfer.", key="maximumDuration", low=0.001
    )
    rate_throttling: ByteRate | None = opt(
        None, "Highest rate of one transfer.", key="rateThrottling", low=1
    )
    host_rate: ByteRate | None = opt(
        None, "Highest rate of all transfers with the host together.", key="hostRate", low=1
    )

    def slow_rule(self) -> SlowRule | None:
        """Return the rule for slow transfers, None when it is off."""
        if not self.interrupt_slow:
            return None
        return SlowRule(
            window=self.minimum_duration, rate=self.minimum_rate, longest=self.maximum_duration
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOptions(RateOptions):
    """Limits on what is sent to a dissemination host."""

    prefix: ClassVar[str] = "upload"

    destination_rate: ByteRate | None = opt(
        None,
        "Highest rate of all transfers of a destination together.",
        key="destinationRate",
        low=1,
        scope="destination",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalOptions(RateOptions):
    """Limits on what is fetched from an acquisition or source host."""

    prefix: ClassVar[str] = "retrieval"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamingOptions(OptionFamily):
    """Options of all modules that write a file under another name until it is complete."""

    scopes: ClassVar[frozenset[str]] = HOST

    use_temporary: bool = opt(True, "Write under a temporary name, then rename.", key="usetmp")
    temporary_prefix: str = opt("", "Put before temporary names.", key="prefix")
    temporary_suffix: str = opt(
        "", "Put behind temporary names; .tmp when there is no prefix either.", key="suffix"
    )
    make_suffix: bool = opt(
        False, "Accepted from older set-ups: temporary names are always random.", key="mksuffix"
    )
    mkdirs: bool = opt(True, "Create missing directories.")
    clean_path: bool = opt(
        False, "Accepted from older set-ups: paths are always cleaned.", key="usecleanpath"
    )
    ignore_check: bool = opt(False, "Do not compare sizes after a PUT.", key="ignoreCheck")
    digest_extension: str = opt(".md5", "Extension of the sidecar file.", key="md5Ext")

    def naming(self) -> Naming:
        """Return how files are named until complete."""
        return Naming(
            temporary=self.use_temporary,
            prefix=self.temporary_prefix,
            suffix=self.temporary_suffix,
            make_parents=self.mkdirs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions(NamingOptions):
    """Options that ftp, ftps and sftp share beside the names: identity and idle sessions.

    A module's family inherits it and overrides the defaults that differ.
    """

    login: str = opt("", "Overrides the login of the host.")
    password: Secret = opt(Secret(""), "Overrides the password of the host.")
    cwd: str = opt("", "Directory entered after login.")
    listen_address: str = opt("", "Local address to connect from.", key="listenAddress")
    keep_alive: timedelta = opt(
        timedelta(0), "How long an idle session is kept for the next file.", key="keepAlive", low=0
    )
    use_noop: timedelta = opt(
        timedelta(0), "Pause between probes of an idle session; 0 = none.", key="useNoop", low=0
    )
    mkdirs_index: int = opt(
        0,
        "Levels for which the commands below run: the first n, the last n of -n, 0 = none.",
        key="mkdirsCmdIndex",
    )
    pre_mkdirs: str = opt(
        "", "Commands before a directory is made; $dirname, $uid.", key="preMkdirsCmd", secret=True
    )
    post_mkdirs: str = opt(
        "", "Commands after a directory was made; $dirname, $uid.", key="postMkdirsCmd", secret=True
    )
    ignore_mkdirs_errors: bool = opt(
        False, "Go on when such a command fails.", key="ignoreMkdirsCmdErrors"
    )

    def hooks_level(self, path: str, levels: int) -> bool:
        """Tell whether the commands around the making of `path` run.

        `levels`: of the directory for whose sake it is made.
        """
        level = len([part for part in path.split("/") if part])
        if self.mkdirs_index >= 0:
            return level <= self.mkdirs_index
        return level > max(levels, level) + self.mkdirs_index


HOST_TOKENS: Final = Vocabulary.make("mover host network group")


def selected_host(host: Host, rules: str, *, node: str) -> str:
    """Return the name or address that `ectrans.hostSelector` gives, the Host's own without any.

    Raises RuleError or TemplateError for a text that cannot be read.
    """
    if not rules.strip():
        return host.host
    values = {
        "mover": node,
        "host": host.host,
        "network": host.network_code,
        "group": host.transfer_group,
    }
    legacy = "ectrans.hostSelector" in host.legacy
    parsed = RuleSet.parse(rules, policy=Policy.MOST, vocabulary=HOST_TOKENS, legacy=legacy)
    chosen = parsed.choose("", values)
    return (chosen.rule.result.strip() if chosen is not None else "") or host.host


def target_of(
    host: Host, ectrans: EctransOptions, *, local_roots: tuple[str, ...] = (), node: str = ""
) -> Target:
    """Return where and as whom to connect, out of a Host and its `ectrans` options.

    `directory` stays empty: on a dissemination host that field is a template, on an acquisition
    host a list of lines; whoever reads them gives paths to the acts.
    """
    return Target(
        host_name=host.name,
        host=selected_host(host, ectrans.host_selector, node=node),
        login=host.login,
        password=host.password,
        tls=ectrans.tls(),
        timeouts=ectrans.timeouts(),
        block_size=ectrans.block_size,
        local_roots=local_roots,
        sockets=ectrans.sockets(),
        may_use_old_address=not ectrans.use_dns_name,
        proxy=parse_proxy(ectrans.proxy.reveal(), "ectrans.proxy"),
    )


def listing_style(options: Mapping[str, str]) -> ListingStyle:
    """Return how the listing lines of a Host read, out of its `acquisition` options.

    Raises InputError for an option that cannot be read.
    """
    return style_of(AcquisitionOptions.read(options))


def style_of(given: AcquisitionOptions) -> ListingStyle:
    """Return the same out of options that are read, those of one directory line for example."""
    try:
        zone: tzinfo = ZoneInfo(given.server_time_zone) if given.server_time_zone else UTC
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise OptionError(
            f"acquisition.serverTimeZoneId: no time zone {given.server_time_zone!r}"
        ) from None
    return ListingStyle(
        system=given.system_key,
        default_format=given.default_date_format,
        recent_format=given.recent_date_format,
        month_names=given.short_month_names,
        language=given.server_language,
        regex=given.regex_format,
        zone=zone,
    )


def delivery_rules(
    naming: Naming, ectrans: EctransOptions, upload: UploadOptions, *, ignore_check: bool = False
) -> DeliveryRules:
    """Return the rules that `deliver` follows for one Host."""
    return DeliveryRules(
        naming=naming,
        verify="none" if ignore_check and ectrans.verify == "size" else ectrans.verify,
        resume=ectrans.resume,
        watch=Watch(
            stall=ectrans.stream_timeout, longest=ectrans.put_timeout, slow=upload.slow_rule()
        ),
        statistics=ectrans.socket_statistics,
    )


def texts(options: Mapping[str, object]) -> dict[str, str]:
    """Return options as the families read them: text values; yes and no for truth values."""
    return {key: as_text(value) for key, value in options.items()}
