"""Options of hosts that announce files by MQTT: `mqtt.*`, and their older names below `http.`.

Spec: transfer-modules-protocols.md 3.6, notifications.md section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

from ecpds.model.decode import opt
from ecpds.model.names import ByteCount
from ecpds.model.options import OptionFamily
from ecpds.model.secret import Secret
from ecpds.transfer.options import HOST, NamingOptions

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttHostOptions(OptionFamily):
    """How a broker is listened to, and how its messages are read."""

    prefix: ClassVar[str] = "mqtt"
    scopes: ClassVar[frozenset[str]] = HOST

    scheme: Literal["mqtts", "mqtt", "wss", "ws"] = opt("mqtts", "mqtts, mqtt, wss or ws.")
    port: int | None = opt(None, "Port; empty = 8883, 1883, 443 or 80.", low=1, high=65535)
    path: str = opt("/mqtt", "Address of the WebSocket.")
    version: Literal["5", "3.1.1"] = opt("5", "Version of the protocol.")
    client_id: str = opt("", "Client id; empty = a stable one of ours.", key="clientId")
    clean_start: bool = opt(False, "Forget what was missed.", key="cleanStart")
    session_expiry: timedelta = opt(
        _DAY, "How long the broker keeps what we miss.", key="sessionExpiryInterval", low=0
    )
    qos: int = opt(1, "0 or 1.", low=0, high=1)
    keep_alive: timedelta = opt(
        timedelta(minutes=1), "Between signs of life.", key="keepAliveInterval", low=5
    )
    connect_timeout: timedelta = opt(
        timedelta(seconds=30), "To connect and log in.", key="connectionTimeout", low=1
    )
    in_flight: int = opt(
        100, "Messages taken before they are stored (Receive Maximum).", key="maxInFlight",
        low=1, high=10_000,
    )  # fmt: skip
    ssl_validation: bool = opt(True, "Check the certificate.", key="sslValidation")
    preset: Literal["", "wis2"] = opt("", "wis2: messages of the WMO Information System 2.0.")
    largest: ByteCount = opt(
        ByteCount(1024 * 1024), "Largest message, and largest content in one.", key="maxSize",
        low=1024, high=64 * 1024 * 1024,
    )  # fmt: skip
    href: str = opt("", "Path of the address of the file.", key="map.href")
    name: str = opt("", "Path of its name; else the end of the address.", key="map.name")
    size: str = opt("", "Path of its size.", key="map.size")
    time: str = opt("", "Path of its time: RFC 3339 or milliseconds.", key="map.time")
    body: str = opt("", "Path of the content itself.", key="map.body")
    encoding: str = opt("", "Path of its encoding: utf-8, base64, gzip.", key="map.encoding")
    integrity: str = opt("", "Path of its digest in base64 or hex.", key="map.integrity")
    integrity_method: str = opt(
        "'sha256'", "Path of the method of the digest, or a 'text'.", key="map.integrityMethod"
    )
    identifier: str = opt("", "Path of the id of the message.", key="map.id")
    metadata: str = opt("", "name=path list of metadata.", key="map.metadata")
    filter: str = opt("", "Expression over name, href, size, topic: only these.")
    brokers: Secret = opt(
        Secret(""), "Further brokers that announce the same, mqtts://user:password@host:port, …"
    )
    validation: Literal["strict", "warn", "off"] = opt(
        "warn", "Preset wis2: strict refuses messages that are not valid, warn counts them."
    )
    centres: str = opt("", "Preset wis2: globs of centre ids, !glob excludes: xx-*, !xx-test.")
    bbox: str = opt("", "Preset wis2: only data inside of west,south,east,north.")
    media_types: str = opt("", "Preset wis2: globs of media types.", key="mediaTypes")
    prefer_cache: tuple[str, ...] = opt(
        (), "Preset wis2: Global Caches whose links are taken rather than others.",
        key="preferCache",
    )  # fmt: skip
    replay_url: str = opt(
        "", "Where missed messages are asked for, https://NODE/wis2/replay.", key="replayUrl"
    )
    add_payload: bool = opt(False, "Store the message beside the file.", key="addPayload")
    # as in a listing, for fetching
    login: str = opt("", "Overrides the login of the host.")
    password: Secret = opt(Secret(""), "Overrides the password of the host.")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMqttOptions(NamingOptions):
    """The older names, below `http.`: a host whose files are announced by MQTT."""

    mqtt_mode: bool = opt(False, "The host is a broker that announces files.", key="mqttMode")
    mqtt_url: str = opt("", "Address of the broker; overrides host and port.", key="mqttUrl")
    mqtt_scheme: Literal["ssl", "tcp", "wss", "ws"] = opt("ssl", "ssl or tcp.", key="mqttScheme")
    mqtt_port: int = opt(8883, "Port of the broker.", key="mqttPort", low=1, high=65535)
    mqtt_subscriber_id: str = opt("", "Client id.", key="mqttSubscriberId")
    mqtt_clean_start: bool = opt(False, "Forget what was missed.", key="mqttCleanStart")
    mqtt_session_expiry: timedelta = opt(
        _DAY, "How long the broker keeps what we miss.", key="mqttSessionExpiryInterval", low=0
    )
    mqtt_qos: int = opt(1, "0, 1 or (read as 1) 2.", key="mqttQos", low=0, high=2)
    mqtt_connect_timeout: timedelta = opt(
        timedelta(seconds=30), "To connect and log in.", key="mqttConnectionTimeout", low=1
    )
    mqtt_keep_alive: timedelta = opt(
        timedelta(minutes=1), "Between signs of life.", key="mqttKeepAliveInterval", low=5
    )
    mqtt_await: timedelta = opt(
        timedelta(minutes=1), "Accepted from older set-ups: we listen always.", key="mqttAwait"
    )
    mqtt_max_files: int = opt(
        100, "Messages taken before they are stored.", key="mqttMaxFiles", low=1
    )
    mqtt_persistence: bool = opt(
        False, "Accepted from older set-ups: what was taken is in the store.", key="mqttPersistence"
    )
    mqtt_persistence_mode: str = opt("", "Accepted as well.", key="mqttPersistenceMode")
    mqtt_persistence_directory: str = opt("", "Accepted as well.", key="mqttPersistenceDirectory")
    mqtt_href: str = opt("", "Path of the address of the file.", key="mqttHref")
    mqtt_name: str = opt("", "Path of its name.", key="mqttAlternativeName")
    mqtt_size: str = opt("", "Path of its size.", key="mqttSize")
    mqtt_time: str = opt("", "Path of its time.", key="mqttTime")
    mqtt_body: str = opt("", "Path of the content itself, base64.", key="mqttBody")
    mqtt_add_payload: bool = opt(False, "Store the message beside the file.", key="mqttAddPayload")

    def as_mqtt(self, *, ssl_validation: bool) -> MqttHostOptions:
        """Return the same with the names of now."""
        schemes: dict[str, Literal["mqtts", "mqtt", "wss", "ws"]] = {
            "ssl": "mqtts", "tcp": "mqtt", "wss": "wss", "ws": "ws",
        }  # fmt: skip
        return MqttHostOptions(
            scheme=schemes[self.mqtt_scheme],
            port=self.mqtt_port,
            client_id=self.mqtt_subscriber_id,
            clean_start=self.mqtt_clean_start,
            session_expiry=self.mqtt_session_expiry,
            qos=min(self.mqtt_qos, 1),
            keep_alive=self.mqtt_keep_alive,
            connect_timeout=self.mqtt_connect_timeout,
            in_flight=min(self.mqtt_max_files, 10_000),
            ssl_validation=ssl_validation,
            preset="" if self.mqtt_href or self.mqtt_body else "wis2",
            href=self.mqtt_href,
            name=self.mqtt_name,
            size=self.mqtt_size,
            time=self.mqtt_time,
            body=self.mqtt_body,
            encoding="'base64'",
            add_payload=self.mqtt_add_payload,
        )
