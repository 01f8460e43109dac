"""The alert light: its rules, and green that is held back (schedulers.md 8, monitor.md 3.3)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ecpds.engine.lights import Lights
from ecpds.engine.operations.destinations import light_of
from ecpds.model.destination import Destination, DestinationState
from ecpds.model.status import DestinationStatus, Light
from tests.clock import START

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
T = DestinationStatus


@pytest.mark.parametrize(
    ("status", "fields", "last_ok", "outstanding", "light"),
    [
        (T.IDLE, {}, None, 0, Light.BLUE),
        (T.WAITING, {}, None, 0, Light.BLUE),
        (T.RUNNING, {}, None, 0, Light.GREEN),
        (T.STOPPED, {}, None, 0, Light.YELLOW),
        (T.GAVE_UP, {}, None, 0, Light.RED),
        (T.NO_HOSTS, {}, None, 0, Light.RED),
        (T.SLEEPING, {}, None, 0, Light.RED),
        (T.RUNNING, {}, None, 3, Light.YELLOW),
        (T.IDLE, {}, None, 1, Light.YELLOW),
        (T.IDLE, {"max_inactivity": HOUR}, 2 * HOUR, 0, Light.RED),
        (T.IDLE, {"max_inactivity": HOUR}, HOUR, 0, Light.BLUE),
        (T.RUNNING, {"max_inactivity": HOUR}, None, 0, Light.RED),
        (T.RUNNING, {"max_inactivity": HOUR}, 2 * HOUR, 5, Light.RED),  # before outstanding
        (T.STOPPED, {"max_inactivity": HOUR}, 2 * HOUR, 0, Light.YELLOW),
        (T.GAVE_UP, {"monitor": False}, None, 0, Light.GREY),
    ],
)
def test_schedulers_8_the_light(
    status: DestinationStatus,
    fields: dict[str, object],
    last_ok: timedelta | None,
    outstanding: int,
    light: Light,
) -> None:
    made = Destination(name="D", **({"monitor": True} | fields))  # type: ignore[arg-type]
    state = DestinationState(last_ok_at=START - last_ok if last_ok is not None else None)
    assert light_of(made, state, status, outstanding, START) is light


def test_schedulers_8_green_waits_for_a_newer_success_or_ten_minutes() -> None:
    lights = Lights()
    ok = START - HOUR
    assert lights.shown("D", Light.GREEN, ok, START) is Light.GREEN  # nothing was wrong
    assert lights.shown("D", Light.RED, ok, START) is Light.RED
    assert lights.shown("D", Light.GREEN, ok, START + MINUTE) is Light.RED
    assert lights.shown("D", Light.GREEN, START + 2 * MINUTE, START + 3 * MINUTE) is Light.GREEN
    assert lights.shown("D", Light.GREEN, ok, START + 4 * MINUTE) is Light.GREEN  # it is over
    assert lights.shown("D", Light.YELLOW, ok, START) is Light.YELLOW
    assert lights.shown("D", Light.GREEN, None, START + 9 * MINUTE) is Light.YELLOW
    assert lights.shown("D", Light.GREEN, None, START + 10 * MINUTE) is Light.GREEN


def test_only_green_is_held_back() -> None:
    """Blue says that nothing is to do, grey that nobody looks; a clock set back ends it too."""
    for light in (Light.BLUE, Light.GREY):
        lights = Lights()
        lights.shown("D", Light.RED, None, START)
        assert lights.shown("D", light, None, START) is light
        assert lights.shown("D", Light.GREEN, None, START) is Light.GREEN
    lights = Lights()
    lights.shown("D", Light.RED, None, START)
    assert lights.shown("E", Light.GREEN, None, START) is Light.GREEN
    assert lights.shown("D", Light.GREEN, None, START - HOUR) is Light.GREEN
