"""How long an account is good, from where, how fast, and how much it may keep."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.model.accountterms import read_until
from ecpds.model.errors import ConfigError, InputError, QuotaExceeded, Unauthenticated
from ecpds.model.families import PortalOptions
from ecpds.vfs.contract import Session
from ecpds.vfs.terms import Keeping, Terms
from tests.clock import FakeClock
from tests.node import SmallNode, small_node

KIB = 1024


async def put(session: Session, path: str, size: int, *, says: bool = True) -> None:
    """Upload so many bytes."""
    async with await session.open_write(path, size=size if says else None) as writer:
        writer.write(b"x" * size, 0)
        await writer.commit(size=size)


async def someone(node: SmallNode, **options: Any) -> Session:
    """Return the session of a user with these options in NORTH."""
    await node.destination("NORTH")
    given = {f"portal.{key}": value for key, value in options.items()}
    await node.user("bob", destinations=("NORTH",), options=given)
    return await node.login("bob")


def test_an_account_without_terms_has_none() -> None:
    assert Terms.of(PortalOptions.read({})) is None


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2031-05-04", datetime(2031, 5, 5, tzinfo=UTC)),
        ("2031-05-04T12:00", datetime(2031, 5, 4, 12, tzinfo=UTC)),
        ("2031-05-04T12:00+02:00", datetime(2031, 5, 4, 10, tzinfo=UTC)),
    ],
)
def test_the_last_day_counts(text: str, end: datetime) -> None:
    assert read_until(text) == end


@pytest.mark.parametrize("text", ["tomorrow", "2031-13-01", "31.12.2031"])
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(InputError):
        read_until(text)


async def test_an_account_ends_with_its_sessions(tmp_path: Path) -> None:
    """Who is logged in is hung up on, and nobody comes in any more."""
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        end = clock.now() + timedelta(hours=1)
        session = await someone(node, validUntil=end.isoformat())
        await node.gate._end_expired()
        assert not session.closing
        await clock.advance(timedelta(hours=1))
        await node.gate._end_expired()
        assert session.closing
        with pytest.raises(Unauthenticated):
            await node.login("bob")
        await session.close()


async def test_a_user_comes_from_its_networks_only(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await (await someone(node, networks="192.0.2.0/25, 2001:db8::/32")).close()
        for peer in ("192.0.2.127", "2001:db8::1"):
            async with await node.login("bob", peer=peer):
                pass
        for peer in ("192.0.2.128", "2001:db9::1"):
            with pytest.raises(Unauthenticated):
                await node.login("bob", peer=peer)


@pytest.mark.parametrize(("key", "text"), [("validUntil", "soon"), ("networks", "192.0.2.0/33")])
async def test_texts_are_read_when_they_are_saved(tmp_path: Path, key: str, text: str) -> None:
    async with small_node(tmp_path) as node:
        with pytest.raises(ConfigError):
            await someone(node, **{key: text})


async def test_a_user_keeps_so_many_bytes(tmp_path: Path) -> None:
    """Announced or not, and deleting makes room."""
    async with small_node(tmp_path) as node, await someone(node, maxStoredBytes="10KB") as bob:
        await put(bob, "/NORTH/a", 6 * KIB)
        with pytest.raises(QuotaExceeded) as caught:
            await put(bob, "/NORTH/b", 5 * KIB)
        assert caught.value.message == "Storage quota exceeded (6 KB of 10 KB)"
        with pytest.raises(QuotaExceeded):
            await put(bob, "/NORTH/b", 5 * KIB, says=False)
        space = await bob.space("/NORTH")
        assert space is not None
        assert space.free == 4 * KIB
        await put(bob, "/NORTH/b", 4 * KIB)
        with pytest.raises(QuotaExceeded):
            await put(bob, "/NORTH/c", 1)
        await bob.delete("/NORTH/a")
        await put(bob, "/NORTH/c", 6 * KIB)


async def test_a_user_keeps_so_many_files(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node, await someone(node, maxStoredFiles="2") as bob:
        await put(bob, "/NORTH/a", 1)
        await put(bob, "/NORTH/b", 0)
        with pytest.raises(QuotaExceeded) as caught:
            await put(bob, "/NORTH/c", 1)
        assert caught.value.message == "Storage quota exceeded (2 of 2 files)"


async def test_what_others_keep_does_not_count_and_counts_are_renewed(tmp_path: Path) -> None:
    """A file that went without our doing is noticed within a minute."""
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        async with await someone(node) as bob:
            await put(bob, "/NORTH/a", 3)
        keeping, terms = Keeping(node.store, clock), Terms(most_bytes=10)
        assert await keeping.room("bob", terms) == 7
        assert await keeping.room("ann", terms) == 10
        async with await node.login("bob") as bob:
            await bob.delete("/NORTH/a")
        assert await keeping.room("bob", terms) == 7
        await clock.advance(timedelta(minutes=1))
        assert await keeping.room("bob", terms) == 10


async def test_a_user_has_rates_of_its_own(tmp_path: Path) -> None:
    """The lower one of user and destination counts."""
    rates = {"maxBytesPerSecForInput": "2KB", "maxBytesPerSecForOutput": "3KB"}
    async with small_node(tmp_path) as node, await someone(node, **rates) as bob:
        writer = await bob.open_write("/NORTH/a")
        assert writer.rate == 3 * KIB
        async with writer:
            writer.write(b"x", 0)
            await writer.commit(size=1)
        async with await bob.open_read("/NORTH/a") as reader:
            assert reader.rate == 2 * KIB
        await node.destination("NORTH", options={"incoming.maxBytesPerSecForInput": "1KB"})
        async with await bob.open_read("/NORTH/a") as reader:
            assert reader.rate == KIB
