"""The monitor: dashboard, JSON API, health and metrics on one listener."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from aiohttp import web

from ecpds.engine.supervisor import Engine
from ecpds.vfs.contract import Gate
from ecpds.web.listener import CLOSE_PATIENCE, WebListener


class Monitor:
    """Serves pages and `/api/v2`."""

    def __init__(
        self,
        engine: Engine,
        gate: Gate,
        *,
        tls: Callable[[], ssl.SSLContext] | None,
        templates: Path,
        endpoints: Callable[[], Mapping[str, str]],
        ready: Callable[[], dict[str, dict[str, object]]],
    ) -> None:
        """Nothing listens before `start`; `ready` gives the checks of `/readyz`."""
        self._core = engine.core
        self._gate = gate
        self._tls = tls
        self._ready = ready
        self._runner: web.AppRunner | None = None
        self._listener: WebListener | None = None
        del templates, endpoints

    async def start(self) -> list[tuple[str, int]]:
        """Listen; return the addresses, none when switched off.  ConfigError if impossible."""
        app = web.Application(client_max_size=1024 * 1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(
            app, access_log=None, auto_decompress=False, shutdown_timeout=CLOSE_PATIENCE
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # noqa: S101 - just set up
        self._listener = WebListener(
            self._core.settings.monitor.listen,
            server,
            self._gate.check,
            tls=self._tls,
            clock=self._core.clock,
        )
        return await self._listener.start()

    async def drain(self) -> None:
        """Accept nobody any more and wait for the requests that run."""
        if self._listener is not None:
            self._listener.stop()
        if self._runner is not None and self._runner.server is not None:
            self._runner.server.pre_shutdown()
            await self._runner.server.shutdown(None)

    async def close(self) -> None:
        """End everything now; may be called twice."""
        if self._listener is not None:
            await self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        checks = self._ready()
        fine = all(check["ok"] for check in checks.values())
        return web.json_response({"checks": checks}, status=200 if fine else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._core.metrics.text(), content_type="text/plain", charset="utf-8"
        )
