"""Options of the original command: which are refused, and how values are read (cli.md 2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecpds.cli.legacy import (
    UsageError,
    duration_of,
    is_legacy,
    limit_of,
    names_in,
    parse,
    run,
    time_of,
)

PUSH = ["-destination", "D", "-source", "f"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([*PUSH, "-noretrieval"], "-noretrieval can only be used with -groupby"),
        ([*PUSH, "-index"], "-index is only available with -groupby"),
        ([*PUSH, "-groupby", "G", "-remove"], "-groupby and -remove are incompatible"),
        ([*PUSH, "-force", "-requeue"], "-force and -requeue are incompatible"),
        ([*PUSH, "-force", "-requeue", "-purge"], "incompatible with -purge"),
        ([*PUSH, "-s", "1", "-M", "2"], "-s and -M are incompatible"),
        (["-scheduler"], "-scheduler requires -start, -stop, or -check"),
        (["-scheduler", "-start", "-stop"], "-start and -stop are incompatible"),
        (["-start"], "-start requires -scheduler"),
        (["-scheduler", "-start", "-streams", "3"], "-timeout and -streams require -check"),
        ([*PUSH, "-priority", "100"], "-priority must be in 0..99"),
        ([*PUSH, "-buffsize", "0"], "-buffsize must be a positive integer"),
        ([*PUSH, "-nonsense"], "illegal option -nonsense"),
        ([*PUSH, "stray"], "illegal option stray"),
        ([*PUSH, "-target"], "option requires an argument -target"),
        ([*PUSH, "-target", "x" * 256], "max length is 255"),
        ([*PUSH, "-echost", ",".join("abcdefghijk")], "at most 10 hosts"),
    ],
)
def test_usage(words: list[str], text: str) -> None:
    """The words of the original, exit 1 with --legacy-exit and 2 without."""
    with pytest.raises(UsageError, match=text.replace("(", r"\(").replace(")", r"\)")):
        parse(words)
    assert run([*words, "--legacy-exit"]) == 1


def test_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """No destination, no target for standard input."""
    for words, text in (
        (["-source", "f"], "Destination not specified"),
        (["-destination", "D"], "-target option is mandatory when expecting input from stdin"),
    ):
        assert run([*words, "--legacy-exit"]) == 1
        assert text in capsys.readouterr().err
        with pytest.raises(UsageError):
            run(words)


def test_help_and_version_end_with_1_as_in_the_original(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (run(["-v"]), run(["-v", "--legacy-exit"])) == (0, 1)
    assert run(["-help", "--legacy-exit"]) == 1
    assert "ecpds " in capsys.readouterr().out


def test_only_one_dash_is_legacy() -> None:
    assert is_legacy(["-destination", "D"])
    assert not any(map(is_legacy, ([], ["--help"], ["-h"], ["push"], ["-"])))


@pytest.mark.parametrize(
    ("text", "iso"), [("2", "PT2H"), ("2d", "P2D"), ("90z", "PT0.09S"), ("PT5M", "PT5M")]
)
def test_a_number_alone_means_hours(text: str, iso: str) -> None:
    options, _ = parse([*PUSH, "-lifetime", text])
    assert duration_of(options, "lifetime") == iso


@pytest.mark.parametrize("text", ["0", "-1d", "soon"])
def test_lengths_of_time_are_positive(text: str) -> None:
    options, _ = parse([*PUSH, "-delay", text])
    with pytest.raises(UsageError, match="-delay must be a positive integer"):
        duration_of(options, "delay")


def test_times_and_sizes() -> None:
    options, _ = parse([*PUSH, "-at", "20310504120000", "-s", "3k"])
    assert time_of(options) == "2031-05-04T12:00:00+00:00"
    assert limit_of(options, "s") == 3072
    options, _ = parse([*PUSH, "-at", "04/05/2031", "-format", "dd/MM/yyyy"])
    assert time_of(options) == "2031-05-04T00:00:00+00:00"
    options, _ = parse([*PUSH, "-at", "noon"])
    with pytest.raises(UsageError, match="Invalid date format for the -at option"):
        time_of(options)


def test_an_index_has_comments(tmp_path: Path) -> None:
    index = tmp_path / "i"
    index.write_text("# all\na\n\n b # second\n")
    assert names_in(index) == ["a", "b"]


def test_hosts_and_credentials_become_todays() -> None:
    _, args = parse([*PUSH, "-echost", "hub,other", "-ecport", "9443", "-user", "u", "-pass", "t"])
    assert (args.server, args.token) == ("https://hub:9443", "t")
    _, args = parse([*PUSH, "-tryCount", "3", "-tryDelaySec", "2", "--server", "https://x:1"])
    assert (args.server, args.retry.count, args.retry.delay) == ("https://x:1", 2, 2.0)
