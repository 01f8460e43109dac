"""The MQTT portal: listeners, logins, sessions of clients, and the door for publications.

Spec: notifications.md 6.3, portal.md 3.7.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger, log_context
from ecpds.base.metrics import Metrics
from ecpds.base.settings import MqttSettings
from ecpds.base.tasks import every, supervise
from ecpds.model.account import Protocol
from ecpds.model.errors import (
    Banned,
    ConfigError,
    EcpdsError,
    LimitError,
    Stopping,
    StoreError,
    Unauthenticated,
)
from ecpds.model.message import ClientInfo, Message
from ecpds.model.mqtttopics import is_permitted, permitted_filters
from ecpds.model.secret import Secret
from ecpds.portals.listener import Listener, connected
from ecpds.portals.mqtt.broker import Broker
from ecpds.portals.mqtt.codec import P, Reason, Value
from ecpds.portals.mqtt.connection import PACKET_LIMIT, RATE, Connection
from ecpds.portals.mqtt.packets import (
    V5,
    Connect,
    Packet,
    Subscribe,
    Unsubscribe,
    Wish,
    connack,
    suback,
    unsuback,
)
from ecpds.portals.mqtt.session import WIDEST, WINDOW, Session
from ecpds.portals.mqtt.status import Status
from ecpds.vfs.brokermemory import BrokerMemory
from ecpds.vfs.contract import Gate, Password
from ecpds.vfs.contract import Session as Login

log = get_logger(__name__)

HANDSHAKE: Final = timedelta(seconds=10)
CONNECT_WAIT: Final = 10.0  # seconds from the connection to the end of its CONNECT
LINGER: Final = 5.0  # seconds for what is still to be sent at the end
MOST_CONNECTIONS: Final = 10_000
MOST_FILTERS: Final = 100  # of one session
LONGEST_CLIENT: Final = 256  # characters of a client id
WATCH_EVERY: Final = timedelta(seconds=1)
SWEEP_EVERY: Final = timedelta(seconds=5)
NEVER: Final = 0xFFFFFFFF  # session expiry of MQTT 5
PERMISSION: Final = "portal.mqttPermission"

Tls = Callable[[], ssl.SSLContext]


class Refusal(Exception):
    """A CONNECT that is not accepted."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


@dataclass(slots=True)
class Client:
    """A connected client: its connection, its login, what it may."""

    connection: Connection
    login: Login
    session: Session
    since: datetime
    permitted: tuple[str, ...] = ()

    def permits(self, wanted: str) -> bool:
        """Tell whether a filter or topic lies inside of what the user may have."""
        return is_permitted(self.permitted, wanted)


class MqttPortal:
    """See the module."""

    def __init__(
        self,
        gate: Gate,
        settings: MqttSettings,
        tls: Tls,
        clock: Clock,
        memory: BrokerMemory | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Nothing listens before `start`.  `memory` None: nothing outlives the process."""
        self._gate = gate
        self._settings = settings
        self._tls = tls
        self._clock = clock
        self._memory = memory
        self.broker = Broker(clock, memory)
        self._status = Status(self.broker, clock, metrics)
        self._clients: dict[Session, Client] = {}
        self._waiting: set[Connection] = set()
        self._listeners = [
            Listener(spec, partial(self._serve, context), clock=clock, cap=MOST_CONNECTIONS)
            for spec, context in ((settings.listen, None), (settings.tls_listen, tls))
        ]
        self._group: asyncio.TaskGroup | None = None
        self._chores: list[asyncio.Task[None]] = []
        self._draining = False

    # --- life ---------------------------------------------------------------------------

    @property
    def may_publish(self) -> bool:
        """Whether every client may publish (`mqtt.test_publish`)."""
        return self._settings.test_publish

    async def start(self) -> list[tuple[str, int]]:
        """Load what was kept and listen; return the addresses.  Raises ConfigError."""
        await self.broker.load()
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        clock = self._clock
        chores = {
            "mqtt-watch": every("mqtt-watch", WATCH_EVERY, self._watch, clock),
            "mqtt-sweep": every("mqtt-sweep", SWEEP_EVERY, self._sweep, clock),
        }
        if self._memory is not None:
            chores["mqtt-memory"] = supervise("mqtt-memory", self._memory.run, clock)
        self._chores = [self._group.create_task(run, name=name) for name, run in chores.items()]
        self.places: dict[str, tuple[str, int]] = {}
        found: list[tuple[str, int]] = []
        for name, listener in zip(("mqtt", "mqtts"), self._listeners, strict=True):
            if places := await listener.start():
                self.places[name] = places[0]
                found += places
        return found

    async def drain(self) -> None:
        """Accept nobody any more and send everybody away; durable sessions stay."""
        self._draining = True
        for listener in self._listeners:
            listener.stop()
        for connection in list(self._waiting):
            connection.refuse(Reason.SHUTTING_DOWN)
        for client in list(self._clients.values()):
            client.connection.refuse(Reason.SHUTTING_DOWN)
        for listener in self._listeners:
            await listener.drain()

    async def close(self) -> None:
        """End everything now and write what is to be kept; may be called twice."""
        self._draining = True
        for listener in self._listeners:
            await listener.close()
        for task in self._chores:
            task.cancel()
        group, self._group = self._group, None
        if group is not None:
            await group.__aexit__(None, None, None)
        if self._memory is not None:
            with suppress(StoreError):
                await self._memory.flush()

    async def _watch(self) -> None:
        """Send away who has been silent for too long or talks too much."""
        now = asyncio.get_running_loop().time()
        for client in list(self._clients.values()):
            connection = client.connection
            if connection.keep_alive and now - connection.heard_at > connection.keep_alive:
                connection.refuse(Reason.KEEP_ALIVE)
            elif connection.packets > RATE and not self.may_publish:
                log.warning("client sends too much", user=client.session.key[0])
                connection.refuse(Reason.QUOTA)
            elif connection.packets:
                client.login.touch()
            connection.packets = 0

    async def _sweep(self) -> None:
        self.broker.sweep()
        self._status.tell(len(self._clients))

    # --- for the node -------------------------------------------------------------------

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish in this order; see `Broker.publish`."""
        await self.broker.publish(messages)

    async def clear(self, topics: Sequence[str]) -> int:
        """Forget retained messages; return how many there were."""
        return await self.broker.clear(topics)

    def clients(self) -> list[ClientInfo]:
        """Return connected clients and sessions that wait for theirs."""
        return [self._info(session) for session in self.broker.sessions.values()]

    def _info(self, session: Session) -> ClientInfo:
        client = self._clients.get(session)
        user, name = session.key
        return ClientInfo(
            user=user,
            client=name,
            peer=client.connection.peer if client else "",
            version=_VERSIONS[client.connection.version] if client else "",
            since=client.since if client else None,
            subscriptions=tuple(session.subscriptions),
            queued=len(session.queue),
            in_flight=len(session.flying),
            sent=session.sent,
            dropped=session.dropped,
            ends=session.ends_at,
        )

    def disconnect(self, user: str, client: str) -> bool:
        """Hang up on a client and forget its session; tell whether there was one."""
        session = self.broker.sessions.get((user, client))
        if session is None:
            return False
        if session in self._clients:
            self._clients[session].connection.refuse(Reason.ADMINISTRATIVE)
        self.broker.forget(session)
        return True

    def retained(self, name: str = "#") -> list[Message]:
        """Return the retained messages that match a filter, by topic."""
        found = self.broker.retained.matching(name, 2**62, lambda _: True)
        return sorted((one.message for one in found), key=lambda message: message.topic)

    # --- connections --------------------------------------------------------------------

    async def _serve(self, tls: Tls | None, sock: socket.socket, peer: str) -> None:
        try:
            await self._gate.check(peer)
        except EcpdsError:
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await self.entertain(await connected(lambda: self.connection(peer), sock, tls, HANDSHAKE))

    def connection(self, peer: str) -> Connection:
        """Return the protocol for a new connection; give it to `entertain`."""
        publishing = self.broker.publish_now if self.may_publish else None
        return Connection(peer, publishing=publishing)

    async def entertain(self, connection: Connection) -> None:
        """Serve a connection to its end."""
        self._waiting.add(connection)
        client: Client | None = None
        try:
            client = await self._enter(connection)
            self._waiting.discard(connection)
            if client is not None:
                with log_context(user=client.session.key[0]):
                    await self._stay(client)
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    await connection.closed.wait()
        finally:
            self._waiting.discard(connection)
            connection.abort()
            if client is not None:
                self._gone(client)
                await client.login.close()

    async def _enter(self, connection: Connection) -> Client | None:
        """Return the client once it is logged in, None when it is not let in."""
        try:
            async with asyncio.timeout(CONNECT_WAIT):
                found = await connection.work()
        except TimeoutError:
            connection.abort()
            return None
        if not isinstance(found, Connect):
            return None
        login: Login | None = None
        try:
            self._check(found)
            login = await self._login(found, connection.peer)
            return await self._opened(connection, found, login)
        except Refusal as refusal:
            connection.refuse(refusal.reason)
        except BaseException:
            connection.abort()
            if login is not None:
                await login.close()
            raise
        if login is not None:
            await login.close()
        return None

    def _check(self, found: Connect) -> None:
        if P.AUTH_METHOD in found.properties:
            raise Refusal(Reason.BAD_METHOD)
        if self._draining:
            raise Refusal(Reason.SHUTTING_DOWN)
        name = found.client
        if len(name) > LONGEST_CLIENT or "#" in name or "+" in name:
            raise Refusal(Reason.BAD_CLIENT_ID)
        if not name and not found.clean and found.version != V5:
            raise Refusal(Reason.BAD_CLIENT_ID)
        if self.may_publish:
            return
        if found.will is not None:
            raise Refusal(Reason.NOT_AUTHORISED)
        if not found.user_name or found.password is None or set("#+") & set(found.user_name):
            raise Refusal(Reason.BAD_LOGIN)

    async def _login(self, found: Connect, peer: str) -> Login:
        try:
            password = Secret((found.password or b"").decode())
        except UnicodeDecodeError:
            password = Secret("")  # never right, but told and counted as any wrong one
        try:
            return await self._gate.login(
                found.user_name or "", Password(password), protocol=Protocol.MQTTS, peer=peer
            )
        except Banned:
            raise Refusal(Reason.BANNED) from None
        except Unauthenticated:
            raise Refusal(Reason.BAD_LOGIN) from None
        except LimitError:
            raise Refusal(Reason.QUOTA) from None
        except Stopping:
            raise Refusal(Reason.SHUTTING_DOWN) from None
        except EcpdsError:
            raise Refusal(Reason.NOT_AUTHORISED) from None

    async def _opened(self, connection: Connection, found: Connect, login: Login) -> Client:
        permitted = permitted_filters(login.options.get(PERMISSION, ""))
        if not permitted:
            raise Refusal(Reason.NOT_AUTHORISED)
        name = found.client or secrets.token_hex(12)
        key = (login.profile.user.login, name)
        before = self.broker.sessions.get(key)
        if before is not None and before in self._clients:
            self._take_over(self._clients[before])
        lasts = self._lasts(found)
        session, is_present = self.broker.open(key, clean=found.clean, lasts=lasts)
        self.broker.restrict(session, permitted)
        session.attach(connection, _window(found))
        client = Client(connection, login, session, self._clock.now(), permitted)
        self._clients[session] = client
        connection.admit(session)
        connection.largest = found.number(P.MAXIMUM_PACKET, 2**28)
        connection.keep_alive = found.keep_alive * 1.5
        connection.will = _will(found)
        login.changed = partial(self._rights_changed, client)
        try:
            await self.broker.keep(session)
        except BaseException:
            self._gone(client)
            raise
        properties = self._connack(found, name, session)
        answer = connack(found.version, present=is_present, found=properties)
        if len(answer) > connection.largest:
            connection.hang_up()  # what may not be sent cannot be told
            return client
        connection.write(answer)
        connection.go_on()
        session.resume()
        return client

    def _take_over(self, old: Client) -> None:
        old.connection.refuse(Reason.TAKEN_OVER)
        self._gone(old)

    def _lasts(self, found: Connect) -> timedelta:
        """Return how long the session is to outlive its connection."""
        longest = self._settings.session_max
        if found.version == V5:
            return min(timedelta(seconds=found.number(P.SESSION_EXPIRY, 0)), longest)
        return timedelta(0) if found.clean else longest

    def _connack(self, found: Connect, name: str, session: Session) -> dict[int, Value]:
        given: dict[int, Value] = {
            P.RECEIVE_MAXIMUM: WINDOW,
            P.MAXIMUM_PACKET: PACKET_LIMIT,
            P.SHARED: 0,
        }
        if not self.may_publish:
            given[P.MAXIMUM_QOS] = 1
        if not found.client:
            given[P.ASSIGNED_ID] = name
        lasts = int(session.lasts.total_seconds())
        if found.number(P.SESSION_EXPIRY, 0) != lasts:
            given[P.SESSION_EXPIRY] = lasts
        return given

    def _gone(self, client: Client) -> None:
        """Part a client from its session; does nothing the second time."""
        session, connection = client.session, client.connection
        client.login.changed = None
        if self._clients.get(session) is not client:
            return
        del self._clients[session]
        connection.session = None
        if connection.lasts is not None and session.is_durable:
            session.lasts = min(connection.lasts, self._settings.session_max)
        self.broker.leave(session)
        if connection.will is not None and self.may_publish:
            self.broker.publish_now(connection.will)

    def _rights_changed(self, client: Client) -> None:
        """Give a client the rights of now."""
        if client.login.closing:
            reason = Reason.SHUTTING_DOWN if self._draining else Reason.ADMINISTRATIVE
            client.connection.refuse(reason)
            return
        client.permitted = permitted_filters(client.login.options.get(PERMISSION, ""))
        self.broker.restrict(client.session, client.permitted)
        if not client.permitted:
            client.connection.refuse(Reason.NOT_AUTHORISED)

    # --- subscriptions ------------------------------------------------------------------

    async def _stay(self, client: Client) -> None:
        connection = client.connection
        while (found := await connection.work()) is not None:
            await self._answer(client, found)
            connection.go_on()

    async def _answer(self, client: Client, found: Packet) -> None:
        version = client.connection.version
        if isinstance(found, Subscribe):
            await self._subscribe(client, found)
        elif isinstance(found, Unsubscribe):
            dropped = [self.broker.unsubscribe(client.session, name) for name in found.filters]
            await self.broker.keep(client.session)
            codes = bytes(Reason.SUCCESS if one else Reason.NO_SUBSCRIPTION for one in dropped)
            client.connection.write(unsuback(version, found.identifier, codes))

    async def _subscribe(self, client: Client, found: Subscribe) -> None:
        session, version = client.session, client.connection.version
        codes, replays = bytearray(), []
        for wish in found.wishes:
            reason = self._judge(client, wish)
            if reason is not Reason.SUCCESS:
                codes.append(reason if version == V5 else 0x80)
                continue
            replay = self.broker.subscribe(session, wish, found.number, client.permits)
            if replay is not None:
                replays.append(replay)
            codes.append(min(wish.qos, 2 if self.may_publish else 1))
        await self.broker.keep(session)
        client.connection.write(suback(version, found.identifier, bytes(codes)))
        for replay in replays:
            session.replay(replay)

    def _judge(self, client: Client, wish: Wish) -> Reason:
        if wish.filter.startswith("$share/"):
            return Reason.NO_SHARED
        if not client.permits(wish.filter):
            return Reason.NOT_AUTHORISED
        held = client.session.subscriptions
        if wish.filter not in held and len(held) >= MOST_FILTERS:
            return Reason.QUOTA
        return Reason.SUCCESS


_VERSIONS: Final[Mapping[int, str]] = {4: "3.1.1", 5: "5"}


def _window(found: Connect) -> int:
    """Return how many messages may be unacknowledged at a time."""
    return min(found.number(P.RECEIVE_MAXIMUM, WINDOW), WIDEST)


def _will(found: Connect) -> Message | None:
    will = found.will
    if will is None:
        return None
    return Message(
        topic=will.topic,
        payload=will.payload,
        qos=will.qos,
        retain=will.retain,
        content_type=str(will.properties.get(P.CONTENT_TYPE, "")),
        user_properties=will.user,
    )


def check_test_publish(settings: MqttSettings, others: Sequence[str]) -> None:
    """Raise ConfigError when clients may publish although a listener is not on loopback."""
    if not settings.test_publish:
        return
    for spec in (settings.listen, settings.tls_listen, *others):
        host = spec.rpartition(":")[0].strip("[]")
        if spec and not (host.startswith("127.") or host in ("::1", "localhost")):
            raise ConfigError(f"mqtt.test_publish is refused: {spec} is not on loopback")


__all__ = ["MqttPortal", "check_test_publish"]
