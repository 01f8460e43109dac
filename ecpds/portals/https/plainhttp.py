"""Plain HTTP on the TLS port: such a client is told the right address instead of a TLS alert."""

from __future__ import annotations

import asyncio
import re
import socket

from ecpds.portals.https.exchange import HOST

PATIENCE = 20.0  # seconds from the connection to the first byte
_HEAD = 8 * 1024  # bytes of the request that are looked at
_TLS_HANDSHAKE = 0x16  # first byte of every TLS connection
_LINE = re.compile(r"[A-Z]{3,10} (/[\x21-\x7e]{0,2000}) HTTP/1\.[01]\r?\n")
_FIELD = re.compile(r"^Host:[ \t]*(\S+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


async def speaks_tls(sock: socket.socket) -> bool:
    """Look at the first byte without taking it; answer a plain request and return False.

    Also False when the client has gone or says nothing.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            await _readable(sock)
            first = sock.recv(1, socket.MSG_PEEK)
            if first and first[0] == _TLS_HANDSHAKE:
                return True
            if first:
                await _redirect(sock)
    except TimeoutError:
        return False
    return False


async def _readable(sock: socket.socket) -> None:
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(sock)


async def _redirect(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    head = b""
    while b"\n\r\n" not in head and b"\n\n" not in head and len(head) < _HEAD:
        block = await loop.sock_recv(sock, _HEAD)
        if not block:
            return
        head += block
    await loop.sock_sendall(sock, answer(head.decode("latin-1")))
    sock.shutdown(socket.SHUT_WR)


def answer(head: str) -> bytes:
    """Return the redirect for the head of a plain request, or a 400 when it makes no sense."""
    line, field = _LINE.match(head), _FIELD.search(head)
    if line is None or field is None or not HOST.fullmatch(field[1]):
        status, extra = "400 Bad Request", ""
    else:
        # 308 keeps the method, so that an upload goes where it should
        status, extra = "308 Permanent Redirect", f"Location: https://{field[1]}{line[1]}\r\n"
    text = "This port speaks HTTPS.\n"
    return (
        f"HTTP/1.1 {status}\r\n{extra}Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
    ).encode("latin-1")
