"""The embedded broker on the wire: rights, sessions, flow, limits, hostile and slow clients."""

from __future__ import annotations

import asyncio
import random
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.base.tls import Certificates, make_self_signed
from ecpds.model.message import Message
from ecpds.model.mqtttopics import matches
from ecpds.portals.mqtt import server
from ecpds.portals.mqtt.codec import P
from ecpds.vfs.brokermemory import BrokerMemory
from tests import mqttfuzz
from tests.clock import FakeClock
from tests.node import small_node
from tests.protocol.diskgate import Account
from tests.protocol.mqttrig import Raw, Rig, account, connect, mqtt_rig, packet
from tests.waiting import until


def some() -> dict[str, Account]:
    """Return accounts with different permissions."""
    return {
        "alice": account("eu/+/rt,open/#"), "bob": account("public/#"), "nobody": account(""),
    }  # fmt: skip


async def tell(rig: Rig, topic: str, payload: bytes = b"x", **more: object) -> None:
    """Publish as the node does."""
    await rig.portal.publish([Message(topic=topic, payload=payload, **more)])  # type: ignore[arg-type]  # passed on


# --- who gets in -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password", "client", "version", "reason"),
    [
        ("alice", "wrong", "c", 4, 4),
        ("alice", "wrong", "c", 5, 0x86),
        ("eve", "secret", "c", 5, 0x86),
        ("alice", None, "c", 5, 0x86),
        (None, None, "c", 4, 4),
        ("nobody", "secret", "c", 5, 0x87),
        ("nobody", "secret", "c", 4, 5),
        ("alice", "secret", "a#", 5, 0x85),
        ("alice", "secret", "a+", 4, 2),
        ("alice", "secret", "c", 4, 0),
        ("alice", "secret", "", 5, 0),
    ],
)
async def test_logins(
    tmp_path: Path, user: str, password: str, client: str, version: int, reason: int
) -> None:
    """User name and password are needed, and some permission."""
    async with mqtt_rig(tmp_path, some()) as rig:
        raw = await rig.raw()
        _, code = await raw.enter(client, user, password, version=version)
        assert code == reason
        if reason:
            assert await raw.ended() == b""


async def test_mqtt_3_1_is_refused(tmp_path: Path) -> None:
    """With the code of its own for that."""
    async with mqtt_rig(tmp_path) as rig:
        raw = await rig.raw()
        raw.send(packet(0x10, b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01c"))
        assert await raw.ended() == b"\x20\x02\x00\x01"


async def test_a_will_is_refused(tmp_path: Path) -> None:
    """Clients publish nothing, not even at their end."""
    async with mqtt_rig(tmp_path) as rig:
        raw = await rig.raw()
        will = b"\x00\x01t\x00\x01x"
        login = b"\x00\x05alice\x00\x06secret"
        raw.send(packet(0x10, b"\x00\x04MQTT\x04\xc6\x00\x3c\x00\x01c" + will + login))
        assert await raw.ended() == b"\x20\x02\x00\x05"


async def test_who_says_nothing_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred such sockets cost nothing for long."""
    monkeypatch.setattr(server, "CONNECT_WAIT", 0.2)
    async with mqtt_rig(tmp_path) as rig:
        raws = [await rig.raw() for _ in range(100)]
        assert [await raw.ended() for raw in raws] == [b""] * 100


async def test_a_large_connect_is_refused_at_once(tmp_path: Path) -> None:
    """Nothing of it is waited for."""
    async with mqtt_rig(tmp_path) as rig:
        raw = await rig.raw()
        raw.send(b"\x10\xff\xff\x7f" + bytes(100))
        assert await raw.ended() == b""


# --- rights ----------------------------------------------------------------------------------


async def test_ex_20(tmp_path: Path) -> None:
    """portal.md Ex 20: a filter is granted when a permitted one covers it."""
    wanted = ["eu/fr/rt", "eu/+/rt", "open", "open/a/b", "eu/#", "#"]
    async with mqtt_rig(tmp_path, some()) as rig:
        old, new = await rig.client(), await rig.client(version=5)
        assert await old.subscribe(*wanted) == [1, 1, 1, 1, 0x80, 0x80]
        assert await new.subscribe(*wanted) == [1, 1, 1, 1, 0x87, 0x87]


async def test_publishing_is_refused(tmp_path: Path) -> None:
    """At every QoS, also into topics that the client may read."""
    async with mqtt_rig(tmp_path, some()) as rig:
        for first, number in ((0x30, b""), (0x32, b"\x00\x01"), (0x34, b"\x00\x01")):
            old, new = await rig.client(), await rig.client(version=5)
            old.send(packet(first, b"\x00\x06open/x" + number + b"boo"))
            new.send(packet(first, b"\x00\x06open/x" + number + b"\x00boo"))
            assert await old.ended() == b""
            assert await new.ended() == b"\xe0\x01\x87"


async def test_rights_change_at_once(tmp_path: Path) -> None:
    """A lost filter is unsubscribed; without any right the client has to go."""
    async with mqtt_rig(tmp_path, some()) as rig:
        raw = await rig.client("open/#", "eu/fr/rt", version=5)
        rig.gate.accounts["alice"].options["portal.mqttPermission"] = "eu/#"
        session = rig.gate.sessions[0]
        assert session.changed is not None
        session.changed()
        await tell(rig, "open/x")
        await tell(rig, "eu/fr/rt", b"still")
        assert await raw.message() == ("eu/fr/rt", b"still")
        rig.gate.accounts["alice"].options["portal.mqttPermission"] = ""
        session.changed()
        assert await raw.ended() == b"\xe0\x01\x87"


async def test_shared_subscriptions_are_refused(tmp_path: Path) -> None:
    """With the reason for that."""
    async with mqtt_rig(tmp_path) as rig:
        raw = await rig.client(version=5)
        assert await raw.subscribe("$share/g/a") == [0x9E]


async def test_a_session_has_a_hundred_filters(tmp_path: Path) -> None:
    """The next is refused; one that is there may be changed."""
    async with mqtt_rig(tmp_path) as rig:
        raw = await rig.client(version=5)
        assert set(await raw.subscribe(*(f"t/{n}" for n in range(100)))) == {1}
        assert await raw.subscribe("more", "t/0") == [0x97, 1]


async def test_no_retained_message_leaks(tmp_path: Path) -> None:
    """Whatever anybody subscribes to, only permitted topics that match arrive."""
    chance = random.Random(7)
    names = ["a", "b", "c"]
    topics = [f"{x}/{y}/{z}" for x in names for y in names for z in names]
    rights = {"alice": "a/#,b/+/c", "bob": "c/a/+", "carol": "+/b/#"}
    accounts = {user: account(text, max_connections=1000) for user, text in rights.items()}
    async with mqtt_rig(tmp_path, accounts) as rig:
        await rig.portal.publish([Message(topic=t, payload=b"x", retain=True) for t in topics])
        for _ in range(40):
            user = chance.choice(list(rights))
            wanted = ["/".join(chance.choice([*names, "+"]) for _ in range(3)), "#", "+/#", "a/#"]
            raw = await rig.client(user=user, version=chance.choice([4, 5]))
            codes = await raw.subscribe(*((one, 0) for one in wanted))
            granted = [one for one, code in zip(wanted, codes, strict=True) if code < 128]
            raw.send(b"\xc0\x00")
            got = await _until_pong(raw)
            permitted = rights[user].split(",")
            assert set(got) == {t for t in topics if any(matches(g, t) for g in granted)}
            assert all(any(matches(p, t) for p in permitted) for t in got)


async def _until_pong(raw: Raw) -> list[str]:
    found: list[str] = []
    while True:
        first, body = await raw.take()
        if first == 0xD0:
            return found
        size = int.from_bytes(body[:2], "big")
        found.append(body[2 : 2 + size].decode())


# --- messages --------------------------------------------------------------------------------


async def test_a_message_comes_once_with_the_best_qos(tmp_path: Path) -> None:
    """However many of a session's filters match."""
    async with mqtt_rig(tmp_path) as rig:
        raw = await rig.client()
        await raw.subscribe(("a/#", 0), ("a/b", 1), ("#", 0))
        await tell(rig, "a/b", b"one", qos=2)
        first, body = await raw.take()
        assert first == 0x32
        assert body.endswith(b"one")
        await tell(rig, "a/c", b"two")
        assert (await raw.take())[0] == 0x30


async def test_the_window_of_the_client_is_kept(tmp_path: Path) -> None:
    """Receive Maximum 3: three come, the fourth after an acknowledgement, in order."""
    async with mqtt_rig(tmp_path) as rig:
        raw = await rig.client("t", version=5, found={P.RECEIVE_MAXIMUM: 3})
        await rig.portal.publish([Message(topic="t", payload=b"%d" % n) for n in range(5)])
        found = [await raw.take() for _ in range(3)]
        raw.send(b"\xc0\x00")
        assert (await raw.take())[0] == 0xD0  # nothing else came before
        raw.send(packet(0x40, found[0][1][3:5]))
        assert (await raw.take())[1].endswith(b"3")


async def test_expired_messages_are_not_delivered(tmp_path: Path) -> None:
    """The rest of the time goes along; what is over goes to nobody."""
    clock = FakeClock()
    async with mqtt_rig(tmp_path, clock=clock) as rig:
        until_ = clock.now() + timedelta(seconds=100)
        await tell(rig, "t", b"x", retain=True, expires_at=until_)
        await clock.advance(timedelta(seconds=40))
        raw = await rig.client("t", version=5)
        _, body = await raw.take()
        assert b"\x02\x00\x00\x00\x3c" in body
        await clock.advance(timedelta(seconds=61))
        late = await rig.client("t", version=5)
        late.send(b"\xc0\x00")
        assert (await late.take())[0] == 0xD0


async def test_retain_handling(tmp_path: Path) -> None:
    """0: always, 1: for a new subscription, 2: never."""
    async with mqtt_rig(tmp_path) as rig:
        await tell(rig, "t", b"kept", retain=True)
        raw = await rig.client(version=5)
        for options, comes in ((0x21, False), (0x01, True), (0x11, False), (0x01, True)):
            await raw.subscribe(("t", options))
            if comes:
                assert await raw.message() == ("t", b"kept")
        raw.send(b"\xc0\x00")
        assert (await raw.take())[0] == 0xD0


async def test_an_empty_retained_message_clears_the_topic(tmp_path: Path) -> None:
    """And `clear` does."""
    async with mqtt_rig(tmp_path) as rig:
        for topic in ("a", "b"):
            await tell(rig, topic, retain=True)
        await tell(rig, "a", b"", retain=True)
        assert [one.topic for one in rig.portal.retained()] == ["b"]
        assert await rig.portal.clear(["b", "c"]) == 1
        assert rig.portal.retained() == []


# --- sessions --------------------------------------------------------------------------------


async def test_the_second_use_of_a_client_id_closes_the_first(tmp_path: Path) -> None:
    """Of the same user; another user's is another session."""
    async with mqtt_rig(tmp_path, some()) as rig:
        first = await rig.client("open/#", client="same", version=5)
        other = await rig.client("public/#", user="bob", client="same", version=5)
        await rig.client("open/#", client="same", version=5)
        assert await first.ended() == b"\xe0\x01\x8e"
        await tell(rig, "public/x")
        assert await other.message() == ("public/x", b"x")


@pytest.mark.parametrize("version", [4, 5])
async def test_a_session_outlives_its_connection(tmp_path: Path, version: int) -> None:
    """What was not acknowledged comes again as a duplicate, then what was missed."""
    found = {P.SESSION_EXPIRY: 600} if version == 5 else None
    durable: dict[str, Any] = {"client": "d", "version": version, "clean": False, "found": found}
    async with mqtt_rig(tmp_path) as rig:
        raw = await rig.client("t", **durable)
        await tell(rig, "t", b"1")
        assert (await raw.take())[0] == 0x32  # not acknowledged
        raw.writer.transport.abort()
        await until(lambda: rig.portal.clients()[0].since is None)
        await tell(rig, "t", b"2")
        raw = await rig.raw()
        raw.version = version
        present, _ = await raw.enter("d", **{k: v for k, v in durable.items() if k != "client"})
        assert present
        assert [(await raw.take())[0] for _ in range(2)] == [0x3A, 0x32]


async def test_sessions_and_retained_messages_survive_a_restart(tmp_path: Path) -> None:
    """In the store, with what waits, in order."""
    async with small_node(tmp_path / "node") as node:
        memory = BrokerMemory(node.store, node.core.clock)
        async with mqtt_rig(tmp_path, memory=memory) as rig:
            raw = await rig.client("t", client="d", clean=False)
            raw.writer.transport.abort()
            await until(lambda: rig.portal.clients()[0].since is None)
            for number in range(3):
                await tell(rig, "t", b"%d" % number, content_type="a/b")
            await tell(rig, "kept", retain=True)
        memory = BrokerMemory(node.store, node.core.clock)
        async with mqtt_rig(tmp_path, memory=memory) as rig:
            raw = await rig.raw()
            assert await raw.enter("d", clean=False) == (True, 0)
            assert [(await raw.message())[1] for _ in range(3)] == [b"0", b"1", b"2"]
            assert await raw.subscribe("kept") == [1]
            assert await raw.message() == ("kept", b"x")
            raw.send(b"\xc0\x00")
            await raw.take()
        memory = BrokerMemory(node.store, node.core.clock)
        async with mqtt_rig(tmp_path, memory=memory) as rig:
            assert [one.queued for one in rig.portal.clients()] == [0]


async def test_a_session_ends_in_its_time(tmp_path: Path) -> None:
    """And then nothing is kept of it."""
    clock = FakeClock()
    async with mqtt_rig(tmp_path, clock=clock) as rig:
        raw = await rig.client("t", client="d", version=5, found={P.SESSION_EXPIRY: 60})
        raw.writer.transport.abort()
        await until(lambda: rig.portal.clients()[0].since is None)
        await clock.advance(timedelta(seconds=61))
        rig.portal.broker.sweep()
        assert rig.portal.clients() == []


async def test_a_full_queue_drops_the_oldest(tmp_path: Path) -> None:
    """And counts."""
    async with mqtt_rig(tmp_path) as rig:
        raw = await rig.client("t", client="d", clean=False)
        raw.writer.transport.abort()
        await until(lambda: rig.portal.clients()[0].since is None)
        await rig.portal.publish([Message(topic="t", payload=b"%d" % n) for n in range(2100)])
        info = rig.portal.clients()[0]
        assert (info.queued, info.dropped) == (2000, 100)


# --- clients that behave badly ---------------------------------------------------------------


async def test_a_client_that_does_not_read_is_sent_away(tmp_path: Path) -> None:
    """The backlog is bounded; others are served meanwhile."""
    async with mqtt_rig(tmp_path) as rig:
        slow, good = await rig.client(), await rig.client("ok")
        await slow.subscribe(("t", 0))
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's
        for _ in range(400):
            await tell(rig, "t", bytes(64 * 1024), qos=0)
            await asyncio.sleep(0)
            if len(rig.portal.clients()) == 1:
                break
        await tell(rig, "ok")
        assert await good.message() == ("ok", b"x")
        await until(lambda: len(rig.portal.clients()) == 1)


async def test_a_client_that_talks_too_much_is_sent_away(tmp_path: Path) -> None:
    """Others are served meanwhile."""
    async with mqtt_rig(tmp_path) as rig:
        good, raw = await rig.client("t"), await rig.client(version=5)
        raw.send(b"\xc0\x00" * 20_000)
        await tell(rig, "t")
        assert await good.message() == ("t", b"x")
        assert (await raw.ended()).endswith(b"\xe0\x01\x97")


async def test_silence_beyond_keep_alive_ends_the_connection(tmp_path: Path) -> None:
    """After one and a half times of it."""
    async with mqtt_rig(tmp_path) as rig:
        raw = await rig.client(version=5, keep_alive=1)
        assert await raw.ended() == b"\xe0\x01\x8d"


async def test_garbage_after_login_ends_only_that_connection(tmp_path: Path) -> None:
    """Malformed, truncated, out of order."""
    chance = random.Random(3)
    async with mqtt_rig(tmp_path) as rig:
        good = await rig.client("t")
        for _ in range(30):
            raw = await rig.client(version=chance.choice([4, 5]))
            raw.send(bytes(chance.randrange(256) for _ in range(chance.randint(1, 200))))
            raw.writer.write_eof()
            await raw.ended()
        twice = await rig.client()
        twice.send(connect("again"))
        assert await twice.ended() == b""
        await tell(rig, "t")
        assert await good.message() == ("t", b"x")


async def test_nearly_right_packets_crash_nothing(tmp_path: Path) -> None:
    """Before and after the login, cut anywhere, over sessions that take each other over."""
    async with mqtt_rig(tmp_path) as rig:
        with mqttfuzz.errors() as found:
            await mqttfuzz.send_many(rig, 3_000, 7)
            assert await mqttfuzz.is_well(rig)
        assert found == []


async def test_a_new_certificate_needs_no_new_session(tmp_path: Path) -> None:
    """New connections get the certificate of now; the old ones go on."""
    now, folder = datetime(2026, 1, 1, tzinfo=UTC), tmp_path / "tls"
    certificates = Certificates(*make_self_signed(folder, "localhost", now))
    async with mqtt_rig(tmp_path, tls=certificates.context) as rig:
        first = await certificate(rig)
        old = await rig.raw(trusting())
        assert await old.enter("c") == (False, 0)
        assert await old.subscribe("t") == [1]
        make_self_signed(folder, "localhost", now)
        certificates.reload()
        assert await certificate(rig) != first
        await tell(rig, "t")
        assert await old.message() == ("t", b"x")


def trusting() -> ssl.SSLContext:
    """Return a context that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def certificate(rig: Rig) -> bytes:
    """Return the certificate that a new connection is shown."""
    raw = await rig.raw(trusting())
    shown = raw.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    raw.close()
    assert isinstance(shown, bytes)
    return shown
