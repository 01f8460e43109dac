"""Small files of directories of this machine: fetched and delivered in lots, each on its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ecpds.engine.acquisition_small import _Reading
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.store import files, history
from tests.flow.test_engine import Bench, bench, plain

COUNT = 70  # more than one lot


def _are_all(status: TransferStatus, count: int) -> Any:
    def test(found: list[Transfer]) -> bool:
        return len(found) == count and all(one.status is status for one in found)

    return test


async def _stored(made: Bench) -> set[str]:
    """Return the keys of the objects on disk."""
    (volume,) = made.node.core.objects.volumes
    return {str(one.relative_to(volume.path)) for one in volume.path.glob("2*/*/*")}


async def test_each_file_of_a_lot_keeps_its_own_content_and_history(tmp_path: Path) -> None:
    """One batch for the disk and the store, but a transfer each."""
    async with bench(tmp_path, {"hosts": [], "destinations": []}) as made:
        for number in range(COUNT):
            made.lay(f"f{number}", f"content {number}".encode() * number)
        await made.apply(plain(made))
        found = await made.wait(_are_all(TransferStatus.DONE, COUNT))
        for number in range(COUNT):
            assert (made.out / f"f{number}").read_bytes() == f"content {number}".encode() * number
        assert sorted(made.out.iterdir()) == sorted(made.out / f"f{n}" for n in range(COUNT))
        store = made.node.core.store
        for one in found[:3]:
            steps = await store.read(history.steps, one.id)
            words = [step.status.code for step in steps]
            assert words == ["SCHE", "FETC", "WAIT", "EXEC", "DONE"]
            (attempt,) = await store.read(history.attempts, one.id)
            assert (attempt.status, attempt.sent) == (TransferStatus.DONE, one.size)
        assert made.node.core.store.writes < 4 * COUNT


async def test_one_bad_target_does_not_hold_up_its_lot(tmp_path: Path) -> None:
    """It fails alone, with the reason that an attempt of its own gives."""
    async with bench(tmp_path, {"hosts": [], "destinations": []}) as made:
        for number in range(5):
            made.lay(f"f{number}")
        (made.out / "f3" / "x").mkdir(parents=True)
        await made.apply(plain(made))

        def ended(found: list[Transfer]) -> bool:
            done = sum(one.status is TransferStatus.DONE for one in found)
            return done == 4 and any(one.status is TransferStatus.RETR for one in found)

        found = await made.wait(ended)
        (bad,) = [one for one in found if one.status is not TransferStatus.DONE]
        assert bad.target == "f3"
        assert bad.reason is not None
        assert "directory" in bad.reason.text
        left = {one.name for one in made.out.iterdir() if not one.name.startswith("f3.")}
        assert left == {f"f{number}" for number in range(5)}  # and no temporary name of the lot


async def test_missing_parents_are_made_for_a_lot(tmp_path: Path) -> None:
    """By an attempt of its own; the others follow."""
    async with bench(tmp_path, {"hosts": [], "destinations": []}) as made:
        for number in range(6):
            made.lay(f"deep/{number % 2}/f{number}")
        site = plain(made)
        site["hosts"][0]["directory"] = f"[recursive=2]{made.feed}/deep/{{.*}}"
        await made.apply(site)
        await made.wait(_are_all(TransferStatus.DONE, 6))
        assert len([one for one in made.out.rglob("f*") if one.is_file()]) == 6


async def test_what_no_lot_takes_comes_by_itself(tmp_path: Path) -> None:
    """A large file, an empty one, and one that became longer after it was listed."""
    async with bench(tmp_path, {"hosts": [], "destinations": []}) as made:
        made.lay("large", os.urandom(700_000))
        made.lay("empty", b"")
        made.lay("small", b"x")
        await made.apply(plain(made))
        found = await made.wait(_are_all(TransferStatus.DONE, 3))
        assert (made.out / "large").read_bytes() == (made.feed / "large").read_bytes()
        assert (made.out / "empty").read_bytes() == b""
        store = made.node.core.store
        for one in found:
            file = await store.read(files.get, one.data_file)
            assert file is not None
            assert file.get_started_at is not None
            assert file.remote_host == "localhost"


async def test_content_that_is_refused_leaves_no_object(tmp_path: Path) -> None:
    """More files than may be pending: what was fetched in vain is removed at once."""
    async with bench(tmp_path, {"hosts": [], "destinations": []}) as made:
        for number in range(8):
            made.lay(f"f{number}")
        site = plain(made, max_pending=5)
        site["hosts"] = [site["hosts"][0]]
        site["destinations"][0]["hosts"] = ["feed"]
        await made.apply(site)
        found = await made.wait(lambda found: len(found) == 5)
        scheduler = made.node.engine.acquisitions["D", "feed"]
        await made.wait(lambda _: scheduler.last is not None and not scheduler.is_running)
        assert scheduler.last is not None
        assert scheduler.last.outcomes["selected"] == 5
        store = made.node.core.store
        rows = [await store.read(files.get, one.data_file) for one in found]
        assert await _stored(made) == {row.object_key for row in rows if row is not None}


async def test_a_lot_that_nobody_takes_leaves_nothing_open(tmp_path: Path) -> None:
    """A discovery that is interrupted while a thread reads its files."""
    async with bench(tmp_path, {"hosts": [], "destinations": []}) as made:
        uploads = [made.node.core.objects.create(1) for _ in range(4)]
        early, late = _Reading(), _Reading()
        early.abandon()
        early.end(uploads[:2])
        late.end(uploads[2:])
        late.abandon()
        assert [one.descriptor for one in uploads] == [-1] * 4
        assert not any(one.path.exists() for one in uploads)
