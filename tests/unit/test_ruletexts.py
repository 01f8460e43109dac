"""Rule texts of a destination: refused with their place at save, kept when imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.ruletexts import check_loops, compiled
from ecpds.model.decode import Where
from ecpds.model.destination import Alias, Destination
from ecpds.model.errors import ConfigError, RuleError
from ecpds.model.families import SchedulerOptions
from ecpds.model.rulesettings import alias_loop
from tests.node import small_node


def web(**rules: tuple[tuple[str, str], ...]) -> dict[str, tuple[Alias, ...]]:
    """Return aliases by destination: A=(("B", "recursive=yes"),)."""
    return {
        name: tuple(Alias(to=to, rule=rule) for to, rule in some) for name, some in rules.items()
    }


R = "recursive=yes"


@pytest.mark.parametrize(
    ("aliases", "loop"),
    [
        (web(A=(("B", R),), B=(("A", R),)), ("A", "B", "A")),
        (web(A=(("B", R),), B=(("C", R),), C=(("A", R),)), ("A", "B", "C", "A")),
        (web(A=(("B", R),), B=(("C", ""), ("A", ""))), ()),  # schedulers.md 7, second example
        (web(A=(("B", ""),), B=(("A", ""),)), ()),
        (web(A=(("B", R),), B=(("C", R),), C=(("B", R),)), ()),  # a circle, but not through A
        (web(A=(("B", "(== x) recursive=yes\npattern=.*"),), B=(("A", R),)), ("A", "B", "A")),
    ],
    ids=["two", "three", "cut", "mirror", "elsewhere", "one-line"],
)
def test_circles_of_recursive_aliases(
    aliases: dict[str, tuple[Alias, ...]], loop: tuple[str, ...]
) -> None:
    assert alias_loop("A", aliases) == loop


def test_imported_circles_stay() -> None:
    aliases = {
        "A": (Alias(to="B", rule=R, legacy=True),),
        "B": (Alias(to="A", rule=R),),
    }
    assert alias_loop("A", aliases) == ()
    with pytest.raises(ConfigError, match="A -> B -> A"):
        check_loops(web(A=(("B", R),), B=(("A", R),)), {"A": Where()})


BAD = {
    "scheduler.force": ("(=. .tmp standby=yes", "never closed"),
    "scheduler.requeueon": ("$size3 > 1", "unknown token"),
    "scheduler.requeuepattern": ("a(", "regular expression"),
    "scheduler.requeueignore": ("*", "regular expression"),
    "scheduler.version": ("$dat", "unknown"),
    "scheduler.dateformat": ("yyyyBBdd", "B"),
    "scheduler.activeTimeRange": ("8-9", "8-9"),
    "incoming.version": ("$tarrget", "target"),
    "incoming.metadata": ("(== a b", "never closed"),
    "incoming.tmpPattern": ("(", "regular expression"),
    "incoming.dateformat": ("yyyyBBdd", "B"),
}


@pytest.mark.parametrize("option", BAD)
async def test_a_bad_text_is_refused_at_its_place(tmp_path: Path, option: str) -> None:
    text, words = BAD[option]
    async with small_node(tmp_path) as node:
        with pytest.raises(ConfigError, match=words) as caught:
            await node.destination("D", options={option: text})
        assert option in caught.value.key
        assert "D" not in node.core.snapshot.destinations


async def test_an_alias_to_itself_and_loops_are_refused(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        with pytest.raises(ConfigError, match="copy of itself"):
            await node.destination("A", aliases={"A": ""})
        await node.destination("A")
        await node.destination("B", aliases={"A": R})
        with pytest.raises(ConfigError, match="A -> B -> A"):
            await node.destination("A", aliases={"B": R})
        await node.destination("A", aliases={"B": ""})


async def test_legacy_names_are_checked(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        with pytest.raises(ConfigError, match=r"scheduler\.force"):
            await node.destination("A", legacy=("scheduler.forse",))
        await node.destination(
            "A", legacy=("scheduler.force",), options={"scheduler.force": "(=. .tmp) delay=2"}
        )
        forced = node.core.snapshot.destination("A").forced("a.tmp")
        assert forced.delay is not None
        assert forced.delay.total_seconds() == 7200  # bare numbers are hours in imported texts


def test_an_imported_text_that_cannot_be_read_is_a_problem() -> None:
    destination = Destination(
        name="A",
        aliases=(Alias(to="B", rule="pattern=*", legacy=True), Alias(to="C")),
        options={"scheduler.requeueon": "Math.max(1)"},
        legacy=("scheduler.requeueon",),
    )
    texts = compiled(destination, SchedulerOptions.read(destination.options))
    assert set(texts.problems) == {"aliases.0", "scheduler.requeueon"}
    assert [to for to, _ in texts.aliases] == ["C"]


async def test_what_it_would_have_decided_about_is_refused(tmp_path: Path) -> None:
    from ecpds.engine.submit import Submission

    async with small_node(tmp_path) as node:
        await node.destination("B")
        bad = Alias(to="B", rule="pattern=*", legacy=True)
        await node.destinations.put(Destination(name="A", aliases=(bad,)), SYSTEM)
        with pytest.raises(RuleError, match=r"Destination A, aliases\.0"):
            await node.engine.submit(Submission(destination="A", target="a"))
