"""Trying a Host out, one step after the other, so that a person sees which one does not work.

The session is one of its own: neither an idle one from the pool nor what was remembered of names
may hide a fault.  Each step has the same end for people: ok, failed or skipped, how long it took,
the cause and what to do.  A tiny file is written only for roles that write, under a name that
nothing else has, and only where it can be deleted again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal, cast

from ecpds.engine.core import HostEntry
from ecpds.engine.probe_advice import Place, advice_on
from ecpds.model.directory import parse_directory
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    ConnectionLost,
    EcpdsError,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteTimeout,
    RemoteVerify,
    Unsupported,
)
from ecpds.model.host import HostRole
from ecpds.model.units import format_bytes, format_rate
from ecpds.transfer.contract import Feature, Identity, Surroundings, Target, TransferModule
from ecpds.transfer.deliver import make_parents
from ecpds.transfer.registry import Access
from ecpds.transfer.sockets import Addresses, open_socket, statistics
from ecpds.transfer.source import BytesSource

LIMIT: Final = timedelta(seconds=50)
"""Longest probe; the API's callers wait a minute."""

STEP_LIMIT: Final = timedelta(seconds=20)
CLOSE_LIMIT: Final = timedelta(seconds=5)
SIZE: Final = 64 * 1024
"""Bytes of the file that is written, and most bytes that are read of one that is there."""

LISTED: Final = 1000
"""Entries that are counted at most."""

WRITING: Final = frozenset(
    {HostRole.DISSEMINATION, HostRole.BACKUP, HostRole.PROXY, HostRole.REPLICATION}
)

Outcome = Literal["ok", "failed", "skipped"]


class StepName(StrEnum):
    """The steps, in their order."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    IDENTITY = "identity"
    LOGIN = "login"
    LIST = "list"
    GET = "get"
    PUT = "put"
    RENAME = "rename"
    DELETE = "delete"


_OF_PHASE: Final = {
    Phase.RESOLVE: StepName.RESOLVE,
    Phase.CONNECT: StepName.CONNECT,
    Phase.TLS: StepName.IDENTITY,
    Phase.AUTH: StepName.LOGIN,
}
_PHASE_OF: Final = {
    StepName.RESOLVE: Phase.RESOLVE,
    StepName.CONNECT: Phase.CONNECT,
    StepName.IDENTITY: Phase.TLS,
    StepName.LOGIN: Phase.AUTH,
    StepName.LIST: Phase.LIST,
    StepName.RENAME: Phase.RENAME,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How one step went."""

    step: StepName
    outcome: Outcome
    milliseconds: float = 0.0
    text: str = ""  # what was found, or why it was skipped
    cause: str = ""  # of a failure
    advice: str = ""  # what to do about it


@dataclass(slots=True, kw_only=True)
class Report:
    """How a probe went."""

    steps: dict[StepName, Step] = field(default_factory=dict)
    error: EcpdsError | None = None
    peer: str = ""
    identity: Identity | None = None
    round_trip: float | None = None  # milliseconds
    rate: int | None = None  # bytes per second

    @property
    def ordered(self) -> list[Step]:
        """Return the steps in their order."""
        return [self.steps[name] for name in StepName if name in self.steps]


async def probe(entry: HostEntry, around: Surroundings, report: Report | None = None) -> Report:
    """Try everything that `entry` is for; never raises for what the remote side does.

    Each step is put into `report` when it ends, so that somebody may watch.  Takes at most `LIMIT`
    and the time to close a session.
    """
    if entry.access is None:
        error = RemoteConfig(entry.problem)
        place = Place(host=entry.host.host)
        step = Step(
            step=StepName.RESOLVE, outcome="failed", cause=error.message,
            advice=advice_on(error, place),
        )  # fmt: skip
        report = report or Report()
        report.steps[step.step], report.error = step, error
        return report
    # names are looked up anew: an address that was right yesterday must not hide that
    fresh = replace(around, addresses=Addresses(remembers=False))
    return await _Probe(entry, entry.access, fresh, report or Report()).run()


def probe_directory(entry: HostEntry, now: datetime) -> str:
    """Return the directory that a probe may use: the part of the Host's own that is certain."""
    host = entry.host
    if host.role is HostRole.ACQUISITION:
        try:
            lines = parse_directory(host.directory, host.options)
            found = [] if lines.script is not None else lines.preview(now)
        except EcpdsError:
            return ""
        paths = [path for _, path in found if not path.startswith("error:")]
        return paths[0] if paths else ""
    if entry.directory_only is not None:
        return entry.directory_only.rstrip("/") or entry.directory_only[:1]
    first = next(iter(host.directory.strip().splitlines()), "")
    if first.startswith("("):  # a rule: which one holds depends on the transfer
        return ""
    certain, mark, _ = first.partition("$")
    return certain.rpartition("/")[0] or ("/" if certain.startswith("/") else "") if mark else first


class _Probe:
    """One call of `probe`."""

    def __init__(
        self, entry: HostEntry, access: Access, around: Surroundings, report: Report
    ) -> None:
        self.report = report
        self._entry = entry
        self._access = access
        self._around = around
        self._directory = probe_directory(entry, around.clock.now())
        self._deadline = time.monotonic() + LIMIT.total_seconds()
        self._context: AbstractAsyncContextManager[TransferModule[Any]] | None = None
        self._opened: TransferModule[Any] | None = None
        self._name = f"{entry.host.check_filename or 'ecpds.tst'}.{secrets.token_hex(4)}"
        self._written = ""  # what has to be deleted in the end
        self._readable: Entry | None = None
        self._target, self._door = self._way(access)

    def _way(self, access: Access) -> tuple[Target, tuple[str, int] | None]:
        door = access.module.address(access.target, access.options)
        return (replace(access.target, host=door[0]) if door else access.target), door

    @property
    def _module(self) -> TransferModule[Any]:
        assert self._opened is not None  # noqa: S101 - steps behind the login only
        return self._opened

    def _place(self) -> Place:
        target = self._access.target
        return Place(
            host=self._target.host or target.host_name,
            port=self._door[1] if self._door else None,
            login=str(getattr(self._access.options, "login", "") or target.login),
            directory=self._directory,
            identity=self.report.identity,
        )

    async def run(self) -> Report:
        """Do all steps that make sense; the session is closed in the end."""
        try:
            await self._reach()
            await self._step(StepName.LOGIN, self._login)
            await self._step(StepName.LIST, self._list)
            if self._entry.host.role in WRITING:
                await self._write()
            else:
                await self._step(StepName.GET, self._get)
        finally:
            await self._close()
        return self.report

    async def _reach(self) -> None:
        if self._door is None:
            for name in (StepName.RESOLVE, StepName.CONNECT, StepName.IDENTITY):
                self._skip(name, "there is no server that this node connects to itself")
            return
        await self._step(StepName.RESOLVE, self._resolve)
        await self._step(StepName.CONNECT, self._connect)
        await self._step(StepName.IDENTITY, self._identify)

    async def _write(self) -> None:
        wanted = Feature.PUT | Feature.DELETE
        opened = self._opened
        if opened is not None and (opened.sets_off or wanted not in opened.features):
            text = "nothing is written, because it could not be taken back"
            for name in (StepName.PUT, StepName.RENAME, StepName.DELETE):
                self._skip(name, text)
            return
        await self._step(StepName.PUT, self._put)
        await self._step(StepName.RENAME, self._rename)
        if self._written:  # also after a failure: nothing of ours stays there
            await self._step(StepName.DELETE, self._delete, always=True)
        else:
            self._skip(StepName.DELETE, "nothing was written")

    # --- one step ---------------------------------------------------------------------------

    async def _step(
        self, name: StepName, act: Callable[[], Awaitable[str]], *, always: bool = False
    ) -> None:
        if self.report.error is not None and not always:
            self._skip(name, "not tried, because an earlier step failed")
            return
        begun = time.monotonic()
        limit = min(STEP_LIMIT.total_seconds(), self._deadline - begun)
        try:
            async with asyncio.timeout(max(limit, 0.001)):
                text = await act()
            outcome: Outcome = "ok"
        except _Skipped as why:
            outcome, text = "skipped", why.text
        except Unsupported:
            outcome, text = "skipped", "this protocol, or this server, does not do that"
        except TimeoutError:
            phase = _PHASE_OF.get(name, Phase.DATA)
            self._fail(name, RemoteTimeout(f"no end after {limit:.0f} s", phase=phase), begun)
            return
        except EcpdsError as error:
            self._fail(name, error, begun)
            return
        except OSError as error:
            self._fail(name, ConnectionLost(f"{error.strerror or error}"), begun)
            return
        self.report.steps[name] = Step(
            step=name, outcome=outcome, milliseconds=_since(begun), text=text
        )

    def _skip(self, name: StepName, text: str) -> None:
        self.report.steps[name] = Step(step=name, outcome="skipped", text=text)

    def _fail(self, name: StepName, error: EcpdsError, begun: float) -> None:
        """Book a failure on the step that it belongs to, which may be an earlier one."""
        took = _since(begun)
        owner = self._owner(name, error)
        text = ""
        if owner is not name:
            known = self.report.steps.get(owner)
            text = known.text if known else ""
            self._skip(name, f"not tried, because of step {owner.value}")
        self.report.steps[owner] = Step(
            step=owner, outcome="failed", milliseconds=took, text=text,
            cause=error.message, advice=advice_on(error, self._place()),
        )  # fmt: skip
        if self.report.error is None:
            self.report.error = error

    def _owner(self, name: StepName, error: EcpdsError) -> StepName:
        """Return the step that a failure belongs to: some modules connect at their first act."""
        phase = error.phase if isinstance(error, RemoteError) else None
        owner = _OF_PHASE.get(phase, name) if phase is not None else name
        order = list(StepName)
        if order.index(owner) > order.index(name):
            return name
        if owner is StepName.LOGIN and name not in (StepName.LOGIN, StepName.LIST):
            return name  # listed before: the login was good enough for that
        return owner

    # --- the steps --------------------------------------------------------------------------

    async def _resolve(self) -> str:
        assert self._door is not None  # noqa: S101
        found = await self._around.addresses.resolve(self._target, self._door[1], self._around)
        addresses = list(dict.fromkeys(str(where[0]) for _, where in found))
        return ", ".join(addresses[:8])

    async def _connect(self) -> str:
        assert self._door is not None  # noqa: S101
        begun = time.monotonic()
        sock = await open_socket(self._target, self._door[1], self._around)
        try:
            took = (time.monotonic() - begun) * 1000
            micros = statistics(sock).get("rtt", 0)
            self.report.round_trip = round(micros / 1000 if micros else took, 3)
            self.report.peer = str(sock.getpeername()[0])
        finally:
            sock.close()
        return f"{self.report.peer} port {self._door[1]}, round trip {self.report.round_trip} ms"

    async def _identify(self) -> str:
        access = self._access
        shown = await access.module.identity(access.target, access.options, self._around)
        if shown is None:
            raise _Skipped("the connection is not encrypted")
        self.report.identity = shown
        more = f" {shown.text}" if shown.text else ""
        return f"{shown.kind} {shown.fingerprint}{more}"

    async def _login(self) -> str:
        access = self._access
        context = access.module.connect(access.target, access.options, self._around)
        module = await context.__aenter__()
        self._context, self._opened = context, module
        self.report.peer = module.peer or self.report.peer
        login = self._place().login
        return f"as {login}" if login else "without a login"

    async def _list(self) -> str:
        try:
            count = await self._count()
        except (RemoteMissing, RemoteName):
            if not self._makes_directories:
                raise
            raise _Skipped(
                f"{self._directory} is not there yet; it is made with the first file"
            ) from None
        except RemoteAuth as error:
            if self._entry.host.role not in WRITING or error.remote_code != "403":
                raise
            raise _Skipped("the server does not let us list") from None
        more = "more than " if count > LISTED else ""
        return f"{more}{min(count, LISTED)} entries in {self._place().folder}"

    @property
    def _makes_directories(self) -> bool:
        may = self._access.delivery.naming.make_parents and Feature.MKDIR in self._module.features
        return may and bool(self._directory) and self._entry.host.role in WRITING

    async def _count(self) -> int:
        count = 0
        listing = cast(AsyncGenerator[Entry, None], self._module.list(self._directory))
        try:
            async for entry in listing:
                count += 1
                if self._readable is None and entry.kind is Kind.FILE and not entry.error:
                    self._readable = entry
                if count > LISTED:
                    break
        finally:
            await listing.aclose()
        return count

    async def _get(self) -> str:
        entry = self._readable
        if entry is None:
            raise _Skipped("there is no file to read")
        name = entry.name if "://" in entry.name else self._path(entry.name)
        begun, count = time.monotonic(), 0
        content = cast(AsyncGenerator[bytes, None], self._module.get(name))
        try:
            async for block in content:
                count += len(block)
                if count >= SIZE:
                    break
        finally:
            await content.aclose()
        return f"{self._measured(count, begun)} of {name}"

    def _path(self, name: str) -> str:
        if not self._directory or name.startswith("/"):
            return name
        return f"{self._directory.rstrip('/')}/{name}"

    def _measured(self, count: int, begun: float) -> str:
        self.report.rate = int(count / max(time.monotonic() - begun, 1e-6))
        return f"{format_bytes(count)} at {format_rate(self.report.rate)}"

    async def _put(self) -> str:
        final = self._path(self._name)
        naming = self._access.delivery.naming
        features = self._module.features
        is_temporary = naming.temporary and Feature.RENAME in features
        written = naming.written_name(final) if is_temporary else final
        content = os.urandom(SIZE)
        self._written, made = written, ""
        begun = time.monotonic()
        try:
            await self._module.put(written, BytesSource(content))
        except RemoteName:
            if not self._makes_directories or not await make_parents(self._module, written):
                raise
            made = f"; made the directory {self._directory}"
            begun = time.monotonic()
            await self._module.put(written, BytesSource(content))
        text = self._measured(SIZE, begun)
        if Feature.SIZE in features:
            there = (await self._module.stat(written)).size
            if there != SIZE:
                raise RemoteVerify(f"{SIZE} bytes were sent, {there} are there")
        return f"{text} to {written}{made}"

    async def _rename(self) -> str:
        final = self._path(self._name)
        if self._written == final:
            raise _Skipped("files are written under their final name")
        await self._module.rename(self._written, final, replace=True)
        self._written = final
        return f"to {final}"

    async def _delete(self) -> str:
        try:
            await self._module.delete(self._written)
        except RemoteMissing:
            if self.report.error is None:
                raise
            raise _Skipped("nothing was left there") from None
        return self._written

    async def _close(self) -> None:
        context, self._context = self._context, None
        if context is None:
            return
        error = self.report.error
        with suppress(EcpdsError, OSError, TimeoutError):
            limit = min(self._access.target.timeouts.close, CLOSE_LIMIT)
            async with asyncio.timeout(limit.total_seconds()):
                await context.__aexit__(type(error) if error else None, error, None)


class _Skipped(Exception):
    """A step makes no sense here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _since(begun: float) -> float:
    return round((time.monotonic() - begun) * 1000, 3)
