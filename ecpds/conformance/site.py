"""A running server of a case with everything the hub needs to talk to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.conformance.case import Case
from ecpds.conformance.faultproxy import Fault, FaultProxy
from ecpds.conformance.peer import Peer
from ecpds.model.errors import SourceBroke
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.transfer.contract import (
    ByteSink,
    ByteSource,
    Delivered,
    Partial,
    Surroundings,
    TransferModule,
)
from ecpds.transfer.deliver import deliver
from ecpds.transfer.fetch import Fetched, fetch
from ecpds.transfer.meter import Meter
from ecpds.transfer.pool import Pool
from ecpds.transfer.registry import Access, Registry
from ecpds.transfer.source import ContentSource

KIB = 1024
MIB = 1024 * 1024
COMMON = {"ectrans.retryCount": 0, "ectrans.connectTimeOut": "20s", "ectrans.closeTimeOut": "5s"}


class Collected(ByteSink):
    """Keeps what is fetched."""

    def __init__(self) -> None:
        self.content = bytearray()

    async def write(self, block: bytes | memoryview) -> None:
        self.content += block


class Flowing(ByteSource):
    """Content without a descriptor: `content`, then what `end` does when the last byte was taken.

    `announced` is the size that it promises; -1 promises nothing.
    """

    def __init__(
        self,
        content: bytes,
        *,
        announced: int | None = None,
        end: Callable[[], Any] = lambda: None,
        block: int = 32 * KIB,
    ) -> None:
        self.meter = Meter()
        self.offset = 0
        self._content = content
        self._end = end
        self._block = block
        self._announced = len(content) if announced is None else announced
        self.size = self._announced

    def start_at(self, offset: int) -> None:
        self.offset = offset
        self.size = max(self._announced - offset, -1) if self._announced >= 0 else -1

    def count(self, sent: int) -> None:
        self.meter.add(sent)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(self.offset, len(self._content), self._block):
            block = self._content[start : start + self._block]
            yield block
            self.meter.add(len(block))
        waiting = self._end()
        if waiting is not None:
            await waiting


def breaks() -> None:
    """Fail as a source does whose disk went away."""
    raise SourceBroke("the disk is gone")


@dataclass(slots=True)
class Site:
    """The server of one test."""

    case: Case
    peer: Peer
    proxy: FaultProxy | None
    around: Surroundings
    pool: Pool
    extra: dict[str, object] = field(default_factory=dict)
    partials: list[Partial | None] = field(default_factory=list)
    modules: list[TransferModule[Any]] = field(default_factory=list)  # of all sessions

    @property
    def partial(self) -> Partial | None:
        """What the last attempt told to have left behind."""
        return self.partials[-1] if self.partials else None

    def remote(self, name: str) -> str:
        """Return the path of `name` as the module gets it."""
        return self.peer.remote(name)

    def files(self) -> dict[str, bytes]:
        """Return everything below the root with its content, read from the disk."""
        return {name: self.peer.get(name) for name in self.peer.names()}

    def access(self, **options: object) -> Access:
        """Return how the host is used; `login`, `password`, `host` replace those of the peer."""
        peer = self.proxy.peer if self.proxy is not None else self.peer
        login = str(options.pop("login", peer.login))
        password = str(options.pop("password", "" if self.case.is_by_key else peer.password))
        address = str(options.pop("host", peer.host))
        given = {**self.case.options(peer), **COMMON, **self.extra}
        given |= {key.replace("__", "."): value for key, value in options.items()}
        host = Host(
            name=f"{self.case.name}-host",
            method=f"generic{self.case.module.name.capitalize()}",
            host=address,
            login=login,
            password=Secret(password),
            options=given,
        )
        registry = Registry([self.case.module])
        return registry.access(
            host, local_roots=tuple(map(str, (self.peer.root, *self.peer.roots)))
        )

    @asynccontextmanager
    async def session(self, access: Access | None = None) -> AsyncIterator[TransferModule[Any]]:
        """Give a session."""
        async with self.pool.session(access or self.access()) as module:
            self.modules.append(module)
            yield module

    async def deliver(
        self,
        name: str,
        source: ByteSource | bytes,
        *,
        size: int | None = None,
        access: Access | None = None,
        **more: Any,
    ) -> Delivered:
        """Deliver bytes (through a descriptor, as the hub does) or a source to `name`."""
        access = access or self.access()
        if isinstance(source, bytes):
            with descriptor_of(source) as descriptor:
                content = ContentSource(descriptor, len(source), threads=self.around.threads)
                return await self.deliver(name, content, size=size, access=access, **more)
        whole = source.size if size is None else size
        async with self.session(access) as module:
            return await deliver(
                module,
                self.remote(name),
                source,
                size=whole,
                rules=access.delivery,
                clock=self.around.clock,
                on_partial=self.partials.append,
                **more,
            )

    async def fetch(
        self, name: str, *, access: Access | None = None, **more: Any
    ) -> tuple[bytes, Fetched]:
        """Fetch `name`; return content and record."""
        sink = Collected()
        fetched = await self.fetch_into(name, sink, access=access, **more)
        return bytes(sink.content), fetched

    async def fetch_into(
        self, name: str, sink: ByteSink, *, access: Access | None = None, **more: Any
    ) -> Fetched:
        """Fetch `name` into `sink`."""
        access = access or self.access()
        async with self.session(access) as module:
            return await fetch(
                module,
                self.remote(name),
                sink,
                around=self.around,
                watch=access.fetching,
                **more,
            )


@contextmanager
def descriptor_of(content: bytes) -> Iterator[int]:
    """Give a descriptor of a plain file with that content."""
    descriptor = os.memfd_create("content")
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        yield descriptor
    finally:
        os.close(descriptor)


@asynccontextmanager
async def site(
    case: Case, base: Path, *, fault: Fault | None = None, proxied: bool = False
) -> AsyncIterator[Site]:
    """Start the server of a case, behind a proxy when a fault is given or `proxied`."""
    threads = Threads()
    around = Surroundings(threads=threads, clock=SystemClock())
    pool = Pool(around)
    try:
        async with case.server(base) as peer:
            if fault is None and not proxied:
                yield Site(case, peer, None, around, pool)
            else:
                async with FaultProxy(peer, fault) as proxy:
                    yield Site(case, peer, proxy, around, pool)
                    await pool.close()
            await pool.close()
    finally:
        await asyncio.to_thread(threads.close)


def pattern(size: int, seed: int = 0) -> bytes:
    """Return bytes in which no two blocks are the same, so that a shifted piece is seen."""
    step = bytes((seed + i) % 251 for i in range(251))
    body = bytearray(step * (size // 251 + 1))[:size]
    for start in range(0, size - 8, 4096):
        body[start : start + 8] = start.to_bytes(8, "big")
    return bytes(body)
