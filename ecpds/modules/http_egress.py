"""Where an HTTP module may go: the configured origin, and public places that its links lead to.

A page or a redirect comes from somebody else and must not turn us against our own network, so that
private addresses are refused at the very look-up that the connection uses: a name that means
something else a moment later gains nothing.

Spec: interface.md 8 (`security.egress_allow`), transfer-modules-protocols.md 13.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ecpds.model.errors import Phase, RemoteConfig, RemoteName, RemoteTimeout, RemoteTransient
from ecpds.transfer.contract import Surroundings, Target

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class Egress:
    """Tells for every URL whether it is the origin's, and refuses what may not be reached."""

    def __init__(
        self,
        target: Target,
        origin: URL,
        around: Surroundings,
        proxy: URL | None = None,
        *,
        trusted: tuple[URL, ...] = (),
    ) -> None:
        """`trusted`: further origins that the operator has named, to which no link leads."""
        self.origin = origin
        self.peer = ""
        self.sock: socket.socket | None = None  # of the latest connection to the host itself
        self._trusted = trusted
        self._home = {str(url.host) for url in (origin, proxy) if url is not None}
        self._target = target
        self._around = around
        self._proxy = proxy
        try:
            self._allowed = tuple(ipaddress.ip_network(text) for text in around.egress_allow)
        except ValueError as error:
            raise RemoteConfig(f"security.egress_allow: {error}", phase=Phase.CONNECT) from None

    def is_origin(self, url: URL) -> bool:
        """Whether `url` belongs to the configured host itself: credentials go only there."""
        return url.origin() == self.origin

    def check(self, url: URL) -> None:
        """Raise RemoteName for an address that may not be asked."""
        if url.scheme not in ("http", "https") or not url.host:
            raise RemoteName(f"{url} is no HTTP address", phase=Phase.CONNECT)
        if url.user is not None or url.password is not None:
            raise RemoteName("an address with a login in it is refused", phase=Phase.CONNECT)
        if self.is_origin(url) or url.origin() in self._trusted:
            return
        try:
            address = ipaddress.ip_address(url.host)
        except ValueError:
            return  # a name: looked at when it is looked up
        if not self._may_reach(address):
            raise _private(url.host)

    def note(self, address: str, sock: socket.socket) -> None:
        """Remember what is connected to, if it is the host itself or the proxy."""
        if address in self._home:
            self.peer, self.sock = address, sock

    def hang_up(self) -> None:
        """End the latest connection; TLS would wait until a broken upload has gone out."""
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

    async def addresses(self, host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
        """Return the socket addresses of a host that may be reached, within the time to connect."""
        try:
            async with asyncio.timeout(self._target.timeouts.connect.total_seconds()):
                return await self._addresses(host, port)
        except TimeoutError:
            raise RemoteTimeout(
                f"the name {host!r} was not looked up in time", phase=Phase.RESOLVE
            ) from None

    async def _addresses(self, host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
        if (host, port) == (self.origin.host, self.origin.port):
            found = await self._around.addresses.resolve(self._target, port, self._around)
            self._home.update(str(where[0]) for _, where in found)
            return found
        found = await self._looked_up(host, port)
        if self._proxy is not None and (host, port) == (self._proxy.host, self._proxy.port):
            self._home.update(str(where[0]) for _, where in found)
            return found
        if any((host, port) == (url.host, url.port) for url in self._trusted):
            return found
        # all of them: which one is tried is not ours to choose
        if not all(self._may_reach(ipaddress.ip_address(str(one[0]))) for _, one in found):
            raise _private(host)
        return found

    async def _looked_up(self, host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
        other = replace(self._target, host=host, address="")
        return await self._around.addresses.resolve(other, port, self._around)

    def _may_reach(self, address: IpAddress) -> bool:
        if any(address in network for network in self._allowed):
            return True
        inner = _inner(address)
        if inner is not None:
            return self._may_reach(inner)
        return address.is_global and not address.is_multicast


def _inner(address: IpAddress) -> IpAddress | None:
    """Return the IPv4 address that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _private(host: str) -> RemoteName:
    return RemoteName(
        f"{host} is a private address and not the host's own: see security.egress_allow",
        phase=Phase.RESOLVE,
    )


class Resolver(AbstractResolver):
    """Asks the egress rule, for aiohttp."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host name."""
        found = await self._egress.addresses(host, port)
        if not found:
            raise RemoteTransient(f"{host} has no address", phase=Phase.RESOLVE)
        return [
            ResolveResult(
                hostname=host,
                host=str(where[0]),
                port=port,
                family=kind,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, where in found
        ]

    async def close(self) -> None:
        """Release nothing."""
