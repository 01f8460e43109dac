"""Where an address is, by a database file that the site supplies, and who may log in from there.

`portal.geoblocking` is a list of continents, countries (ISO code or name) and cities that may log
in, `portal.geodeny` of those that may not; case does not matter.  Spec: portal.md 1.7, Ex 6.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import maxminddb

from ecpds.base.logs import get_logger
from ecpds.model.families import PortalOptions

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GeoRule:
    """The rule of one user."""

    allowed: frozenset[str]
    denied: frozenset[str]
    private: bool  # whether private and loopback addresses may log in

    @classmethod
    def of(cls, options: PortalOptions) -> GeoRule | None:
        """Return the rule, None when there is none."""
        allowed, denied = _names(options.geoblocking), _names(options.geodeny)
        private = options.geo_private == "allow"
        if private and not allowed and not denied:
            return None
        return cls(allowed, denied, private)

    def permits(self, peer: str, places: Places) -> bool:
        """Tell whether a client of that address may log in."""
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        if address.is_private or address.is_loopback or address.is_link_local:
            return self.private
        found = places.of(str(address))
        if found & self.denied:
            return False
        return not self.allowed or bool(found & self.allowed)


def _names(text: str) -> frozenset[str]:
    return frozenset(part.strip().lower() for part in text.split(",") if part.strip())


class Places:
    """Looks addresses up; without a file nothing is known of any."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reader: maxminddb.Reader | None = None

    def open(self) -> None:
        """Read the database into memory; a file that cannot be read is logged and not used."""
        if not self._path or self._reader is not None:
            return
        try:
            self._reader = maxminddb.open_database(self._path, maxminddb.MODE_MEMORY)
        except (OSError, maxminddb.InvalidDatabaseError) as error:
            log.warning("geo database cannot be used", path=self._path, reason=str(error))

    def of(self, address: str) -> frozenset[str]:
        """Return continent, country and city in lower case; nothing of an unknown address."""
        record: Any = self._reader.get(address) if self._reader is not None else None
        if not isinstance(record, dict):
            return frozenset()
        found: set[str] = set()
        for part in ("continent", "country", "city"):
            found.update(_texts(record.get(part)))
        return frozenset(found)


def _texts(part: Any) -> Iterable[str]:
    if not isinstance(part, dict):
        return
    for key in ("iso_code", "code"):
        if isinstance(part.get(key), str):
            yield part[key].lower()
    names = part.get("names")
    if isinstance(names, dict) and isinstance(names.get("en"), str):
        yield names["en"].lower()
