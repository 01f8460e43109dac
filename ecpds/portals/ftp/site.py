"""What the connections of one FTP portal share: its gate, limits, ports and counters."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ecpds.base.clock import Clock
from ecpds.base.settings import FtpSettings
from ecpds.base.threads import Threads
from ecpds.portals.ftp.data import BLOCK
from ecpds.portals.ftp.setups import PassivePorts
from ecpds.vfs.contract import Gate

MAX_STRANGERS: Final = 100  # connections of one address that have not logged in yet


@dataclass(slots=True)
class Counts:
    """What the metrics tell; all but `sessions` and `transfers` since the start."""

    sessions: int = 0  # logged in now
    transfers: int = 0  # data connections in use now
    logins: int = 0
    refused_logins: int = 0
    commands: int = 0
    downloads: int = 0
    uploads: int = 0
    failed_transfers: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


@dataclass(slots=True, kw_only=True)
class Site:
    """The surroundings of a connection."""

    gate: Gate
    settings: FtpSettings
    tls: Callable[[], ssl.SSLContext] | None
    threads: Threads
    clock: Clock
    node_name: str
    ports: PassivePorts
    public_address: str = ""  # an IPv4 address, resolved
    counts: Counts = field(default_factory=Counts)
    strangers: Counter[str] = field(default_factory=Counter)
    scratch: memoryview = field(default_factory=lambda: memoryview(bytearray(BLOCK)))

    @property
    def offers_tls(self) -> bool:
        """Whether AUTH TLS or implicit TLS is possible."""
        return self.tls is not None and self.settings.tls != "off"

    @property
    def needs_tls(self) -> bool:
        """Whether nothing but QUIT and AUTH is possible without TLS, data included."""
        return self.settings.tls in ("required", "implicit")
