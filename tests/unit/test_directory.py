"""Directory texts of acquisition hosts: what is not in tests/golden/directory.txt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ecpds.model.acquisition import HOST_ONLY, AcquisitionOptions
from ecpds.model.decode import key_of
from ecpds.model.directory import check_directory, parse_directory
from ecpds.model.errors import RuleError

NOW = datetime(2024, 3, 1, 10, tzinfo=UTC)


def test_acquisition_2_comments_and_blank_lines_are_no_lines() -> None:
    directory = parse_directory("# one\n\n  /in  \n   # two\n/out")
    assert [(line.number, line.text) for line in directory.lines] == [(3, "/in"), (5, "/out")]


def test_acquisition_13_a_wrong_line_does_not_harm_the_others() -> None:
    directory = parse_directory("/a\n[prioritty=1]/b\n/c/$date[datesource=x]\n/d")
    assert directory.preview(NOW) == [
        (1, "/a"),
        (2, "error: line 2, column 2: unknown option 'prioritty' (did you mean 'priority'?)"),
        (3, "error: line 3: $date[datesource=x]: 'x' is no date of the pattern 'yyyyMMdd'"),
        (4, "/d"),
    ]
    assert [(one.line, one.column) for one in directory.problems] == [(2, 2)]


def test_acquisition_1_host_tokens_are_replaced_first_and_secrets_are_not_known() -> None:
    text = "/in/$host[login]/$HOST[Nickname]/$host[passwd]/{$transferMethod[name]_.*}"
    tokens = {"host[login]": "me\n/etc", "host[nickname]": "n", "transferMethod[name]": "ftp"}
    (line,) = parse_directory(text, tokens=tokens).lines
    search = line.at(NOW)
    assert search.path == "/in/me /etc/n/$host[passwd]/"
    assert search.regex is not None
    assert search.regex.pattern == "ftp_.*"


def test_an_open_bracket_of_a_host_token_stays() -> None:
    (line,) = parse_directory("/in/$host[login").lines
    assert line.at(NOW).path == "/in/$host[login"


def test_acquisition_11_a_script_has_no_lines_of_its_own() -> None:
    text = '$(python:"\\n".join("/d/%02d/{.*}" % h for h in (0, 12)))'
    directory = parse_directory(text, tokens={"host[login]": "x"})
    assert directory.script is not None
    assert directory.script.language == "python"
    assert directory.lines == ()
    ran = parse_directory("\n".join(f"/d/{hour:02d}/{{.*}}" for hour in (0, 12)))
    assert [line.at(NOW).path for line in ran.lines] == ["/d/00/", "/d/12/"]


def test_acquisition_9_metadata_of_a_line() -> None:
    (line,) = parse_directory('[metadata="date=$date,type=obs"]/in').lines
    assert line.at(NOW).metadata == ("date=20240301,type=obs",)


def test_line_options_are_typed_and_override_the_host() -> None:
    host = {
        "acquisition.lifetime": "3d",
        "acquisition.PRIORITY": "5",
        "acquisition.event": "",
        "ftp.port": "21",
    }
    text = "[priority==7;;recursive=2;stable=30s;exclude=x.*;groupby='a,b']/in"
    (line,) = parse_directory(text, host).lines
    assert line.rules is not None
    options = line.at(NOW).options
    assert (options.lifetime, options.priority) == (timedelta(days=3), 7)
    assert (options.recursive, options.stable) == (2, timedelta(seconds=30))
    assert (options.group_by, options.event) == ("a,b", False)
    assert line.rules.exclude is not None
    assert line.rules.exclude.pattern == "x.*"


def test_acquisition_5_the_filter_near_the_source() -> None:
    text = "[regexPattern='$namePattern|old_$date']/in/{new_$date[dateformat=HH].*}"
    search = parse_directory(text).lines[0].at(NOW)
    assert search.name_filter is not None
    assert search.name_filter.pattern == "new_10.*|old_20240301"
    search = parse_directory("[regexPattern=$namePattern]/in").lines[0].at(NOW)
    assert search.name_filter is not None
    assert search.name_filter.pattern == ".*"
    assert parse_directory("[wildcardFilter=*.nc]/in").lines[0].at(NOW).listed == "/in/*.nc"


def test_a_regex_that_a_date_breaks_is_an_error_of_the_run() -> None:
    (line,) = parse_directory("/in/{*$date}").lines
    with pytest.raises(RuleError, match="line 1, column 1: bad regular expression"):
        line.at(NOW)


def test_a_text_above_the_limits_is_one_line_with_an_error() -> None:
    for text in ("x" * 1_048_577, "\n" * 10_000):
        (line,) = parse_directory(text).lines
        assert "at most 10000 lines" in str(line.error)
    (line,) = parse_directory("$" + "x" * 16_384).lines
    assert "at most 16384 characters" in str(line.error)


def test_editors_get_errors_and_warnings() -> None:
    problems = check_directory("/in/$dat/x\n[nosuch=1]/y\n/in/$zz", {"acquisition.event": "yes"})
    assert [(one.line, one.is_error) for one in problems] == [(2, True), (1, False), (3, False)]
    assert "$dat in the path stays as it is (did you mean $date?)" in problems[1].message
    assert check_directory("/in/$date/{a$}") == []


def test_acquisition_10_host_only_options_exist() -> None:
    import dataclasses

    known = {key_of(item) for item in dataclasses.fields(AcquisitionOptions)}
    assert known >= HOST_ONLY


def test_an_imported_line_ignores_the_operator_of_other_options() -> None:
    (line,) = parse_directory("[priority>=7]/in", legacy=True).lines
    assert line.at(NOW).options.priority == 7
