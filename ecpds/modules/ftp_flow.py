"""Flows of data beside a control connection: opened, watched, and ended in step.

Whatever ends a flow, the final reply is awaited for a moment, so that the caller can still delete
what was half written; if that fails the connection is given up.

Spec: RFC 959 section 3; RFC 2428; transfer-modules-protocols.md 1.2, 1.5.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from ecpds.model.errors import ConnectionLost, Phase, RemoteConfig, RemoteError, RemoteTimeout
from ecpds.modules.ftp_control import Control, Reply, refusal
from ecpds.modules.ftp_data import (
    Awaited,
    DataChannel,
    Dialled,
    Opening,
    PlainChannel,
    TlsChannel,
    Tunnelled,
    data_error,
    epsv_port,
    pasv_address,
    port_command,
)
from ecpds.modules.ftp_options import FtpOptions
from ecpds.modules.trust import ClientContext
from ecpds.transfer.contract import Surroundings, Target
from ecpds.transfer.sockets import open_socket

GRACE: Final = 5.0
"""Seconds that a broken flow waits for the server's own words about it."""

KEEP_CONTROL: Final = 30.0
"""Seconds between probes on the control connection while data flows."""

_MEMORY: Final = "ftp"
_PAIRS: Final = "pairs"


@dataclass(frozen=True, slots=True)
class Limits:
    """The time limits of a session, in seconds."""

    connect: float
    command: float
    data: float
    final: float  # the reply after all data: what the socket buffers hold has still to go
    opening: float
    close: float


@dataclass(slots=True)
class Link:
    """A control connection with what its data connections need to know of it."""

    target: Target
    options: FtpOptions
    around: Surroundings
    limits: Limits
    control: Control
    peer: str = ""
    local: str = ""
    family: int = socket.AF_INET
    context: ClientContext | None = None
    spoilt: bool = False  # a flow was broken off: for clean-up only
    pairs: bool = False  # two commands may be sent at once

    def allow_pairs(self) -> None:
        """Send two commands at once from now on, unless this host has lost one of them before."""
        known = self.around.memory.recall(_MEMORY, self.target.host_name, _PAIRS)
        self.pairs = known != "no" and self.target.proxy is None

    def forbid_pairs(self) -> None:
        """Never again: servers, and boxes on the way, may drop what comes too early."""
        self.pairs = False
        self.around.memory.keep(_MEMORY, self.target.host_name, _PAIRS, "no", lasting=True)

    def give_up(self) -> None:
        """Close at once, without a word."""
        self.spoilt = True
        self.control.abort()


@dataclass(slots=True)
class Flow:
    """Data on its way: the connection, and what the server said when it opened it."""

    channel: DataChannel
    opened: Reply
    ended: bool = False  # the final reply has come


@dataclass(frozen=True, slots=True)
class Act:
    """What a flow is for: the command, and how its failures are told."""

    command: str
    about: str
    phase: Phase = Phase.DATA
    missing: bool = False  # a refusal means that the file is not there
    offset: int = 0
    goes_on: bool = False  # whoever breaks it off needs the session afterwards

    def refused(self, reply: Reply) -> RemoteError:
        """Return the error for a negative reply."""
        return refusal(reply, self.about, self.phase, missing=self.missing)


class Flows:
    """Opens and ends the flows of one control connection, one at a time."""

    def __init__(self, link: Link) -> None:
        self.keep_control = KEEP_CONTROL if link.options.keep_control_alive else 0.0
        self._link = link
        self._control = link.control
        self._grace = min(GRACE, link.limits.close)

    @asynccontextmanager
    async def flow(self, act: Act) -> AsyncIterator[Flow]:
        """Open a data connection for a command; the block moves the data and calls `conclude`.

        When the block raises, the data connection is reset.  A broken data connection becomes the
        error that the server tells, else ConnectionLost.
        """
        flow = await self._open(act)
        self._control.on_trouble = flow.channel.interrupt
        keeper = _Keeper(self._link, self.keep_control) if self.keep_control else None
        try:
            yield flow
        except OSError as error:
            flow.channel.abort()
            raise await self._explained(error, act) from error
        except BaseException:
            flow.channel.abort()
            if not flow.ended:
                await self._leave(act)
            raise
        finally:
            flow.channel.abort()  # after an orderly end there is nothing left to reset
            self._control.on_trouble = None
            if keeper is not None:
                keeper.close()

    async def conclude(self, flow: Flow, act: Act) -> None:
        """Await the final reply; raises what a negative one means."""
        self._control.on_trouble = None
        reply = await self._control.final(self._link.limits.final)
        flow.ended = True
        if not reply.positive:
            raise act.refused(reply)

    async def _leave(self, act: Act) -> None:
        """Get back in step after a flow that was broken off, or give the connection up."""
        self._link.spoilt = True
        self._control.on_trouble = None
        if not act.goes_on:
            self._control.abort()
        elif not self._control.broken:
            with suppress(RemoteError):
                await self._control.final(self._grace)

    async def _explained(self, error: OSError, act: Act) -> RemoteError:
        """Return what the server says about a broken data connection, else what we saw."""
        self._link.spoilt = True
        if isinstance(error, TimeoutError):
            await self._leave(act)
            return RemoteTimeout(f"{act.about}: no byte moved in time", phase=act.phase)
        return await self._told(act) or data_error(error, self._link.target.host)

    async def _told(self, act: Act) -> RemoteError | None:
        """Return the server's own refusal, None when it says nothing, or that all is well."""
        self._control.on_trouble = None
        if self._control.broken:
            return None
        try:
            reply = await self._control.final(self._grace)
        except RemoteError:
            return None
        return None if reply.positive else act.refused(reply)

    # --- opening ----------------------------------------------------------------------------

    async def _open(self, act: Act) -> Flow:
        if self._link.pairs and not act.offset and self._dials() and self._uses_extended():
            opening = await self._begin_at_once(act)
        else:
            opening = await self._begin()
        try:
            if act.offset:
                await self._control.demand(f"REST {act.offset}", f"REST for {act.about}", act.phase)
            if not opening.is_asked:
                self._control.send(act.command)
            sock, reply = await self._complete(opening, act)
        except (RemoteTimeout, ConnectionLost):
            if opening.is_asked:
                self._link.forbid_pairs()
            raise
        finally:
            opening.close()
        if self._link.context is None:
            return Flow(PlainChannel(sock), reply)
        return Flow(await self._secured(sock, act), reply)

    async def _begin(self) -> Opening:
        link = self._link
        try:
            if link.target.proxy is not None:
                return await self._through_proxy()
            if link.options.passive == "no":
                return await self._listen()
            return Dialled(link.family, await self._passive_address(), link.target.sockets)
        except OSError as error:
            raise data_error(error, link.target.host) from error

    def _dials(self) -> bool:
        return self._link.target.proxy is None and self._link.options.passive != "no"

    async def _begin_at_once(self, act: Act) -> Opening:
        """Ask for a port and send the command behind it: one round trip less."""
        link, control = self._link, self._control
        control.send("EPSV", behind=act.command)
        try:
            reply = await control.reply()
        except (RemoteTimeout, ConnectionLost):
            link.forbid_pairs()
            raise
        if not reply.positive:
            link.forbid_pairs()
            await control.final()  # what the command without a port got
            return await self._begin()
        try:
            where = (link.peer, epsv_port(reply.lines[-1]))
            opening = Dialled(link.family, where, link.target.sockets)
        except OSError as error:
            link.give_up()
            raise data_error(error, link.target.host) from error
        except RemoteError:
            link.give_up()
            raise
        opening.is_asked = True
        return opening

    async def _through_proxy(self) -> Opening:
        link = self._link
        if link.options.passive == "no":
            raise RemoteConfig("active mode does not work through a proxy", phase=Phase.DATA)
        told, port = await self._passive_address()
        host = link.target.address or link.target.host
        if link.options.trust_address and told != link.peer:
            host = str(told)
        target = replace(link.target, address=host)
        return Tunnelled(await open_socket(target, int(str(port)), link.around))

    async def _passive_address(self) -> tuple[object, ...]:
        peer = self._link.peer
        if self._uses_extended():
            reply = await self._ask_epsv()
            if reply.positive:
                return (peer, epsv_port(reply.lines[-1]))
            if not self._may_change() or reply.code < 500:
                raise refusal(reply, "EPSV", Phase.DATA)
            self._remember("PASV")
        reply = await self._control.demand("PASV", "PASV", Phase.DATA)
        address, port = pasv_address(reply.lines[-1])
        return (address if self._link.options.trust_address else peer, port)

    async def _ask_epsv(self) -> Reply:
        try:
            return await self._control.ask("EPSV")
        except RemoteTimeout:
            # some servers, and boxes on the way, swallow it
            if self._may_change():
                self._remember("PASV")
            raise

    def _may_change(self) -> bool:
        return self._link.options.extended == "auto" and self._link.family == socket.AF_INET

    def _uses_extended(self) -> bool:
        link = self._link
        if link.options.extended == "no":
            return link.family == socket.AF_INET6
        memory = link.around.memory.recall(_MEMORY, link.target.host_name, "passive")
        return not (self._may_change() and memory == "PASV")

    def _remember(self, mode: str) -> None:
        link = self._link
        link.around.memory.keep(_MEMORY, link.target.host_name, "passive", mode, lasting=True)

    async def _listen(self) -> Opening:
        link = self._link
        opening = Awaited(link.family, link.local, link.peer, link.target.sockets)
        try:
            extended = self._uses_extended()
            command = port_command(link.family, link.local, opening.port, extended=extended)
            reply = await self._control.ask(command)
            if extended and reply.code >= 500 and self._may_change():
                self._remember("PASV")
                command = port_command(link.family, link.local, opening.port, extended=False)
                reply = await self._control.ask(command)
            if not reply.positive:
                raise refusal(reply, command.partition(" ")[0], Phase.DATA)
        except BaseException:
            opening.close()
            raise
        return opening

    async def _complete(self, opening: Opening, act: Act) -> tuple[socket.socket, Reply]:
        # The reply first: where we connect, the server has accepted by then, and one wait is
        # enough; where it refuses, it says why.
        reply = await self._control.reply()
        if not reply.preliminary:
            if reply.positive:
                self._control.abort()  # nobody knows what comes next
            raise act.refused(reply)
        return await self._connected(opening, act), reply

    async def _connected(self, opening: Opening, act: Act) -> socket.socket:
        """Await the connection; when it fails, the final reply to the command tells more."""
        if (ready := opening.ready()) is not None:
            return ready
        try:
            async with asyncio.timeout(self._link.limits.opening):
                return await opening.complete()
        except TimeoutError:
            self._change_mode(opening)
            self._link.give_up()
            raise RemoteTimeout(
                f"{act.about}: no data connection in time", phase=act.phase
            ) from None
        except OSError as error:
            refused = await self._told(act)
            if refused is None:
                self._change_mode(opening)
                self._link.give_up()
            raise refused or data_error(error, self._link.target.host) from error
        except BaseException:
            self._link.give_up()
            raise

    def _change_mode(self, opening: Opening) -> None:
        """Try the other passive command next time: boxes on the way may know only one of them."""
        if isinstance(opening, Dialled) and self._may_change():
            self._remember("PASV" if self._uses_extended() else "EPSV")

    async def _secured(self, sock: socket.socket, act: Act) -> DataChannel:
        """Shake hands, taking up the session of the control connection.

        Servers check that (vsftpd: require_ssl_reuse), so that nobody else can take the data
        connection.
        """
        link, context = self._link, self._link.context
        assert context is not None and link.control.transport is not None  # noqa: S101, PT018
        tls = link.control.transport.get_extra_info("ssl_object")
        context.resume = tls.session if tls is not None else None
        channel = TlsChannel(sock, context, link.target.host)
        context.resume = None
        try:
            async with asyncio.timeout(link.limits.opening):
                await channel.start()
        except OSError as error:
            channel.abort()
            raise await self._explained(error, act) from error
        except BaseException:
            channel.abort()
            link.give_up()
            raise
        return channel


class _Keeper:
    """Sends a probe on the control connection now and then."""

    def __init__(self, link: Link, period: float) -> None:
        self._link = link
        self._period = period
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(period, self._probe)

    def _probe(self) -> None:
        with suppress(RemoteError):
            self._link.control.probe(self._link.options.noop)
        self._timer = self._loop.call_later(self._period, self._probe)

    def close(self) -> None:
        """Send no more."""
        self._timer.cancel()
