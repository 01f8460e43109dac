"""Topics and filters: what covers, what matches, and trees that agree with both."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecpds.model.mqtttopics import (
    covers,
    is_filter,
    is_permitted,
    is_topic,
    matches,
    permitted_filters,
)
from ecpds.portals.mqtt.topics import FilterTree, TopicTree

levels = st.sampled_from(["a", "b", "", "$x", "é"])
topics = st.lists(levels, min_size=1, max_size=5).map("/".join).filter(is_topic)
filters = (
    st.tuples(st.lists(st.one_of(levels, st.just("+")), max_size=4), st.booleans())
    .map(lambda made: "/".join([*made[0], *(["#"] if made[1] else [])]))
    .filter(is_filter)
)


def by_levels(name: str, topic: str) -> bool:
    """Tell whether a filter matches, the way the specification words it."""
    have, want = name.split("/"), topic.split("/")
    if topic.startswith("$") and have[0] in ("#", "+"):
        return False
    while have:
        if have[0] == "#":
            return True
        if not want or have[0] not in ("+", want[0]):
            return False
        have, want = have[1:], want[1:]
    return not want


@given(filters, topics)
def test_matching_is_that_of_the_specification(name: str, topic: str) -> None:
    """Level by level; `#` matches the level above it too."""
    assert matches(name, topic) == by_levels(name, topic)


@given(filters, filters, topics)
def test_what_is_covered_matches_no_more(permitted: str, wanted: str, topic: str) -> None:
    """A covered filter never reaches a topic that the permitted one does not."""
    if covers(permitted, wanted) and matches(wanted, topic):
        assert matches(permitted, topic)


@given(filters)
def test_every_filter_covers_itself(name: str) -> None:
    """The right to a filter is enough to subscribe to it."""
    assert covers(name, name)


@given(st.lists(filters, max_size=8), topics)
def test_the_tree_of_subscriptions_agrees(names: list[str], topic: str) -> None:
    """Found are exactly the subscriptions that match; after all are dropped there is none."""
    tree: FilterTree[int, str] = FilterTree()
    for number, name in enumerate(names):
        tree.put(name, number, name)
    wanted = sorted(n for n, name in enumerate(names) if matches(name, topic))
    assert sorted(key for key, _ in tree.of(topic)) == wanted
    for number, name in enumerate(names):
        assert tree.drop(name, number)
    assert tree.of(topic) == ()
    assert tree.count == 0


@given(st.lists(topics, max_size=8), filters)
def test_the_tree_of_topics_agrees(names: list[str], name: str) -> None:
    """Found are exactly the topics that match."""
    tree: TopicTree[str] = TopicTree()
    for topic in names:
        tree.put(topic, topic)
    assert sorted(tree.topics(name)) == sorted({one for one in names if matches(name, one)})
    for topic in set(names):
        tree.drop(topic)
    assert tree.topics("#") == []


@pytest.mark.parametrize("wanted", ["eu/fr/rt", "eu/+/rt", "open", "open/a/b"])
def test_ex_20_grants(wanted: str) -> None:
    """portal.md Ex 20."""
    assert is_permitted(permitted_filters("eu/+/rt, open/#"), wanted)


@pytest.mark.parametrize("wanted", ["eu/#", "#", "+/fr/rt", "$SYS/#", "eu/fr/rt/x"])
def test_ex_20_refuses(wanted: str) -> None:
    """portal.md Ex 20."""
    assert not is_permitted(permitted_filters("eu/+/rt,open/#"), wanted)
