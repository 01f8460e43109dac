"""Corners of the portal that no story reaches: records that fail, places by file, odd requests."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest

from ecpds.base.settings import SecuritySettings
from ecpds.model.account import Permission, Protocol
from ecpds.model.errors import (
    Busy,
    IsDirectory,
    NotFound,
    PreconditionFailed,
    StoreError,
    Unauthenticated,
)
from ecpds.model.secret import Secret
from ecpds.model.status import TransferStatus
from ecpds.store import transfers
from ecpds.store.db import Connection
from ecpds.vfs import defender, profiles, recorder, session
from ecpds.vfs.credentials import Changes, OneTimeCodes, Recognised
from ecpds.vfs.geo import Places
from ecpds.vfs.layouts import DateRange, date_pattern
from ecpds.vfs.limits import Quota, Quotas
from ecpds.vfs.recorder import Recorder
from tests.clock import START, FakeClock
from tests.node import small_node
from tests.tree import tree
from tests.waiting import until

# --- places by file --------------------------------------------------------------------------


def encoded(value: object) -> bytes:
    """Return the MaxMind DB encoding of a small value."""
    if isinstance(value, str):
        raw = value.encode()
        return bytes([2 << 5 | len(raw)]) + raw
    if isinstance(value, Mapping):
        body = b"".join(encoded(key) + encoded(item) for key, item in value.items())
        return bytes([7 << 5 | len(value)]) + body
    if isinstance(value, list):
        return bytes([len(value), 4]) + b"".join(map(encoded, value))
    assert isinstance(value, int)
    raw = value.to_bytes(4, "big").lstrip(b"\0")
    return bytes([6 << 5 | len(raw)]) + raw


def database(network: str, record: Mapping[str, object]) -> bytes:
    """Return a MaxMind DB that knows one IPv4 network of 24 bits."""
    bits = f"{int(ip_address(network)):032b}"[:24]
    count = len(bits)
    tree_bytes = b""
    for number, bit in enumerate(bits):
        onward = number + 1 if number + 1 < count else count + 16
        pair = (onward, count) if bit == "0" else (count, onward)
        tree_bytes += b"".join(one.to_bytes(3, "big") for one in pair)
    about = {
        "node_count": count, "record_size": 24, "ip_version": 4, "database_type": "test",
        "languages": ["en"], "binary_format_major_version": 2, "binary_format_minor_version": 0,
        "build_epoch": 1, "description": {"en": "test"},
    }  # fmt: skip
    return tree_bytes + bytes(16) + encoded(record) + b"\xab\xcd\xefMaxMind.com" + encoded(about)


def test_places_come_from_the_file_of_the_site(tmp_path: Path) -> None:
    record = {
        "continent": {"code": "EU", "names": {"en": "Europe"}},
        "country": {"iso_code": "DE", "names": {"en": "Germany", "de": "Deutschland"}},
        "city": {"names": {"de": "nothing in English"}},
        "location": "of no interest",
    }
    path = tmp_path / "places.mmdb"
    path.write_bytes(database("81.2.69.0", record))
    places = Places(str(path))
    places.open()
    places.open()
    assert places.of("81.2.69.77") == {"eu", "europe", "de", "germany"}
    assert places.of("81.2.70.1") == frozenset()
    path.write_bytes(database("81.2.69.0", {"country": "odd"}))
    odd = Places(str(path))
    odd.open()
    assert odd.of("81.2.69.1") == frozenset()
    path.write_bytes(b"no database")
    broken = Places(str(path))
    broken.open()
    assert broken.of("81.2.69.1") == frozenset()


async def test_a_place_that_is_not_listed_keeps_the_user_out(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",), options={"portal.geoblocking": "FR"})
        with pytest.raises(Unauthenticated, match="Login failed"):
            await node.login(peer="8.8.8.8")
        async with await node.login(peer="127.0.0.1"):
            pass


# --- the recorder ----------------------------------------------------------------------------


def fail(db: Connection) -> None:
    """Break."""
    db.execute("SELECT nothing FROM nowhere")


def keep(done: list[int], number: int, _: Connection) -> None:
    """Remember that this was written."""
    done.append(number)


async def test_a_bad_record_takes_no_other_along(tmp_path: Path) -> None:
    done: list[int] = []
    async with small_node(tmp_path) as node:
        records = Recorder(node.store)
        await records.put(fail)
        await records.put(lambda _: done.append(0))
        assert done == [0]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(records.run())
            await asyncio.sleep(0)
            for number in range(1, 4):
                await records.put(partial(keep, done, number))
                await records.put(fail)
            await records.flush()
            task.cancel()
        assert {1, 2, 3} <= set(done)


async def test_a_full_recorder_makes_its_callers_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MOST_WAITING", 1)
    done: list[int] = []
    async with small_node(tmp_path) as node, asyncio.TaskGroup() as group:
        records = Recorder(node.store)
        task = group.create_task(records.run())
        await asyncio.sleep(0)
        await records.put(lambda _: done.append(1))
        await records.put(lambda _: done.append(2))
        await records.flush()
        assert sorted(done) == [1, 2]
        task.cancel()


async def test_a_store_that_is_gone_loses_records_and_not_the_portal(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        records = Recorder(node.store)
        await asyncio.to_thread(node.store.close)
        await records.put(fail)
        with pytest.raises(StoreError):
            await node.store.read(lambda _: None)


# --- bounded memory --------------------------------------------------------------------------


async def test_nothing_remembered_grows_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecpds.vfs.credentials.MOST_REMEMBERED", 2)
    monkeypatch.setattr(defender, "MOST_ADDRESSES", 2)
    monkeypatch.setattr(defender, "MOST_BANS", 2)
    monkeypatch.setattr(profiles, "MOST_KEPT", 1)
    monkeypatch.setattr(session, "MOST_OWN", 1)
    clock = FakeClock()
    known, seen = Recognised(clock), Changes(clock)
    for number in range(50):
        known.remember(f"user{number}", "hash", Secret("one"))
        seen.since(f"user{number}", "hash")
    assert [known.knows(f"user{n}", "hash", Secret("one")) for n in (0, 48, 49)] == [
        False, True, True,
    ]  # fmt: skip
    await clock.advance(timedelta(hours=1))
    assert seen.since("user49", "hash") == START
    assert seen.since("user0", "hash") == clock.now()
    guard = defender.Defender(SecuritySettings(ban_score=2), clock)
    for number in range(1500):
        guard.fail("192.0.2.1", "bob", 0, "x")
        guard.fail(f"10.0.{number // 250}.{number % 250}", "bob", 2, "x")
    assert len(guard.bans) == 2
    assert guard.fail("no address", "bob", 1, "x") is None
    async with tree(tmp_path, options={"incoming.delay": "1h"}) as t:
        await t.node.user("bob", destinations=("NORTH",))
        async with await t.node.login("bob"):
            pass
        await t.put("/NORTH/a")
        await t.put("/NORTH/b")
        assert (await t.session.stat("/NORTH/b")).size == 7
        with pytest.raises(NotFound):
            await t.session.stat("/NORTH/a")


async def test_a_quota_forgets_what_is_older_than_a_week(tmp_path: Path) -> None:
    clock = FakeClock()
    quota = Quota(holder="user:x", direction="upload", most=10, period=timedelta(days=7))
    async with small_node(tmp_path, clock=clock) as node:
        quotas = Quotas(node.store)
        quotas.add(quota, 4, clock.now())
        quotas.add(quota, 5, clock.now())
        assert quotas.used(quota, clock.now()) == 9
        await clock.advance(timedelta(days=8))
        quotas.add(quota, 1, clock.now())
        assert quotas.used(quota, clock.now()) == 1
        assert len(quotas._windows["user:x", "upload"]) == 1
        quotas.add(quota, 100, clock.now())
        await clock.advance(timedelta(hours=1))
        quotas.add(quota, 100, clock.now())
        short = Quota(holder="user:x", direction="upload", most=150, period=timedelta(minutes=30))
        quotas.check(short, clock.now())
        tiny = Quota(holder="user:x", direction="upload", most=50, period=timedelta(minutes=30))
        assert quotas._wait(tiny, 100, clock.now()) == 30 * 60 + 1
        assert quotas._wait(tiny, 10**6, clock.now()) == 30 * 60


def test_a_secret_that_is_no_base32_never_fits() -> None:
    codes = OneTimeCodes(FakeClock())
    assert not codes.accept("bob", Secret("A"), Secret("123456"))
    assert base64.b32decode("AAAAAAAA") == bytes(5)


# --- dates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "end"),
    [
        ("yyyyMMdd", "20310504", datetime(2031, 5, 5, tzinfo=UTC)),
        ("yyyyMMddHHmmss", "20310504102030", datetime(2031, 5, 4, 10, 20, 31, tzinfo=UTC)),
        ("yyyyMMddHHmm", "203105041020", datetime(2031, 5, 4, 10, 21, tzinfo=UTC)),
        ("yyyyMM", "203112", datetime(2032, 1, 1, tzinfo=UTC)),
        ("yyyy", "2031", datetime(2032, 1, 1, tzinfo=UTC)),
        ("yyyy", "9999", datetime(9999, 12, 31, tzinfo=UTC)),
        ("yyyy/MM", "20310504", datetime(2031, 5, 5, tzinfo=UTC)),
    ],
)
def test_a_date_directory_stands_for_a_range(pattern: str, name: str, end: datetime) -> None:
    day = DateRange.named(name, date_pattern(pattern))
    assert day.end == end
    assert day.start in day
    assert end not in day
    assert None not in day


def test_a_date_has_one_name() -> None:
    for name in ("2031054", "20310532", " 20310504", "x"):
        with pytest.raises(Exception, match="Invalid date"):
            DateRange.named(name, date_pattern("yyyyMMdd"))


# --- odd requests ----------------------------------------------------------------------------


async def test_what_is_above_destinations_cannot_be_opened(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        for path in ("/", "/DATA", "/NORTH"):
            with pytest.raises(IsDirectory):
                await t.session.open_read(path)
            with pytest.raises(IsDirectory):
                await t.session.digest(path, "md5")
        assert await t.session.parked("/") == 0
        assert t.session.absolute("b", base="/NORTH/a") == "/NORTH/a/b"
        t.session.touch()


async def test_content_that_is_replaced_while_being_opened_is_looked_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        objects = t.node.core.objects
        real, calls = objects.open, []

        def missing_once(volume: str, key: str) -> int:
            calls.append(key)
            if len(calls) == 1:
                raise NotFound("gone")
            return real(volume, key)

        monkeypatch.setattr(objects, "open", missing_once)
        assert await t.get("/NORTH/a") == b"content"
        assert len(calls) == 2


async def test_a_delivery_of_old_content_is_stopped(tmp_path: Path) -> None:
    """The attempt under way belongs to the content that is replaced."""
    stopped: list[tuple[tuple[str, str, str], str]] = []

    class Claim:
        """Stands for an attempt."""

        class claimed:  # noqa: N801 - an attribute of the real one
            class file:  # noqa: N801
                id = 1

    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        engine = t.node.engine

        async def interrupt(key: tuple[str, str, str], reason: str) -> None:
            stopped.append((key, reason))

        engine.attempts.running[77] = Claim  # type: ignore[assignment] # as much as is looked at
        engine.interrupt = interrupt  # type: ignore[method-assign]
        await t.put("/NORTH/a", b"new")
        await t.put("/NORTH/b")
        assert stopped == [(("NORTH", "a", ""), "content replaced")]
        engine.attempts.running.clear()


async def test_a_transfer_that_changed_while_being_renamed_is_busy(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")

        def vanish(db: Connection) -> None:
            db.execute("UPDATE transfer SET target = 'b'")

        real = transfers.get

        def get(db: Connection, number: int) -> object:
            vanish(db)
            return real(db, number)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ecpds.vfs.changes.transfers.get", get)
            with pytest.raises(Busy):
                await t.session.rename("/NORTH/a", "/NORTH/c")
        assert await t.names() == ["a"]  # undone with the rest


async def test_aliases_that_cannot_be_followed_keep_their_copies(tmp_path: Path) -> None:
    async with tree(tmp_path, aliases={"SOUTH": "target=$name[0..3]"}) as t:
        await t.put("/NORTH/abcd")
        await t.session.rename("/NORTH/abcd", "/NORTH/x")
        assert await t.names("/SOUTH") == ["abc"]


async def test_a_download_of_a_transfer_that_is_gone_is_not_told(tmp_path: Path) -> None:
    def forget(db: Connection) -> None:
        db.execute("DELETE FROM transfer")

    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        reader = await t.session.open_read("/NORTH/a")
        await t.node.store.write(forget)
        reader.count(7)
        await reader.close()
        assert len(await t.incoming()) == 1


async def test_a_replaced_file_keeps_its_conditions(tmp_path: Path) -> None:
    async with tree(tmp_path, group_by_date=True) as t:
        first = await t.put("/NORTH/20310504/a", exclusive=True)
        with pytest.raises(PreconditionFailed):
            await t.put("/NORTH/20310504/a", if_match=('"other"',))
        await t.put("/NORTH/20310504/a", if_match=(first.etag,))
        await t.put("/NORTH/20310504", b"a name that is a date is a file of today")


async def test_a_temporary_name_that_is_held_by_nobody(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.tmpDetect": "yes"}, aliases={"SOUTH": ""}) as t:
        await t.put("/NORTH/.a")
        await t.node.store.write(transfers.set_status, 1, TransferStatus.STOP, now=t.clock.now())
        await t.session.rename("/NORTH/.a", "/NORTH/a")
        assert (await t.transfer(1)).status is TransferStatus.STOP
        await t.session.rename("/NORTH/a", "/NORTH/.b")
        assert (await t.transfer(1)).status is TransferStatus.STOP


async def test_sessions_that_cannot_be_refreshed_end(tmp_path: Path) -> None:
    def damage(db: Connection) -> None:
        db.execute("""UPDATE data_user SET options = '{"portal.maxConnections": "many"}'""")

    async with small_node(tmp_path, run=True) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",))
        async with await node.login(protocol=Protocol.FTP) as one:
            await node.store.write(damage)
            node.core.bus.tell("account", "alice")
            await until(lambda: one.closing)
        node.core.bus.tell("session", "of no interest")
        assert node.gate.banner("alice") == ""
        assert node.gate.banner() == ""


async def test_a_login_that_cannot_be_stored_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",), options={"portal.maxConnections": "1"})
        with monkeypatch.context() as broken:
            broken.setattr("ecpds.vfs.records.record_login", fail)
            with pytest.raises(TypeError):
                await node.login()
        assert node.gate.sessions() == []
        async with await node.login():
            pass


async def test_slow_refusals_for_a_user_under_attack(tmp_path: Path) -> None:
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock, security={"ban_score": 2}) as node:
        await node.destination("NORTH")
        await node.user("alice", destinations=("NORTH",))
        for number in range(2):
            with pytest.raises(Unauthenticated):
                await node.login("alice", "wrong", peer=f"192.0.2.{number}")
        ended: list[bool] = []

        async def third() -> None:
            with pytest.raises(Unauthenticated):
                await node.login("alice", "wrong", peer="192.0.2.9")
            ended.append(True)

        async with asyncio.TaskGroup() as group:
            group.create_task(third())
            await until(lambda: clock.waiting)
            assert not ended
            await clock.advance(timedelta(seconds=0.5))
        assert ended
        async with await node.login():
            pass  # the right password is never held back


async def test_hints_about_rights_reach_open_views(tmp_path: Path) -> None:
    async with tree(tmp_path, operations={Permission.DIR}) as t:
        assert await t.names("/") == ["NORTH/", "SOUTH/"]
        await t.node.destination("SOUTH", active=False)
        assert await t.names("/") == ["NORTH/"]
