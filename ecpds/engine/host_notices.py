"""What a Host wants published at a broker of its own after each delivery to it.

`ectrans.notifyAuth` says where, `ectrans.notifyPublish` what.  A Host without both has no notice,
and its deliveries cost one comparison.  Spec: transfer-modules.md 4.12 and 5.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ecpds.model.decode import Where
from ecpds.model.errors import ConfigError
from ecpds.model.names import nearest
from ecpds.model.secret import Secret
from ecpds.model.transfer import Transfer
from ecpds.store import outbox
from ecpds.store.db import Connection
from ecpds.store.outbox import HOST
from ecpds.transfer.mqttlink import LinkOptions
from ecpds.transfer.options import EctransOptions

AUTH: Final = "ectrans.notifyAuth"
PUBLISH: Final = "ectrans.notifyPublish"
PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
MOST_BROKERS: Final = 20
MOST_PROPERTIES: Final = 50
LONGEST_LIFETIME: Final = 2**32 - 1  # seconds, the message expiry of MQTT 5
CONNECT_WITHIN: Final = 8.0  # seconds, so that a second broker gets its turn
_AUTH: Final = ("url", "name", "password")
_PUBLISH: Final = ("topic", "payload", "metadata", "lifetime")
_ALIASES: Final = {"key": "topic", "url": "payload", "value": "metadata"}
_FIELD: Final = re.compile(r"(?:^|(?<!\\);)\s*([A-Za-z]\w*)\s*=")
_PROPERTY: Final = re.compile(r"(?:^|(?<!\\),)\s*([\w.:/-]+)\s*=")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNotice:
    """What is published after each delivery to one Host; the texts are templates."""

    host: str
    brokers: tuple[tuple[str, str, int], ...]  # scheme, name, port
    login: str
    password: Secret
    topic: str
    payload: str
    metadata: tuple[tuple[str, str], ...]
    lifetime: timedelta | None  # of the message, None: it does not expire
    ca: str = ""  # authorities of the brokers as for the Host: a path or PEM text

    @classmethod
    def of(cls, name: str, options: EctransOptions) -> HostNotice | None:
        """Return the notice of a Host, None when nothing is to be sent.

        Raises ConfigError for texts that cannot be read.
        """
        auth, wanted = options.notify_auth.reveal(), options.notify_publish
        if not auth and not wanted:
            return None
        brokers, login, password = parse_auth(auth) if auth else ((), "", Secret(""))
        found = _publish_fields(wanted)
        metadata = _properties(found.get("metadata", ""))
        lifetime = _lifetime(found.get("lifetime", ""))
        if not brokers or not found.get("topic") or not found.get("payload") or not metadata:
            return None
        return cls(
            host=name,
            brokers=brokers,
            login=login,
            password=password,
            topic=found["topic"],
            payload=found["payload"],
            metadata=metadata,
            lifetime=lifetime,
            ca=options.tls_ca,
        )

    @property
    def kind(self) -> str:
        """Return the kind of its rows in the outbox: each Host has a queue of its own."""
        return HOST + self.host

    def delivered(self, db: Connection, transfer: Transfer, *, now: datetime) -> None:
        """Note a success; it is told no longer than the transfer or the message lasts."""
        expires = transfer.expires_at
        if self.lifetime is not None:
            expires = min(expires, now + self.lifetime)
        outbox.add(
            db, (self.kind,), transfer.destination, transfer.id, "delivered",
            expires_at=expires, now=now,
        )  # fmt: skip

    def links(self, client_id: str) -> list[LinkOptions]:
        """Return how its brokers are reached, in the order of the option."""
        return [
            LinkOptions(
                host=host, port=port, scheme=scheme, login=self.login, password=self.password,
                client_id=client_id, timeout=CONNECT_WITHIN,
            )
            for scheme, host, port in self.brokers
        ]  # fmt: skip


def parse_auth(text: str) -> tuple[tuple[tuple[str, str, int], ...], str, Secret]:
    """Return brokers, login and password of `url=…;name=…;password=…`; all three must be there.

    Raises ConfigError, whose text never holds the password.
    """
    found = _fields(text, _AUTH, "ectrans.notifyAuth")
    missing = [key for key in _AUTH if not found.get(key)]
    if missing:
        raise ConfigError(f"ectrans.notifyAuth has no {' and no '.join(missing)}")
    return _brokers(found["url"]), found["name"], Secret(found["password"])


def _brokers(url: str) -> tuple[tuple[str, str, int], ...]:
    scheme, _, places = url.partition("://")
    scheme = scheme.lower()
    if scheme not in PORTS or not places:
        raise _bad_url()
    found = tuple(_broker(scheme, one.strip()) for one in places.rstrip("/").split("|"))
    if len(found) > MOST_BROKERS:
        raise ConfigError(f"ectrans.notifyAuth names more than {MOST_BROKERS} brokers")
    return found


def _broker(scheme: str, place: str) -> tuple[str, str, int]:
    try:
        parts: SplitResult = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port or PORTS[scheme]
    except ValueError:
        raise _bad_url() from None
    if not host or "@" in place or parts.path or parts.query or parts.fragment:
        raise _bad_url()
    return scheme, host, port


def _bad_url() -> ConfigError:
    return ConfigError("ectrans.notifyAuth: url is not mqtt[s]://host[:port][|host[:port]]…")


def _publish_fields(text: str) -> dict[str, str]:
    """Return the fields of `topic=…;payload=…;metadata=…;lifetime=…` by their usual names."""
    found: dict[str, str] = {}
    given = _fields(text, (*_PUBLISH, *_ALIASES), "ectrans.notifyPublish") if text else {}
    for key, value in given.items():
        name = _ALIASES.get(key, key)
        if name in found:
            raise ConfigError(f"ectrans.notifyPublish says {name} twice")
        found[name] = value
    return found


def _fields(text: str, known: Iterable[str], option: str) -> dict[str, str]:
    r"""Return `name=value;name=value` as a table; `\;` is a semicolon within a value."""
    names = tuple(known)
    found: dict[str, str] = {}
    for name, value in _parts(text, _FIELD, option, ";"):
        key = name.lower()
        if key not in names:
            near = nearest(key, names)
            # without a near name it may be a piece of the password
            what = f"no part {name!r}" if near else f"parts other than {', '.join(names)}"
            raise ConfigError(f"{option} has {what}", nearest=near)
        if key in found:
            raise ConfigError(f"{option} says {key} twice")
        found[key] = value
    return found


def _properties(text: str) -> tuple[tuple[str, str], ...]:
    if not text:
        return ()
    found = tuple(_parts(text, _PROPERTY, "ectrans.notifyPublish: metadata", ","))
    if len(found) > MOST_PROPERTIES:
        raise ConfigError(f"ectrans.notifyPublish: more than {MOST_PROPERTIES} parts of metadata")
    return found


def _parts(
    text: str, start: re.Pattern[str], option: str, separator: str
) -> Iterable[tuple[str, str]]:
    """Yield names and values; a separator that no `name=` follows belongs to the value."""
    hits = list(start.finditer(text))
    if not hits or hits[0].start() != 0:
        raise ConfigError(f"{option} is not name=value{separator}name=value")
    ends = [hit.start() for hit in hits[1:]] + [len(text)]
    for hit, end in zip(hits, ends, strict=True):
        value = text[hit.end() : end].strip().removesuffix(separator)
        yield hit[1], value.replace("\\" + separator, separator)


def _lifetime(text: str) -> timedelta | None:
    if not text or text == "-1":
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:20]) <= LONGEST_LIFETIME:
        raise ConfigError("ectrans.notifyPublish: lifetime is milliseconds, or -1 for none")
    return timedelta(milliseconds=int(text))


def checked_texts(options: Mapping[str, str], where: Where) -> list[tuple[str, bool]]:
    """Return the templates of a Host's notice, and whether `{name}` is a variable there.

    Raises ConfigError at the place of an option that cannot be read.
    """
    found: dict[str, str] = {}
    for key in (AUTH, PUBLISH):
        if not options.get(key):
            continue
        try:
            HostNotice.of("", EctransOptions.read({key: options[key]}))
            if key == PUBLISH:
                found = _publish_fields(options[key])
        except ConfigError as error:
            raise where.at(key).error(error.bare, error.nearest) from None
    metadata = _properties(found.get("metadata", ""))
    plain = [found.get("payload", ""), *(text for _, text in metadata)]
    return [(found.get("topic", ""), True), *((text, False) for text in plain)]
