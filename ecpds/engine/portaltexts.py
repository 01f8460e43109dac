"""Texts in the `portal.*` options of users and policies: what cannot be read is refused at save.

What an importer stored nevertheless denies at run time (portal.md 1.3, Ex 3).
Spec: interface.md 8 (regex and rule errors).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ecpds.base.mail import addresses_in, checked_address
from ecpds.model.account import Permission, Protocol
from ecpds.model.accountterms import read_networks, read_until
from ecpds.model.decode import Where
from ecpds.model.errors import InputError
from ecpds.model.headerrules import parse as parse_headers
from ecpds.model.pathrights import parse_path_rights
from ecpds.model.rules import compile_regex
from ecpds.model.units import DaySchedule

_PROTOCOLS: Final = frozenset(protocol.value for protocol in Protocol)


def _protocols(text: str) -> None:
    for word in text.lower().replace(",", " ").replace(";", " ").split():
        if word not in _PROTOCOLS:
            raise InputError(f"{word!r} is no protocol; they are {', '.join(sorted(_PROTOCOLS))}")


def _addresses(text: str) -> None:
    if len(addresses_in(text)) < len(text.replace(";", " ").replace(",", " ").split()):
        checked_address("")  # tells in its own words


_CHECKS: Final[Mapping[str, Callable[[str], object]]] = {
    "portal.maxconnectionsschedule": DaySchedule.parse,
    "portal.validuntil": read_until,
    "portal.networks": read_networks,
    "portal.headerregistry": parse_headers,
    "portal.pathpermissions": parse_path_rights,
    "portal.excludeprotocols": _protocols,
    "portal.registrationadminemail": _addresses,
    **{f"portal.{one.value}pathpermregex": compile_regex for one in Permission},
}


def check_portal_texts(options: Mapping[str, str], where: Where) -> None:
    """Raise ConfigError naming the option whose text cannot be read."""
    for key, text in options.items():
        check = _CHECKS.get(key.lower())
        if check is None or not text:
            continue
        try:
            check(text)
        except InputError as error:
            raise where.at(key).error(error.message) from None
