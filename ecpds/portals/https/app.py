"""The HTTPS portal: every request goes to `Service`, or to another door of the same address."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from ecpds.base.clock import Clock
from ecpds.base.resources import shared
from ecpds.base.settings import HttpsSettings
from ecpds.base.threads import Threads
from ecpds.model import account
from ecpds.portals.https.archive import Archives
from ecpds.portals.https.blocks import FileBlocks
from ecpds.portals.https.browse import Browse
from ecpds.portals.https.exchange import Ask, Reply
from ecpds.portals.https.login import Logins, Tickets
from ecpds.portals.https.pages import Pages
from ecpds.portals.https.preview import Previews
from ecpds.portals.https.server import HttpServer, Serve, Timing
from ecpds.portals.https.service import Service
from ecpds.vfs.contract import Gate
from ecpds.vfs.desks import Desks


class Door(Protocol):
    """Another service behind the same address, such as S3 below `/s3/`."""

    def claims(self, ask: Ask) -> bool:
        """Tell whether a request is for this door."""

    async def serve(self, ask: Ask, reply: Reply) -> None:
        """Answer one request; errors as those of `Service.serve`."""


class HttpsPortal(HttpServer):
    """Serves `/ecpds/…` and `/webdav/…` over HTTPS, or plain HTTP behind a proxy that ends TLS."""

    def __init__(
        self,
        gate: Gate,
        settings: HttpsSettings,
        tls: Callable[[], ssl.SSLContext] | None,
        threads: Threads,
        clock: Clock,
        node_name: str,
        *,
        templates: Path | None = None,
        cache: Path | None = None,
        endpoints: Callable[[], Mapping[str, str]] = dict,
        session_lifetime: timedelta = timedelta(hours=1),
        trusted_proxies: Sequence[str] = (),
        doors: Sequence[Door] = (),
        desks: Desks = Desks(),  # noqa: B008 - frozen
    ) -> None:
        """Read the templates (default: the installed ones); nothing listens before `start`.

        `cache` is a directory that keeps them compiled for the next start.
        `endpoints` gives the addresses of the other portals for the access guide,
        `trusted_proxies` are networks whose X-Forwarded fields are believed, `doors` are asked
        first, in their order, whether a request is theirs; `desks` offer the rest.
        """
        pages = Pages(templates or shared("templates"), node_name, cache)
        tickets = Tickets(clock, session_lifetime)
        self._service = Service(
            Logins(gate, tickets),
            pages,
            Browse(
                pages,
                endpoints,
                lends=desks.links is not None,
                previews=Previews(threads),
                archives=Archives(FileBlocks(threads), clock),
            ),
            clock,
            Logins(gate, tickets, account.Protocol.WEBDAV) if settings.webdav else None,
            desks,
        )
        self._doors = tuple(doors)
        super().__init__(
            gate,
            settings.listen,
            tls,
            threads,
            clock,
            serves=self._choose,
            cap=settings.max_connections,
            timing=Timing(idle=settings.idle_timeout, data=settings.data_timeout),
            trusted_proxies=trusted_proxies,
        )
        self.take(settings)

    def _choose(self, ask: Ask) -> Serve:
        for door in self._doors:
            if door.claims(ask):
                return door.serve
        return self._service.serve

    def take(self, settings: HttpsSettings) -> None:
        """Use other settings from the next request on; address and cap stay as they are."""
        self.pace(Timing(idle=settings.idle_timeout, data=settings.data_timeout))
        self._service.take(settings.hosts, settings.cors_allow_origin)
