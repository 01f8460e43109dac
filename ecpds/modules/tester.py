"""`genericTest`: a remote system that exists only in memory, with faults on demand.

What is put is read, counted and hashed at `test.bytesPerSec`, not kept: size and SHA-256 stay
known under the name, so that verification, renaming and going on after a fault work as they do
elsewhere.  What is listed and fetched is made from `test.seed`, so that two runs see the same
bytes and the same faults.

Spec: transfer-modules-protocols.md section 11.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final, Self

from ecpds.model.decode import opt
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTransient,
)
from ecpds.model.names import ByteCount, ByteRate
from ecpds.transfer.contract import (
    ByteSource,
    Feature,
    Naming,
    Surroundings,
    Target,
    TransferModule,
)
from ecpds.transfer.meter import Throttle
from ecpds.transfer.options import NamingOptions

DEFAULT_RATE: Final = 10 * 1024 * 1024
BLOCK: Final = 64 * 1024
EPOCH: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""Time of the first synthetic file; each further one is a minute younger."""

FAULTS: Final = ("connect", "auth", "list", "data", "space", "verify", "commit", "slow", "stall")
_FAULT = re.compile(rf"({'|'.join(FAULTS)}|corrupt)(?:@(\d{{1,3}})%)?(?:x(\d{{1,6}}))?")
_NAME = re.compile(r"test-(\d{6})\.bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class TestOptions(NamingOptions):
    """Options of the `test` family."""

    __test__: ClassVar[bool] = False  # for pytest this is no test

    prefix: ClassVar[str] = "test"

    rate: ByteRate = opt(
        ByteRate(DEFAULT_RATE), "Bytes per second; 0 = 10MB.", key="bytesPerSec", low=0
    )
    delay: timedelta = opt(
        timedelta(milliseconds=500), "Pause before each act and the connection.", low=0
    )
    errors_frequency: int = opt(
        1000, "One act of so many fails, 0 = none.", key="errorsFrequency", low=0
    )
    fault: tuple[str, ...] = opt(
        (),
        "connect, auth, list, data@60%, space@50%, verify, commit, slow, stall@10%, corrupt;"
        " x2 behind it = only the first two times.",
    )
    seed: int = opt(0, "Other contents, other acts that fail.")
    files: int = opt(10, "Files in every listing.", low=0, high=999_999)
    file_size: ByteCount = opt(
        ByteCount(1024 * 1024), "Bytes of each of them.", key="fileSize", low=0
    )


@dataclass(frozen=True, slots=True)
class _Fault:
    """A fault that was ordered."""

    kind: str
    percent: int
    times: int  # 0: always


class TestModule(TransferModule[TestOptions]):
    """A session with nobody."""

    __test__ = False

    name = "test"
    options = TestOptions
    features = (
        Feature.LIST
        | Feature.GET
        | Feature.PUT
        | Feature.RESUME_GET
        | Feature.RESUME_PUT
        | Feature.SIZE
        | Feature.DELETE
        | Feature.RENAME
        | Feature.REPLACE
        | Feature.MKDIR
        | Feature.RMDIR
        | Feature.CHECKSUM
    )

    def __init__(self, target: Target, options: TestOptions, around: Surroundings) -> None:
        self._host = target.host_name
        self._options = options
        self._around = around
        self._faults = tuple(_faults(options.fault))
        rate = options.rate or DEFAULT_RATE
        self._throttle = Throttle(rate // 100 + 1 if self._strikes("slow") else rate)

    @classmethod
    def naming(cls, options: TestOptions) -> Naming:
        """Return how files are named until complete."""
        return options.naming()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: TestOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Give a session after the delay."""
        session = cls(target, options, around)
        await session._act(Phase.CONNECT, "connect", RemoteTransient)
        if session._strikes("auth"):
            raise RemoteAuth("simulated: the login is refused", phase=Phase.AUTH)
        yield session

    @property
    def peer(self) -> str:
        """Return the name of the host that is played."""
        return self._host

    # --- faults -------------------------------------------------------------------------------

    async def _act(
        self, phase: Phase, kind: str = "", error: type[RemoteError] = RemoteTransient
    ) -> None:
        """Wait; fail when it is this act's turn or a fault of that kind was ordered."""
        if self._options.delay:
            await self._around.clock.sleep(self._options.delay)
        number = self._number("acts") + 1
        self._keep("acts", str(number))
        every = self._options.errors_frequency
        if every and (number + self._options.seed) % every == 0:
            raise RemoteTransient(f"simulated: act {number} fails", phase=phase)
        if kind and self._strikes(kind):
            raise error(f"simulated: {kind}", phase=phase)

    def _strikes(self, kind: str) -> _Fault | None:
        """Return the fault of that kind that strikes now, and count it."""
        for fault in self._faults:
            if fault.kind == kind:
                done = self._number(f"fault {kind}")
                if not fault.times or done < fault.times:
                    self._keep(f"fault {kind}", str(done + 1))
                    return fault
        return None

    async def _strike(self, fault: _Fault) -> None:
        if fault.kind == "stall":
            await asyncio.Event().wait()  # until the guard ends it
        if fault.kind == "space":
            raise RemoteSpace("simulated: no room")
        raise ConnectionLost("simulated: the connection is lost")

    def _content_fault(self) -> _Fault | None:
        for kind in ("data", "space", "stall"):
            if fault := self._strikes(kind):
                return fault
        return None

    def _recall(self, fact: str) -> str:
        return self._around.memory.recall("test", self._host, fact)

    def _keep(self, fact: str, value: str) -> None:
        self._around.memory.keep("test", self._host, fact, value)

    def _number(self, fact: str) -> int:
        return int(self._recall(fact) or 0)

    # --- names --------------------------------------------------------------------------------

    def _known(self, name: str) -> tuple[int, str]:
        """Return size and SHA-256 (may be empty) of what was put, or of a synthetic file."""
        kept = self._recall(f"file {name}")
        if kept:
            size, _, digest = kept.partition(" ")
            return int(size), digest
        found = _NAME.fullmatch(name.rpartition("/")[2])
        if found is None or not 1 <= int(found[1]) <= self._options.files:
            raise RemoteMissing(f"{name!r} is not there")
        return self._options.file_size, ""

    async def stat(self, name: str) -> Entry:
        """Return the entry of what was put or can be fetched."""
        await self._act(Phase.VERIFY, "verify")
        return Entry(kind=Kind.FILE, name=name, size=self._known(name)[0])

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Rename."""
        await self._act(Phase.RENAME, "commit")
        if not replace and self._recall(f"file {new}"):
            raise RemoteName(f"{new!r} is there", phase=Phase.RENAME)
        size, digest = self._known(old)
        self._keep(f"file {old}", "")
        self._keep(f"file {new}", f"{size} {digest}")

    async def delete(self, name: str) -> None:
        """Forget a file."""
        await self._act(Phase.VERIFY)
        self._known(name)
        self._keep(f"file {name}", "")

    async def mkdir(self, path: str) -> None:
        """Accept every directory."""
        await self._act(Phase.MKDIR)

    async def rmdir(self, path: str) -> None:
        """Accept every directory."""
        await self._act(Phase.VERIFY)

    async def list(self, directory: str, *, filter_text: str = "") -> AsyncIterator[Entry]:
        """Yield the synthetic files, each with its SHA-256."""
        await self._act(Phase.LIST, "list")
        for number in range(1, self._options.files + 1):
            name = f"test-{number:06d}.bin"
            yield Entry(
                kind=Kind.FILE,
                name=name,
                size=self._options.file_size,
                mtime=EPOCH + timedelta(minutes=number),
                checksum=f"sha256:{await self._digest(name)}",
            )

    async def checksum(self, name: str, algorithm: str) -> str | None:
        """Return the SHA-256 of what was put in one go, or of a synthetic file."""
        await self._act(Phase.VERIFY)
        if algorithm != "sha256":
            return None
        digest = self._known(name)[1]
        if not digest and not self._recall(f"file {name}"):
            digest = await self._digest(name)
        return digest or None

    # --- content ------------------------------------------------------------------------------

    def _blocks(self, name: str, offset: int = 0) -> Iterator[bytes]:
        """Make the content of a synthetic file: one random block over and over."""
        seed = f"{self._options.seed} {name.rpartition('/')[2]}"
        block = random.Random(seed).randbytes(BLOCK)  # noqa: S311 - meant to be repeatable
        position = offset
        while position < self._options.file_size:
            start = position % BLOCK
            piece = block[start : start + self._options.file_size - position]
            yield piece
            position += len(piece)

    async def _digest(self, name: str) -> str:
        def compute() -> str:
            digest = hashlib.sha256()
            for block in self._blocks(name):
                digest.update(block)
            return digest.hexdigest()

        return await self._around.threads.run("digest", compute)

    async def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a synthetic file; what was put is not kept and cannot be read."""
        await self._act(Phase.DATA)
        size, _ = self._known(name)
        if self._recall(f"file {name}"):
            raise RemoteMissing(f"{name!r} is not kept")
        fault, corrupt = self._content_fault(), self._strikes("corrupt")
        moved = 0
        for block in self._blocks(name, offset):
            if fault and moved >= size * fault.percent // 100:
                await self._strike(fault)
            await self._throttle.take(len(block))
            yield bytes([block[0] ^ 1]) + block[1:] if corrupt and not moved else block
            moved += len(block)
        if fault:
            await self._strike(fault)

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Read and count `source`; remember its size and SHA-256."""
        await self._act(Phase.DATA)
        fault, corrupt = self._content_fault(), self._strikes("corrupt")
        digest = hashlib.sha256(b"!" if corrupt else b"")
        whole = offset + max(source.size, 0)
        position = offset
        self._keep(f"file {name}", f"{position}")
        async for block in source:
            if fault and position >= whole * fault.percent // 100:
                await self._strike(fault)
            await self._throttle.take(len(block))
            digest.update(block)
            position += len(block)
            self._keep(f"file {name}", f"{position}")
        if fault:
            await self._strike(fault)
        known = "" if offset else digest.hexdigest()
        self._keep(f"file {name}", f"{position} {known}")
        return position - offset


def _faults(texts: tuple[str, ...]) -> Iterator[_Fault]:
    for text in texts:
        found = _FAULT.fullmatch(text.strip().lower())
        if found is None:
            raise RemoteConfig(f"test.fault: {text!r} is none of {', '.join(FAULTS)}, corrupt")
        yield _Fault(found[1], min(int(found[2] or 100), 100), int(found[3] or 0))
