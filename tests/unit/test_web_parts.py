"""Small parts of the web layer: rates, topics, forms of values, merge patches, login targets."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from ecpds.model.destination import Destination
from ecpds.model.errors import ConfigError, Denied, NotFound
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.web import shown
from ecpds.web.api.answers import merged
from ecpds.web.api.content import disposition
from ecpds.web.api.table import ROUTES
from ecpds.web.csrf import check_csrf, csrf_of
from ecpds.web.errors import Refused
from ecpds.web.login import safe_next
from ecpds.web.rates import MOST, Rates
from ecpds.web.routes import Route, check_table
from ecpds.web.statics import Statics
from ecpds.web.topics import Subject, parse_topics, wanted

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


# --- rates


def test_rate_allows_a_burst_and_then_the_mean() -> None:
    time = [0.0]
    rates = Rates(60, lambda: time[0])
    assert [rates.take("a") for _ in range(10)] == [0] * 10
    assert rates.take("a") == 1
    assert rates.take("b") == 0
    time[0] = 1.0
    assert rates.take("a") == 0
    assert rates.take("a") == 1


def test_rates_forget_the_one_silent_longest() -> None:
    rates = Rates(1, lambda: 0.0)
    for _ in range(10):
        rates.take("first")
    assert rates.take("first") == 60
    for number in range(MOST):
        rates.take(str(number))
    assert rates.take("first") == 0


# --- topics


def test_topics() -> None:
    topics = parse_topics("dest:ops_*, transfer:12,transfers:NORTH")
    assert wanted(topics, Subject("dest", "ops_fr", ("ops_fr",)))
    assert not wanted(topics, Subject("dest", "NORTH", ("NORTH",)))
    assert wanted(topics, Subject("transfer", "12", ("EAST",)))
    assert wanted(topics, Subject("transfer", "13", ("NORTH",)))
    assert not wanted(topics, Subject("transfer", "13", ("EAST",)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "name 1 to 50"),
        ("dset:*", "did you mean dest"),
        ("dest", "is no topic"),
        ("dest:", "is no topic"),
        (",".join(["dest:a"] * 51), "name 1 to 50"),
        ("dest:" + "a" * 300, "name 1 to 50"),
    ],
)
def test_wrong_topics(text: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        parse_topics(text)


# --- route table


async def nothing(_: object) -> web.Response:
    return web.Response()


def test_every_route_declares_a_right_and_is_there_once() -> None:
    check_table(ROUTES)
    for route in ROUTES:
        assert route.summary, route.path
        assert route.kind == "api"


@pytest.mark.parametrize("right", ["", "transfers", "transfers:look", "*:read"])
def test_a_route_without_a_right_stops_the_start(right: str) -> None:
    with pytest.raises(ConfigError, match="declares no right"):
        check_table([Route(method="GET", path="/x", right=right, handle=nothing)])


def test_a_route_that_is_there_twice_stops_the_start() -> None:
    route = Route(method="GET", path="/x", right="open", handle=nothing)
    with pytest.raises(ConfigError, match="twice"):
        check_table([route, route])


# --- values


def test_values_as_json() -> None:
    document = shown.plain(Destination(name="NORTH", reset_frequency=timedelta(minutes=15)))
    assert document["reset_frequency"] == "PT15M"
    assert document["on_host_failure"] == "stay"
    assert document["hosts"] == []


def test_secrets_are_stars() -> None:
    assert shown.plain(Host(name="h", password=Secret("x")))["password"] == "***"
    assert shown.plain(Host(name="h"))["password"] == ""


def test_times_are_utc_with_z() -> None:
    assert shown.moment(NOW) == "2030-01-01T12:00:00Z"
    assert shown.moment(None) is None


def transfer(**more: object) -> Transfer:
    values: dict[str, object] = {
        "id": 1, "destination": "NORTH", "data_file": 2, "target": "a",
        "status": TransferStatus.WAIT, "scheduled_at": NOW + timedelta(hours=1),
        "queue_at": NOW, "due_at": NOW, "expires_at": NOW + timedelta(days=1), "created_at": NOW,
        "size": 5,
    }  # fmt: skip
    return Transfer(**(values | more))  # type: ignore[arg-type] # fields of a test


def test_restricted_sees_no_size_before_its_time() -> None:
    early = shown.transfer(transfer(), NOW, restricted=True)
    assert (early["status"], early["size"]) == ("planned", None)
    late = shown.transfer(transfer(), NOW + timedelta(hours=2), restricted=True)
    assert (late["status"], late["size"]) == ("queued", 5)
    assert shown.transfer(transfer(), NOW)["size"] == 5


def test_progress_does_not_change_the_tag_of_a_transfer() -> None:
    assert shown.transfer_etag(transfer()) == shown.transfer_etag(transfer(sent=3, host="h"))
    assert shown.transfer_etag(transfer()) != shown.transfer_etag(transfer(priority=1))


def test_merge_patch() -> None:
    """RFC 7396, appendix A, as far as objects go."""
    assert merged({"a": "b"}, {"a": "c"}) == {"a": "c"}
    assert merged({"a": "b"}, {"b": "c"}) == {"a": "b", "b": "c"}
    assert merged({"a": "b"}, {"a": None}) == {}
    assert merged({"a": ["b"]}, {"a": "c"}) == {"a": "c"}
    assert merged({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}) == {"a": {"b": "d"}}
    assert merged({"a": "foo"}, {"a": {"b": 1}}) == {"a": {"b": 1}}
    assert merged({}, {"a": {"bb": {"ccc": None}}}) == {"a": {"bb": {}}}


# --- browsers


def test_csrf_belongs_to_the_session() -> None:
    token = csrf_of("session")
    assert token == hmac.new(b"session", b"csrf", hashlib.sha256).hexdigest()
    check_csrf("session", token)
    for wrong in ("", token[:-1], csrf_of("other"), "\u00e9"):
        with pytest.raises(Denied):
            check_csrf("session", wrong)
    assert csrf_of("") == ""


@pytest.mark.parametrize(
    ("text", "leads"),
    [
        ("/transfers?q=a", "/transfers?q=a"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/login", "/"),
        ("/logout", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/" + "a" * 3000, "/"),
    ],
)
def test_a_login_leads_to_our_own_pages_only(text: str, leads: str) -> None:
    assert safe_next(text) == leads


def test_disposition_of_odd_names() -> None:
    assert disposition("a.grib") == "attachment; filename=\"a.grib\"; filename*=UTF-8''a.grib"
    odd = disposition('\u00e9"\r\n;.grib')
    assert "\r" not in odd
    assert "%22" in odd
    assert odd.startswith('attachment; filename="_____.grib"')


def test_static_files_have_the_hash_of_their_content(tmp_path: Path) -> None:
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "a.js").write_text("x" * 5000)
    (tmp_path / ".hidden").write_text("x")
    statics = Statics(tmp_path)
    assert statics.url("vendor/a.js").startswith("/static/vendor/a.js?v=")
    for name in ("vendor/b.js", ".hidden", "../x"):
        with pytest.raises(NotFound):
            statics.url(name)
