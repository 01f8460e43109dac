"""Connection schedules, quotas, rates, bans, one-time codes, places (portal.md 1.5 and 1.7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ecpds.base.settings import SecuritySettings
from ecpds.base.totp import code_of
from ecpds.model.errors import OptionError, QuotaExceeded, TooManyConnections
from ecpds.model.families import PortalOptions
from ecpds.model.secret import Secret
from ecpds.model.units import DaySchedule
from ecpds.store import history
from ecpds.vfs.credentials import Changes, OneTimeCodes, Recognised, has_key
from ecpds.vfs.defender import Defender, address_key
from ecpds.vfs.geo import GeoRule, Places
from ecpds.vfs.limits import Connections, Pace, Quota, Quotas, most_connections, read_schedule
from tests.clock import START, FakeClock
from tests.node import small_node

# --- connections -----------------------------------------------------------------------------


def test_ex_4_the_number_of_connections_depends_on_the_time_of_day() -> None:
    options = PortalOptions(
        max_connections=10, max_connections_schedule="00:00-08:00=200,22:00-24:00=50"
    )
    schedule = read_schedule(options.max_connections_schedule, "bob")

    def at(hour: int, minute: int) -> int:
        moment = datetime(2031, 5, 4, hour, minute, tzinfo=UTC)
        return most_connections(options, schedule, moment)

    assert at(7, 59) == 200
    assert at(8, 0) == 10
    assert at(23, 30) == 50
    assert at(0, 0) == 200
    assert at(22, 0) == 50


def test_a_bad_schedule_is_refused_when_saved_and_not_used_when_imported() -> None:
    with pytest.raises(OptionError):
        DaySchedule.parse("8-9=1")
    assert read_schedule("8-9=1", "bob") is None
    assert read_schedule("", "bob") is None
    assert most_connections(PortalOptions(), None, START) == 10


def test_slots_are_counted_and_given_back() -> None:
    slots = Connections()
    slots.check("bob", 1)
    slots.take("bob")
    with pytest.raises(TooManyConnections, match=r"Maximum number of connections exceeded \(1\)"):
        slots.check("bob", 1)
    slots.check("bob", 0)  # unlimited
    slots.give_back("bob")
    slots.check("bob", 1)
    assert slots.of("bob") == 0


# --- quotas ----------------------------------------------------------------------------------

DOWN = Quota(holder="user:bob", direction="download", most=1024, period=timedelta(hours=1))


async def test_ex_5_a_quota_is_over_until_the_first_bytes_leave_the_window(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        quotas = Quotas(node.store)
        await quotas.load(DOWN, clock.now())
        quotas.check(DOWN, clock.now())
        quotas.add(DOWN, 700, clock.now())
        await clock.advance(timedelta(minutes=10))
        quotas.check(DOWN, clock.now())
        quotas.add(DOWN, 700, clock.now())
        with pytest.raises(QuotaExceeded) as caught:
            quotas.check(DOWN, clock.now())
        text = "Download quota exceeded (1.4 KB of 1 KB in the last 1h)"
        assert caught.value.message == text
        assert 0 < int(str(caught.value.facts["retry_after"])) <= 50 * 60 + 1
        await clock.advance(timedelta(seconds=int(str(caught.value.facts["retry_after"]))))
        quotas.check(DOWN, clock.now())
        assert quotas.used(DOWN, clock.now()) == 700


async def test_a_quota_survives_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        await node.store.write(history.add_quota, ("user:bob",), "download", 2000, now=clock.now())
    async with small_node(tmp_path, clock=clock) as node:
        quotas = Quotas(node.store)
        await quotas.load(DOWN, clock.now())
        with pytest.raises(QuotaExceeded):
            quotas.check(DOWN, clock.now())


def test_both_keys_of_a_quota_are_needed() -> None:
    assert Quota.of_user("bob", PortalOptions.read({"portal.maxUploadBytes": "1KB"})) == ()
    assert Quota.of_user("bob", PortalOptions.read({"portal.uploadPeriod": "1h"})) == ()
    both = {"portal.maxUploadBytes": "1KB", "portal.uploadPeriod": "1h"}
    (quota,) = Quota.of_user("bob", PortalOptions.read(both))
    assert (quota.holder, quota.direction, quota.most) == ("user:bob", "upload", 1024)
    assert "for destination" in Quota(
        holder="destination:D", direction="upload", most=1, period=timedelta(hours=1)
    ).text(2)


def test_a_rate_tells_how_long_to_wait() -> None:
    assert Pace(None).pause(10**9) == 0.0
    assert Pace(0).pause(10**9) == 0.0
    assert 9.0 < Pace(1000).pause(10_000) <= 10.0


# --- bans ------------------------------------------------------------------------------------


def defender(clock: FakeClock, **settings: object) -> Defender:
    return Defender(SecuritySettings(**settings), clock)  # type: ignore[arg-type] # test settings


async def test_fifteen_points_in_ten_minutes_ban_for_half_an_hour() -> None:
    clock = FakeClock()
    guard = defender(clock)
    for _ in range(7):
        assert guard.fail("192.0.2.1", "nobody", 2, "Not found") is None
    assert guard.ban_of("192.0.2.1") is None
    ban = guard.fail("192.0.2.1", "bob", 1, "Password authentication failed")
    assert ban is not None
    assert (ban.address, ban.score) == ("192.0.2.1", 15)
    assert guard.ban_of("192.0.2.1") == ban
    assert guard.ban_of("192.0.2.2") is None
    await clock.advance(timedelta(minutes=30))
    assert guard.ban_of("192.0.2.1") is None
    assert guard.bans == []


async def test_old_failures_are_forgotten() -> None:
    clock = FakeClock()
    guard = defender(clock)
    for _ in range(14):
        guard.fail("192.0.2.1", "bob", 1, "x")
    await clock.advance(timedelta(minutes=10))
    assert guard.fail("192.0.2.1", "bob", 1, "x") is None


def test_allowed_networks_are_never_banned() -> None:
    guard = defender(FakeClock(), allow=("192.0.2.0/24",))
    assert all(guard.fail("192.0.2.7", "bob", 2, "x") is None for _ in range(50))
    assert any(guard.fail("198.51.100.7", "bob", 2, "x") for _ in range(50))
    assert all(guard.fail("::ffff:192.0.2.7", "bob", 2, "x") is None for _ in range(50))


def test_loopback_is_not_exempt() -> None:
    guard = defender(FakeClock())
    assert any(guard.fail("127.0.0.1", "bob", 2, "x") for _ in range(8))


def test_an_ipv6_client_is_its_network() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::2") == "2001:db8::/64"
    assert address_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert address_key("fe80::1%eth0") == "fe80::/64"
    assert address_key("::1") == "::1"
    assert address_key("2001:db8::/64") == "2001:db8::/64"
    assert address_key("unix") == "unix"


def test_a_ban_can_be_lifted() -> None:
    guard = defender(FakeClock())
    for _ in range(8):
        guard.fail("2001:db8::1", "bob", 2, "x")
    assert guard.lift("2001:db8::9") == "2001:db8::/64"
    assert guard.lift("2001:db8::9") is None
    assert guard.ban_of("2001:db8::1") is None


def test_a_user_attacked_from_many_addresses_is_refused_more_slowly() -> None:
    guard = defender(FakeClock())
    delays = []
    for number in range(60):
        guard.fail(f"192.0.2.{number}", "bob", 1, "x")
        delays.append(guard.delay("bob"))
    assert delays[14] == timedelta(0)
    assert delays[15] == timedelta(seconds=0.5)
    assert delays[-1] == timedelta(seconds=10)
    assert guard.delay("ann") == timedelta(0)


# --- credentials -----------------------------------------------------------------------------

SEED = Secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")  # RFC 6238 appendix B: 12345678901234567890


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_one_time_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    assert code_of(SEED, seconds // 30) == code


async def test_a_one_time_code_works_once_and_a_step_late() -> None:
    clock = FakeClock()
    codes = OneTimeCodes(clock)
    step = int(clock.now().timestamp()) // 30
    code = Secret(code_of(SEED, step))
    assert codes.accept("bob", SEED, code)
    assert not codes.accept("bob", SEED, code)
    assert not codes.accept("bob", SEED, Secret(code_of(SEED, step - 1)))  # older than the last
    assert codes.accept("ann", SEED, Secret(code_of(SEED, step - 1)))
    assert not codes.accept("cat", SEED, Secret(code_of(SEED, step - 2)))
    assert codes.accept("cat", SEED, Secret(code_of(SEED, step + 1)))
    assert not codes.accept("dan", SEED, Secret("abcdef"))
    assert not codes.accept("dan", Secret("no base32!"), Secret("123456"))


async def test_a_password_is_recognised_for_a_minute_and_for_its_hash_only() -> None:
    clock = FakeClock()
    known = Recognised(clock)
    known.remember("bob", "hash", Secret("one"))
    assert known.knows("bob", "hash", Secret("one"))
    assert not known.knows("bob", "hash", Secret("two"))
    assert not known.knows("bob", "other hash", Secret("one"))
    assert not known.knows("ann", "hash", Secret("one"))
    assert not known.knows("bo", "bhash", Secret("one"))
    await clock.advance(timedelta(minutes=1))
    assert not known.knows("bob", "hash", Secret("one"))


def test_keys_are_compared_without_options_and_comments() -> None:
    lines = ('from="192.0.2.0/24",no-pty ssh-ed25519 AAAA bob@home', "ssh-rsa BBBB")
    assert has_key(lines, "ssh-ed25519 AAAA")
    assert has_key(lines, "ssh-rsa BBBB another comment")
    assert not has_key(lines, "ssh-rsa AAAA")
    assert not has_key(lines, "AAAA")
    assert not has_key((), "ssh-rsa BBBB")


async def test_a_change_of_credentials_is_noticed() -> None:
    clock = FakeClock()
    seen = Changes(clock)
    first = seen.since("bob", "hash", "")
    await clock.advance(timedelta(hours=1))
    assert seen.since("bob", "hash", "") == first
    assert seen.since("bob", "hash2", "") == clock.now()


# --- places ----------------------------------------------------------------------------------


class Known(Places):
    """Places of the documentation networks."""

    def __init__(self) -> None:
        super().__init__("")

    def of(self, address: str) -> frozenset[str]:
        known = {
            "81.2.69.1": frozenset({"europe", "eu", "de", "germany", "berlin"}),
            "81.2.69.2": frozenset({"europe", "eu", "fr", "france"}),
            "8.8.8.8": frozenset({"north america", "na", "us", "united states"}),
        }
        return known.get(address, frozenset())


def test_ex_6_places_are_an_allow_list() -> None:
    rule = GeoRule.of(PortalOptions(geoblocking="FR,Europe"))
    assert rule is not None
    assert rule.permits("81.2.69.1", Known())
    assert rule.permits("81.2.69.2", Known())
    assert not rule.permits("8.8.8.8", Known())
    assert not rule.permits("9.9.9.9", Known())  # cannot be resolved
    assert rule.permits("10.0.0.1", Known())
    assert rule.permits("127.0.0.1", Known())
    assert not rule.permits("no address", Known())


def test_places_can_be_denied_and_private_addresses_too() -> None:
    rule = GeoRule.of(PortalOptions(geodeny="berlin", geo_private="deny"))
    assert rule is not None
    assert not rule.permits("81.2.69.1", Known())
    assert rule.permits("81.2.69.2", Known())
    assert rule.permits("9.9.9.9", Known())
    assert not rule.permits("10.0.0.1", Known())
    assert GeoRule.of(PortalOptions()) is None


def test_without_a_database_nothing_is_known_of_any_address(tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "missing.mmdb")):
        places = Places(path)
        places.open()
        assert places.of("8.8.8.8") == frozenset()
