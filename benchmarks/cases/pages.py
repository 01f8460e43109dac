"""The dashboard of a large site: 1,000 destinations, a million transfers with their history.

Every family of pages is asked for by a browser's session over its kept connection; what counts is
the time of the answer, TLS included.  Rows are written with the store's own statements.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp

from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach, percentile
from benchmarks.node import Node
from benchmarks.scene import SMALL, Scene, fresh
from ecpds.base.clock import SystemClock
from ecpds.store.codec import to_micros
from ecpds.store.db import Store

DESTINATIONS = 1000
HOSTS = 250
LIMIT = 100  # ms a page may take
VISITS = 7  # of each page in a round
USERS, PASSWORD = ("olga", "edna", "nora", "vera"), "only-for-measuring-1"
VIEWERS = 20
WATCHED = 20.0  # seconds for which live rows are watched
CHANGE_EVERY = 0.2  # seconds between two changes of a destination

VIEWER = """\
[[web_users]]
name = "{name}"
password = "{password}"
roles = [{{ role = "admin" }}]
"""
HOST = """\
[[hosts]]
name = "host-{number:03}"
role = "dissemination"
method = "genericFtp"
host = "host-{number:03}.example.org"
login = "nobody"
password = "nothing"
directory = "/in/"
active = false
"""
DESTINATION = """\
[[destinations]]
name = "{name}"
comment = "Products for site {name}"
max_pending = 0
max_inactivity = "2d"
hosts = ["host-{host:03}"]
"""
FAMILIES: Sequence[tuple[str, str]] = (
    ("overview", "/"),
    ("destinations", "/destinations"),
    ("destinations, sorted", "/destinations?sort=-done&after=500"),
    ("destination", "/destinations/S0007"),
    ("destination: transfers", "/destinations/S0007/transfers"),
    ("destination: rates", "/destinations/S0007/rates"),
    ("destination: changes", "/destinations/S0007/changes"),
    ("destination: hosts", "/destinations/S0007/hosts"),
    ("destination: form", "/destinations/S0007/edit"),
    ("transfers", "/transfers"),
    ("transfers of one status", "/transfers?status=failed"),
    ("transfers, rare status", "/transfers?status=standby"),
    ("transfers of a host", "/transfers?q=host%3Dhost-007"),
    ("transfers by name", "/transfers?q=target%3D*0000123*"),
    ("transfers of an hour", "/transfers?from=30h&to=29h"),
    ("transfers, sorted", "/transfers?sort=-size"),
    ("transfer", "/transfers/100007"),
    ("outstanding", "/transfers/outstanding"),
    ("outstanding of one", "/transfers/outstanding?dest=S0007"),
    ("history", "/transfers/history"),
    ("history of one", "/transfers/history?dest=S0007"),
    ("history, errors", "/transfers/history?errors=1"),
    ("hosts", "/hosts"),
    ("host", "/hosts/host-007"),
    ("files", "/files"),
    ("files by name", "/files?q=*0000123*"),
    ("file", "/files/100007"),
    ("storage", "/storage"),
    ("products", "/products"),
    ("portal users", "/portal/users"),
    ("portal history", "/portal/history"),
    ("notifications", "/notify"),
    ("rates", "/stats/rates"),
    ("rates of hosts", "/stats/hosts"),
    ("events", "/events"),
    ("incidents", "/incidents"),
    ("web users", "/system/web-users"),
    ("tasks", "/system/tasks"),
    ("configuration", "/system/config"),
)


# --- a store like that of a large site ----------------------------------------------------------


def names() -> list[str]:
    """Return the names of the destinations."""
    return [f"S{number:04}" for number in range(DESTINATIONS)]


def site() -> str:
    """Return the objects; hosts are switched off, so that nothing but pages is measured."""
    hosts = "".join(HOST.format(number=number) for number in range(HOSTS))
    users = "".join(VIEWER.format(name=name, password=PASSWORD) for name in USERS)
    places = "".join(
        DESTINATION.format(name=name, host=number % HOSTS) for number, name in enumerate(names())
    )
    return users + hosts + places


def fill(database: Path, count: int) -> None:
    """Add `count` files of two days, each with a transfer, its attempt and a step of history.

    Most are done; in every fifth destination some failed, wait for another try or were stopped.
    """
    now = SystemClock().now()
    values = {
        "count": count,
        "most": DESTINATIONS,
        "hosts": HOSTS,
        "first": to_micros(now - timedelta(days=2)),
        "step": 2 * DAY // count,
        "later": to_micros(now + timedelta(hours=12)),
        "keep": 3 * DAY,
        "size": SMALL,
        "today": to_micros(now) // DAY,
    }
    store = Store(database, readers=1, durability="normal")
    try:
        db = store.connect()
        for pragma in ("foreign_keys = OFF", "cache_size = -400000"):
            db.execute(f"PRAGMA {pragma}")
        for text in (NUMBERS, FILES, TRANSFERS, STEPS, ATTEMPTS, HOURS, RATES):
            db.execute("BEGIN IMMEDIATE")
            db.execute(text, values)
            db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
    finally:
        store.close()


DAY = 86_400_000_000  # microseconds
NUMBERS = """
    CREATE TEMP TABLE n AS
    WITH RECURSIVE counted (n) AS (
        SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < :count)
    SELECT n, printf('product-%07d.bin', n) AS name, :first + n * :step AS at,
        printf('S%04d', n % :most) AS destination, printf('host-%03d', n % :most % :hosts) AS host,
        CASE WHEN n % 97 = 0 THEN 'WAIT' WHEN n % 200003 = 9 THEN 'HOLD'
            WHEN n % :most % 5 = 2 AND n / :most % 12 = 0 THEN 'FAIL'
            WHEN n % :most % 5 = 2 AND n / :most % 12 = 1 THEN 'RETR'
            WHEN n % :most % 5 = 2 AND n / :most % 12 = 2 THEN 'STOP' ELSE 'DONE' END AS status
    FROM counted"""
FILES = """
    INSERT INTO data_file (id, original, source, size, arrived_at, file_time, time_base, stored,
        checksum, volume, object_key, submitter)
    SELECT n, name, name, :size, at, at, at, 1, '00000001', 'default', 'none/' || n, 'bench'
    FROM temp.n"""
TRANSFERS = """
    INSERT INTO transfer (id, destination, data_file, target, key_destination, key_target,
        identity, priority, status, scheduled_at, queue_at, due_at, expires_at, created_at,
        changed_at, start_count, attempts, started_at, first_finish_at, finished_at, failed_at,
        duration, sent, host, time_base)
    SELECT n, destination, n, name, destination, name, name, n % 100, status,
        CASE status WHEN 'WAIT' THEN :later ELSE at END,
        CASE WHEN status IN ('WAIT', 'RETR') THEN :later ELSE at END,
        CASE WHEN status IN ('WAIT', 'RETR') THEN :later ELSE at END, at + :keep, at, at,
        status != 'WAIT', status != 'WAIT', iif(status = 'WAIT', NULL, at),
        iif(status = 'DONE', at + 400000, NULL), iif(status = 'DONE', at + 400000, NULL),
        iif(status IN ('FAIL', 'RETR'), at + 400000, NULL), iif(status = 'DONE', 400000, NULL),
        iif(status = 'DONE', :size, 0), iif(status = 'WAIT', '', host), at
    FROM temp.n"""
STEPS = """
    INSERT INTO transfer_history (transfer, destination, time, status, host, sent, comment, error)
    SELECT n, destination, at, status, host, iif(status = 'DONE', :size, 0),
        iif(status = 'DONE', '', 'refused by peer ' || n % 7), status IN ('FAIL', 'RETR')
    FROM temp.n"""
ATTEMPTS = """
    INSERT INTO attempt (transfer, host, started_at, finished_at, status, sent)
    SELECT n, host, at, at + 400000, status, iif(status = 'DONE', :size, 0)
    FROM temp.n WHERE status != 'WAIT'"""
HOURS = """
    INSERT INTO host_hour (host, hour, files, bytes, failed, duration)
    SELECT host, at / 3600000000, SUM(status = 'DONE'), SUM(status = 'DONE') * :size,
        SUM(status != 'DONE'), SUM(status = 'DONE') * 400000
    FROM temp.n GROUP BY 1, 2"""
RATES = """
    INSERT INTO daily_rate (destination, day, bytes, duration, files)
    SELECT name, :today - back.value, 1000000000, 1000000000, 1000
    FROM destination, (
        WITH RECURSIVE days (value) AS (
            SELECT 0 UNION ALL SELECT value + 1 FROM days WHERE value < 89)
        SELECT value FROM days) AS back"""


# --- visits -------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Site:
    """A running node and browsers' sessions with it, one a user."""

    node: Node
    count: int
    sessions: Sequence[aiohttp.ClientSession]

    async def visit(self, path: str) -> float:
        """Return the seconds until the whole page is there."""
        began = time.perf_counter()
        async with self.sessions[0].get(f"{self.node.endpoints['monitor']}{path}") as answer:
            body = await answer.read()
        took = time.perf_counter() - began
        if answer.status != 200 or b"<main" not in body:
            raise MeasurementFailed(f"{path}: {answer.status}")
        return took

    def cpu(self) -> float:
        """Return the seconds of processor time that the daemon has used."""
        stat = Path(f"/proc/{self.node.pid}/stat").read_text(encoding="ascii")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def opened(folder: Path, count: int) -> AsyncIterator[Site]:
    """Run a daemon with a filled store and log in."""
    node = Node.create(folder)
    try:
        await node.start()
        await node.apply(site())
        await node.stop()
        await asyncio.to_thread(fill, node.data / "ecpds.db", count)
        await node.start()
        async with AsyncExitStack() as running:
            sessions = [await running.enter_async_context(_session(node, name)) for name in USERS]
            yield Site(node=node, count=count, sessions=sessions)
    finally:
        await node.stop()


@asynccontextmanager
async def _session(node: Node, name: str) -> AsyncIterator[aiohttp.ClientSession]:
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    connector = aiohttp.TCPConnector(ssl=trust, limit=0)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as session:
        url, form = f"{node.endpoints['monitor']}/login", {"name": name, "password": PASSWORD}
        async with session.post(url, data=form, allow_redirects=False) as answer:
            if answer.status != 303:
                raise MeasurementFailed(f"login: {answer.status}")
        yield session


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Without the daemon there is nothing to compare."""
    if not scene.ours:
        yield []
        return
    count = 1_000_000 if scene.full else 200_000
    async with opened(fresh(scene.work / "pages"), count) as found:
        yield [*(_page(found, name, path) for name, path in FAMILIES), _watched(found)]


def _page(found: Site, name: str, path: str) -> Comparison:
    async def run(number: int) -> Mapping[str, float]:
        del number
        await found.visit(path)  # templates and statements are prepared
        return {US: percentile([await found.visit(path) for _ in range(VISITS)], 0.5) * 1000}

    return _row(f"{found.count:,} transfers: {name}", "ms", run, LIMIT)


def _watched(found: Site) -> Comparison:
    """Return what a viewer of live rows costs while destinations change all the time."""

    async def run(number: int) -> Mapping[str, float]:
        del number
        alone = await _busy(found, 0)
        return {US: (await _busy(found, VIEWERS) - alone) / VIEWERS * 100}

    return _row(f"{VIEWERS} viewers of live rows: processor time of each", "%", run, 1)


async def _busy(found: Site, viewers: int) -> float:
    """Return the share of a processor that the daemon takes while rows change and are watched."""
    url = f"{found.node.endpoints['monitor']}/live?topics=dest:*,transfers:*,counter:node"
    told = [0] * viewers

    async def watch(viewer: int) -> None:
        async with found.sessions[viewer % len(USERS)].get(url) as answer:
            async for line in answer.content:
                told[viewer] += line.startswith(b"event:")

    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(watch(viewer)) for viewer in range(viewers)]
        ends = time.monotonic() + WATCHED
        began, used = time.monotonic(), found.cpu()
        turn = 0
        while time.monotonic() < ends:
            name = names()[turn % DESTINATIONS]
            verb = "stop" if turn % 2 else "start"
            await asyncio.to_thread(
                found.node.api, "POST", f"/destinations/{name}/actions/{verb}", {}
            )
            turn += 1
            await asyncio.sleep(CHANGE_EVERY)
        share = (found.cpu() - used) / (time.monotonic() - began)
        for one in watching:
            one.cancel()
    if viewers and not all(told):
        raise MeasurementFailed("a viewer heard of nothing")
    return share


def _row(work: str, unit: str, run: object, limit: float) -> Comparison:
    return Comparison(
        case="pages",
        work=work,
        unit=unit,
        contenders=[Contender(name=US, run=run)],  # type: ignore[arg-type] # a coroutine function
        better="lower",
        reach=Reach(limit=limit),
        rounds=1,
    )
