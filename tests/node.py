"""A small node without listeners, for tests of engine, vfs and web: real store, objects, threads.

    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",))
        async with await node.login("alice") as session:
            ...

Only the cost of a password hash is lowered.  With `run=True` schedulers and the gate's background
work run too; opening another node on the same directory is a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from ecpds.base.clock import Clock, SystemClock
from ecpds.base.failpoints import Failpoints
from ecpds.base.passwords import Passwords
from ecpds.base.settings import NodeSettings, SecuritySettings, Settings, StoreSettings
from ecpds.base.threads import Threads
from ecpds.engine import recovery
from ecpds.engine.core import Core
from ecpds.engine.operations.accountrows import Credentials
from ecpds.engine.operations.accounts import AccountOperations
from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.destinations import DestinationOperations
from ecpds.engine.supervisor import Engine
from ecpds.model.account import DataUser, Permission, Policy, Protocol, Service
from ecpds.model.destination import Alias, Destination
from ecpds.model.secret import Secret
from ecpds.modules import BUILTIN
from ecpds.node import make_core, open_vault
from ecpds.store.db import Store
from ecpds.store.migrate import migrate
from ecpds.transfer.registry import Registry
from ecpds.vfs.contract import Credential, Password, Session
from ecpds.vfs.gate import PortalGate

ALL = frozenset(Permission)
_CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
_NOBODY = _CHEAP.hash("nobody")


class CheapPasswords(Passwords):
    """Argon2id at its lowest cost."""

    def __init__(self, threads: Threads) -> None:
        super().__init__(threads)
        self.verified = 0

    async def hash(self, password: Secret) -> str:
        return _CHEAP.hash(password.reveal())

    async def verify(self, stored: str | None, password: Secret) -> bool:
        self.verified += 1
        try:
            return _CHEAP.verify(stored or _NOBODY, password.reveal()) and bool(stored)
        except VerificationError:
            return False


@dataclass
class SmallNode:
    """A node at rest, or at work."""

    core: Core
    engine: Engine
    gate: PortalGate
    passwords: CheapPasswords
    destinations: DestinationOperations = field(init=False)
    accounts: AccountOperations = field(init=False)

    def __post_init__(self) -> None:
        self.destinations = DestinationOperations(self.engine)
        self.accounts = AccountOperations(self.engine)

    @property
    def store(self) -> Store:
        return self.core.store

    async def destination(
        self,
        name: str,
        *,
        options: Mapping[str, Any] | None = None,
        aliases: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> None:
        """Create or replace a destination; `aliases` maps copies to rules."""
        copies = tuple(Alias(to=to, rule=rule) for to, rule in (aliases or {}).items())
        destination = Destination(name=name, options=dict(options or {}), aliases=copies, **fields)
        await self.destinations.put(destination, SYSTEM)

    async def policy(self, name: str, **fields: Any) -> None:
        """Create or replace a policy."""
        await self.accounts.put_policy(Policy(name=name, **fields), SYSTEM)

    async def user(
        self,
        login: str,
        *,
        password: str | None = "secret",
        totp: str | None = None,
        destinations: Iterable[str] = (),
        operations: Iterable[Permission] = ALL,
        options: Mapping[str, Any] | None = None,
        service: Service = Service.STANDARD,
        **fields: Any,
    ) -> None:
        """Create or replace a data user who may do everything in these destinations."""
        user = DataUser(
            login=login,
            service=service,
            destinations=tuple(destinations),
            operations=frozenset(operations),
            options=dict(options or {}),
            **fields,
        )
        credentials = Credentials(
            password=None if password is None else Secret(password),
            totp=None if totp is None else Secret(totp),
        )
        await self.accounts.put_user(user, credentials, SYSTEM)

    async def login(
        self,
        user: str = "alice",
        credential: Credential | str = "secret",
        *,
        protocol: Protocol = Protocol.SFTP,
        peer: str = "192.0.2.1",
    ) -> Session:
        """Log in; a text is a password."""
        if isinstance(credential, str):
            credential = Password(Secret(credential))
        return await self.gate.login(user, credential, protocol=protocol, peer=peer)


def small_settings(
    folder: Path,
    *,
    durability: Literal["full", "normal"] = "normal",
    security: Mapping[str, Any] | None = None,
) -> Settings:
    """Return settings for a node below `folder`."""
    return replace(
        Settings(),
        node=NodeSettings(name="m1", data_dir=folder, public_host="localhost"),
        store=StoreSettings(durability=durability),
        security=SecuritySettings(**(security or {})),
    )


@asynccontextmanager
async def small_node(
    folder: Path,
    *,
    clock: Clock | None = None,
    durability: Literal["full", "normal"] = "normal",
    failpoints: str = "",
    security: Mapping[str, Any] | None = None,
    run: bool = False,
) -> AsyncIterator[SmallNode]:
    """Open a node on `folder`, a new one or what an earlier one left there."""
    settings = small_settings(folder, durability=durability, security=security)
    path = settings.store_path
    path.parent.mkdir(parents=True, exist_ok=True)
    broken = Failpoints(failpoints)
    vault = open_vault(settings, is_new=not path.exists())
    threads = Threads()
    passwords = CheapPasswords(threads)
    store = Store(path, readers=2, durability=durability, failpoints=broken)
    core: Core | None = None
    try:
        await store.call_alone(migrate)
        registry = Registry(BUILTIN, installed=False)
        core = await threads.run(
            "disk", make_core, settings, clock or SystemClock(), threads, store, vault, registry,
            broken,
        )  # fmt: skip
        core.passwords = passwords
        await core.configuration.reload()
        engine = Engine(core)
        node = SmallNode(core, engine, PortalGate(core, engine), passwords)
        async with _working(node, run=run):
            yield node
    finally:
        if core is not None:
            await core.scripts.close()
            await core.pool.close()
        await asyncio.to_thread(_close, core, store, threads)


@asynccontextmanager
async def _working(node: SmallNode, *, run: bool) -> AsyncIterator[None]:
    if not run:
        yield
        return
    await node.store.write(recovery.settle, now=node.core.clock.now())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(node.engine.run()), group.create_task(node.gate.run())]
        await node.engine.is_running.wait()
        try:
            yield
        finally:
            await node.gate.close()
            for task in tasks:
                task.cancel()


def _close(core: Core | None, store: Store, threads: Threads) -> None:
    if core is not None:
        core.objects.close()
    store.close()
    threads.close()
