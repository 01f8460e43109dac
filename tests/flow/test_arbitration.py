"""`scheduler.requeueon` in the engine: the loser is on hold, and a person overrules."""

from __future__ import annotations

from pathlib import Path

from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.model.status import TransferStatus
from tests.flow.test_engine import Bench, bench, plain

S = TransferStatus


def arbitrated(made: Bench, **options: str) -> dict[str, object]:
    """Return a site whose destination holds the smaller of two files of a name."""
    site = plain(made)
    values = {"scheduler.requeueon": "$size2 > $size1", **options}
    site["destinations"][0]["options"] = values
    return site


async def test_the_larger_is_sent_and_a_person_overrules(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        await made.apply(arbitrated(made))
        first = await made.push("a", b"12345", version="1")
        await made.wait(lambda all_: all_[0].status is S.DONE)
        small = await made.push("a", b"1", version="2")
        large = await made.push("a", b"123456789", version="3")
        await made.wait(lambda all_: [one.status for one in all_][1:] == [S.HOLD, S.DONE])
        held = await made.get(small)
        assert held.reason is not None
        assert held.reason.kind == "duplicate"
        assert (held.attempts, held.start_count, held.started_at) == (0, 0, None)
        assert str(first) in held.reason.text or str(large) in held.reason.text
        assert (made.out / "a").read_bytes() == b"123456789"
        await TransferOperations(made.node.engine).requeue(small, SYSTEM)
        await made.wait(lambda all_: all_[1].status is S.DONE)
        assert (made.out / "a").read_bytes() == b"1"


async def test_other_names_are_not_concerned(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        await made.apply(arbitrated(made, **{"scheduler.requeueignore": "free/.*"}))
        await made.push("free/a", b"12345", version="1")
        await made.push("free/a", b"1", version="2")
        await made.wait(lambda all_: [one.status for one in all_] == [S.DONE, S.DONE])
