"""From our configuration to the destination backup document of OpenECPDS, which `importing` reads.

Spec: rest-api.md A.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from ecpds.model.account import Grant
from ecpds.model.destination import Destination
from ecpds.model.host import Host
from ecpds.model.options import format_properties

Document = dict[str, Any]
Opened = Callable[[Mapping[str, Any]], Mapping[str, str]]

_MILLISECOND: Final = timedelta(milliseconds=1)
_SAME: Final = {  # ours to theirs
    "active": "active", "comment": "comment", "user_mail": "userMail",
    "max_connections": "maxConnections", "filter_name": "filterName",
}  # fmt: skip
_DESTINATION: Final = _SAME | {
    "country": "countryIso", "acquisition": "acquisition", "retry_count": "retryCount",
    "max_start": "maxStart", "max_requeue": "maxRequeue", "max_pending": "maxPending",
    "mail_on_update": "mailOnUpdate", "mail_on_start": "mailOnStart", "mail_on_end": "mailOnEnd",
    "mail_on_error": "mailOnError", "stop_if_dirty": "stopIfDirty", "monitor": "monitor",
    "backup": "backup", "force_proxy": "forceProxy", "group_by_date": "groupByDate",
    "date_format": "dateFormat", "source_host": "hostForSource",
    "transfer_group": "transferGroupName", "retry_frequency": "retryFrequency",
    "reset_frequency": "resetFrequency", "start_frequency": "startFrequency",
    "max_inactivity": "maxInactivity",
}  # fmt: skip
_HOST: Final = _SAME | {
    "host": "host", "login": "login", "directory": "dir", "retry_count": "retryCount",
    "retry_frequency": "retryFrequency", "acquisition_frequency": "acquisitionFrequency",
    "network_name": "networkName", "network_code": "networkCode", "check": "check",
    "check_frequency": "checkFrequency", "check_filename": "checkFilename",
    "mail_on_success": "mailOnSuccess", "mail_on_error": "mailOnError",
    "notify_once": "notifyOnce", "latitude": "latitude", "longitude": "longitude",
    "transfer_group": "transferGroupName",
}  # fmt: skip
TYPES: Final[Mapping[int, str]] = {
    0: "Acquisition", 1: "Dissemination", 2: "Time Critical", 3: "Other",
}  # fmt: skip


def type_number(text: str) -> int | str:
    """Return the number of a destination's type; a word of the site's own stays."""
    if text.isascii() and text.isdigit():
        return int(text)
    known = {label.lower(): number for number, label in TYPES.items()}
    return known.get(text.strip().lower().replace("-", " ").replace("_", " "), text)


def _fields(one: Destination | Host, names: Mapping[str, str]) -> Document:
    found: Document = {}
    for ours, theirs in names.items():
        value = getattr(one, ours)
        found[theirs] = value // _MILLISECOND if isinstance(value, timedelta) else value
    return found


def destination_facts(one: Destination, opened: Opened) -> Document:
    """Return one destination as it stands in a backup."""
    rules = {f"alias.{alias.to}": alias.rule for alias in one.aliases if alias.rule}
    options = {**opened(one.options), **rules}
    return _fields(one, _DESTINATION) | {
        "name": one.name,
        "type": type_number(one.type),
        "onHostFailure": int(one.on_host_failure.value == "revert"),
        "ifTargetExist": int(one.if_target_exist.value == "resume"),
        "keepInSpool": int(one.keep_in_spool.value == "success"),
        "maxFileSize": -1 if one.max_file_size is None else int(one.max_file_size),
        "properties": format_properties(options, one.script),
    }


def host_facts(one: Host, password: str, opened: Opened) -> Document:
    """Return one host as it stands in a backup."""
    return _fields(one, _HOST) | {
        "name": one.id,
        "nickname": one.name,
        "type": one.role.value.capitalize(),
        "transferMethod": {"name": one.method},
        "passwd": password,
        "properties": format_properties(dict(opened(one.options)), one.script),
    }


def backup_document(
    chosen: Iterable[Destination],
    hosts: Mapping[str, Host],
    password_of: Callable[[Host], str],
    opened: Opened,
) -> Document:
    """Return the backup of some destinations with their hosts and the aliases between them."""
    several = list(chosen)
    names = {one.name for one in several}
    used = {name for one in several for name in (*one.hosts, one.source_host) if name in hosts}
    facts = {name: host_facts(hosts[name], password_of(hosts[name]), opened) for name in used}
    sources = {one.source_host for one in several if one.source_host in facts}
    methods = sorted({hosts[name].method for name in used})
    return {
        "destinations": [
            {
                "destination": destination_facts(one, opened),
                "associations": [
                    {"priority": place, "host": facts[name]}
                    for place, name in enumerate(one.hosts)
                    if name in facts
                ],
            }
            for one in several
        ],
        "hosts": [facts[name] for name in sorted(sources)],
        "aliases": [
            {"aliasFrom": one.name, "aliasTo": alias.to, "conditions": alias.rule}
            for one in several
            for alias in one.aliases
            if alias.to in names
        ],
        "methods": [{"name": name} for name in methods],
        "ecusers": [],
    }


def scopes(grants: Sequence[Grant]) -> list[str]:
    """Return the globs of destinations that a web user may see."""
    return [grant.scope for grant in grants]
