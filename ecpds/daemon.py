"""The daemon: puts all parts together, starts them bottom up, stops them in stages.

Start: settings, logs, store (migrate), objects, recovery, engine, portals, web, ready.
Stop: drain (listeners close) -> finish (running transfers, 30 s) -> cancel (the rest, 10 s) ->
write (event log, checkpoint, 20 s) -> close.  A second SIGTERM jumps to cancel.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from ecpds import __version__
from ecpds.base import logs
from ecpds.base.reloading import reloaded
from ecpds.base.resources import shared
from ecpds.base.settings import Settings, load
from ecpds.base.tasks import supervise
from ecpds.demo import feed, make_demo
from ecpds.engine import recovery
from ecpds.engine.core import Core
from ecpds.engine.notices import EMBEDDED, EXTERNAL, WIS2_KINDS
from ecpds.engine.publish_drivers import ExternalDriver
from ecpds.engine.telling import Teller
from ecpds.model.errors import EcpdsError
from ecpds.node import ADMIN, DataDirectory, Node, certificate_paths, open_node
from ecpds.portals.ftp.server import FtpPortal
from ecpds.portals.https.app import HttpsPortal
from ecpds.portals.https.wis2 import Wis2Door
from ecpds.portals.mqtt.server import MqttPortal, check_test_publish
from ecpds.portals.mqtt.websocket import MqttDoor
from ecpds.portals.s3.portal import S3Portal
from ecpds.portals.s3.service import PREFIX, S3Service
from ecpds.portals.ssh.server import SshPortal
from ecpds.vfs.brokerfiles import BrokerFiles
from ecpds.vfs.brokermemory import BrokerMemory
from ecpds.vfs.desks import make_desks
from ecpds.vfs.gate import PortalGate
from ecpds.vfs.wis2 import Wis2Shelf
from ecpds.web.app import Monitor

log = logs.get_logger(__name__)

CANCEL_TIME = timedelta(seconds=10)
WRITE_TIME = timedelta(seconds=20)
LAG_EVERY = 0.5  # seconds between two looks at how late the loop is


class Listening(Protocol):
    """What all servers of the daemon have in common."""

    async def start(self) -> list[tuple[str, int]]:
        """Listen; return the addresses, none when switched off."""

    async def drain(self) -> None:
        """Accept nobody any more and wait for what runs."""

    async def close(self) -> None:
        """End everything."""


def notify(text: str) -> None:
    """Tell systemd (sd_notify); does nothing outside a unit."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect("\0" + address[1:] if address.startswith("@") else address)
        out.send(text.encode())


class Daemon:
    """One node at work."""

    def __init__(
        self, settings: Settings, config: Path | None, *, say: Callable[[str], None]
    ) -> None:
        self.settings = settings
        self._config = config
        self._say = say
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._servers: dict[str, Listening] = {}
        self._endpoints: dict[str, str] = {}
        self._feeder: asyncio.Task[None] | None = None
        self._https: HttpsPortal | None = None
        self._ftp: FtpPortal | None = None
        self._ssh: SshPortal | None = None
        self._s3: list[S3Service | S3Portal] = []
        self.lag = 0.0

    # --- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        directory = DataDirectory(self.settings)
        directory.open()
        try:
            logs.set_up(
                self.settings.log.level,
                self.settings.log.format,
                path=self.settings.data_dir / "log" / "ecpds.log",
            )
            node = await open_node(self.settings)
            try:
                await self._serve(node)
            finally:
                await node.close()
        finally:
            (self.settings.data_dir / "endpoints.json").unlink(missing_ok=True)
            directory.close()

    async def _serve(self, node: Node) -> None:
        core = node.core
        counts = await core.store.write(recovery.settle, now=core.clock.now())
        if any(counts.values()):
            log.info("recovered", **counts)
        async with asyncio.TaskGroup() as group, self._signals(node):
            engine = group.create_task(node.engine.run(), name="engine")
            watch = group.create_task(self._watch(core), name="watch")
            await node.engine.is_running.wait()
            gate = PortalGate(core, node.engine)
            rights = group.create_task(supervise("portal", gate.run, core.clock), name="portal")
            files = group.create_task(self._follow_users(core), name="broker-files")
            try:
                await self._start_servers(node, gate)
                credentials = await self._make_demo(node, group)
                await self._tell(node, "start")
                self._ready(node, credentials)
                await self._stopping.wait()
            finally:
                await self._stop(node, gate, engine)
                watch.cancel()
                rights.cancel()
                files.cancel()

    async def _follow_users(self, core: Core) -> None:
        """Keep the files of another broker, where a site wants that."""
        if self.settings.mqtt.mosquitto_files and core.broker_logins is not None:
            await supervise("broker-files", BrokerFiles(core).run, core.clock)

    async def _make_demo(self, node: Node, group: asyncio.TaskGroup) -> list[str]:
        if not self.settings.demo.enabled:
            return []
        lines = await make_demo(node, self._endpoints)
        self._feeder = group.create_task(feed(node), name="demo-feed")
        return lines

    async def _start_servers(self, node: Node, gate: PortalGate) -> None:
        core, settings = node.core, self.settings
        tls = node.certificates.context
        https = settings.portal.https
        monitor = Monitor(
            node.engine,
            gate,
            tls=tls if settings.monitor.tls else None,
            templates=shared("templates"),
            endpoints=lambda: self._endpoints,
            ready=lambda: self.ready_checks(core),
            reload=lambda: self.reload(node),
        )
        mqtt = await self._start_mqtt(node, gate, tls)
        portal = self._https = HttpsPortal(
            gate,
            https,
            tls if https.tls else None,
            core.threads,
            core.clock,
            core.node,
            templates=shared("templates"),
            cache=settings.data_dir / "cache" / "templates",
            endpoints=lambda: self._endpoints,
            session_lifetime=settings.security.session_lifetime,
            trusted_proxies=settings.security.trusted_proxies,
            desks=make_desks(core, gate),
            doors=[
                *self._s3_doors(core, gate),
                *([MqttDoor(mqtt)] if mqtt is not None else []),
                Wis2Door(Wis2Shelf(core, gate)),
            ],
        )
        own_s3 = S3Portal(
            gate,
            settings.portal.s3,
            tls if settings.portal.s3.tls else None,
            core.threads,
            core.clock,
            hosts=settings.portal.s3.hosts or (settings.node.public_host, "localhost"),
            trusted_proxies=settings.security.trusted_proxies,
        )
        self._s3.append(own_s3)
        self._ftp = FtpPortal(gate, settings.portal.ftp, tls, core.threads, core.clock, core.node)
        self._ssh = SshPortal(
            gate,
            settings.portal.sftp,
            settings.data_dir / "ssh",
            core.threads,
            core.clock,
            core.node,
        )
        candidates: dict[str, Listening] = {
            "ftp": self._ftp,
            "sftp": self._ssh,
            "portal_https": portal,
            "portal_s3": own_s3,
            "monitor": monitor,
        }
        for name, server in candidates.items():
            places = await server.start()
            if places:
                self._servers[name] = server
                self._endpoints[name] = self._url(name, *places[0])
        if "portal_https" in self._endpoints and https.webdav:
            self._endpoints["webdav"] = f"{self._endpoints['portal_https']}/webdav/"
        if "portal_https" in self._endpoints and settings.portal.s3.on_https:
            self._endpoints.setdefault("portal_s3", f"{self._endpoints['portal_https']}{PREFIX}")
        core.endpoints.update(self._endpoints)
        self._tell_address(node)
        self._write_endpoints()

    async def _start_mqtt(
        self, node: Node, gate: PortalGate, tls: Callable[[], ssl.SSLContext]
    ) -> MqttPortal | None:
        """Start the broker unless all publications go to another one."""
        core, settings, outbox = node.core, self.settings.mqtt, node.engine.outbox
        if settings.driver != "embedded":
            name = f"ecpds-{core.node}"
            external = ExternalDriver(settings.url, name, core.clock)
            outbox.drivers[EXTERNAL] = outbox.drivers[WIS2_KINDS[EXTERNAL]] = external
        if settings.driver == "external":
            return None
        check_test_publish(settings, [self.settings.portal.https.listen])
        memory = BrokerMemory(core.store, core.clock)
        mqtt = MqttPortal(gate, settings, tls, core.clock, memory, core.metrics)
        self._servers["mqtt"] = mqtt
        await mqtt.start()
        for name, place in mqtt.places.items():
            self._endpoints[name] = self._url(name, *place)
        outbox.drivers[EMBEDDED] = outbox.drivers[WIS2_KINDS[EMBEDDED]] = outbox.broker = mqtt
        return mqtt

    def _s3_doors(self, core: Core, gate: PortalGate) -> list[S3Service]:
        """Return S3 as a door of the HTTPS portal, unless it is switched off there."""
        given = self.settings.portal.s3
        if not given.on_https:
            return []
        door = S3Service(gate, given, core.threads, core.clock, prefix=PREFIX, hosts=given.hosts)
        self._s3.append(door)
        return [door]

    def _tell_address(self, node: Node) -> None:
        """Let publications name the address under which the portal answers; they may begin."""
        shown = urlsplit(self._endpoints.get("portal_https", ""))
        if shown.port is not None:
            place = f"{self.settings.node.public_host}:{shown.port}"
            node.engine.outbox.base_url = f"{shown.scheme}://{place}"
        node.engine.outbox.open()

    def _url(self, name: str, host: str, port: int) -> str:
        schemes = {
            "mqtt": "mqtt",
            "mqtts": "mqtts",
            "ftp": "ftps" if self.settings.portal.ftp.tls == "implicit" else "ftp",
            "sftp": "sftp",
            "portal_https": "https" if self.settings.portal.https.tls else "http",
            "portal_s3": "https" if self.settings.portal.s3.tls else "http",
            "monitor": "https" if self.settings.monitor.tls else "http",
        }
        everywhere = {"0.0.0.0", "::"}  # noqa: S104 - compared
        shown = "127.0.0.1" if host in everywhere else host
        shown = f"[{shown}]" if ":" in shown else shown
        return f"{schemes[name]}://{shown}:{port}"

    def _write_endpoints(self) -> None:
        path = self.settings.data_dir / "endpoints.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._endpoints, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)

    def _ready(self, node: Node, credentials: list[str]) -> None:
        notify(f"READY=1\nSTATUS=serving\nMAINPID={os.getpid()}")
        log.info("ready", **self._endpoints)
        lines = [f"ecpds {__version__} is ready"]
        lines += [f"  {name:<13} {url}" for name, url in sorted(self._endpoints.items())]
        if node.first_password:
            lines += ["", f"First start: administrator {ADMIN!r}, password {node.first_password}"]
            lines.append("It is not shown again.")
        lines += credentials
        self._say("\n".join(lines))

    # --- stop -----------------------------------------------------------------------------------

    async def _stop(self, node: Node, gate: PortalGate, engine: asyncio.Task[None]) -> None:
        notify("STOPPING=1")
        log.info("stopping")
        (self.settings.data_dir / "endpoints.json").unlink(missing_ok=True)
        if self._feeder is not None:
            self._feeder.cancel()
        limit = self.settings.scheduler.finish_timeout
        node.engine.drain()
        await self._stage("finish", limit, lambda: self._finish(node), can_hurry=True)
        gate.drain()
        for server in self._servers.values():
            await self._stage("close listeners", CANCEL_TIME, server.close)
        await self._stage("records", CANCEL_TIME, gate.close)
        engine.cancel()
        await self._stage("cancel", CANCEL_TIME, lambda: _ended(engine))
        await self._stage("write", WRITE_TIME, lambda: self._write(node))
        log.info("stopped")

    async def _write(self, node: Node) -> None:
        await self._tell(node, "stop")
        await node.engine.eventlog.drain()

    async def _tell(self, node: Node, action: str) -> None:
        """SYS: the node starts or stops."""
        core = node.core
        now, teller = core.clock.now(), Teller(node=core.node)
        record = teller.record(
            "SYS", now, action=action, object={"kind": "node", "name": core.node},
            context=f"ecpds {__version__}", severity="info", outcome="ok",
        )  # fmt: skip
        await core.store.write(teller.tell, record, now=now)

    async def _finish(self, node: Node) -> None:
        async with asyncio.TaskGroup() as group:
            for name, server in self._servers.items():
                group.create_task(server.drain(), name=f"drain-{name}")
            group.create_task(self._transfers_end(node), name="drain-transfers")

    async def _transfers_end(self, node: Node) -> None:
        with node.core.bus.listener() as listener:
            while node.engine.busy:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await listener.wait_some()

    async def _stage(
        self,
        name: str,
        limit: timedelta,
        act: Callable[[], Awaitable[None]],
        *,
        can_hurry: bool = False,
    ) -> None:
        """Run one stage of the stop within its limit; say what is left when time is over."""
        try:
            async with asyncio.timeout(limit.total_seconds()), asyncio.TaskGroup() as group:
                work = group.create_task(_awaited(act), name=name)
                if can_hurry:
                    group.create_task(self._cancel_when_hurried(work), name="hurry")
        except TimeoutError:
            log.warning("stage took too long", stage=name, seconds=limit.total_seconds())
        except Exception as error:  # noqa: BLE001 - the stop goes on whatever happens
            log.error("stage failed", exc=error, stage=name)  # noqa: TRY400 - trace is in `exc`

    async def _cancel_when_hurried(self, work: asyncio.Task[None]) -> None:
        waiting = self._hurry.wait()
        try:
            async with asyncio.TaskGroup() as group:
                hurry = group.create_task(waiting)
                work.add_done_callback(lambda _: hurry.cancel())
        finally:
            work.cancel()

    @asynccontextmanager
    async def _signals(self, node: Node) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self.reload(node))
        try:
            yield
        finally:
            for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(one)

    def stop(self) -> None:
        """Stop gracefully; the second call at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def reload(self, node: Node) -> str:
        """Read settings and certificates anew; on any error the old ones go on.

        Returns why nothing was changed, an empty text when it was.
        """
        try:
            found = reloaded(self.settings, load(self._config))
            settings = found.settings
            node.core.mailer.take(settings.mail)
            node.certificates.reload(*certificate_paths(settings))
        except EcpdsError as error:
            log.error("reload refused", reason=error.message)  # noqa: TRY400 - text is enough
            return error.message
        node.core.settings = self.settings = settings
        self._take(node.core, settings)
        if found.waiting:
            log.warning("a restart is needed for", keys=", ".join(found.waiting))
        log.info("reloaded", changed=", ".join(found.changed) or "nothing")
        return ""

    def _take(self, core: Core, settings: Settings) -> None:
        """Hand settings to those who keep them."""
        if self._https is not None:
            self._https.take(settings.portal.https)
        for s3 in self._s3:
            s3.take(settings.portal.s3)
        if self._ftp is not None:
            self._ftp.take(settings.portal.ftp)
        if self._ssh is not None:
            self._ssh.take(settings.portal.sftp)
        for one in settings.volumes:
            volume = core.objects.volume(one.name)
            volume.reserve, volume.weight = one.reserve, one.weight
        logs.adjust(settings.log.level, settings.log.format)

    # --- health ---------------------------------------------------------------------------------

    async def _watch(self, core: Core) -> None:
        """Measure how late the loop is, and feed the watchdog."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await asyncio.sleep(LAG_EVERY)
            self.lag = max(loop.time() - begun - LAG_EVERY, 0.0)
            core.metrics.loop_lag.set(self.lag)
            notify("WATCHDOG=1")

    def ready_checks(self, core: Core) -> dict[str, dict[str, object]]:
        """Return what `/readyz` tells."""
        checks: dict[str, dict[str, object]] = {
            f"volume_{volume.name}": {"ok": volume.room > 0, "room": volume.room}
            for volume in core.objects.volumes
        }
        checks["listeners"] = {"ok": bool(self._servers) and not self._stopping.is_set()}
        checks["loop"] = {"ok": self.lag < 1.0, "lag": round(self.lag, 4)}
        return checks


async def _awaited(act: Callable[[], Awaitable[None]]) -> None:
    await act()


async def _ended(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


def serve(settings: Settings, config: Path | None, say: Callable[[str], None]) -> None:
    """Run the daemon on uvloop where it is installed."""
    try:
        import uvloop  # optional
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(settings, config, say))


async def _serve(settings: Settings, config: Path | None, say: Callable[[str], None]) -> None:
    await Daemon(settings, config, say=say).run()
