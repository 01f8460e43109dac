"""How values look on the pages of the dashboard."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ecpds.model.status import DestinationStatus, Light, TransferStatus
from ecpds.web import display, plots
from ecpds.web.pulse import Minute

STATIC = Path(__file__).parents[2] / "templates" / "static"
NOW = datetime(2031, 5, 4, 10, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (-1, "\u2013"), (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (16_384, "16.4 kB"),
        (999_499, "999 kB"), (999_500, "1.00 MB"), (1_073_741_824, "1.07 GB"), (10**18, "1.0 EB"),
    ],
)  # fmt: skip
def test_sizes_are_si_with_three_digits(count: int, text: str) -> None:
    assert display.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.045, "45 ms"), (12.4, "12.4 s"), (59, "59 s"), (200, "3 min 20 s"),
        (3600, "1 h"), (187_200, "2 d 4 h"), (-5, "-5 s"),
    ],
)  # fmt: skip
def test_lengths_have_two_units_at_most(seconds: float, text: str) -> None:
    assert display.span(timedelta(seconds=seconds)) == text


def test_times_are_utc_with_seconds_and_a_date_when_it_is_another_day() -> None:
    assert ">10:00:30</time>" in display.moment(NOW, NOW)
    assert 'datetime="2031-05-04T10:00:30Z"' in display.moment(NOW, NOW)
    assert "2031-05-03" in display.moment(NOW - timedelta(days=1), NOW)
    assert display.moment(None, NOW) == display.NONE
    assert display.ago(NOW - timedelta(minutes=3), NOW) == "3 min ago"
    assert display.ago(NOW + timedelta(hours=2), NOW) == "in 2 h"
    assert display.ago(None, NOW) == "never"


def test_names_of_anybody_are_text_and_nothing_in_them_is_hidden() -> None:
    shown = display.plain('<b>&"\u202egpj\u200b\n')
    assert "<b>" not in shown
    assert "&lt;b&gt;&amp;&#34;" in shown
    for number in ("U+202E", "U+200B", "U+000A"):
        assert number in shown
    assert "\u202e" not in shown
    assert shown.startswith("<bdi>")


def test_a_lone_surrogate_can_be_shown() -> None:
    """Names that are no UTF-8 come with surrogates; the page must be encodable all the same."""
    assert "U+DCFF" in display.plain("a\udcff")
    display.plain("a\udcff").encode()


def test_long_texts_are_cut() -> None:
    shown = display.plain("x" * 1000, 10)
    assert shown.count("x") == 10
    assert "…" in shown


def test_done_is_one_hundred_per_cent_and_nothing_less_is() -> None:
    assert display.percent(999, 1000) == 99
    assert display.percent(1000, 1000) == 100
    assert display.percent(0, 0) == 100
    assert display.percent(5, -1) == 100
    assert display.percent(2000, 1000) == 100


def test_each_state_has_icon_word_and_tone() -> None:
    tones = {"good", "info", "warn", "bad", "off"}
    for state in (*TransferStatus, *DestinationStatus, *Light):
        shown = display.look(state)
        assert shown.word
        assert shown.icon
        assert shown.tone in tones
    assert len({display.look(light).icon for light in Light}) == len(Light)  # shapes differ


def test_plots_escape_their_text_and_need_no_style() -> None:
    hour = [Minute(files=1, bytes=10, failed=1), Minute()]
    drawn = plots.bars(hour, 'a "b" <c>')
    assert "&#34;b&#34; &lt;c&gt;" in drawn
    assert drawn.count('class="full"') == 1
    assert drawn.count('class="failed"') == 1
    assert "style" not in drawn
    assert plots.parts([("good", "Done", 0)]) == ""
    assert "3 Done, 1 Failed" in plots.parts([("good", "Done", 3), ("bad", "Failed", 1)])
    assert 'width="1000"' in plots.gauge(2.0, "bad", "full")


def test_vendored_files_are_those_that_are_written_down() -> None:
    readme = (STATIC / "vendor" / "README.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"\| `([\w.-]+)` .*`([0-9a-f]{64})` \|", readme))
    folder = STATIC / "vendor"
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.suffix not in {".md", ".txt"}
    }
    assert found == told
    style = (STATIC / "monitor.css").read_text(encoding="utf-8")
    for name, version in re.findall(r'url\("vendor/([\w.-]+)\?v=([0-9a-f]+)"\)', style):
        assert found[name].startswith(version)  # else browsers would keep an old one
