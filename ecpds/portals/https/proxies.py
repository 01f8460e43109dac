"""Which client a trusted reverse proxy speaks for.

X-Forwarded fields of anybody else are ignored: they would let a client choose its address, and so
escape a ban, or its host, and so another home.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from ecpds.portals.https.exchange import Ask


class Proxies:
    """The networks of the reverse proxies in front of us."""

    def __init__(self, networks: Sequence[str]) -> None:
        """Raise ValueError for a text that is no network."""
        self._networks = [ipaddress.ip_network(text, strict=False) for text in networks]

    def apply(self, ask: Ask) -> None:
        """Put what a trusted proxy tells of the client into the request."""
        if not self._networks or not self._trusts(ask.peer):
            return
        headers = ask.headers
        hops = [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",")]
        # from the right: the last hop that is no proxy of ours is the client
        named = (hop for hop in reversed(hops) if _is_address(hop))
        ask.peer = next((hop for hop in named if not self._trusts(hop)), ask.peer)
        scheme = headers.get("x-forwarded-proto", "").strip().lower()
        if scheme:
            ask.secure = scheme == "https"
        ask.host = headers.get("x-forwarded-host", "").strip() or ask.host

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
