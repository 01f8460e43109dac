"""The one rule grammar (more cases are in tests/golden/template.txt)."""

from __future__ import annotations

import pytest

from ecpds.model.errors import RuleError
from ecpds.model.place import Place
from ecpds.model.rules import MAX_RULES, Policy, RuleSet, compile_regex, parse_settings
from ecpds.model.tokens import Vocabulary

WORDS = Vocabulary.make("mover host network group")


def chosen(text: str, subject: str, *, legacy: bool = False, globs: bool = False) -> str | None:
    rules = RuleSet.parse(text, policy=Policy.FIRST, legacy=legacy, globs=globs)
    found = rules.choose(subject)
    return None if found is None else found.rule.result


FORCE = "(=. .tmp) standby=yes\n(.= E1) delay=2h"


@pytest.mark.parametrize(
    ("text", "subject", "result"),
    [
        (FORCE, "E1.tmp", "standby=yes"),
        (FORCE, "E1.dat", "delay=2h"),
        (FORCE, "x", None),
        ("rest\n" + FORCE, "x", "rest"),
        ("rest\n" + FORCE + "\nlast\n\n", "x", "last"),
        ("# no\n(== a) x", "a", "x"),
        ("(=={(a|b)\\)?[0-9]{1,2}}) x", "b)12", "x"),
        ("(== 'a;b') x", "a;b", "x"),
        ('(== "a)b") x', "a)b", "x"),
        ("(!= {a|b}) x", "a", None),
        ("(!= {a|'b|c'}) x", "b|c", None),
        ("(.= {a|b}) x", "b1", "x"),
        ("(=. {.nc|.bin}; .= E) x", "E.bin", "x"),
        ("(a.==a.) x", "", "x"),
        ("(x== ) x", "", None),
        ("()", "", None),
    ],
)
def test_schedulers_6_rule_lists(text: str, subject: str, result: str | None) -> None:
    if text == "()":
        with pytest.raises(RuleError, match="is no condition"):
            chosen(text, subject)
        return
    assert chosen(text, subject) == result


@pytest.mark.parametrize(
    ("text", "subject", "result"),
    [
        (FORCE, "E1.tmp", "standby=yes"),
        ("(=={a(b)}) x", "ab", None),
        ("(=={a[b}) x", "ab", None),
        ("(=={a.}) x", "ab", "x"),
        ("(==a,b) x", "a,b", None),
        ("rest\n(== a) x", "b", None),
        ("(== a) x\nrest", "b", "rest"),
        ("(== a) x\nrest\n", "b", None),
        ("(== a x\n(=. c) y", "a x", None),
        ("(nothing) x\n\n", "nothing", None),
        ("(!=a) x", "b", "x"),
        ("# text", "b", "# text"),
    ],
)
def test_schedulers_6_imported_rule_lists(text: str, subject: str, result: str | None) -> None:
    assert chosen(text, subject, legacy=True) == result


def test_portal_ex_17_header_rules() -> None:
    text = "(=. .nc) Content-Type=application/x-netcdf;X-Kind=grid\n(== {*.grib}) X-Kind=grib"
    rules = RuleSet.parse(text, policy=Policy.FIRST, globs=True)
    found = rules.choose("D/a.nc")
    assert found is not None
    settings = parse_settings(found.rule.result, found.rule.place)
    assert [(one.name, one.value) for one in settings] == [
        ("Content-Type", "application/x-netcdf"),
        ("X-Kind", "grid"),
    ]
    found = rules.choose("D/a.grib")
    assert found is not None
    assert found.rule.result == "X-Kind=grib"
    with pytest.raises(RuleError, match="line 2, column 6: bad regular expression"):
        RuleSet.parse(text, policy=Policy.FIRST)


def test_a_selector_compares_tokens_and_inserts_them_into_regexes_escaped() -> None:
    text = "($network==LAN; $host=={$group.*}) one\n($network==LAN) two\n(a=={b$group}) three"
    rules = RuleSet.parse(text, policy=Policy.MOST, vocabulary=WORDS)
    values = {"network": "LAN", "host": "a.bc", "group": "a.b"}
    found = rules.choose("", values)
    assert found is not None
    assert (found.rule.result, found.score) == ("one", 2)
    found = rules.choose("", values | {"host": "axbc"})
    assert found is not None
    assert found.rule.result == "two"


def test_a_regex_that_a_value_breaks_does_not_hold() -> None:
    rules = RuleSet.parse("($host=={($group}) x", policy=Policy.MOST, vocabulary=WORDS)
    assert rules.choose("", {"group": "a", "host": "a"}) is None


def test_an_imported_selector_counts_and_ties() -> None:
    text = "(a==a;b==c) one\n(b==b) two"
    rules = RuleSet.parse(text, policy=Policy.MOST, legacy=True)
    with pytest.raises(RuleError, match="duplicated score: several rules have 1"):
        rules.choose("")
    better = RuleSet.parse(text + "\n(a==a,b==b) three", policy=Policy.MOST, legacy=True)
    found = better.choose("")
    assert found is not None
    assert (found.rule.result, found.score) == ("three", 2)
    assert better.ties() == []


@pytest.mark.parametrize(
    ("text", "tied"),
    [
        ("($host==a) x\n($host==b) y", False),
        ("($host==a) x\n($host.=b) y", False),
        ("($host=={b.*}) x\n($host==a) y", False),
        ("($host==a) x\n($host=={a.*}) y", True),
        ("($host==a) x\n($group==b) y", True),
        ("($host==a;$group==b) x\n($host==a) y", False),
        ("($host==a) x\n($host==$group) y", True),
        ("($host.=a) x\n($host.=b) y", True),
    ],
)
def test_dissemination_3_ties_are_warnings(text: str, tied: bool) -> None:
    rules = RuleSet.parse(text, policy=Policy.MOST, vocabulary=WORDS)
    problems = rules.ties()
    assert bool(problems) is tied
    if tied:
        assert not problems[0].is_error
        assert "line 1 have 1 conditions" in problems[0].message
        assert problems[0].line == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n  (== a b", "line 2, column 3: the bracket ( is never closed"),
        ("(a) x", "line 1, column 2: 'a' is no condition"),
        ("(== 'a) x", "line 1, column 5: the quote ' is never closed"),
        ("($hots==a) x", "line 1, column 2: unknown token $hots (did you mean $host?)"),
        ("x\n" * (MAX_RULES + 1), f"more than {MAX_RULES} rules"),
        ("x" * 262_145, "rules are longer than 262144 characters"),
    ],
)
def test_errors_name_line_and_column(text: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        RuleSet.parse(text, policy=Policy.MOST, vocabulary=WORDS)
    assert caught.value.message.startswith(message)


def test_settings_are_split_outside_of_quotes_and_brackets() -> None:
    found = parse_settings("a=1; b = 'x,y' ,c={1,2};;d=", Place(2, 10))
    assert [(one.name, one.value, one.raw) for one in found] == [
        ("a", "1", "1"),
        ("b", "x,y", "'x,y'"),
        ("c", "{1,2}", "{1,2}"),
        ("d", "", ""),
    ]
    assert (found[1].place.line, found[1].place.column) == (2, 14)
    for text in ("a", "=1"):
        with pytest.raises(RuleError, match="line 2, column 10: a setting is name=value"):
            parse_settings(text, Place(2, 10))


def test_a_regex_has_a_limit() -> None:
    assert compile_regex("a+").fullmatch("aa")
    for text in ("(", "a" * 4097, "a{99999999999}"):
        with pytest.raises(RuleError, match="regular expression"):
            compile_regex(text)
