"""The table of cli.md section 7, cell by cell, and Ex 5."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ecpds.model.product import ProductEntry, ProductKey, ProductState, outcome_of

NOON = datetime(2031, 5, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=30)
KEY = ProductKey(stream="wave", time="06", step=12, type="fc")
EXPECTED, STARTED, COMPLETED = ProductState


def entry(state: ProductState) -> ProductEntry:
    """What was reported last."""
    return ProductEntry(key=KEY, state=state, scheduled_at=NOON, time_base=None, updated_at=NOON)


@pytest.mark.parametrize("wanted", ProductState)
def test_nothing_known(wanted: ProductState) -> None:
    """No entry: (A) without a time, created with one."""
    assert outcome_of(None, wanted, None) == ("missing", "")
    assert outcome_of(None, wanted, NOON) == ("created", "")


@pytest.mark.parametrize("present", ProductState)
def test_expected(present: ProductState) -> None:
    """The same time is ignored, another one updates, whatever the state was."""
    assert outcome_of(entry(present), EXPECTED, NOON) == ("ignored", "already expected")
    assert outcome_of(entry(present), EXPECTED, None) == ("ignored", "already expected")
    assert outcome_of(entry(present), EXPECTED, LATER) == ("updated", "")


@pytest.mark.parametrize(
    ("present", "wanted", "outcome"),
    [
        (EXPECTED, STARTED, ("updated", "")),
        (STARTED, STARTED, ("ignored", "not expected")),
        (COMPLETED, STARTED, ("ignored", "not expected")),
        (EXPECTED, COMPLETED, ("updated", "")),
        (STARTED, COMPLETED, ("updated", "")),
        (COMPLETED, COMPLETED, ("ignored", "already completed")),
    ],
)
def test_started_and_completed(
    present: ProductState, wanted: ProductState, outcome: tuple[str, str]
) -> None:
    """With or without a time."""
    assert outcome_of(entry(present), wanted, None) == outcome
    assert outcome_of(entry(present), wanted, LATER) == outcome


def test_ex_5() -> None:
    """Expected twice, moved, started twice, completed twice, expected as before."""
    steps: list[tuple[ProductState, datetime | None]] = [
        (EXPECTED, NOON), (EXPECTED, NOON), (EXPECTED, LATER), (STARTED, None), (STARTED, None),
        (COMPLETED, None), (COMPLETED, None), (EXPECTED, LATER),
    ]  # fmt: skip
    present: ProductEntry | None = None
    words = []
    for state, schedule in steps:
        outcome, why = outcome_of(present, state, schedule)
        words.append(why or outcome)
        if outcome in {"created", "updated"}:
            at = schedule or (present.scheduled_at if present else None)
            present = ProductEntry(
                key=KEY, state=state, scheduled_at=at, time_base=None, updated_at=NOON
            )
    assert words == [
        "created", "already expected", "updated", "updated", "not expected", "updated",
        "already completed", "already expected",
    ]  # fmt: skip
