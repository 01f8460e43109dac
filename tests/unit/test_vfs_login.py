"""The checks of a login in their order, what the client sees and what the event log is told."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path

import pytest

from ecpds.base.passwords import token_hash
from ecpds.base.totp import code_of
from ecpds.engine.operations.actor import SYSTEM
from ecpds.model.account import Permission, Protocol, Service
from ecpds.model.errors import (
    Banned,
    Denied,
    QuotaExceeded,
    Stopping,
    TooManyConnections,
    Unauthenticated,
)
from ecpds.model.secret import Secret
from ecpds.store import accounts, history
from ecpds.store.db import Connection
from ecpds.vfs.contract import Anonymous, Credential, Password, ProvenKey, Resumed
from tests.clock import FakeClock
from tests.node import SmallNode, small_node
from tests.waiting import until

SEED = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA"


async def denials(node: SmallNode) -> list[str]:
    """Return the texts of the DEA events, newest first."""
    found = await node.store.read(history.events, limit=50, kind="DEA")
    return [record["error"]["message"] for _, record in found]


async def refused(
    node: SmallNode,
    text: str,
    user: str = "alice",
    credential: Credential | str = "secret",
    *,
    protocol: Protocol = Protocol.SFTP,
) -> Unauthenticated:
    """Expect the neutral refusal, and `text` in the event log."""
    with pytest.raises(Unauthenticated) as caught:
        await node.login(user, credential, protocol=protocol)
    assert (await denials(node))[0] == text
    return caught.value


async def test_a_good_login_is_a_session_and_leaves_a_trace(tmp_path: Path) -> None:
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",), options={"portal.welcome": "Hello"})
        async with await node.login(peer="192.0.2.9") as session:
            assert session.profile.user.login == "alice"
            assert session.options["portal.welcome"] == "Hello"
            assert node.gate.banner("alice") == "Hello"
            (info,) = node.gate.sessions()
            assert (info.user, info.peer, info.protocol) == ("alice", "192.0.2.9", Protocol.SFTP)
        assert node.gate.sessions() == []
        await session.close()
        stored = await node.store.read(accounts.user, "alice")
        assert stored is not None
        assert stored.user.last_login_at == clock.now()
        assert stored.user.last_login_from == "192.0.2.9"
        logs = await node.store.read(history.events, limit=9, kind="LOG")
        assert [record["action"] for _, record in logs] == ["logout", "login"]
        assert logs[0][1]["trace"] == logs[1][1]["trace"]


async def test_unknown_disabled_and_wrong_look_alike(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",))
        await node.user("off", destinations=("NORTH",), active=False)
        await node.user("bare", destinations=("NORTH",), password=None)
        texts = {
            str(await refused(node, "Not found", "nobody")),
            str(await refused(node, "Not found", "a\nb")),
            str(await refused(node, "Disabled", "off")),
            str(await refused(node, "Password authentication failed", "alice", "wrong")),
            str(await refused(node, "Password authentication failed", "alice", "x" * 2000)),
            str(await refused(node, "Password not set", "bare", "")),
            str(await refused(node, "Password authentication failed", "alice", Anonymous())),
        }
        assert texts == {"Login failed"}
        assert node.gate.sessions() == []


async def test_an_unknown_user_costs_a_verification_too(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("off", destinations=("NORTH",), active=False)
        for user in ("nobody", "off"):
            before = node.passwords.verified
            await refused(node, {"nobody": "Not found", "off": "Disabled"}[user], user)
            assert node.passwords.verified == before + 1


async def test_a_password_is_hashed_once_a_minute(tmp_path: Path) -> None:
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",))
        for _ in range(5):
            async with await node.login(protocol=Protocol.HTTPS):
                pass
        assert node.passwords.verified == 1
        await clock.advance(timedelta(minutes=1))
        async with await node.login(protocol=Protocol.HTTPS):
            pass
        assert node.passwords.verified == 2
        logs = await node.store.read(history.events, limit=9, kind="LOG")
        assert len(logs) == 2  # one for each verified password, none for each request
        await node.user("alice", destinations=("NORTH",), password="changed")
        await refused(node, "Password authentication failed")


async def test_ex_1_later_policies_and_the_user_override(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        for name in ("A", "B", "C"):
            await node.destination(name, active=name != "C")
        await node.policy(
            "p1", options={"portal.sort": "size"}, destinations=("B",),
            operations=frozenset({Permission.GET}),
        )  # fmt: skip
        await node.policy("p2", options={"portal.sort": "time"}, destinations=("A", "C"))
        await node.policy(
            "off", options={"portal.order": "desc"}, destinations=("B",), active=False,
            operations=frozenset({Permission.DELETE}),
        )  # fmt: skip
        await node.user(
            "alice", destinations=("A",), operations={Permission.DIR},
            policies=("p1", "p2", "off"),
        )  # fmt: skip
        async with await node.login() as session:
            assert session.options == {"portal.sort": "time"}
            assert session.profile.destinations == ("A", "B")  # no duplicates, active ones only
            assert session.profile.operations == {Permission.DIR, Permission.GET}
        await node.user(
            "alice", destinations=("A",), options={"portal.sort": "target"}, policies=("p1", "p2")
        )
        async with await node.login() as session:
            assert session.options == {"portal.sort": "target"}


async def test_a_user_needs_a_destination_and_a_permission(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.destination("OFF", active=False)
        await node.user("alice", destinations=("OFF",))
        await refused(node, "No associated Destinations")
        await node.user("alice", destinations=("NORTH",), operations=())
        await refused(node, "No associated Permissions")
        assert node.gate.sessions() == []


async def test_protocols_can_be_excluded(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        options = {"portal.excludeProtocols": "ftp, SFTP"}
        await node.user("alice", destinations=("NORTH",), options=options)
        for protocol in (Protocol.FTP, Protocol.SFTP, Protocol.SCP):
            with pytest.raises(Denied, match="Protocol not allowed"):
                await node.login(protocol=protocol)
        assert (await denials(node))[0] == "Protocol not allowed"
        async with await node.login(protocol=Protocol.HTTPS):
            pass


async def test_ex_27_connections_are_counted_over_all_protocols(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",), options={"portal.maxConnections": "1"})
        async with await node.login(protocol=Protocol.FTP):
            with pytest.raises(TooManyConnections) as caught:
                await node.login(protocol=Protocol.HTTPS)
        assert caught.value.message == "Maximum number of connections exceeded (1)"
        assert (await denials(node))[0] == caught.value.message
        async with await node.login(protocol=Protocol.HTTPS):
            pass


async def test_a_failed_login_holds_no_slot(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",), options={"portal.maxConnections": "1"})
        for _ in range(3):
            await refused(node, "Password authentication failed", "alice", "wrong")
        async with await node.login():
            pass


async def test_an_exhausted_quota_ends_at_the_door(tmp_path: Path) -> None:
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("NORTH")
        options = {"portal.maxUploadBytes": "1KB", "portal.uploadPeriod": "1h"}
        await node.user("alice", destinations=("NORTH",), options=options)
        await node.store.write(history.add_quota, ("user:alice",), "upload", 1024, now=clock.now())
        with pytest.raises(QuotaExceeded) as caught:
            await node.login()
        assert caught.value.message == "Upload quota exceeded (1 KB of 1 KB in the last 1h)"
        assert caught.value.facts["retry_after"]
        await clock.advance(timedelta(hours=1))
        async with await node.login():
            pass


async def test_one_time_codes_replace_the_password(tmp_path: Path) -> None:
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",), totp=SEED, ssh_keys=(KEY,))
        await refused(node, "TOTP authentication failed")
        code = code_of(Secret(SEED), int(clock.now().timestamp()) // 30)
        async with await node.login("alice", code):
            pass
        await refused(node, "TOTP authentication failed", "alice", code)
        async with await node.login("alice", ProvenKey(KEY)):
            pass


async def test_keys(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",), ssh_keys=(f"{KEY} alice@home",))
        await node.user("off", destinations=("NORTH",), ssh_keys=(KEY,), active=False)
        await node.user("pub", destinations=("NORTH",), ssh_keys=(KEY,), service=Service.OPEN)
        assert list(await node.gate.authorised_keys("alice")) == [f"{KEY} alice@home"]
        for user in ("off", "nobody", "pub", "", "a\nb"):
            assert list(await node.gate.authorised_keys(user)) == []
        async with await node.login("alice", ProvenKey(KEY)):
            pass
        await refused(
            node, "Password authentication failed", "alice", ProvenKey("ssh-ed25519 BBBB")
        )
        await refused(node, "Password authentication failed", "pub", ProvenKey(KEY))


async def test_ex_24_open_access_takes_anything(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user(
            "pub", destinations=("NORTH",), service=Service.OPEN, password=None,
            operations={Permission.DIR, Permission.GET},
        )  # fmt: skip
        for credential in (Anonymous(), Password(Secret("")), Password(Secret("any"))):
            async with await node.login("pub", credential) as session:
                with pytest.raises(Denied):
                    await session.open_write("/NORTH/x")


async def test_a_subscriber_is_known_by_its_generated_password(tmp_path: Path) -> None:
    def subscribe(db: Connection, active: int) -> None:
        db.execute("DELETE FROM subscriber")
        db.execute(
            "INSERT INTO subscriber (login, email, password_hash, active, created_at) "
            "VALUES ('self', 'x@example.org', ?, ?, 0)",
            (token_hash("generated"), active),
        )

    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("self", destinations=("NORTH",), service=Service.SELF, password="own")
        await node.store.write(subscribe, 1)
        async with await node.login("self", "generated"):
            pass
        text = "Subscriber password authentication failed"
        await refused(node, text, "self", "own")  # the data user's own one is never accepted
        await node.store.write(subscribe, 0)
        await refused(node, text, "self", "generated")


async def test_a_cookie_is_good_until_credentials_change(tmp_path: Path) -> None:
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",))
        async with await node.login(protocol=Protocol.HTTPS):
            since = clock.now()
        await clock.advance(timedelta(minutes=5))
        async with await node.login("alice", Resumed(since), protocol=Protocol.HTTPS):
            pass
        await node.user("alice", destinations=("NORTH",), password=None, comment="same password")
        async with await node.login("alice", Resumed(since), protocol=Protocol.HTTPS):
            pass
        await node.user("alice", destinations=("NORTH",), password="another")
        text = "Credentials changed"
        await refused(node, text, "alice", Resumed(since), protocol=Protocol.HTTPS)


async def test_a_cookie_repeats_the_other_checks(tmp_path: Path) -> None:
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",), totp=SEED)
        code = code_of(Secret(SEED), int(clock.now().timestamp()) // 30)
        async with await node.login("alice", code, protocol=Protocol.HTTPS):
            since = clock.now()
        async with await node.login("alice", Resumed(since), protocol=Protocol.HTTPS):
            pass
        await node.user("alice", destinations=("NORTH",), active=False, totp=SEED)
        await refused(node, "Disabled", "alice", Resumed(since), protocol=Protocol.HTTPS)


async def test_too_many_failures_ban_everywhere_and_over_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",))
        for _ in range(8):
            await node.gate.check("192.0.2.1")
            with pytest.raises(Unauthenticated):
                await node.login("nobody")
        with pytest.raises(Banned):
            await node.gate.check("192.0.2.1")
        with pytest.raises(Banned):
            await node.login()
        assert (await denials(node))[0] == "Address banned"
        async with await node.login(peer="192.0.2.2"):
            pass
    async with small_node(tmp_path, clock=clock) as node:
        with pytest.raises(Banned):
            await node.gate.check("192.0.2.1")
        (ban,) = await node.gate.bans()
        assert ban.address == "192.0.2.1"
        assert await node.gate.unban("192.0.2.1")
        assert not await node.gate.unban("192.0.2.1")
        async with await node.login():
            pass
    async with small_node(tmp_path, clock=clock) as node:
        await node.gate.check("192.0.2.1")


async def test_failures_at_other_doors_count(tmp_path: Path) -> None:
    async with small_node(tmp_path, security={"ban_score": 3}) as node:
        await node.gate.failed_elsewhere("192.0.2.1", "olga", is_known=True)
        await node.gate.failed_elsewhere("192.0.2.1", "nobody", is_known=False)
        with pytest.raises(Banned):
            await node.gate.check("192.0.2.1")


async def test_a_lost_right_ends_sessions_and_a_new_one_is_there_at_once(tmp_path: Path) -> None:
    async with small_node(tmp_path, run=True) as node:
        await node.destination("NORTH")
        await node.destination("SOUTH")
        await node.user("alice", destinations=("NORTH",))
        async with await node.login() as session:
            with pytest.raises(Exception, match="is not there"):
                await session.stat("/SOUTH")
            await node.user("alice", destinations=("NORTH", "SOUTH"))
            await until(lambda: "SOUTH" in session.profile.destinations)
            assert (await session.stat("/SOUTH")).is_directory
            assert not session.closing
            await node.user("alice", destinations=("NORTH",), active=False)
            await until(lambda: session.closing)
        await node.user("alice", destinations=("NORTH",))
        async with await node.login() as session:
            await node.accounts.delete_user("alice", SYSTEM)
            await until(lambda: session.closing)


async def test_an_operator_can_end_a_session(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",))
        async with await node.login() as session:
            (info,) = node.gate.sessions()
            assert node.gate.end_session(info.number)
            assert session.closing
        assert not node.gate.end_session(info.number)


async def test_a_stopping_node_lets_nobody_in(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",))
        async with await node.login() as session:
            node.gate.drain()
            assert session.closing
            with pytest.raises(Stopping):
                await session.stat("/NORTH")
        with pytest.raises(Stopping):
            await node.login()


async def test_options_that_cannot_be_read_keep_the_user_out(tmp_path: Path) -> None:
    def damage(db: Connection) -> None:
        db.execute("""UPDATE data_user SET options = '{"portal.maxConnections": "many"}'""")

    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",))
        await node.store.write(damage)
        await refused(node, "Invalid options")
        assert list(await node.gate.authorised_keys("alice")) == []


async def test_many_logins_at_once_respect_the_limit(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",), options={"portal.maxConnections": "3"})
        sessions = []

        async def one() -> None:
            with contextlib.suppress(TooManyConnections):
                sessions.append(await node.login(protocol=Protocol.HTTPS))

        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(one())
        assert len(sessions) == 3
        for session in sessions:
            await session.close()
