"""Reaching a host through a SOCKS or HTTP proxy: the handshake on a connected socket.

Spec: RFC 1928 (SOCKS 5), RFC 1929 (its login), RFC 9110 section 9.3.6 (CONNECT).
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import struct
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from ecpds.model.errors import ConnectionLost, Phase, RemoteAuth, RemoteConfig, RemoteTransient
from ecpds.model.secret import Secret

LONGEST_HEAD: Final = 16 * 1024
"""Bytes of an HTTP proxy's answer to CONNECT."""

_PORTS: Final = {"http": 8080, "socks5": 1080, "socks5h": 1080}
_REASONS: Final = {
    1: "general failure",
    2: "not allowed",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Where and as whom."""

    scheme: str  # http, socks5, socks5h
    host: str
    port: int
    login: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS."""
        return self.scheme != "http"


def parse_proxy(text: str, option: str) -> Proxy | None:
    """Read `socks5://[login:password@]host[:port]` or `http://…`; None for an empty text.

    The form `host=…,protocol=…,port=…` of older set-ups is read too.  Raises RemoteConfig that
    names the option and no login.
    """
    text = text.strip()
    if not text:
        return None
    if "://" not in text and "=" in text:
        given = dict(part.strip().partition("=")[::2] for part in text.split(","))
        text = f"{given.get('protocol', 'http')}://{given.get('host', '')}"
        text += f":{given['port']}" if "port" in given else ""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise RemoteConfig(
            f"{option} is neither http://host:port nor socks5://host:port", phase=Phase.CONNECT
        )
    return Proxy(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        login=unquote(parts.username or ""),
        password=Secret(unquote(parts.password or "")),
    )


async def pass_through(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Make a non-blocking socket that is connected to the proxy one to `host`.

    Raises RemoteTransient, RemoteAuth; the caller limits the time and closes the socket.
    """
    talk = _Talk(sock, proxy)
    if proxy.is_socks:
        await _socks(talk, proxy, host, port)
    else:
        await _connect(talk, proxy, host, port)


class _Talk:
    """Small exchanges on a raw socket."""

    def __init__(self, sock: socket.socket, proxy: Proxy) -> None:
        self._sock = sock
        self._name = f"{proxy.host}:{proxy.port}"
        self._loop = asyncio.get_running_loop()

    def failure(self, text: str) -> str:
        return f"proxy {self._name}: {text}"

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            block = await self._loop.sock_recv(self._sock, count - len(data))
            if not block:
                raise ConnectionLost(self.failure("it hung up"), phase=Phase.CONNECT)
            data += block
        return data

    async def head(self) -> bytes:
        """Read up to an empty line and no byte more: what follows belongs to the other side."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += await self.exactly(1)
            if len(data) > LONGEST_HEAD:
                raise RemoteTransient(self.failure("its answer is too long"), phase=Phase.CONNECT)
        return data


async def _socks(talk: _Talk, proxy: Proxy, host: str, port: int) -> None:
    await talk.send(b"\x05\x02\x00\x02" if proxy.login else b"\x05\x01\x00")
    version, method = await talk.exactly(2)
    if version != 5 or method not in (0, 2):
        raise RemoteAuth(talk.failure("it wants another login"), phase=Phase.CONNECT)
    if method == 2:
        await _socks_login(talk, proxy)
    await talk.send(b"\x05\x01\x00" + _socks_address(host) + struct.pack(">H", port))
    version, reply, _, kind = await talk.exactly(4)
    if version != 5 or reply:
        text = _REASONS.get(reply, f"error {reply}")
        raise RemoteTransient(
            talk.failure(f"{host}: {text}"), phase=Phase.CONNECT, remote_code=str(reply)
        )
    length = {1: 4, 4: 16}.get(kind)
    if length is None:
        length = (await talk.exactly(1))[0]
    await talk.exactly(length + 2)


async def _socks_login(talk: _Talk, proxy: Proxy) -> None:
    login, password = proxy.login.encode()[:255], proxy.password.reveal().encode()[:255]
    parts = bytes([1, len(login)]), login, bytes([len(password)]), password
    await talk.send(b"".join(parts))
    if (await talk.exactly(2))[1]:
        raise RemoteAuth(talk.failure("it refused the login"), phase=Phase.AUTH)


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("idna") if host.isascii() else host.encode()
        if len(name) > 255:
            raise RemoteConfig("the host name is too long", phase=Phase.CONNECT) from None
        return bytes([3, len(name)]) + name
    return bytes([1 if address.version == 4 else 4]) + address.packed


async def _connect(talk: _Talk, proxy: Proxy, host: str, port: int) -> None:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.login:
        pair = f"{proxy.login}:{proxy.password.reveal()}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}")
    await talk.send("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
    head = await talk.head()
    status = head.split(b" ", 2)[1:2]
    code = int(status[0]) if status and status[0].isdigit() else 0
    if code == 407:
        raise RemoteAuth(talk.failure("it refused the login"), phase=Phase.AUTH, remote_code="407")
    if not 200 <= code < 300:
        raise RemoteTransient(
            talk.failure(f"{host}: {code or 'no HTTP'}"), phase=Phase.CONNECT, remote_code=str(code)
        )
