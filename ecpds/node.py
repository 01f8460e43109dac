"""Puts the lasting parts of a node together: data directory, keys, store, objects, engine.

Used by the daemon and by the commands that work while no daemon runs.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ecpds.base import tls
from ecpds.base.bus import Bus
from ecpds.base.clock import Clock, SystemClock
from ecpds.base.failpoints import Failpoints
from ecpds.base.mail import Mailer
from ecpds.base.metrics import Metrics
from ecpds.base.passwords import Passwords, random_password, random_token, token_hash
from ecpds.base.settings import Settings
from ecpds.base.threads import Threads
from ecpds.base.vault import Vault
from ecpds.engine.brokerlogins import BrokerLogins
from ecpds.engine.core import Configuration, Core
from ecpds.engine.notices import KINDS
from ecpds.engine.proxy import ProxyOptions
from ecpds.engine.supervisor import Engine
from ecpds.model.account import Grant, Role, WebUser
from ecpds.model.acquisition import AcquisitionOptions
from ecpds.model.errors import ConfigError, StoreError
from ecpds.model.families import IncomingOptions, MqttOptions, PortalOptions, SchedulerOptions
from ecpds.model.options import Catalogue
from ecpds.model.secret import Secret
from ecpds.model.wis2 import Wis2Options
from ecpds.modules import BUILTIN
from ecpds.objects.directory import ObjectDirectory
from ecpds.objects.volume import Volume
from ecpds.scripting.scripts import ScriptLimits, Scripts
from ecpds.store import accounts, site
from ecpds.store.db import Connection, Store
from ecpds.store.migrate import migrate
from ecpds.transfer.contract import Surroundings
from ecpds.transfer.pool import Pool
from ecpds.transfer.registry import Registry

ADMIN = "admin"


class DataDirectory:
    """The data directory of a node, held by one process at a time."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.data_dir
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Create it (0700) and hold it; ConfigError when another process does."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("a")
        except OSError as error:
            raise ConfigError(f"data_dir {self.path} cannot be used: {error}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigError(f"another ecpds runs with data_dir {self.path}") from None

    def close(self) -> None:
        """Let it go."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


@dataclass(slots=True, kw_only=True)
class Node:
    """A node at rest: everything but schedulers and listeners."""

    settings: Settings
    core: Core
    engine: Engine
    certificates: tls.Certificates
    first_password: str  # of the administrator, on the first start only

    async def close(self) -> None:
        """Release everything; may be called twice."""
        await self.core.scripts.close()
        await self.core.pool.close()
        await self.engine.learning.keep()
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self.core.objects.close()
        self.core.store.close()
        self.core.threads.close()


def make_catalogue(registry: Registry) -> Catalogue:
    """Return all option keys of this node."""
    families = [SchedulerOptions, IncomingOptions, MqttOptions, PortalOptions, AcquisitionOptions]
    return Catalogue([*families, Wis2Options, ProxyOptions, *registry.families()])


def open_vault(settings: Settings, *, is_new: bool) -> Vault:
    """Return the vault; a store without its key is an error, a new store gets a new key."""
    path = settings.data_dir / "keys" / "master.key"
    if path.exists():
        return Vault.load(path)
    if is_new:
        return Vault.create(path)
    raise StoreError(
        f"{path} is missing although the store exists: restore the key file from a backup"
    )


async def open_node(
    settings: Settings, *, clock: Clock | None = None, failpoints: Failpoints | None = None
) -> Node:
    """Open store, objects and configuration, creating what a first start needs."""
    clock = clock or SystemClock()
    failpoints = failpoints or Failpoints.from_environment()
    sys.setswitchinterval(0.0005)  # shortens the tail of the writer thread
    path = settings.store_path
    is_new = not path.exists()
    vault = open_vault(settings, is_new=is_new)
    threads = Threads()
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable to all
    store = Store(
        path, readers=settings.store.readers, durability=settings.store.durability,
        failpoints=failpoints,
    )  # fmt: skip
    try:
        await store.call_alone(migrate)
    except BaseException:
        await store.aclose()
        threads.close()
        raise
    registry = Registry(BUILTIN, installed=True)
    core = await threads.run(
        "disk", make_core, settings, clock, threads, store, vault, registry, failpoints
    )
    await core.configuration.reload()
    engine = Engine(core)
    core.certificates = certificates = open_certificates(settings, clock)
    password = await first_administrator(core)
    return Node(
        settings=settings,
        core=core,
        engine=engine,
        certificates=certificates,
        first_password=password,
    )


def make_core(
    settings: Settings,
    clock: Clock,
    threads: Threads,
    store: Store,
    vault: Vault,
    registry: Registry,
    failpoints: Failpoints,
) -> Core:
    """Build the shared parts."""
    volumes = [
        Volume(
            one.name,
            one.path.absolute(),
            reserve=one.reserve,
            weight=one.weight,
            groups=one.groups,
        )
        for one in settings.volume_list
    ]
    objects = ObjectDirectory(
        volumes,
        threads=threads,
        clock=clock,
        durability=settings.store.durability,
        failpoints=failpoints,
    )
    for root in settings.file_roots:
        if not settings.transfer.file_roots:
            Path(root).mkdir(mode=0o750, parents=True, exist_ok=True)
    around = Surroundings(
        threads=threads,
        clock=clock,
        key_directories=(str(settings.data_dir / "keys" / "hosts"),),
        egress_allow=settings.security.egress_allow,
    )
    return Core(
        settings=settings,
        clock=clock,
        threads=threads,
        store=store,
        objects=objects,
        vault=vault,
        passwords=Passwords(threads),
        bus=Bus(),
        metrics=Metrics(max_destinations=settings.metrics.max_destinations),
        failpoints=failpoints,
        registry=registry,
        pool=Pool(around),
        around=around,
        scripts=Scripts(
            processes=settings.scripts.processes,
            limits=ScriptLimits(
                seconds=settings.scripts.time_limit.total_seconds(),
                memory=settings.scripts.memory,
            ),
        ),
        catalogue=make_catalogue(registry),
        configuration=Configuration(
            store,
            vault,
            registry,
            settings.file_roots,
            settings.node.name,
            carriers=KINDS[settings.mqtt.driver],
        ),
        mailer=Mailer(
            settings.mail, settings.data_dir / "mail", threads, clock, settings.node.public_host
        ),
        broker_logins=None
        if settings.mqtt.driver == "embedded"
        else BrokerLogins(store, threads, clock, settings.mqtt.password_rounds),
    )


def certificate_paths(settings: Settings) -> tuple[Path, Path]:
    """Return where the certificate and its key are, or will be."""
    given = settings.tls
    if given.certificate:
        return Path(given.certificate), Path(given.key or given.certificate)
    folder = settings.data_dir / "tls"
    return folder / "certificate.pem", folder / "key.pem"


def open_certificates(settings: Settings, clock: Clock) -> tls.Certificates:
    """Return the configured certificate, or a self-signed one made at the first start."""
    paths = certificate_paths(settings)
    folder = settings.data_dir / "tls"
    if not settings.tls.certificate and not all(path.exists() for path in paths):
        paths = tls.make_self_signed(folder, settings.node.public_host, clock.now())
    return tls.Certificates(*paths)


async def first_administrator(core: Core) -> str:
    """Create `admin` and its token when there is none yet; return the password, else ''."""
    if await core.store.read(site.meta, "administrator") is not None:
        return ""
    password, token = random_password(), random_token("ddt_")
    hashed = await core.passwords.hash(Secret(password))
    await core.store.write(_store_administrator, hashed, token_hash(token), core)
    write_token(core.settings.data_dir / "admin.token", token)
    return password


def _store_administrator(db: Connection, hashed: str, token: str, core: Core) -> None:
    now = core.clock.now()
    user = WebUser(name=ADMIN, grants=(Grant(role=Role.ADMIN),), comment="made at the first start")
    accounts.put_web_user(db, user, password_hash=hashed, totp_secret="", now=now)
    bootstrap = accounts.Token(id=0, name="bootstrap", owner=ADMIN)
    accounts.put_token(db, bootstrap, secret_hash=token, now=now)
    site.set_meta(db, "administrator", ADMIN)


def write_token(path: Path, token: str) -> None:
    """Write the bootstrap token, readable by its owner only."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
