"""Metadata texts and the product columns made from them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ecpds.model.errors import InputError
from ecpds.model.metadata import format_metadata, parse_metadata, product_of

NOW = datetime(2031, 6, 1, 12, tzinfo=UTC)


def test_entities_5_a_part_without_sign_continues_the_value() -> None:
    assert parse_metadata("a=1,2,b=3") == {"a": "1,2", "b": "3"}
    assert parse_metadata("") == parse_metadata("  ") == {}
    assert parse_metadata(" k = v ,k=w,x==") == {"k": "w", "x": "="}


def test_cli_ex_4_product_and_free_text() -> None:
    values = parse_metadata("date=20310504,time=06,stream=wave,step=12,note=a,b")
    product = product_of(values, file_time=None, now=NOW)
    assert product.time_base == datetime(2031, 5, 4, 6, tzinfo=UTC)
    assert values["note"] == "a,b"
    assert (product.stream, product.time_step, product.time) == ("wave", 12, "06")
    assert (product.target, product.type) == ("None", "")


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("date=2031050418", datetime(2031, 5, 4, 18, tzinfo=UTC)),
        ("date=2031050418,time=06", datetime(2031, 5, 4, 18, tzinfo=UTC)),
        ("date=20310504,time=0600", datetime(2031, 5, 4, tzinfo=UTC)),
        ("date=20310504", datetime(2031, 5, 4, tzinfo=UTC)),
        ("time=06", datetime(2030, 1, 1, tzinfo=UTC)),
    ],
)
def test_cli_6_the_product_date(text: str, base: datetime) -> None:
    values = parse_metadata(text)
    file_time = datetime(2030, 1, 1, tzinfo=UTC)
    assert product_of(values, file_time=file_time, now=NOW).time_base == base


def test_cli_6_without_any_date_the_product_is_of_today() -> None:
    product = product_of({}, file_time=None, now=NOW)
    assert (product.time_base, product.time_step, product.stream) == (NOW, -1, "None")
    assert product.time == "00"


@pytest.mark.parametrize(
    ("text", "stream"),
    [
        ("domain=g,stream=wave", "gwave"),
        ("application=pgen,stream=wave", "wave"),
        ("application=mars,stream=wave", "wave-mars"),
        ("application=mars", "None-mars"),
    ],
)
def test_cli_6_domain_and_application_change_the_stream(text: str, stream: str) -> None:
    assert product_of(parse_metadata(text), file_time=None, now=NOW).stream == stream


@pytest.mark.parametrize("text", ["step=1.5", "step=x", "date=20311301", "date=tomorrow"])
def test_a_bad_step_or_date_is_refused_except_in_acquisition(text: str) -> None:
    values = parse_metadata(text)
    with pytest.raises(InputError, match="metadata"):
        product_of(values, file_time=None, now=NOW)
    product = product_of(values, file_time=None, now=NOW, lenient=True)
    assert (product.time_base, product.time_step) == (NOW, -1)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        ",x",
        "=v",
        "step=1,2",
        "k" * 26 + "=v",
        "k=" + "v" * 256,
        "stream=" + "v" * 26,
        "time=" + "1" * 17,
        "k=a\nb",
        ",".join(f"k{number}=1" for number in range(257)),
        "k=" + "v" * 17_000,
    ],
)
def test_what_is_no_metadata_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_metadata(text)


def test_acquisition_drops_a_stray_part_behind_a_reserved_key() -> None:
    assert parse_metadata("step=1,2,note=x", lenient=True) == {"step": "1", "note": "x"}
    assert parse_metadata("step=1,,note=x,") == {"step": "1", "note": "x,"}


def test_metadata_is_written_and_read_back() -> None:
    values = {"date": "20310504", "note": "a,b"}
    assert format_metadata(values) == "date=20310504,note=a,b"
    with pytest.raises(InputError, match="cannot be written"):
        format_metadata({"note": "a,b=c"})
