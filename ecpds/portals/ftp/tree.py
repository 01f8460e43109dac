"""Commands about names: PWD, CWD, MKD, RMD, DELE, RNFR, SIZE, MDTM, MFMT, MLST, HASH and XMD5.

Spec: RFC 959, RFC 3659, draft-somers-ftp-mfxx (MFMT), draft-bryan-ftpext-hash; portal.md 2 and 3.1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ecpds.model.errors import InputError, IsDirectory
from ecpds.portals.ftp import facts
from ecpds.portals.ftp.control import Connection
from ecpds.portals.ftp.parameters import HASHES
from ecpds.vfs.contract import Node


def quoted(path: str) -> str:
    """Return a path as 257 wants it, quotes doubled."""
    return '"' + path.replace('"', '""') + '"'


def plain(text: str) -> str:
    """Return a text that cannot break a reply: one line, printable."""
    return "".join(c if c.isprintable() else " " for c in text)[:500]


async def where(c: Connection, _: str) -> None:
    """PWD."""
    c.reply(257, f"{quoted(c.directory)} is the current directory")


async def change(c: Connection, argument: str) -> None:
    """CWD."""
    if any(wild in argument for wild in "*?"):
        c.reply(451, "No wildcards here")
        return
    node = await c.session.stat(c.path(argument))
    if not node.is_directory:
        c.reply(550, f"{argument} is not a directory")
        return
    c.directory = node.path
    comment = f" ({plain(node.comment)})" if node.comment else ""
    c.reply(250, f"The current directory is {node.path}{comment}")


async def up(c: Connection, _: str) -> None:
    """CDUP; above the root there is nothing."""
    await change(c, "..")


async def make(c: Connection, argument: str) -> None:
    """MKD."""
    path = c.path(argument)
    await c.session.mkdir(path)
    c.reply(257, f"{quoted(path)} created")


async def remove_directory(c: Connection, argument: str) -> None:
    """RMD; only empty ones."""
    await c.session.rmdir(c.path(argument))
    c.reply(250, "Directory removed")


async def delete(c: Connection, argument: str) -> None:
    """DELE."""
    await c.session.delete(c.path(argument))
    c.reply(250, "Deleted")


async def rename_from(c: Connection, argument: str) -> None:
    """RNFR; RNTO has to be the next command."""
    c.rename_from = (await c.session.stat(c.path(argument))).path
    c.reply(350, "Ready for RNTO")


async def rename_to(c: Connection, argument: str) -> None:
    """RNTO."""
    old, c.rename_from = c.rename_from, ""
    if not old:
        c.reply(503, "Send RNFR first")
        return
    await c.session.rename(old, c.path(argument))
    c.reply(250, "Renamed")


async def size(c: Connection, argument: str) -> None:
    """SIZE."""
    c.reply(213, str((await _file(c, argument)).size))


async def modified(c: Connection, argument: str) -> None:
    """MDTM; the time of arrival."""
    node = await _file(c, argument)
    if node.mtime is None:
        c.reply(550, "There is no time")
    else:
        c.reply(213, facts.show_time(node.mtime))


async def set_modified(c: Connection, argument: str) -> None:
    """MFMT; kept as the source time."""
    text, _, name = argument.partition(" ")
    time = facts.read_time(text)
    if not name:
        raise InputError("Syntax: MFMT YYYYMMDDhhmmss path")
    node = await _file(c, name)
    await c.session.set_mtime(node.path, time)
    c.reply(213, f"Modify={facts.show_time(time)}; {node.path}")


async def machine_status(c: Connection, argument: str) -> None:
    """MLST; one node over the control connection."""
    node = await c.session.stat(c.path(argument or "."))
    line = facts.machine_line(node, c.session, c.facts, node.path)
    c.channel.put(f"250-Listing {node.path}\r\n {line}\r\n")
    c.reply(250, "End")


async def hash_of(c: Connection, argument: str) -> None:
    """HASH; with the algorithm that OPTS HASH chose."""
    node = await _file(c, argument)
    digest = await c.session.digest(node.path, HASHES[c.hash])
    c.reply(213, f"{c.hash} 0-{node.size} {digest} {argument}")


def digest(algorithm: str) -> Callable[[Connection, str], Awaitable[None]]:
    """Return XCRC, XMD5, XSHA1 or XSHA256: the digest of a whole file, hexadecimal."""

    async def run(c: Connection, argument: str) -> None:
        name = argument
        if argument.startswith('"') and argument.rstrip().endswith('"') and len(argument) > 2:
            name = argument.rstrip()[1:-1].replace('""', '"')
        node = await _file(c, name)
        c.reply(250, (await c.session.digest(node.path, algorithm)).upper())

    return run


async def _file(c: Connection, argument: str) -> Node:
    node = await c.session.stat(c.path(argument))
    if node.is_directory:
        raise IsDirectory(f"{argument} is a directory")
    return node
