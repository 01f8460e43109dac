"""What the network says of a Host, and the first lines of files there; both asked for by people.

Each address is tried by itself: of two addresses of one name, one that does not answer hides behind
the other in every transfer.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, cast

from ecpds.engine.core import HostEntry
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import EcpdsError, RemoteConfig, RemoteError
from ecpds.transfer.contract import Surroundings, TransferModule
from ecpds.transfer.sockets import Addresses

TRIES: Final = 3  # connections to each address
TRY_LIMIT: Final = timedelta(seconds=3)  # of one
MOST_ADDRESSES: Final = 8
LIMIT: Final = timedelta(seconds=50)  # of a report or of all excerpts; callers wait a minute
EXCERPT: Final = 64 * 1024  # bytes read of one file
MOST_FILES: Final = 5
MOST_LISTED: Final = 1000  # entries looked at for files
LONGEST_LINE: Final = 1000  # characters shown of a line


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressReport:
    """How connections to one address went; milliseconds of those that were made."""

    address: str
    family: str
    took: tuple[float, ...]
    failed: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkReport:
    """The addresses behind the name of a Host; none for one without a network."""

    name: str
    port: int
    addresses: tuple[AddressReport, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The beginning of one remote file; `text` is None when it is no text."""

    name: str
    size: int | None
    read: int
    lines: tuple[str, ...] = ()
    is_text: bool = False
    start: str = ""  # hex of the first bytes
    error: str = ""


async def report(entry: HostEntry, around: Surroundings) -> NetworkReport:
    """Connect to each address of the Host; never raises for what the remote side does."""
    access = entry.access
    if access is None:
        raise RemoteConfig(entry.problem)
    door = access.module.address(access.target, access.options)
    if door is None:
        return NetworkReport(name=entry.host.host, port=0, error="it is reached without a network")
    host, port = door
    target = replace(access.target, host=host)
    try:
        async with asyncio.timeout(LIMIT.total_seconds()):
            found = await Addresses(remembers=False).resolve(target, port, around)
            tried = [
                await _tried(family, where)
                for family, where in dict.fromkeys(found[:MOST_ADDRESSES])
            ]
    except TimeoutError:
        return NetworkReport(name=host, port=port, error="the report took too long")
    except EcpdsError as error:
        return NetworkReport(name=host, port=port, error=error.message)
    return NetworkReport(name=host, port=port, addresses=tuple(tried))


async def _tried(family: int, where: tuple[object, ...]) -> AddressReport:
    took: list[float] = []
    error = ""
    for _ in range(TRIES):
        begun = time.monotonic()
        try:
            async with asyncio.timeout(TRY_LIMIT.total_seconds()):
                await _connect(family, where)
        except TimeoutError:
            error = f"no answer within {TRY_LIMIT.total_seconds():.0f} s"
            break  # the next one would wait as long
        except OSError as problem:
            error = problem.strerror or str(problem)
        else:
            took.append(round((time.monotonic() - begun) * 1000, 2))
    return AddressReport(
        address=str(where[0]), family="ipv6" if family == socket.AF_INET6 else "ipv4",
        took=tuple(took), failed=TRIES - len(took), error=error,
    )  # fmt: skip


async def _connect(family: int, where: tuple[object, ...]) -> None:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
    finally:
        sock.close()


async def excerpts(
    entry: HostEntry, around: Surroundings, *, names: Sequence[str], path: str, lines: int
) -> list[Excerpt]:
    """Read the beginning of some files, or of the first ones below `path` when none is named.

    Raises RemoteError when the Host cannot be reached; what one file says stands with it.
    """
    access = entry.access
    if access is None:
        raise RemoteConfig(entry.problem)
    try:
        async with (
            asyncio.timeout(LIMIT.total_seconds()),
            access.module.connect(access.target, access.options, around) as module,
        ):
            wanted = list(names[:MOST_FILES]) or await _first(module, path)
            return [await _excerpt(module, name, lines) for name in wanted]
    except TimeoutError:
        raise RemoteError("the host took too long") from None


async def _first(module: TransferModule[Any], path: str) -> list[str]:
    """Return the first files of a directory, by name."""
    found, seen = [], 0
    async with aclosing(cast(AsyncGenerator[Entry, None], module.list(path))) as entries:
        async for entry in entries:
            seen += 1
            if entry.kind is Kind.FILE:
                found.append(entry.name)
            if seen >= MOST_LISTED:
                break
    base = path.rstrip("/")
    return [
        name if "://" in name or name.startswith("/") or not path else f"{base}/{name}"
        for name in sorted(found)[:MOST_FILES]
    ]


async def _excerpt(module: TransferModule[Any], name: str, lines: int) -> Excerpt:
    data, whole = bytearray(), True
    try:
        async with aclosing(cast(AsyncGenerator[bytes, None], module.get(name))) as content:
            async for block in content:
                data += block
                if len(data) >= EXCERPT:
                    whole = False
                    break
    except EcpdsError as error:
        return Excerpt(name=name, size=None, read=len(data), error=error.message)
    start = bytes(data[:EXCERPT])
    text = _text_of(start, whole=whole)
    return Excerpt(
        name=name, size=len(data) if whole else None, read=len(start), start=start[:64].hex(),
        is_text=text is not None,
        lines=tuple(one[:LONGEST_LINE] for one in (text or "").splitlines()[:lines]),
    )  # fmt: skip


def _text_of(data: bytes, *, whole: bool) -> str | None:
    """Return the beginning of a text, None for anything else."""
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        is_cut = not whole and error.start >= len(data) - 3  # a sign went on behind the end
        return data[: error.start].decode() if is_cut else None
