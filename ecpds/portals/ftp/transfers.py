"""Commands that move bytes: PASV and its like, listings, downloads and uploads.

A reply 226 to an upload means that the content is durable and registered; whatever ends before that
registers nothing.  Bytes that came before a broken connection are kept for REST or APPE.

Spec: RFC 959, RFC 1123 section 4.1, RFC 2428, RFC 3659; portal.md 2.8 and 3.1, interface.md 6.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from ecpds.model.errors import (
    ConnectionLost,
    Incomplete,
    NotDirectory,
    RemoteError,
    Stopping,
    Unsupported,
)
from ecpds.portals.ftp import facts, parameters
from ecpds.portals.ftp.control import Connection
from ecpds.portals.ftp.data import DataLink
from ecpds.portals.ftp.setups import (
    ActiveSetup,
    PassiveSetup,
    active_port,
    extended_port,
    shown_passive,
)
from ecpds.vfs.contract import Listing, Node, Writer

PIECE: Final = 65_536  # bytes of a listing collected before they are sent
MAX_STATUS: Final = 1000  # lines of a listing over the control connection
LEAST_SETTLING: Final = 0.002  # seconds after the end of an upload before we believe it
MOST_SETTLING: Final = 0.025
LOWEST_PORT: Final = 1024  # of a client in active mode: below live servers, not clients

T = TypeVar("T")


# ---- where the data connection comes from


async def passive(c: Connection, _: str) -> None:
    """PASV."""
    if c.only_epsv:
        c.reply(503, "After EPSV ALL only EPSV")
        return
    local = c.local
    if ":" in local:
        c.reply(425, "PASV is for IPv4, use EPSV")
        return
    host = local if ipaddress.ip_address(local).is_loopback else c.site.public_address or local
    c.reply(227, f"Entering Passive Mode ({shown_passive(host, _listen(c).port)})")


async def extended_passive(c: Connection, argument: str) -> None:
    """EPSV; the network protocol is that of the control connection."""
    version = "2" if ":" in c.local else "1"
    if argument.upper() == "ALL":
        c.only_epsv = True
        c.reply(200, "From now on only EPSV")
    elif argument not in ("", version):
        c.reply(522, f"Network protocol not supported, use ({version})")
    else:
        c.reply(229, f"Entering Extended Passive Mode (|||{_listen(c).port}|)")


def _listen(c: Connection) -> PassiveSetup:
    c.drop_setup()
    setup = c.site.ports.open(c.family, c.bound, c.peer)
    c.prepare(setup)
    return setup


async def port(c: Connection, argument: str) -> None:
    """PORT."""
    _activate(c, *active_port(argument))


async def extended_active(c: Connection, argument: str) -> None:
    """EPRT."""
    try:
        host, number = extended_port(argument)
    except Unsupported as error:
        c.reply(522, error.message)
        return
    _activate(c, host, number)


def _activate(c: Connection, host: str, number: int) -> None:
    if c.only_epsv:
        c.reply(503, "After EPSV ALL only EPSV")
    elif not c.site.settings.active:
        c.reply(502, "Active mode is off, use EPSV or PASV")
    elif host != c.peer or number < LOWEST_PORT:
        c.reply(504, "Data connections go to your own address and a port above 1023 only")
    else:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        c.prepare(ActiveSetup(family, host, number, c.local))
        c.reply(200, "We shall connect to you")


# ---- listings


@asynccontextmanager
async def _closing(nodes: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """End a listing that nobody reads on at once, not when the memory is collected."""
    try:
        yield nodes
    finally:
        if isinstance(nodes, AsyncGenerator):
            await nodes.aclose()


async def list_long(c: Connection, argument: str) -> None:
    """LIST, as `ls -l`."""
    now = c.site.clock.now()
    nodes = _listed(c, _without_options(argument))
    await _send(c, nodes, lambda found: facts.list_line(found[0], now, found[0].name))


async def list_names(c: Connection, argument: str) -> None:
    """NLST; the names can be used as they are in the next command."""
    await _send(c, _listed(c, _without_options(argument)), lambda found: found[1])


async def list_machine(c: Connection, argument: str) -> None:
    """MLSD; a file is refused."""
    nodes = c.session.list(c.path(argument or "."))
    await _send(c, nodes, lambda node: facts.machine_line(node, c.session, c.facts, node.name))


def _without_options(argument: str) -> str:
    """Return the path after `-la` and the like, which clients send out of habit."""
    while argument.startswith("-"):
        argument = argument.partition(" ")[2].lstrip()
    return argument


async def _listed(c: Connection, argument: str) -> AsyncIterator[tuple[Node, str]]:
    """Yield what a listing is of, and the name by which the next command can use it."""
    directory, slash, last = argument.rpartition("/")
    if any(wild in last for wild in "*?"):
        how = Listing(pattern=last.replace("[", "[[]"))  # only * and ? are wild in FTP
        prefix, members = directory + slash, c.session.list(c.path(directory + slash or "."), how)
    else:
        prefix = "" if argument in ("", ".") else f"{argument}/" if last else argument
        members = c.session.list(c.path(argument or "."))
    try:
        async with _closing(members):
            async for node in members:
                yield node, prefix + node.name
    except NotDirectory:
        yield await c.session.stat(c.path(argument)), argument


async def _send(c: Connection, nodes: AsyncIterator[T], line: Callable[[T], str]) -> None:
    if c.needs_setup():
        return
    async with _closing(nodes):
        first = await anext(nodes, None)  # refusals come before 150
        async with c.data("Here comes the listing") as link:
            if first is not None:
                await _send_lines(link, first, nodes, line)
    c.reply(226, "Listing sent")


async def _send_lines(
    link: DataLink, first: T, nodes: AsyncIterator[T], line: Callable[[T], str]
) -> None:
    piece = bytearray(f"{line(first)}\r\n".encode())
    async for node in nodes:
        piece += f"{line(node)}\r\n".encode()
        if len(piece) >= PIECE:
            await link.send(bytes(piece))
            await asyncio.sleep(0)  # the others, when this client is always ready
            piece.clear()
    await link.send(bytes(piece))


async def status(c: Connection, argument: str) -> None:
    """STAT: the connection, or a listing over the control connection."""
    if not argument:
        c.reply(211, *parameters.status(c))
        return
    now, count = c.site.clock.now(), 0
    async with _closing(_listed(c, _without_options(argument))) as nodes:
        async for node, _ in nodes:
            if not count:
                c.channel.put("213-Status follows:\r\n")
            count += 1
            c.channel.put(f" {facts.list_line(node, now, node.name)}\r\n")
            await c.room()
            if count >= MAX_STATUS:
                break
    if not count:
        c.channel.put("213-Status follows:\r\n")
    c.reply(213, "End of status")


# ---- files


async def retrieve(c: Connection, argument: str) -> None:
    """RETR, from the byte that REST named."""
    offset, _ = _prepared(c)
    path = c.path(argument)
    if c.needs_setup():
        return
    link: DataLink | None = None
    async with await c.session.open_read(path) as reader:
        if offset > reader.size:
            c.reply(554, f"The file has only {reader.size} bytes")
            return
        try:
            async with c.data(f"Sending {reader.size - offset} bytes") as link:
                await link.send_file(reader, offset)
        finally:
            moved = link.moved if link is not None else 0
            reader.count(moved, offset=offset)
            c.site.counts.bytes_sent += moved
    c.site.counts.downloads += 1
    c.reply(226, "Transfer complete")


async def store(c: Connection, argument: str) -> None:
    """STOR; after REST n it goes on with a parked upload."""
    offset, promise = _prepared(c)
    await _store(c, c.path(argument), offset=offset, promise=promise)


async def append(c: Connection, argument: str) -> None:
    """APPE: go on with a parked upload, or begin a new file; a complete file never grows."""
    _, promise = _prepared(c)
    path = c.path(argument)
    offset = await c.session.parked(path)
    await _store(c, path, offset=offset, promise=promise, exclusive=True)


async def store_unique(c: Connection, argument: str) -> None:
    """STOU: a name that nobody has, told as `FILE: name`."""
    _, promise = _prepared(c)
    name = f"{argument or 'upload'}.{secrets.token_hex(6)}"
    path = c.path(name)
    await _store(c, path, promise=promise, exclusive=True, note=f"FILE: {name}")


async def _store(
    c: Connection,
    path: str,
    *,
    offset: int = 0,
    promise: int | None,
    exclusive: bool = False,
    note: str = "",
) -> None:
    if c.needs_setup():
        return
    size = _promised_size(promise, offset)
    link: DataLink | None = None
    async with await c.session.open_write(
        path, size=size, offset=offset, exclusive=exclusive
    ) as writer:
        try:
            async with c.data(note or "Send your bytes") as link:
                await link.receive(writer, promise)
            _check_counts(link, writer, promise, offset)
        except (RemoteError, Incomplete, Stopping, asyncio.CancelledError):
            writer.park()
            raise
        finally:
            c.site.counts.bytes_received += link.moved if link is not None else 0
        ended = time.monotonic()
        known = link.is_secure or promise is not None  # TLS and ALLO mark the end themselves
        wait = 0.0 if known else min(max(link.lasted / 4, LEAST_SETTLING), MOST_SETTLING)
        await writer.commit(size=writer.received, last_check=lambda: _check_alive(c, ended + wait))
    c.site.counts.uploads += 1
    c.reply(226, f"Transfer complete{'; ' if note else ''}{note}")


def _promised_size(promise: int | None, offset: int) -> int | None:
    """Return the size of the file to be; after REST clients announce either the rest or all."""
    if promise is None:
        return None
    return promise if promise >= offset else offset + promise


def _check_counts(link: DataLink, writer: Writer, promise: int | None, offset: int) -> None:
    """Raise Incomplete when fewer bytes came than ALLO announced."""
    if promise is not None and promise not in (link.moved, writer.received):
        raise Incomplete(
            f"{link.moved} of {promise} bytes came; nothing is registered, "
            f"REST {writer.received} and STOR go on"
        )
    if writer.received < offset:
        raise Incomplete("the parked bytes are gone")


async def _check_alive(c: Connection, until: float) -> None:
    """Make sure that the end of the data was meant to be one; the wait overlaps the sync.

    A killed client closes its data connection first and its control connection moments later
    (Linux ends the descriptors of a process last one first): of 200 killed uploads 60 looked
    complete without a wait, none with 2 ms; of 600 on a machine with twice too much work 8 with
    5 ms, none with 10 ms.  The wait grows with the length of the upload, as does the chance of
    being killed in it.

    Raises:
        ConnectionLost: the control connection has gone too: the client died.
    """
    left = until - time.monotonic()
    if left > 0:
        await c.channel.settle(left)
    if not c.channel.is_alive():
        raise ConnectionLost("the control connection ended")


def _prepared(c: Connection) -> tuple[int, int | None]:
    """Return what REST and ALLO said, for this one transfer."""
    found = c.offset, c.promise
    c.offset, c.promise = 0, None
    return found


async def abort(c: Connection, _: str) -> None:
    """ABOR: the transfer has been interrupted by the channel, its 426 went before."""
    c.drop_setup()
    c.reply(226, "No transfer is running")
