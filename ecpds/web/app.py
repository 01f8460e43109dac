"""The monitor: dashboard, JSON API, health and metrics on one listener."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Final

from aiohttp import web

from ecpds import __version__
from ecpds.base.tasks import supervise
from ecpds.engine.operations.accounts import AccountOperations
from ecpds.engine.operations.destinations import DestinationOperations
from ecpds.engine.operations.files import FileOperations
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.operations.site import SiteOperations
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.store import accounts
from ecpds.vfs.gate import PortalGate
from ecpds.web import apidocs, pages, system
from ecpds.web.api import events, table
from ecpds.web.apiv1 import table as v1
from ecpds.web.door import Door, Peers
from ecpds.web.listener import CLOSE_PATIENCE, WebListener
from ecpds.web.live import Live
from ecpds.web.login import KNOWN, Logins
from ecpds.web.rates import Rates
from ecpds.web.render import Renderer
from ecpds.web.routes import Route, check_table
from ecpds.web.services import Ready, Services
from ecpds.web.statics import Statics

ENDLESS: Final = frozenset({"/live", events.PATH})  # no HEAD for these
READ_BUFFER: Final = 512 * 1024  # bytes of an upload that may wait to be written


async def ask_later(_: web.Request) -> None:
    """Let the handler ask for the body, so that what is refused is not sent first."""


class Monitor:
    """Serves pages and `/api/v2`."""

    def __init__(
        self,
        engine: Engine,
        gate: PortalGate,
        *,
        tls: Callable[[], ssl.SSLContext] | None,
        templates: Path,
        endpoints: Callable[[], Mapping[str, str]],
        ready: Ready,
        reload: Callable[[], str] = lambda: "nothing can be reloaded here",
    ) -> None:
        """Nothing is read and nothing listens before `start`.

        `ready` gives the checks of `/readyz`, `endpoints` the addresses of all listeners.  Raises
        ConfigError when a route declares no right.
        """
        self._engine = engine
        self._core = engine.core
        self._gate = gate
        self._tls = tls
        self._templates = templates
        self._endpoints = endpoints
        self._ready = ready
        self._reload = reload
        self._accounts = AccountOperations(engine)
        self._logins = Logins(self._core, self._accounts, self._failed, monotonic)
        self.routes: tuple[Route, ...] = (
            *system.routes(self._logins),
            *table.ROUTES,
            *v1.ROUTES,
            *apidocs.ROUTES,
            *pages.routes,
        )
        check_table(self.routes)
        self._services: Services | None = None
        self._runner: web.AppRunner | None = None
        self._listener: WebListener | None = None
        self._group: asyncio.TaskGroup | None = None
        self._live: asyncio.Task[None] | None = None
        self._jobs: asyncio.Task[None] | None = None
        self._hooks: asyncio.Task[None] | None = None

    async def _failed(self, peer: str, name: str, why: str) -> None:
        """Count a failed credential towards a ban; an unknown name counts more."""
        is_known = why in {"token", KNOWN}
        if not is_known:
            found = await self._core.store.read(accounts.web_user, name)
            is_known = found is not None
        await self._gate.failed_elsewhere(peer, name, is_known=is_known)
        message = "Password authentication failed" if is_known else "Not found"
        await self._core.store.write_lazily(
            Teller(node=self._core.node).denied_command, user=name, message=message, peer=peer,
            now=self._core.clock.now(),
        )  # fmt: skip

    def _load(self) -> tuple[Statics, Renderer]:
        statics = Statics(self._templates / "static")
        cache = self._core.settings.data_dir / "cache" / "templates"
        return statics, Renderer(self._templates, statics.url, self._core.node, cache)

    async def _build(self) -> Services:
        statics, renderer = await self._core.threads.run("disk", self._load)
        engine = self._engine
        operations = TransferOperations(engine)
        destinations, hosts = DestinationOperations(engine), HostOperations(engine)
        return Services(
            engine=engine,
            gate=self._gate,
            transfers=operations,
            destinations=destinations,
            hosts=hosts,
            accounts=self._accounts,
            files=FileOperations(engine, operations),
            site=SiteOperations(engine),
            live=Live(engine, destinations, hosts),
            renderer=renderer,
            statics=statics,
            endpoints=self._endpoints,
            ready=self._ready,
            again=self._logins.again,
            routes=self.routes,
            reload=self._reload,
        )

    def _application(self, door: Door) -> web.Application:
        app = web.Application(middlewares=[door.boundary()], client_max_size=2**62)
        app.on_response_prepare.append(door.dress)
        for route in self.routes:
            handler = door.handler(route)
            app.router.add_route(route.method, route.path, handler, expect_handler=ask_later)
            if route.method == "GET" and route.path not in ENDLESS:
                app.router.add_route("HEAD", route.path, handler)
        return app

    async def start(self) -> list[tuple[str, int]]:
        """Listen; return the addresses, none when switched off.  ConfigError if impossible."""
        settings = self._core.settings
        if not settings.monitor.listen:
            return []
        self._services = services = await self._build()
        door = Door(
            services,
            self._logins,
            Peers(settings.security.trusted_proxies, tls=self._tls is not None),
            self._gate.check,
            Rates(settings.api.requests_per_minute, monotonic),
        )
        self._core.metrics.build.labels(__version__).set(1)
        self._runner = web.AppRunner(
            self._application(door),
            access_log=None,
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
            shutdown_timeout=CLOSE_PATIENCE,
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # noqa: S101 - just set up
        self._listener = WebListener(
            settings.monitor.listen,
            server,
            self._gate.check,
            tls=self._tls,
            clock=self._core.clock,
        )
        door.listener = self._listener
        places = await self._listener.start()
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._live = self._group.create_task(
            supervise("live", services.live.run, self._core.clock), name="live"
        )
        self._jobs = self._group.create_task(
            supervise("jobs", services.jobs.run, self._core.clock), name="jobs"
        )
        self._hooks = self._group.create_task(
            supervise("webhooks", services.hooks.run, self._core.clock), name="webhooks"
        )
        services.pulse.start()
        return places

    async def drain(self) -> None:
        """Accept nobody any more, end live pages, and wait for the requests that run."""
        if self._services is not None:
            self._services.live.close()
            self._services.streams.close()
        if self._listener is not None:
            await self._listener.drain()
        if self._runner is not None and self._runner.server is not None:
            await self._runner.server.shutdown(CLOSE_PATIENCE)  # answers on their way out

    async def close(self) -> None:
        """End everything now; may be called twice."""
        if self._services is not None:
            self._services.live.close()
            self._services.streams.close()
            self._services.pulse.stop()
        if self._listener is not None:
            await self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._live is not None:
            self._live.cancel()
        if self._jobs is not None:
            self._jobs.cancel()
        if self._hooks is not None:
            self._hooks.cancel()
        group, self._group = self._group, None
        if group is not None:
            await group.__aexit__(None, None, None)
