"""Aliases and forced values: schedulers.md sections 6 and 7."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ecpds.model.errors import InputError, RuleError
from ecpds.model.rulesettings import (
    AliasSettings,
    SettingRules,
    alias_copies,
    parse_alias,
    parse_force,
)

NOW = datetime(2024, 3, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_schedulers_6_force_by_pattern() -> None:
    rules = parse_force("asap=yes;pattern=E1.*")
    found = rules.choose("E1X")
    assert found is not None
    assert found.asap is True
    assert rules.choose("E2X") is None
    assert parse_force("asap=yes;ignore=E1.*").choose("E1X") is None


def test_schedulers_6_the_first_line_that_holds() -> None:
    rules = parse_force("(=. .tmp) standby=yes\n(.= E1) delay=2h")
    found = rules.choose("E1.tmp")
    assert found is not None
    assert (found.standby, found.delay) == ("yes", None)
    found = rules.choose("E1.dat")
    assert found is not None
    assert (found.standby, found.delay) == (None, 2 * HOUR)
    assert rules.choose("x") is None


def test_schedulers_6_imported_numbers_are_hours() -> None:
    found = parse_force("(.= E1) delay=2", legacy=True).choose("E1.dat")
    assert found is not None
    assert found.delay == 2 * HOUR
    with pytest.raises(RuleError, match="line 1, column 9: delay: the duration '2' has no unit"):
        parse_force("(.= E1) delay=2")


def test_force_sets_everything() -> None:
    text = "lifetime=1d;noRetrieval=no,transfergroup=g;version=$date-$target;standby=never;asap="
    found = parse_force(text).choose("x")
    assert found is not None
    assert (found.lifetime, found.no_retrieval, found.transfer_group) == (24 * HOUR, False, "g")
    assert (found.standby, found.asap) == ("never", None)
    assert found.version is not None
    assert len(found.version) == 3


def test_schedulers_7_pattern_and_priority() -> None:
    rules = parse_alias(r"pattern=.*\.grib,priority=20")
    found = rules.choose("x.grib")
    assert found is not None
    assert found.priority == 20
    assert rules.choose("x.txt") is None


def test_schedulers_7_no_rule_copies_everything() -> None:
    for text in ("", "recursive=no;delay=0;pattern=.*"):
        assert parse_alias(text).choose("any") is not None


def webbed(**rules: str) -> dict[str, list[tuple[str, SettingRules[AliasSettings]]]]:
    web: dict[str, list[tuple[str, SettingRules[AliasSettings]]]] = {}
    for pair, text in rules.items():
        here, to = pair.split("_")
        web.setdefault(here, []).append((to, parse_alias(text)))
    return web


def test_schedulers_7_recursion_enters_each_destination_once() -> None:
    web = webbed(A_B="recursive=yes", B_C="", B_A="")
    copies = alias_copies("A", "x", lambda name: web.get(name, []), now=NOW)
    assert [copy.destination for copy in copies] == ["B", "C"]
    flat = webbed(A_B="", B_C="")
    copies = alias_copies("A", "x", lambda name: flat.get(name, []), now=NOW)
    assert [copy.destination for copy in copies] == ["B"]


def test_schedulers_7_patterns_see_the_target_at_their_level() -> None:
    web = webbed(A_B="recursive=yes;target=y-$name", B_C="pattern=y-x", B_D="pattern=x")
    copies = alias_copies("A", "x", lambda name: web.get(name, []), now=NOW)
    assert [(copy.destination, copy.target) for copy in copies] == [("B", "y-x"), ("C", "y-x")]


def test_aliases_do_not_make_copies_without_limit() -> None:
    everything = parse_alias("recursive=yes")

    def aliases_of(name: str) -> list[tuple[str, SettingRules[AliasSettings]]]:
        return [(f"{name}x{number}", everything) for number in range(20)]

    with pytest.raises(InputError, match="more than 1000 copies"):
        alias_copies("A", "x", aliases_of, now=NOW)


def test_schedulers_7_the_target_of_a_copy() -> None:
    rules = parse_alias(
        "target=m/$date/$name,datesource=$target[0..8],datepattern=yyyyMMdd,dateformat=MMdd,"
        "datedelta=-1d"
    )
    found = rules.choose("20240301_a")
    assert found is not None
    target = found.new_target("20240301_a", destination="A", alias="B", now=NOW)
    assert target == "m/0229/20240301_a"
    with pytest.raises(InputError, match="has no characters"):
        found.new_target("short", destination="A", alias="B", now=NOW)


def test_a_copy_may_use_all_its_tokens() -> None:
    found = parse_alias("target=/$destination/$alias/$parent/$path/").choose("p/q/x")
    assert found is not None
    target = found.new_target("p/q/x", destination="A", alias="B", now=NOW)
    assert target == "A/B/p/q/p/q/x/x"
    found = parse_alias("priority=1").choose("p/x")
    assert found is not None
    assert found.new_target("p/x", destination="A", alias="B", now=NOW) == "p/x"


def test_both_spellings_of_lifetime_and_the_old_one_only_when_imported() -> None:
    for text in ("lifeTime=2h", "lifetime=2h"):
        found = parse_alias(text).choose("x")
        assert found is not None
        assert found.lifetime == 2 * HOUR
    found = parse_alias("lifetime=2,lifeTime=3,unknown=1,event=yes", legacy=True).choose("x")
    assert found is not None
    assert (found.lifetime, found.event) == (3 * HOUR, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("priorty=1", "line 1, column 1: unknown setting 'priorty' (did you mean 'priority'?)"),
        ("zzz=1", "line 1, column 1: unknown setting 'zzz'"),
        ("priority=100", "line 1, column 1: priority: '100' is no priority from 0 to 99"),
        ("lifetime=0", "line 1, column 1: lifetime: '0' is not above zero"),
        ("event=maybe", "line 1, column 1: event: 'maybe' is neither yes nor no"),
        ("\n\n pattern=*", "line 3, column 2: bad regular expression '*'"),
        ("target=$nam", "line 1, column 1: unknown token $nam (did you mean $name?)"),
        ("asap=yes;datedelta=x", "line 1, column 10: datedelta: 'x' is no duration"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_alias(text)
    assert caught.value.message.startswith(message)
    with pytest.raises(RuleError, match="standby: 'perhaps' is none of yes, no, never"):
        parse_force("standby=perhaps")
