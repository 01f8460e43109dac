"""Texts with tokens, brackets and quotes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ecpds.model import balanced
from ecpds.model.errors import RuleError, TemplateError
from ecpds.model.place import Place, Problem
from ecpds.model.tokens import DateParams, Vocabulary, parse_pieces
from ecpds.model.tokenvalues import Dates, constant, joined, render_pieces, settled

NOW = datetime(2024, 3, 1, 10, tzinfo=UTC)
WORDS = Vocabulary.make("target name link", "dirdate date", {"group": None, "host": "name host"})
VALUES = {"target": "abcdef", "name": "n", "group[x]": "gx", "host[name]": "h1"}


def rendered(text: str, *, legacy: bool = False) -> str:
    return render_pieces(parse_pieces(text, WORDS, legacy=legacy), VALUES, Dates(now=NOW))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$5 and $ and $", "$5 and $ and $"),
        ("$target[1..3]", "bc"),
        ("$target[2]", "cdef"),
        ("$target[-2]", "ef"),
        ("$target[6]", ""),
        ("$target[-6]", "abcdef"),
        ("$target[0..0]", ""),
        ("$TARGET$Name", "abcdefn"),
        ("$targets_$name.x", "abcdefs_n.x"),
        ("$target[]", "abcdef"),
        ("$target[0..2|upper]", "AB"),
        ("$target[|upper|replace:A:x]", "xBCDEF"),
        ("$target[|replace:\"a\":'']", "bcdef"),
        ("[$host[ NAME ]]", "[h1]"),
        ("$group[x][-1]", "x"),
        ("$group[x][y]", "gx[y]"),
        ("$group[none]", ""),
        ("$group[none|default:a:]", None),
        ("$group[none|default:'a:b']", "a:b"),
        ("$group[none|oper]", "oper"),
        ('$group[none|"lower"]', "lower"),
        ("$link", ""),
        ("$date", "20240301"),
        ("$date[0..4]", "2024"),
        ("$date[]x", "20240301x"),
        ("$date[dateformat=MMM|upper]", "MAR"),
        ("$date[dateformat=yyyyMMdd'T'HH; datedelta = -1d]", "20240229T10"),
        ('$date[dateformat="yyyy,MM",]', "2024,03"),
        ("$date[timezone=Asia/Tokyo,dateformat=HH,datedelta=]", "19"),
        ("$date[datesource=2023]", None),
        ("$date[datesource=2023,datepattern=yyyy]", "20230101"),
        ("$date[datesource=$link]", "20240301"),
    ],
)
def test_values_are_inserted(text: str, result: str | None) -> None:
    if result is None:
        with pytest.raises((RuleError, TemplateError)):
            rendered(text)
        return
    assert rendered(text) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a$tarhget", "column 2: unknown token $tarhget (did you mean $target?)"),
        ("$zzz", "column 1: unknown token $zzz"),
        ("${x}", "column 1: ${...} is not known here"),
        ("$host", "column 1: $host needs a name in brackets: $host[...]"),
        ("$host[nam]", "column 7: $host has no 'nam' (did you mean 'name'?)"),
        ("$group[]", "column 8: $group has no ''"),
        ("$target[x]", "column 9: 'x' is no slice; write $target[a..b], $target[n] or $target[-n]"),
        ("$target[|lowr]", "column 10: unknown filter 'lowr' (did you mean 'lower'?)"),
        ("$target[|cut:1]", "column 10: unknown filter 'cut'"),
        ("$target[|lower:1]", "column 10: the filter lower has 0 arguments, found 1"),
        ("$target[|replace::x]", "column 10: the filter replace needs something to replace"),
        ("$target[0", "column 8: the bracket [ is never closed"),
        ("$date[dateformat]", "column 7: a date parameter is name=value, not 'dateformat'"),
        (
            "$date[dateformt=x]",
            "column 7: unknown date parameter 'dateformt' (did you mean 'dateformat'?)",
        ),
        ("$date[zzz=x]", "column 7: unknown date parameter 'zzz'"),
        (
            "$date[datedelta=3]",
            "column 7: datedelta: the duration '3' has no unit; write 3s, 3m, 3h or 3d",
        ),
        ("$date[timezone=No/Where]", "column 7: timezone: 'No/Where' is no time zone; "),
        ("$name" * 257, "column 1281: more than 256 tokens"),
        ("x" * 65_537, "column 1: longer than 65536 characters"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_pieces(text, WORDS)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$tarhget ${x} $host $host[nam]", "$tarhget ${x} $host $host[nam]"),
        ("$target[x] $target[0..2|upper]", "abcdef[x] abcdef[0..2|upper]"),
        ("$group[x][0..1]", "gx[0..1]"),
        ("$date[datedelta=24]", "20240302"),
        ("$date[0-9]", "20240301[0-9]"),
        ("$date[datesource=$name[0..1]a,datepattern='na',dateformat=yyyy]", None),
    ],
)
def test_imported_texts_keep_what_they_do_not_know(text: str, result: str | None) -> None:
    if result is not None:
        assert rendered(text, legacy=True) == result


def test_a_slice_out_of_range_is_an_error() -> None:
    for text in ("$target[7]", "$target[-7]", "$target[3..2]", "$target[0..7]"):
        with pytest.raises(TemplateError, match="'abcdef' has no characters"):
            rendered(text)


def test_without_dates_a_date_is_an_error() -> None:
    with pytest.raises(TemplateError, match="has no date here"):
        render_pieces(parse_pieces("$date", WORDS), {})


def test_a_result_has_a_limit() -> None:
    with pytest.raises(TemplateError, match="longer than"):
        render_pieces(parse_pieces("$name" * 200, WORDS), {"name": "x" * 1000})


def test_dates_without_values_are_settled_before_the_work() -> None:
    defaults = {"date": DateParams(datesource=("$",))}
    assert settled(parse_pieces("a$date/$name", WORDS), Dates(now=NOW))[0] == "a20240301/"
    assert constant(settled(parse_pieces("$date-$date", WORDS), Dates(now=NOW))) == (
        "20240301-20240301"
    )
    kept = parse_pieces("$date[datesource=$name]$name", WORDS)
    assert settled(kept, Dates(now=NOW)) == kept
    plain = parse_pieces("$name", WORDS)
    assert settled(plain, Dates(now=NOW, defaults=defaults)) is plain
    assert constant(()) == ""
    assert constant(plain) is None
    assert joined(["", "a", "", "b"]) == ("ab",)


# --- brackets and quotes -------------------------------------------------------------------------

START = Place(3, 5)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a;b,c", ["a", "b", "c"]),
        ("", [""]),
        ("a=(b,c);d=[e;f],g={1,2}", ["a=(b,c)", "d=[e;f]", "g={1,2}"]),
        ("a=\"b,c\";'d;e'", ['a="b,c"', "'d;e'"]),
        ("{it's,\"};x", ["{it's,\"}", "x"]),
        ("[(,],;x", ["[(,]", "", "x"]),
        (r"a\(,b\",c", [r"a\(", r"b\"", "c"]),
        (")],}", [")]", "}"]),
        ("({)})a,b", ["({)})a", "b"]),
    ],
)
def test_separators_count_outside_of_brackets_and_quotes(text: str, parts: list[str]) -> None:
    assert [part for _, part in balanced.split(text, ";,", START)] == parts


def test_what_is_never_closed_is_told_with_its_place() -> None:
    for text, message in (
        ("a(b", "line 3, column 6: the bracket ( is never closed"),
        ('a"b', 'line 3, column 6: the quote " is never closed'),
        ("(" * 33, "line 3, column 37: more than 32 brackets inside each other"),
    ):
        with pytest.raises(RuleError) as caught:
            balanced.split(text, ",", START)
        assert caught.value.message == message
        problem = Problem.of(caught.value)
        assert (problem.line, problem.column, problem.message) == (
            3,
            int(message.split()[3].rstrip(":")),
            message,
        )


def test_the_closing_bracket_is_found() -> None:
    assert balanced.closing("x(a(b)c)d", 1, START) == 7
    with pytest.raises(RuleError, match="never closed"):
        balanced.closing(r"(a\)", 0, START)


def test_quotes_outside_of_brackets_vanish() -> None:
    assert balanced.unquoted('a"b,\'c"d', START) == "ab,'cd"
    assert balanced.unquoted("$x[\"y\"]'z'", START) == '$x["y"]z'
    assert balanced.unwrapped("'yyyy'") == "yyyy"
    assert balanced.unwrapped("yyyy'T'HH") == "yyyy'T'HH"
    assert balanced.unwrapped("'a'b'c'") == "'a'b'c'"
    assert balanced.unwrapped("'") == "'"


def test_the_leftmost_operator_outside_of_brackets_counts() -> None:
    assert balanced.find_operator("(a==b)!=c", ("==", "!="), START) == (6, "!=")
    assert balanced.find_operator("'=='", ("==",), START) is None
