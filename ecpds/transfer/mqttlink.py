"""A connection to somebody else's MQTT broker: paho behind an asyncio door.

paho does the protocol; its socket is watched by our loop, so that there is no second thread and no
lock.  Messages are acknowledged by hand, after whoever took them has stored them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ecpds.base.logs import get_logger
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemotePin,
    RemoteTimeout,
    RemoteTransient,
)
from ecpds.model.message import Message
from ecpds.model.secret import Secret

log = get_logger(__name__)

MISC_EVERY: Final = 1.0  # seconds between two looks at keep-alive
IN_FLIGHT: Final = 100  # unacknowledged publications
_BAD_LOGIN: Final = frozenset({4, 5, 0x86, 0x87, 0x8A, 0x8C})


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """Where and how to connect."""

    host: str
    port: int
    scheme: str = "mqtts"  # mqtt, mqtts, ws, wss
    path: str = "/mqtt"  # of a WebSocket
    login: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    client_id: str = ""
    version: int = 5  # 5, or 4 for 3.1.1
    clean: bool = True
    session_expiry: int = 0  # seconds
    keep_alive: int = 60  # seconds
    receive_maximum: int = 20
    timeout: float = 30.0  # seconds
    tls: ssl.SSLContext | None = None

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("mqtts", "wss")


class MqttLink:
    """One connection; `open` it once, then publish or subscribe, and `close` it."""

    def __init__(
        self,
        options: LinkOptions,
        *,
        received: Callable[[paho.MQTTMessage], None] | None = None,
        lost: Callable[[str], None] | None = None,
    ) -> None:
        """`received` gets each message, to be acknowledged by `acknowledge`; `lost` the end."""
        self._options = options
        self._received = received
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._socket: Any = None
        self._misc: asyncio.TimerHandle | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._opening: asyncio.Future[bool] | None = None
        self._resolved: deque[tuple[int, Any]] = deque(maxlen=1000)  # answers that came too soon
        self._is_held = False
        self._in_flight = IN_FLIGHT
        self.is_connected = False
        self._client = self._made()

    def _made(self) -> paho.Client:
        options = self._options
        is_5 = options.version == 5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            clean_session=None if is_5 else options.clean,
            protocol=paho.MQTTv5 if is_5 else paho.MQTTv311,
            transport="websockets" if options.scheme in ("ws", "wss") else "tcp",
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if options.scheme in ("ws", "wss"):
            client.ws_set_options(path=options.path)
        if options.login:
            client.username_pw_set(options.login, options.password.reveal())
        if options.is_tls:
            client.tls_set_context(options.tls or ssl.create_default_context())
        client.connect_timeout = options.timeout
        client.max_inflight_messages_set(IN_FLIGHT)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_write_wanted
        client.on_socket_unregister_write = self._on_write_done
        return client

    # --- opening and closing ------------------------------------------------------------

    async def open(self) -> bool:
        """Connect and log in; tell whether the broker remembers our session.

        Raises RemoteAuth, RemotePin (certificate), RemoteTimeout, RemoteTransient, RemoteConfig.
        """
        options = self._options
        self._opening = self._loop.create_future()
        try:
            async with asyncio.timeout(options.timeout):
                # name look-up, TCP and TLS handshake block, so they have a thread
                await self._loop.run_in_executor(None, self._connect)
                self._watch()
                return await self._opening
        except TimeoutError:
            self._end()
            raise RemoteTimeout("the broker does not answer", phase=Phase.CONNECT) from None
        except (OSError, ValueError) as error:
            self._end()
            raise _translated(error) from None
        except BaseException:
            self._end()
            raise

    def _connect(self) -> None:
        options = self._options
        properties, clean = None, paho.MQTT_CLEAN_START_FIRST_ONLY
        if options.version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho
            properties.SessionExpiryInterval = options.session_expiry
            properties.ReceiveMaximum = options.receive_maximum
            self._client.connect(
                options.host, options.port, options.keep_alive,
                clean_start=options.clean, properties=properties,
            )  # fmt: skip
        else:
            self._client.connect(options.host, options.port, options.keep_alive, clean_start=clean)

    def _watch(self) -> None:
        """Let the loop watch the socket that the thread has opened."""
        sock = self._client.socket()
        if sock is None:
            raise RemoteTransient("the broker hung up", phase=Phase.CONNECT)
        self._socket = sock
        self._loop.add_reader(sock, self._readable)
        if self._client.want_write():
            self._loop.add_writer(sock, self._writable)
        self._misc = self._loop.call_later(MISC_EVERY, self._look)
        self._readable()  # TLS may hold bytes that the socket shows no more

    def hold(self) -> None:
        """Read nothing until `go_on`: messages wait at the broker."""
        self._is_held = True
        if self._socket is not None:
            self._loop.remove_reader(self._socket)

    def go_on(self) -> None:
        """Read again."""
        if self._is_held and self._socket is not None:
            self._is_held = False
            self._loop.add_reader(self._socket, self._readable)
            self._loop.call_soon(self._readable)

    async def close(self) -> None:
        """Say goodbye and disconnect; may be called twice."""
        if self.is_connected:
            self._client.disconnect()
            self._client.loop_write()
        self._end()

    def _end(self) -> None:
        self.is_connected = False
        if self._misc is not None:
            self._misc.cancel()
            self._misc = None
        self._unwatch()
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost("the broker hung up"))
        self._waiting.clear()

    def _unwatch(self) -> None:
        if self._socket is not None and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._socket = None

    # --- work ---------------------------------------------------------------------------

    async def publish(self, messages: Sequence[Message], now: datetime) -> None:
        """Publish in this order; return when the broker has acknowledged all.

        Raises ConnectionLost, RemoteError (refused by the broker).
        """
        for start in range(0, len(messages), self._in_flight):
            waiting = [self._send(one, now) for one in messages[start : start + self._in_flight]]
            try:
                for future in waiting:
                    reason = await future
                    if isinstance(reason, ReasonCode) and reason.is_failure:
                        raise RemoteError(f"the broker refused a message: {reason}")
            finally:
                _forget(waiting)

    def _send(self, message: Message, now: datetime) -> asyncio.Future[Any]:
        if not self.is_connected:
            raise ConnectionLost("the broker hung up")
        info = self._client.publish(
            message.topic, message.payload, message.qos, message.retain,
            properties=self._properties(message, now),
        )  # fmt: skip
        if info.rc not in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_QUEUE_SIZE):
            raise ConnectionLost(f"the message was not sent: {paho.error_string(info.rc)}")
        return self._future(info.mid)

    def _properties(self, message: Message, now: datetime) -> Properties | None:
        if self._options.version != 5:
            return None
        found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho
        if message.content_type:
            found.ContentType = message.content_type
        if message.user_properties:
            found.UserProperty = list(message.user_properties)
        if message.expires_at is not None:
            left = int((message.expires_at - now).total_seconds())
            found.MessageExpiryInterval = min(max(left, 1), 2**32 - 1)
        return found

    async def subscribe(self, filters: Sequence[str], qos: int) -> None:
        """Subscribe to filters; raises RemoteError when one is refused."""
        if self._options.version == 5:
            wishes: Any = [(name, SubscribeOptions(qos=qos)) for name in filters]
        else:
            wishes = [(name, qos) for name in filters]
        result, mid = self._client.subscribe(wishes)
        if result != paho.MQTT_ERR_SUCCESS or mid is None:
            raise ConnectionLost("the broker hung up")
        async with asyncio.timeout(self._options.timeout):
            reasons = await self._future(mid)
        for name, reason in zip(filters, reasons, strict=False):
            if reason.is_failure:
                raise RemoteConfig(f"the broker refuses {name!r}: {reason}", phase=Phase.LIST)

    def acknowledge(self, message: paho.MQTTMessage) -> None:
        """Tell the broker that a message is safe; does nothing when the connection is gone."""
        if self.is_connected:
            self._client.ack(message.mid, message.qos)

    def _future(self, mid: int) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        for known, answer in self._resolved:
            if known == mid:
                self._resolved.remove((known, answer))
                future.set_result(answer)
                return future
        self._waiting[mid] = future
        return future

    def _answer(self, mid: int, answer: Any) -> None:
        future = self._waiting.pop(mid, None)
        if future is None:
            self._resolved.append((mid, answer))
        elif not future.done():
            future.set_result(answer)

    # --- what paho calls ----------------------------------------------------------------

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        opening = self._opening
        if opening is None or opening.done():
            return
        if reason.is_failure:
            kind = RemoteAuth if reason.value in _BAD_LOGIN else RemoteTransient
            opening.set_exception(kind(f"the broker refuses us: {reason}", phase=Phase.AUTH))
            return
        self.is_connected = True
        # whoever sends more at once than the broker allows is hung up on
        self._in_flight = min(getattr(properties, "ReceiveMaximum", IN_FLIGHT), IN_FLIGHT)
        opening.set_result(bool(flags.session_present))

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        was_connected = self.is_connected
        self._end()
        if self._opening is not None and not self._opening.done():
            text = f"the broker hung up: {reason}"
            self._opening.set_exception(RemoteTransient(text, phase=Phase.CONNECT))
        elif was_connected and self._lost is not None:
            self._lost(str(reason))

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        if self._received is not None:
            self._received(message)

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason: ReasonCode, properties: Any
    ) -> None:
        self._answer(mid, reason)

    def _on_subscribe(
        self, client: Any, userdata: Any, mid: int, reasons: Any, properties: Any
    ) -> None:
        self._answer(mid, reasons)

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        """Come from the connecting thread: `_watch` follows in the loop."""

    def _on_socket_close(self, client: Any, userdata: Any, sock: Any) -> None:
        self._unwatch()

    def _on_write_wanted(self, client: Any, userdata: Any, sock: Any) -> None:
        if self._socket is not None:
            self._loop.add_writer(self._socket, self._writable)

    def _on_write_done(self, client: Any, userdata: Any, sock: Any) -> None:
        if self._socket is not None:
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        for _ in range(64):
            if self._is_held or self._socket is None:
                return
            if self._client.loop_read() != paho.MQTT_ERR_SUCCESS:
                return
            pending = getattr(self._socket, "pending", None)
            if pending is None or not pending():
                return

    def _writable(self) -> None:
        self._client.loop_write()

    def _look(self) -> None:
        self._misc = self._loop.call_later(MISC_EVERY, self._look)
        self._client.loop_misc()


def _forget(waiting: Sequence[asyncio.Future[Any]]) -> None:
    """End the wait for answers after the first bad one; nobody asks for the others."""
    for future in waiting:
        if not future.cancel() and not future.cancelled():
            future.exception()


def _translated(error: Exception) -> RemoteError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return RemotePin(f"certificate of the broker: {error.verify_message}", phase=Phase.CONNECT)
    if isinstance(error, ValueError):
        return RemoteConfig(str(error), phase=Phase.CONNECT)
    return RemoteTransient(f"the broker cannot be reached: {error}", phase=Phase.CONNECT)
