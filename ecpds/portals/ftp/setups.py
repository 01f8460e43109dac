"""Where the next data connection comes from: a passive port of ours, or a port of the client.

Spec: RFC 959 (PORT, PASV), RFC 2428 (EPRT, EPSV), RFC 2577 (no third parties, no low ports).
"""

from __future__ import annotations

import errno
import ipaddress
import random
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from ecpds.model.errors import ConfigError, ConnectionLost, InputError, Phase, Unsupported
from ecpds.portals.listener import canonical

Ready = Callable[[socket.socket, bool], Awaitable[None]]
"""Waits until a socket can be read (False) or written (True), under the caller's limits."""

STRANGERS: Final = 8  # connections from elsewhere that a passive port survives
_PORT: Final = re.compile(r"(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})", re.ASCII)
_TRIES: Final = 256  # ports tried in a crowded range before we give up


class Setup(ABC):
    """A data connection to come; used once."""

    @abstractmethod
    async def connect(self, ready: Ready) -> socket.socket:
        """Return the connected, non-blocking socket."""

    @abstractmethod
    def close(self) -> None:
        """Give the port back; may be called twice."""


class PassiveSetup(Setup):
    """We listen, the client connects; only from the address of its control connection."""

    def __init__(self, listening: socket.socket, peer: str) -> None:
        self._listening = listening
        self._peer = peer

    @property
    def port(self) -> int:
        """The port that the client has to connect to."""
        port: int = self._listening.getsockname()[1]
        return port

    async def connect(self, ready: Ready) -> socket.socket:
        """Return the connection of our client.

        Raises:
            ConnectionLost: too many strangers came instead.
        """
        strangers = 0
        while strangers < STRANGERS:
            try:
                sock, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                await ready(self._listening, False)
                continue
            if address[0] == self._peer or canonical(address[0]) == self._peer:
                sock.setblocking(False)
                self.close()
                return sock
            sock.close()
            strangers += 1
        raise ConnectionLost("data connections came from other addresses", phase=Phase.CONNECT)

    def close(self) -> None:
        """Stop listening."""
        self._listening.close()


class ActiveSetup(Setup):
    """The client listens, we connect; only to the address of its control connection."""

    def __init__(self, family: int, host: str, port: int, local: str) -> None:
        self._family = family
        self._host = host
        self._port = port
        self._local = local

    async def connect(self, ready: Ready) -> socket.socket:
        """Return a connection to the client's port.

        Raises:
            ConnectionLost: the client does not take it.
        """
        sock = socket.socket(self._family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self._local, 0))
            code = sock.connect_ex((self._host, self._port))
            if code == errno.EINPROGRESS:
                await ready(sock, True)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                reason = errno.errorcode.get(code, str(code))
                raise ConnectionLost(f"cannot connect to you: {reason}", phase=Phase.CONNECT)
        except BaseException:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """Do nothing: the port is the client's."""


class PassivePorts:
    """The range of ports for passive data connections, `7100-7199`; `0` or empty: any free one."""

    def __init__(self, text: str) -> None:
        """Read the range.

        Raises:
            ConfigError: it is none, or out of 1 to 65535.
        """
        first, dash, last = (part.strip() for part in text.partition("-"))
        self._first = self._last = 0
        if first in ("", "0") and not dash:
            return
        numbers = (first, last if dash else first)
        if not all(n.isascii() and n.isdigit() for n in numbers):
            raise ConfigError(f"{text!r} is no port range; write for example 7100-7199")
        self._first, self._last = (int(n) for n in numbers)
        if not 1 <= self._first <= self._last <= 65535:
            raise ConfigError(f"{text!r} is no port range; ports are 1 to 65535, lower one first")

    def open(self, family: int, local: str, peer: str) -> PassiveSetup:
        """Listen on a free port of the range at the address `local`, for the client `peer`.

        Raises:
            ConnectionLost: no port is free.
        """
        for port in self._candidates():
            sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            try:
                sock.setblocking(False)
                # else each finished transfer would block its port for a minute
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((local, port))
                sock.listen(STRANGERS)
            except OSError as error:
                sock.close()
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    break
            else:
                return PassiveSetup(sock, peer)
        raise ConnectionLost("no passive port is free", phase=Phase.CONNECT)

    def _candidates(self) -> Iterator[int]:
        """Yield ports from a random one on, so that sessions rarely meet."""
        if not self._first:
            yield 0
            return
        count = self._last - self._first + 1
        start = random.randrange(count)  # noqa: S311 - spreads load, guards nothing
        for step in range(min(count, _TRIES)):
            yield self._first + (start + step) % count


def active_port(argument: str) -> tuple[str, int]:
    """Read the argument of PORT, six numbers.

    Raises:
        InputError: it is malformed.
    """
    match = _PORT.fullmatch(argument.strip())
    numbers = [int(n) for n in match.groups()] if match else [256]
    if max(numbers) > 255:
        raise InputError("PORT has six numbers, h1,h2,h3,h4,p1,p2")
    return ".".join(map(str, numbers[:4])), numbers[4] * 256 + numbers[5]


def extended_port(argument: str) -> tuple[str, int]:
    """Read the argument of EPRT, `|2|::1|6446|` with any delimiter.

    Raises:
        InputError: it is malformed.
        Unsupported: the network protocol is neither 1 nor 2.
    """
    parts = argument.split(argument[0]) if argument else []
    if len(parts) != 5 or parts[0] or parts[4]:
        raise InputError("EPRT has the form |protocol|address|port|")
    if parts[1] not in ("1", "2"):
        raise Unsupported("network protocols are (1,2)")
    try:
        address = ipaddress.ip_address(parts[2])
    except ValueError:
        raise InputError("EPRT has no such address") from None
    port = int(parts[3]) if parts[3].isascii() and parts[3].isdigit() else 0
    if address.version != (4 if parts[1] == "1" else 6) or not 1 <= port <= 65535:
        raise InputError("address, protocol and port of EPRT do not fit")
    return canonical(str(address)), port


def shown_passive(host: str, port: int) -> str:
    """Return the six numbers of a PASV reply."""
    return f"{host.replace('.', ',')},{port >> 8},{port & 255}"
