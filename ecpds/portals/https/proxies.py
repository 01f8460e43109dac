"""Which client a trusted reverse proxy speaks for.

X-Forwarded fields of anybody else are ignored: they would let a client choose its address, and so
escape a ban, or its host, and so another home.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a request came from, and under which address it reached us."""

    peer: str
    secure: bool
    host: str


class Proxies:
    """The networks of the reverse proxies in front of us."""

    def __init__(self, networks: Sequence[str]) -> None:
        """Raise ValueError for a text that is no network."""
        self._networks = [ipaddress.ip_network(text, strict=False) for text in networks]

    def seen(self, origin: Origin, headers: Mapping[str, str]) -> Origin:
        """Return what the fields of a trusted proxy tell, else what the connection tells."""
        if not self._networks or not self._trusts(origin.peer):
            return origin
        hops = [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",")]
        # from the right: the last hop that is no proxy of ours is the client
        named = (hop for hop in reversed(hops) if _is_address(hop))
        peer = next((hop for hop in named if not self._trusts(hop)), origin.peer)
        scheme = headers.get("x-forwarded-proto", "").strip().lower()
        return replace(
            origin,
            peer=peer,
            secure=scheme == "https" if scheme else origin.secure,
            host=headers.get("x-forwarded-host", "").strip() or origin.host,
        )

    def _trusts(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
