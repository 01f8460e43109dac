"""Which field of the original is which of ours, and how its value is written today."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from ecpds.engine.ruletexts import OF_DESTINATION, OF_HOST
from ecpds.model.account import Permission, Service
from ecpds.model.errors import InputError
from ecpds.model.options import as_text


@dataclass(frozen=True, slots=True)
class Field:
    """Our key, and how a value becomes ours."""

    key: str
    read: Callable[[Any], Any]


Table = Mapping[str, Field]


def text(value: Any) -> str:
    """Return a text; an object is meant by its name."""
    return name_of(value)


def name_of(value: Any) -> str:
    """Return the name of an object that is there by name or as a whole."""
    if isinstance(value, Mapping):
        folded = {str(key).lower(): one for key, one in value.items()}
        return str(folded.get("name") or folded.get("id") or folded.get("iso") or "")
    return "" if value is None else str(value)


def flag(value: Any) -> bool:
    """Return a flag as the original reads it: yes and true, anything else is no."""
    return value is True or str(value).strip().lower() in {"yes", "true", "1"}


def count(value: Any) -> int:
    """Return a whole number."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise InputError(f"{value!r} is no whole number") from None


def not_below(least: int) -> Callable[[Any], int]:
    """Return a reader that lifts smaller numbers to `least`."""
    return lambda value: max(count(value), least)


def lasting(value: Any) -> str:
    """Return milliseconds, or a duration text, with its unit."""
    if isinstance(value, str) and not value.strip().lstrip("-").isdigit():
        return value
    return as_text(timedelta(milliseconds=max(count(value), 0)))


def size(value: Any) -> str | None:
    """Return a byte size; a negative one means none."""
    return None if count(value) < 0 else str(count(value))


def choice(*words: str) -> Callable[[Any], str]:
    """Return a reader of a number or word that chooses one of `words`."""

    def read(value: Any) -> str:
        if str(value).lower() in words:
            return str(value).lower()
        number = count(value)
        if not 0 <= number < len(words):
            raise InputError(f"{value!r} is none of {', '.join(words)}")
        return words[number]

    return read


def degrees(value: Any) -> float | None:
    """Return a coordinate."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{value!r} is no number") from None


def keys(value: Any) -> list[str]:
    """Return public keys, one a line."""
    lines = value if isinstance(value, list) else str(value).splitlines()
    return [str(line).strip() for line in lines if str(line).strip()]


def service(value: Any) -> str:
    """Return the kind of a data user."""
    word = str(value).strip().lower().replace(" ", "-").replace("_", "-")
    if word not in {one.value for one in Service}:
        raise InputError(f"{value!r} is none of {', '.join(Service)}")
    return word


def operations(value: Any) -> list[str]:
    """Return the operations of a data user: a list, or flags by name; none given: all."""
    known = {one.value for one in Permission}
    if value is None:
        return sorted(known)
    if isinstance(value, Mapping):
        return sorted(str(key).lower() for key, one in value.items()
                      if flag(one) and str(key).lower() in known)  # fmt: skip
    return sorted({name_of(one).lower() for one in value} & known)


def safe_name(name: str) -> str:
    """Return a nickname as it may be here: other characters become `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.strip()).strip("-.")[:128]


_COMMON: Final = {
    "active": Field("active", flag),
    "comment": Field("comment", text),
    "usermail": Field("user_mail", text),
    "maxconnections": Field("max_connections", not_below(-1)),
    "retryfrequency": Field("retry_frequency", lasting),
    "filtername": Field("filter_name", lambda value: text(value) or "none"),
    "transfergroup": Field("transfer_group", text),
    "transfergroupname": Field("transfer_group", text),
}
DESTINATION: Final[Table] = {
    **_COMMON,
    "type": Field("type", text),
    "countryiso": Field("country", text),
    "country": Field("country", text),
    "acquisition": Field("acquisition", flag),
    "onhostfailure": Field("on_host_failure", choice("stay", "revert")),
    "retrycount": Field("retry_count", not_below(-1)),
    "resetfrequency": Field("reset_frequency", lasting),
    "maxstart": Field("max_start", not_below(0)),
    "startfrequency": Field("start_frequency", lasting),
    "maxrequeue": Field("max_requeue", not_below(-1)),
    "maxpending": Field("max_pending", not_below(0)),
    "maxfilesize": Field("max_file_size", size),
    "maxinactivity": Field("max_inactivity", lasting),
    "iftargetexist": Field("if_target_exist", choice("overwrite", "resume")),
    "keepinspool": Field("keep_in_spool", choice("expiration", "success")),
    "mailonupdate": Field("mail_on_update", flag),
    "mailonstart": Field("mail_on_start", flag),
    "mailonend": Field("mail_on_end", flag),
    "mailonerror": Field("mail_on_error", flag),
    "stopifdirty": Field("stop_if_dirty", flag),
    "monitor": Field("monitor", flag),
    "backup": Field("backup", flag),
    "forceproxy": Field("force_proxy", flag),
    "groupbydate": Field("group_by_date", flag),
    "dateformat": Field("date_format", lambda value: text(value) or "yyyyMMdd"),
}
HOST: Final[Table] = {
    **_COMMON,
    "host": Field("host", text),
    "login": Field("login", text),
    "passwd": Field("password", text),
    "password": Field("password", text),
    "dir": Field("directory", text),
    "directory": Field("directory", text),
    "retrycount": Field("retry_count", not_below(0)),
    "acquisitionfrequency": Field("acquisition_frequency", lasting),
    "networkname": Field("network_name", text),
    "networkcode": Field("network_code", text),
    "check": Field("check", flag),
    "checkfrequency": Field("check_frequency", lasting),
    "checkfilename": Field("check_filename", text),
    "mailonsuccess": Field("mail_on_success", flag),
    "mailonerror": Field("mail_on_error", flag),
    "notifyonce": Field("notify_once", flag),
    "latitude": Field("latitude", degrees),
    "longitude": Field("longitude", degrees),
}
USER: Final[Table] = {
    "password": Field("password", text),
    "comment": Field("comment", text),
    "email": Field("comment", text),
    "active": Field("active", flag),
    "countryiso": Field("country", text),
    "sshkeys": Field("ssh_keys", keys),
    "authorizedsshkeys": Field("ssh_keys", keys),
    "portalservice": Field("service", service),
}
POLICY: Final[Table] = {
    "comment": Field("comment", text),
    "active": Field("active", flag),
}
ROLES: Final = frozenset(
    {"dissemination", "acquisition", "source", "backup", "proxy", "replication"}
)
USER_LISTS: Final = ("users", "dataUsers", "incomingUsers")
KNOWN_LISTS: Final = frozenset(
    {"destinations", "aliases", "methods", "hosts", "policies", *USER_LISTS}
)
SKIPPED: Final = {
    "ecusers": "owners of the original have no part here",
    "categories": "web rights are roles with scopes: give them with web-user",
    "webUsers": "web rights are roles with scopes: give them with web-user",
    "transferGroups": "one node: groups choose volumes",
    "transferServers": "one node",
    "modules": "modules come with the program",
}
# Read elsewhere, or facts of the other installation.
PASSED_OVER: Final = frozenset({
    "name", "id", "nickname", "transfermethod", "transfermethodname", "method", "properties",
    "data", "script", "statuscode", "status", "hostforsource", "hostforsourcename", "associations",
    "destination", "update", "ecuser", "ecusername", "owner", "hoststats", "hostlocation",
    "hostoutput", "stats", "output", "permissions", "destinations", "policies", "lastlogin",
    "lastlogindate", "lastlogininfo", "synchronized", "automaticlocation", "type", "userstatus",
    "schedulervalue", "transferrate", "schedulervalueid", "lasttransfers",
})  # fmt: skip
LEGACY: Final[Mapping[str, frozenset[str]]] = {"destination": OF_DESTINATION, "host": OF_HOST}
GONE: Final = {
    "scheduler.mastertonotifyondone": "there is one node",
    "ectrans.usemover": "there is one node",
    "ectrans.moverlistforsource": "there is one node",
    "ectrans.moverlistforprocessing": "there is one node",
    "ectrans.notifypre": "no script runs around a delivery; ectrans.notifyPublish tells of it",
    "ectrans.notifypost": "no script runs around a delivery; ectrans.notifyPublish tells of it",
}
_HOURS: Final = frozenset(
    {"acquisition.fileage", "acquisition.datedelta", "acquisition.lifetime", "incoming.lifetime"}
)
_BARE: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def today(kind: str, key: str, value: str) -> str:
    """Return the value of an option as it is written today: units on numbers, yes or no."""
    plain = value.strip()
    if "duration" in kind and _BARE.fullmatch(plain):
        return as_text(timedelta(hours=int(plain)) if key.lower() in _HOURS
                       else timedelta(milliseconds=int(plain)))  # fmt: skip
    if "yes" in kind or kind in {"bool", "boolean", "flag"}:
        return "yes" if plain.lower() in {"yes", "true"} else "no" if plain else value
    return value
