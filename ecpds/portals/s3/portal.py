"""The extra listener with S3 at its root.  Spec: interface.md 3 (`portal.s3.listen`)."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence

from ecpds.base.clock import Clock
from ecpds.base.settings import S3Settings
from ecpds.base.threads import Threads
from ecpds.portals.https.server import HttpServer, Timing
from ecpds.portals.s3.service import S3Service
from ecpds.vfs.contract import Gate


class S3Portal(HttpServer):
    """Serves S3 and nothing else."""

    def __init__(
        self,
        gate: Gate,
        settings: S3Settings,
        tls: Callable[[], ssl.SSLContext] | None,
        threads: Threads,
        clock: Clock,
        *,
        hosts: Sequence[str] = (),
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        """`hosts`: names whose subdomains are buckets."""
        self._service = S3Service(gate, settings, threads, clock, hosts=hosts)
        super().__init__(
            gate,
            settings.listen,
            tls,
            threads,
            clock,
            serves=lambda ask: self._service.serve,
            cap=settings.max_connections,
            timing=Timing(idle=settings.idle_timeout, data=settings.data_timeout),
            trusted_proxies=trusted_proxies,
        )

    def take(self, settings: S3Settings) -> None:
        """Use other settings from the next request on; address and cap stay as they are."""
        self.pace(Timing(idle=settings.idle_timeout, data=settings.data_timeout))
        self._service.take(settings)
