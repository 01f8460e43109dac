"""Files that were looked at a moment ago: no second look-up, and never what is true no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from ecpds.model.errors import NotFound
from ecpds.store import portal
from tests.clock import FakeClock
from tests.tree import Tree, tree


async def fetched(t: Tree, path: str) -> bytes:
    """Return the content of a file, with a record of the download."""
    async with await t.session.open_read(path) as reader:
        reader.count(reader.size)
        return reader.read(0, 100)


async def test_a_second_fetch_needs_no_look_up(tmp_path: Path) -> None:
    """Although the first one was recorded."""
    seen: list[str] = []
    find = portal.newest

    def counted(*args: object, **kwargs: object) -> object:
        seen.append("look")
        return find(*args, **kwargs)  # type: ignore[arg-type]  # whatever it takes

    async with tree(tmp_path) as t:
        await t.put("/NORTH/a", b"one")
        with patch.object(portal, "newest", counted):
            for _ in range(5):
                assert await fetched(t, "/NORTH/a") == b"one"
    assert len(seen) == 1


async def test_a_new_version_is_seen_at_once(tmp_path: Path) -> None:
    """However often the old one was fetched."""
    async with tree(tmp_path) as t:
        for content in (b"one", b"two", b"three"):
            await t.put("/NORTH/a", content)
            assert await fetched(t, "/NORTH/a") == content
            assert await fetched(t, "/NORTH/a") == content


async def test_what_was_deleted_or_renamed_is_gone(tmp_path: Path) -> None:
    """For this name; the new one is there."""
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a", b"one")
        await fetched(t, "/NORTH/a")
        await t.session.rename("/NORTH/a", "/NORTH/b")
        with pytest.raises(NotFound):
            await fetched(t, "/NORTH/a")
        assert await fetched(t, "/NORTH/b") == b"one"
        await t.session.delete("/NORTH/b")
        with pytest.raises(NotFound):
            await fetched(t, "/NORTH/b")


async def test_what_has_expired_is_gone(tmp_path: Path) -> None:
    """At that very moment, although nothing was committed."""
    clock = FakeClock(datetime(2031, 5, 4, 9, tzinfo=UTC))
    async with tree(tmp_path, clock=clock, options={"incoming.lifetime": "1h"}) as t:
        await t.put("/NORTH/a", b"one")
        await clock.advance(timedelta(minutes=59))
        assert await fetched(t, "/NORTH/a") == b"one"
        await clock.advance(timedelta(minutes=1))
        with pytest.raises(NotFound):
            await fetched(t, "/NORTH/a")
