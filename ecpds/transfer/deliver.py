"""Delivering one file through an open session: written name, parents, put, check, rename, clean up.

The remote side never shows a partial file under the final name when the module can rename, or can
put all or nothing.  What an attempt leaves behind is told to the caller as a `Partial` value, so
that the next attempt goes on from it or removes it; nothing else that this file has not written
is ever deleted.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal

from ecpds.base.checksums import ALGORITHMS, new_digest
from ecpds.base.clock import Clock
from ecpds.model.errors import (
    ConnectionLost,
    EcpdsError,
    InvalidName,
    Phase,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteVerify,
    Unsupported,
)
from ecpds.transfer.contract import (
    ByteSource,
    Delivered,
    Feature,
    Naming,
    Partial,
    Sidecar,
    TransferModule,
)
from ecpds.transfer.meter import Watch, watched
from ecpds.transfer.source import BytesSource

Verify = Literal["none", "size", "hash"]
ResumePolicy = Literal["auto", "never", "required"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

DEEPEST = 100
"""Directories that are created for one file at most."""

NO_DIGESTS: Mapping[str, str] = MappingProxyType({})

CLEAN_UP = timedelta(seconds=10)
"""Longest wait for the removal of a written name after a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRules:
    """How files are delivered to one Host; made once from its options."""

    naming: Naming = field(default_factory=Naming)
    verify: Verify = "size"
    resume: ResumePolicy = "auto"
    watch: Watch = field(default_factory=Watch)
    statistics: bool = True  # keep what the kernel knows of the connection


def checked_name(name: str) -> str:
    """Return `name`; raise InvalidName for an empty one, control characters, or over 4096 bytes."""
    if not name or name.endswith("/"):
        raise InvalidName(f"{name!r} names no file", pointer="target")
    if _CONTROL.search(name):
        raise InvalidName(f"{name!r} has control characters", pointer="target")
    if len(name) > 1024 and len(name.encode(errors="surrogateescape")) > 4096:
        raise InvalidName("the name is longer than 4096 bytes", pointer="target")
    return name


async def deliver(
    module: TransferModule[Any],
    name: str,
    source: ByteSource,
    *,
    size: int,
    rules: DeliveryRules,
    clock: Clock,
    version: str = "",
    token: str = "",
    partial: Partial | None = None,
    on_partial: Callable[[Partial | None], None] | None = None,
    append: bool = False,
    digests: Mapping[str, str] | None = None,
    sidecars: Iterable[Sidecar] = (),
    is_sidecar: bool = False,
) -> Delivered:
    """Write `source` under the final name `name` and return what was done.

    Args:
        module: an open session; discard it when this raises.
        name: final name, as the template gave it.
        source: the content; its meter may be stopped from outside.
        size: bytes of the whole content, -1 when unknown (compressed on the way).
        rules: naming, verification, resume and time limits of the Host.
        clock: tells `started_at` and `finished_at`.
        version: of the content; a partial file of another (or an unnamed) version is never used.
        token: what makes the written name unique, of letters, digits and `-`; random when empty.
            A caller that can tell it again after a crash can name what the crash left behind.
        partial: what an earlier attempt left, as it was told to `on_partial`.
        on_partial: called before the first byte with the written name, after a failure with the
            offset reached, and with None as soon as nothing is left on the remote side.
        append: with `Naming.temporary` off, go on from the size of the existing final name
            (`if_target_exist = resume`).
        digests: hex digests of the whole content by algorithm, for `verify = "hash"`; of compressed
            content they may come while it is sent.
        sidecars: small files to be written beside it after success; asked for only then.
        is_sidecar: this is one of them: what a Host wants done after each file is not done.

    Raises:
        RemoteError: with phase; RemoteVerify when size or digest differ.
        RemoteCancelled: `Meter.stop` was called.
        SourceBroke: the content could not be read or ended early.
        InvalidName: the name has a form that no protocol may create.
        Unsupported: the module cannot put.
    """
    delivery = _Delivery(
        module, checked_name(name), source, size, rules, version, token, on_partial
    )
    started_at = clock.now()
    module.digests = digests or NO_DIGESTS
    try:
        await delivery.begin(partial, append=append)
        sent = await delivery.put()
        there = await delivery.verify(sent, digests or {})
        await delivery.publish()
    except BaseException as error:
        await delivery.give_up(error)
        raise
    module.on_upload = None
    delivery.tell(None)
    plain = replace(rules, verify="size" if rules.verify == "hash" else rules.verify)
    for one in sidecars:
        content = BytesSource(one.content)
        await deliver(
            module, name + one.extension, content, size=content.size, rules=plain, clock=clock,
            is_sidecar=True,
        )  # fmt: skip
    if module.finishes and not is_sidecar:
        await module.finished(name)
    return Delivered(
        path=name,
        sent=sent if module.sends else 0,
        size=there,
        peer=module.peer,
        started_at=started_at,
        finished_at=clock.now(),
        resumed_at=delivery.offset,
        statistics=module.statistics() if rules.statistics else {},
    )


async def remove_partial(module: TransferModule[Any], partial: Partial) -> None:
    """Delete what an earlier attempt left (final failure, expiry, deletion); missing is fine."""
    with suppress(RemoteMissing):
        if partial.state:
            await module.forget(partial.name, partial.state)
        else:
            await module.delete(partial.name)


class _Delivery:
    """One call of `deliver`."""

    def __init__(
        self,
        module: TransferModule[Any],
        name: str,
        source: ByteSource,
        size: int,
        rules: DeliveryRules,
        version: str,
        token: str,
        on_partial: Callable[[Partial | None], None] | None,
    ) -> None:
        self.offset = 0
        self._module = module
        self._features = module.features
        self._name = name
        self._source = source
        self._size = size
        self._rules = rules
        self._version = version
        self._token = token
        self._on_partial = on_partial
        self._temporary = rules.naming.temporary and Feature.RENAME in module.features
        self._written = ""  # empty: nothing of ours is on the remote side
        self._existed = False  # the final name was there before us
        self._counted = 0  # meter at the begin of the put

    def tell(self, partial: Partial | None) -> None:
        """Tell the caller what is left on the remote side."""
        if self._on_partial is not None:
            self._on_partial(partial)

    async def begin(self, partial: Partial | None, *, append: bool) -> None:
        """Choose the written name and the first byte."""
        if self._rules.resume == "required" and Feature.RESUME_PUT not in self._features:
            raise Unsupported(f"{self._module.name} cannot go on with a partial file")
        if partial is not None and await self._goes_on(partial):
            self._written = partial.name
        elif self._temporary:
            self._written = self._rules.naming.written_name(self._name, self._token)
        else:
            await self._begin_direct(append=append)
        if self.offset:
            self._source.start_at(self.offset)
        else:
            self._module.upload = ""
        self._module.on_upload = self._uploading
        self._uploading(self._module.upload)

    def _uploading(self, state: str) -> None:
        left = Partial(name=self._written, offset=self.offset, version=self._version, state=state)
        self.tell(left)

    async def _goes_on(self, partial: Partial) -> bool:
        """Set the offset if `partial` can be used; else remove it."""
        same = bool(self._version) and partial.version == self._version
        usable = self._rules.resume != "never" and Feature.RESUME_PUT in self._features
        wanted = self._temporary or partial.name == self._name
        if same and usable and wanted and (partial.offset > 0 or partial.state):
            there = await self._reached_by(partial)
            if there > 0 and (self._size < 0 or there <= self._size):
                self.offset = there if partial.state else min(there, partial.offset)
                return True
        if partial.name != self._name or partial.state:
            with suppress(RemoteMissing, RemoteName, Unsupported):  # no reason not to deliver
                await remove_partial(self._module, partial)
        return False

    async def _reached_by(self, partial: Partial) -> int:
        """Return how many bytes of an earlier attempt are at the far end."""
        if partial.state:
            return await self._module.uploaded(partial.name, partial.state)
        return await self._size_of(partial.name)

    async def _begin_direct(self, *, append: bool) -> None:
        self._written = self._name
        if Feature.SIZE not in self._features or Feature.ATOMIC_PUT in self._features:
            return
        there = await self._size_of(self._name)
        self._existed = there >= 0
        if append and there > 0 and self._size >= 0:
            self.offset = min(there, self._size)

    async def _size_of(self, name: str) -> int:
        """Return the size of a remote file, -1 if there is none."""
        try:
            return await self._module.size(name) or 0
        except RemoteMissing:
            return -1

    async def put(self) -> int:
        """Send the content; create the parents when the server says that they are missing."""
        self._module.confirmed = None
        try:
            return await self._put()
        except RemoteName:
            if not self._rules.naming.make_parents or Feature.MKDIR not in self._features:
                raise
            if not await make_parents(self._module, self._written):
                raise
        if self._source.meter.moved != self._counted:
            self._source.start_at(self.offset)
        return await self._put()

    async def _put(self) -> int:
        self._counted = self._source.meter.moved
        act = self._module.put(self._written, self._source, offset=self.offset)
        sent = await watched(act, self._source.meter, self._rules.watch)
        expected = self._size - self.offset
        if self._size >= 0 and sent != expected:
            raise RemoteVerify(f"transfer aborted after {sent} of {expected} bytes", sent=sent)
        return sent

    async def verify(self, sent: int, digests: Mapping[str, str]) -> int:
        """Compare size, and digest when asked for; return the size at the far end, -1 unknown."""
        if self._rules.verify == "none" or Feature.SIZE not in self._features:
            return -1
        expected = self._size if self._size >= 0 else self.offset + sent
        if self._rules.verify == "size" and self._module.proven == expected:
            return expected
        try:
            there = await self._module.size(self._written)
        except RemoteMissing:
            raise RemoteVerify(
                f"{self._written!r} is not there after the transfer", phase=Phase.VERIFY
            ) from None
        if there != expected:
            raise RemoteVerify(
                f"the remote file has {there} instead of {expected} bytes", phase=Phase.VERIFY
            )
        if self._rules.verify == "hash":
            await self._verify_hash(digests)
        return expected

    async def _verify_hash(self, digests: Mapping[str, str]) -> None:
        if not digests:
            raise RemoteConfig("no digest is known to compare with", phase=Phase.VERIFY)
        for algorithm, hexadecimal in digests.items():
            found = await remote_digest(self._module, self._written, algorithm)
            if found.lower() != hexadecimal.lower():
                raise RemoteVerify(
                    f"{algorithm} of the remote file is {found}, not {hexadecimal}",
                    phase=Phase.VERIFY,
                )

    async def publish(self) -> None:
        """Give the file its final name."""
        if self._written != self._name:
            await self._module.rename(self._written, self._name, replace=True)

    async def give_up(self, error: BaseException) -> None:
        """Keep what the next attempt can go on with, remove the rest; never raises."""
        self._module.on_upload = None
        if not self._written:
            return
        if Feature.ATOMIC_PUT in self._features and self._written == self._name:
            await self._give_up_upload(error)
            return
        reached = self.offset + self._reached()
        left = Partial(name=self._written, offset=reached, version=self._version)
        if self._may_go_on(error, reached) or self._not_ours():
            self.tell(left if self._written != self._name or reached else None)
            return
        self.tell(None if await self._removed(error, left) else replace(left, offset=0))

    async def _give_up_upload(self, error: BaseException) -> None:
        """Keep or drop an upload that nobody sees; where there is none, nothing is left."""
        state = self._module.upload
        reached = self.offset + self._reached()
        left = Partial(name=self._name, offset=reached, version=self._version, state=state)
        if state and self._may_go_on(error, reached):
            self.tell(left)
            return
        is_gone = not state or await self._removed(error, left)
        self.tell(None if is_gone else replace(left, offset=0))

    def _reached(self) -> int:
        confirmed = self._module.confirmed
        return self._source.meter.moved - self._counted if confirmed is None else confirmed

    def _may_go_on(self, error: BaseException, reached: int) -> bool:
        if Feature.RESUME_PUT not in self._features or self._rules.resume == "never":
            return False
        if not self._version or reached == 0 or isinstance(error, (RemoteSpace, RemoteVerify)):
            return False
        return not isinstance(error, EcpdsError) or error.retryable

    def _not_ours(self) -> bool:
        """Whether the written name may not be deleted: it was there before."""
        return self._written == self._name and (self._existed or self.offset > 0)

    async def _removed(self, error: BaseException, left: Partial) -> bool:
        if isinstance(error, ConnectionLost):
            return False
        try:
            async with asyncio.timeout(CLEAN_UP.total_seconds()):
                await remove_partial(self._module, left)
        except (RemoteError, Unsupported, TimeoutError):
            return False
        return True


async def make_parents(module: TransferModule[Any], name: str) -> bool:
    """Create the directory of `name` with its parents; return whether `name` has any.

    Goes up only as far as the server says that a parent is missing: one call where only the last
    level is new.
    """
    parent = re.sub("/+", "/", name).rpartition("/")[0]
    if not parent:
        return False
    module.levels = parent.strip("/").count("/") + 1
    missing = [parent]
    while True:
        try:
            await module.mkdir(missing[-1])
        except RemoteName:
            upper = missing[-1].rpartition("/")[0]
            if not upper or upper in missing or len(missing) > DEEPEST:
                raise
            missing.append(upper)
        else:
            for path in reversed(missing[:-1]):
                await module.mkdir(path)
            return True


async def remote_digest(module: TransferModule[Any], name: str, algorithm: str) -> str:
    """Return the digest of a remote file in hex: the server's own, else by reading it again."""
    if Feature.CHECKSUM in module.features:
        found = await module.checksum(name, algorithm)
        if found is not None:
            return found
    if algorithm not in ALGORITHMS:
        raise RemoteConfig(f"no way to verify {algorithm!r}", phase=Phase.VERIFY)
    digest = new_digest(algorithm)
    async for block in module.get(name):
        digest.update(block)
    return digest.hexdigest()
