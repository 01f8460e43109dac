"""Cases kept as texts, so that a forecaster can add one: input, line, expected."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ecpds.model.dates import parse_zone
from ecpds.model.directory import parse_directory
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import RuleError, TemplateError
from ecpds.model.listing import ListingFormat
from ecpds.model.selection import Selector
from ecpds.model.template import TargetValues, Template, render

HERE = Path(__file__).parent
NOW = datetime(2024, 3, 1, 10, tzinfo=UTC)


def cases(name: str) -> Iterator[dict[str, str]]:
    """Yield the blocks of a file, each a few lines of `key: value`."""
    for block in (HERE / name).read_text("utf-8").split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith("#")]
        case: dict[str, str] = {}
        for line in lines:
            key, _, value = line.partition(":")
            case[key] = (case[key] + "\n" if key in case else "") + value.removeprefix(" ")
        if case:
            yield case


def titled(name: str) -> list[object]:
    found = list(cases(name))
    assert found
    return [pytest.param(case, id="|".join(list(case.values())[:3])) for case in found]


def shown(entry: Entry | None) -> str:
    if entry is None:
        return "none"
    size = "-" if entry.size is None else entry.size
    mtime = "-" if entry.mtime is None else entry.mtime.isoformat()
    fields = (entry.kind, entry.name, size, mtime, entry.owner, entry.group, entry.link)
    return "|".join(map(str, fields)) + (f" {entry.error}" if entry.error else "")


@pytest.mark.parametrize("case", titled("listing.txt"))
def test_listing(case: dict[str, str]) -> None:
    """acquisition.md 5: raw lines become entries."""
    style = ListingFormat.make(
        case.get("style", ""),
        default_format=case.get("default", ""),
        recent_format=case.get("recent", ""),
        month_names=case.get("months", ""),
        language=case.get("language", ""),
        zone=parse_zone(case.get("zone", "UTC")),
        regex=case.get("regex", ""),
        now=NOW,
    )
    assert shown(style.read(case["line"])) == case["entry"]


def listed(text: str) -> Entry:
    name, size, age, link = (*text.split("|"), "", "", "")[:4]
    return Entry(
        kind=Kind.LINK if link else Kind.FILE,
        name=name,
        size=int(size) if size else None,
        mtime=datetime.fromisoformat(age) if age else None,
        link=link,
    )


@pytest.mark.parametrize("case", titled("directory.txt"))
def test_directory(case: dict[str, str]) -> None:
    """acquisition.md 2 to 7: a line, what it lists, and what becomes of an entry."""
    options = dict(item.split(" = ", 1) for item in case.get("host", "").split("\n") if item)
    line = parse_directory(case["line"], options, legacy="legacy" in case).lines[0]
    if "error" in case:
        with pytest.raises(RuleError) as caught:
            line.at(NOW)
        assert caught.value.message == case["error"]
        return
    search = line.at(NOW)
    if "lists" in case:
        assert search.listed == case["lists"]
    if "names" in case:
        assert (search.regex.pattern if search.regex else "") == case["names"]
    for entry, expected in zip(
        case.get("entry", "").splitlines(), case.get("gives", "").splitlines(), strict=True
    ):
        choice = Selector(search, "OBS").test(listed(entry))
        got = f"{choice.outcome}|{choice.original}|{choice.name}|{choice.target}"
        assert got == expected


@pytest.mark.parametrize("case", titled("template.txt"))
def test_template(case: dict[str, str]) -> None:
    """dissemination.md 1 to 3: a directory text and the path of one transfer."""
    target = case.get("target", "sub/a.grib")
    tokens = {
        "dataTransfer[target]": target,
        "dataTransfer[name]": target.rpartition("/")[2],
        "dataTransfer[parent]": target.rpartition("/")[0],
        "destination[name]": "STD",
        "metadata[type]": "fc",
        "metadata[stream]": "oper",
    }
    values = TargetValues(target=target, tokens=tokens, now=NOW)
    text = case["text"]
    for name, expected in (("path", True), ("legacy", False)):
        if name in case:
            assert outcome(text, values, legacy=not expected) == case[name], name


def outcome(text: str, values: TargetValues, *, legacy: bool) -> str:
    try:
        return render(Template.parse(text, legacy=legacy), values)[0]
    except (RuleError, TemplateError) as error:
        return f"error: {error.message}"
