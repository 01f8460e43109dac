"""Opening TCP connections for all modules: name look-up, addresses, socket options, statistics.

A module connects to an address and keeps the name for certificates and host keys.  When the name
service fails, the addresses that the name had last time are used (transfer-modules.md 4.13).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ecpds.base.logs import get_logger
from ecpds.model.errors import Phase, RemoteConfig, RemoteTimeout, RemoteTransient
from ecpds.transfer.proxies import Proxy, pass_through

if TYPE_CHECKING:
    from ecpds.transfer.contract import Surroundings, Target

log = get_logger(__name__)

_MEMORY = "tcp"
_ADDRESS = "address of "

SO_MAX_PACING_RATE = 47  # asm-generic/socket.h; the socket module has no name for it

Address = tuple[int, tuple[object, ...]]
"""Address family and socket address, port included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketTuning:
    """Options set on each socket before it connects (`ectrans.tcp*`); None = system default."""

    no_delay: bool | None = True
    keep_alive: bool | None = None
    keep_alive_time: int | None = None  # seconds
    keep_alive_interval: int | None = None  # seconds
    keep_alive_probes: int | None = None
    user_timeout: int | None = None  # milliseconds
    congestion_control: str = ""
    max_segment: int | None = None  # bytes
    window_clamp: int | None = None  # bytes
    quick_ack: bool | None = None
    linger: int | None = None  # seconds
    pacing_rate: int | None = None  # bytes per second
    send_buffer: int | None = None  # bytes
    receive_buffer: int | None = None  # bytes
    local_address: str = ""

    def apply(self, sock: socket.socket) -> list[str]:
        """Set all that is chosen; return the names of what the kernel refused."""
        refused = []
        for name, level, option, value in self._rows():
            try:
                sock.setsockopt(level, option, value)
            except OSError:
                refused.append(name)
        return refused

    def _rows(self) -> list[tuple[str, int, int, int | bytes]]:
        tcp, sol = socket.IPPROTO_TCP, socket.SOL_SOCKET
        rows: list[tuple[str, int, int, int | bytes | None]] = [
            ("tcpNoDelay", tcp, socket.TCP_NODELAY, self.no_delay),
            ("tcpKeepAlive", sol, socket.SO_KEEPALIVE, self.keep_alive),
            ("tcpKeepAliveTime", tcp, socket.TCP_KEEPIDLE, self.keep_alive_time),
            ("tcpKeepAliveInterval", tcp, socket.TCP_KEEPINTVL, self.keep_alive_interval),
            ("tcpKeepAliveProbes", tcp, socket.TCP_KEEPCNT, self.keep_alive_probes),
            ("tcpUserTimeout", tcp, socket.TCP_USER_TIMEOUT, self.user_timeout),
            ("tcpMaxSegment", tcp, socket.TCP_MAXSEG, self.max_segment),
            ("tcpWindowClamp", tcp, socket.TCP_WINDOW_CLAMP, self.window_clamp),
            ("tcpQuickAck", tcp, socket.TCP_QUICKACK, self.quick_ack),
            ("soMaxPacingRate", sol, SO_MAX_PACING_RATE, _pacing(self.pacing_rate)),
            ("sendBuffSize", sol, socket.SO_SNDBUF, self.send_buffer),
            ("receiveBuffSize", sol, socket.SO_RCVBUF, self.receive_buffer),
        ]
        if self.congestion_control:
            name = self.congestion_control.encode()
            rows.append(("tcpCongestionControl", tcp, socket.TCP_CONGESTION, name))
        if self.linger is not None:
            packed = struct.pack("ii", 1, self.linger)
            rows.append(("tcpLingerTime", sol, socket.SO_LINGER, packed))
        return [
            (name, level, option, value) for name, level, option, value in rows if value is not None
        ]


def _pacing(rate: int | None) -> bytes | None:
    # 64 bits wide, so that rates above 4 GiB/s are not cut
    return None if rate is None else struct.pack("Q", rate)


class Addresses:
    """Looks names up; what they meant last is remembered with the other facts of the Host.

    `remembers`: off where an old address would hide a fault.
    """

    def __init__(self, *, remembers: bool = True) -> None:
        self._remembers = remembers

    async def resolve(self, target: Target, port: int, around: Surroundings) -> list[Address]:
        """Return the addresses to try, in order.

        Raises RemoteTransient with phase resolve when the name is not known and never was.
        """
        name = target.address or target.host
        try:
            found = await around.threads.run(
                "dns", socket.getaddrinfo, name, port, type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            return self._fall_back(target, name, port, around, error)
        if self._remembers and not target.address:
            now = [(int(family), str(where[0])) for family, _, _, _, where in found]
            _remember(target, name, now, around)
        return [(int(family), tuple(where)) for family, _, _, _, where in found]

    def _fall_back(
        self, target: Target, name: str, port: int, around: Surroundings, error: Exception
    ) -> list[Address]:
        known = _recalled(target, name, around)
        if not known or not self._remembers or not target.may_use_old_address:
            raise RemoteTransient(
                f"the name {name!r} cannot be looked up: {error}", phase=Phase.RESOLVE
            ) from None
        log.warning("name not found, last address used", host=target.host_name, name=name)
        return [(family, (where, port)) for family, where in known]


def _remember(
    target: Target, name: str, found: list[tuple[int, str]], around: Surroundings
) -> None:
    if any(where == name for _, where in found):
        return  # an address, nothing was looked up
    if set(_recalled(target, name, around)) == set(found):
        return  # a name service that turns its answers is nothing new
    text = " ".join(f"{int(family)},{where}" for family, where in found)
    around.memory.keep(_MEMORY, target.host_name, f"{_ADDRESS}{name}", text, lasting=True)


def _recalled(target: Target, name: str, around: Surroundings) -> list[tuple[int, str]]:
    text = around.memory.recall(_MEMORY, target.host_name, f"{_ADDRESS}{name}")
    parts = [part.partition(",") for part in text.split()]
    return [(int(family), where) for family, _, where in parts]


async def open_socket(target: Target, port: int, around: Surroundings) -> socket.socket:
    """Return a connected, non-blocking TCP socket to `target`; its caller closes it.

    Tries all addresses in order within `target.timeouts.connect`; raises RemoteTransient,
    RemoteTimeout (phase resolve or connect), or RemoteConfig for an unusable local address.
    """
    phase = Phase.RESOLVE
    try:
        async with asyncio.timeout(target.timeouts.connect.total_seconds()):
            if target.proxy is not None:
                return await _through(target, target.proxy, port, around)
            addresses = await around.addresses.resolve(target, port, around)
            phase = Phase.CONNECT
            return await _first(target, addresses)
    except TimeoutError:
        raise RemoteTimeout(
            f"no connection to {target.host} port {port} in time", phase=phase
        ) from None


async def _through(target: Target, proxy: Proxy, port: int, around: Surroundings) -> socket.socket:
    """Connect through a proxy, which looks the name up."""
    there = replace(target, host=proxy.host, address="", proxy=None)
    sock = await _first(there, await around.addresses.resolve(there, proxy.port, around))
    try:
        await pass_through(sock, proxy, target.address or target.host, port)
    except OSError as error:
        sock.close()
        raise connect_error(there, error) from error
    except BaseException:
        sock.close()
        raise
    return sock


async def _first(target: Target, addresses: list[Address]) -> socket.socket:
    failure: OSError | None = None
    for family, where in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            _prepare(sock, target.sockets)
            await asyncio.get_running_loop().sock_connect(sock, where)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise connect_error(target, failure or OSError("it has no address")) from None


def _prepare(sock: socket.socket, tuning: SocketTuning) -> None:
    tuning.apply(sock)
    if not tuning.local_address:
        return
    try:
        sock.bind((tuning.local_address, 0))
    except OSError as error:
        raise RemoteConfig(
            f"the local address {tuning.local_address} cannot be used: {error}", phase=Phase.CONNECT
        ) from None


def connect_error(target: Target, error: OSError) -> RemoteTransient:
    """Return the error for a connection that `target` did not accept."""
    code = errno.errorcode.get(error.errno or 0, "")
    return RemoteTransient(
        f"no connection to {target.host}: {error.strerror or error}",
        phase=Phase.CONNECT,
        remote_code=code,
    )


# struct tcp_info of linux/tcp.h: 8 single bytes, 24 words of 32 bits, then words of 64 bits
_TCP_INFO = struct.Struct("8B24I4Q")
_WORDS = {"unacked": 4, "lost": 6, "rtt": 15, "rttvar": 16, "cwnd": 18, "total_retrans": 23}


def statistics(sock: socket.socket) -> Mapping[str, int]:
    """Return what the kernel knows of a TCP connection; empty where it does not tell.

    Times in microseconds, `cwnd` in segments, the rest in packets or bytes.
    """
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return {}
    if len(raw) < _TCP_INFO.size:
        return {}
    fields = _TCP_INFO.unpack(raw)
    result = {name: int(fields[8 + word]) for name, word in _WORDS.items()}
    _, _, acked, received = fields[32:36]
    return result | {"bytes_acked": int(acked), "bytes_received": int(received)}
