"""`genericFtps`: the same client as `genericFtp`, with TLS by default and the option names of old.

Spec: transfer-modules-protocols.md 1.3.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar, Literal, Self

from ecpds.model.decode import opt
from ecpds.modules.ftp import FtpModule
from ecpds.modules.ftp_options import FtpOptions
from ecpds.transfer.contract import Surroundings, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class FtpsOptions(FtpOptions):
    """How an FTPS server is spoken to."""

    prefix: ClassVar[str] = "ftps"

    connection_type: Literal["FTP", "FTPES", "FTPS"] = opt(
        "FTPES", "FTPES: AUTH TLS; FTPS: TLS from the first byte; FTP: plain.", key="connectionType"
    )
    strict: bool = opt(True, "Check the certificate; no = accept any.")
    connection_timeout: timedelta | None = opt(
        None,
        "Longest wait for a session; empty = ectrans.connectTimeOut.",
        key="connectionTimeOut",
        low=0.001,
    )
    read_timeout: timedelta | None = opt(
        None,
        "Longest wait for a reply or for data; empty = those of ectrans.",
        key="readTimeOut",
        low=0.001,
    )
    close_timeout: timedelta | None = opt(
        None, "Longest end of a session; empty = ectrans.closeTimeOut.", key="closeTimeOut", low=0
    )

    def fitted(self, target: Target) -> Target:
        """Return the target with the time limits and the trust of this family."""
        times = target.timeouts
        times = replace(
            times,
            connect=min(self.connection_timeout or times.connect, times.connect),
            command=self.read_timeout or times.command,
            stall=self.read_timeout or times.stall,
            close=self.close_timeout or times.close,
        )
        trust = replace(target.tls, verify=target.tls.verify and self.strict)
        return replace(target, timeouts=times, tls=trust)


class FtpsModule(FtpModule):
    """An open session with an FTPS server."""

    name = "ftps"
    options = FtpsOptions

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: FtpOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Log in and give a session."""
        if isinstance(options, FtpsOptions):
            target = options.fitted(target)
        async with super().connect(target, options, around) as session:
            yield session
