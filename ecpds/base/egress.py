"""Where requests to addresses that somebody typed in may go: public places, and allowed networks.

Checked at the very look-up that the connection uses, so that a name that means something else a
moment later gains nothing.  Spec: interface.md 8, `security.egress_allow`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from ecpds.model.errors import Denied

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def may_reach(address: IpAddress, allowed: Sequence[str]) -> bool:
    """Tell whether an address is public or in one of the allowed networks."""
    if any(address in ipaddress.ip_network(text, strict=False) for text in allowed):
        return True
    inner = _inner(address)
    if inner is not None:
        return may_reach(inner, allowed)
    return address.is_global and not address.is_multicast


def _inner(address: IpAddress) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def check_literal(host: str, allowed: Sequence[str]) -> None:
    """Raise Denied for an address, given as such, that may not be reached; names pass."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return
    if not may_reach(address, allowed):
        raise _private(host)


class EgressResolver(AbstractResolver):
    """Looks names up for aiohttp; refuses those with an address that may not be reached."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = tuple(allowed)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name; Denied, OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        # all of them: which one is tried is not ours to choose
        if not all(may_reach(ipaddress.ip_address(one[4][0]), self._allowed) for one in found):
            raise _private(host)
        return [
            ResolveResult(
                hostname=host,
                host=str(one[4][0]),
                port=port,
                family=one[0],
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for one in found
        ]

    async def close(self) -> None:
        """Release nothing."""


def _private(host: str) -> Denied:
    return Denied(f"{host} is a private address: see security.egress_allow")
