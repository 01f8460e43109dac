"""Basic credentials and the table of session cookies."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest

from ecpds.model.errors import Unauthenticated
from ecpds.portals.https.login import Tickets, client_cookie, read_basic, session_cookie
from tests.clock import FakeClock

HOUR = timedelta(hours=1)


def basic(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


def test_basic_credentials() -> None:
    assert read_basic(basic(b"alice:pa:ss")) == ("alice", "pa:ss")
    assert read_basic(basic("älice:pä".encode())) == ("älice", "pä")
    assert read_basic(basic("älice:pä".encode("latin-1"))) == ("älice", "pä")
    assert read_basic("bAsIc YTo=") == ("a", "")


@pytest.mark.parametrize(
    "field",
    [
        "",
        "Basic",
        "Basic !!!",
        basic(b"alice"),
        basic(b":x"),
        "Bearer abc",
        basic(b"a:" + b"x" * 2000),
        "Basic YWxpY2U6c2VjcmV0, Basic YWxpY2U6c2VjcmV0",
        "Basic \u00e9",
    ],
)
def test_nonsense_is_no_login(field: str) -> None:
    with pytest.raises(Unauthenticated):
        read_basic(field)


async def test_a_ticket_slides_and_ends() -> None:
    clock = FakeClock()
    tickets = Tickets(clock, HOUR)
    text = tickets.issue("alice")
    assert len(text) >= 43  # 256 bits
    since = clock.now()
    for _ in range(3):
        await clock.advance(timedelta(minutes=59))
        found = tickets.use(text)
        assert found is not None
        assert (found.user, found.since) == ("alice", since)
    await clock.advance(HOUR)
    assert tickets.use(text) is None
    assert len(tickets) == 0


async def test_tickets_are_bounded_and_the_oldest_goes() -> None:
    clock = FakeClock()
    tickets = Tickets(clock, HOUR, most=2)
    first, second = tickets.issue("a"), tickets.issue("b")
    tickets.use(first)
    third = tickets.issue("c")
    assert tickets.use(second) is None
    assert tickets.use(first) is not None
    assert tickets.use(third) is not None
    await clock.advance(HOUR)
    tickets.issue("d")
    assert len(tickets) == 1


def test_a_ticket_can_be_forgotten_and_not_guessed() -> None:
    tickets = Tickets(FakeClock(), HOUR)
    text = tickets.issue("alice")
    assert tickets.use(text + "x") is None
    assert tickets.use("") is None
    assert tickets.use("\udcff") is None
    tickets.forget(text)
    tickets.forget(text)
    assert tickets.use(text) is None


def test_cookies_are_guarded() -> None:
    assert session_cookie("x", secure=True) == (
        "portal_session=x; Path=/; HttpOnly; SameSite=Lax; Secure"
    )
    assert "Secure" not in session_cookie("x", secure=False)
    assert "Max-Age=0" in session_cookie("", secure=True)
    assert "Max-Age=31536000" in client_cookie(secure=True)
