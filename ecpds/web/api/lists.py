"""Lists of objects that are all at hand: search, order, count, and cursors stable under change.

A cursor holds the values that the last item had in the order asked for, and its name: what is added
or removed between two pages neither repeats nor hides anything else.  Spec: rest-api.md B.2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cmp_to_key
from typing import Any, Final

from ecpds.model import query
from ecpds.model.errors import InputError
from ecpds.model.names import nearest
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.shown import Document

MOST_COUNTED: Final = 10_000
MOST_SORTED: Final = 5_000  # rows of the store that are put in order
MOST_ORDERS: Final = 5  # fields in `sort`
_SIZES: Final = ("size", "bytes")

Item = tuple[str, Document]
Order = tuple[str, bool]  # field, whether it falls


def searched(call: Call, items: Mapping[str, Document], default: str) -> list[Item]:
    """Return the items that fit `q`; Refused (400) names what cannot be read."""
    text = call.text("q")
    if not text:
        return list(items.items())
    kinds = kinds_of(items.values(), default)
    try:
        search = query.parse(text, kinds, default)
    except InputError as error:
        raise Refused(400, "bad-parameter", f"q: {error.message}", pointer="q") from None
    return [
        (name, one)
        for name, one in items.items()
        if search.matches(lambda key, one=one: _value(one.get(key)))  # type: ignore[misc]
    ]


def kinds_of(documents: Any, default: str) -> dict[str, query.Kind]:
    """Return what may be searched for: the fields that hold plain values in some document."""
    kinds: dict[str, query.Kind] = {default: "text"}
    for document in documents:
        for key, value in document.items():
            kind = _kind(key, value)
            if kind is not None and kinds.get(key, "text") == "text":
                kinds[key] = kind
    return kinds


def _kind(key: str, value: Any) -> query.Kind | None:
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int):
        return "size" if any(word in key for word in _SIZES) else "number"
    if value is None or isinstance(value, str | list):
        return "text"
    return None


def _value(value: Any) -> query.Value:
    if isinstance(value, list):
        return " ".join(str(one) for one in value)
    return value if isinstance(value, str | int | bool) else ""


# --- order ---------------------------------------------------------------------------------------


def orders_of(call: Call, documents: Sequence[Document]) -> list[Order]:
    """Return the fields of `sort`; Refused (400) for one that nothing has."""
    found = []
    for text in call.texts("sort"):
        field = text.removeprefix("-")
        if documents and not any(field in one for one in documents):
            near = nearest(field, documents[0])
            hint = f" (did you mean {near!r}?)" if near else ""
            raise Refused(400, "bad-parameter", f"sort: there is no field {field!r}{hint}")
        found.append((field, text.startswith("-")))
    if len(found) > MOST_ORDERS:
        raise Refused(400, "bad-parameter", f"sort: at most {MOST_ORDERS} fields")
    return found


def _rank(value: Any) -> tuple[int, Any]:
    """Return something that compares with every other value; none comes last."""
    if value is None:
        return 2, 0
    if isinstance(value, int | float):
        return 0, value
    return 1, value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _compare(left: Sequence[Any], right: Sequence[Any], orders: Sequence[Order]) -> int:
    """Compare values of the fields, then the name behind them."""
    for (_, falls), one, other in zip(orders, left, right, strict=False):
        mine, yours = _rank(one), _rank(other)
        if mine != yours:
            return (1 if mine < yours else -1) if falls else (-1 if mine < yours else 1)
    return int(left[-1] > right[-1]) - int(left[-1] < right[-1])


def _key(item: Item, orders: Sequence[Order]) -> list[Any]:
    return [*(item[1].get(field) for field, _ in orders), item[0]]


def cut(
    call: Call, items: Sequence[Item], orders: Sequence[Order]
) -> tuple[list[Item], str | None]:
    """Return the page asked for, and what its cursor holds when there is more."""

    def compare(one: tuple[list[Any], Item], other: tuple[list[Any], Item]) -> int:
        return _compare(one[0], other[0], orders)

    keyed = sorted(((_key(item, orders), item) for item in items), key=cmp_to_key(compare))
    if call.cursor:
        last = _opened(call.cursor, orders)
        keyed = [pair for pair in keyed if _compare(pair[0], last, orders) > 0]
    chosen = keyed[: call.limit]
    after = _sealed(chosen[-1][0]) if len(keyed) > len(chosen) else None
    return [item for _, item in chosen], after


def _sealed(key: Sequence[Any]) -> str:
    return key[0] if len(key) == 1 else json.dumps(key, separators=(",", ":"))


def _opened(text: str, orders: Sequence[Order]) -> list[Any]:
    if not orders:
        return [text]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if (
        not isinstance(found, list)
        or len(found) != len(orders) + 1
        or not isinstance(found[-1], str)
    ):
        raise Refused(400, "bad-parameter", "cursor: it belongs to another order")
    return found


def ordered(call: Call, items: Sequence[Document]) -> tuple[list[Document], str | None]:
    """Return the page of objects with ids in the order of `sort`, and what its cursor holds."""
    orders = orders_of(call, items)
    named = [(f"{one['id']:020d}", one) for one in items]
    chosen, after = cut(call, named, orders)
    return [document for _, document in chosen], after


def too_many() -> Refused:
    """Return the refusal to order more than we hold at once."""
    message = f"sort: more than {MOST_SORTED} fit, ask for fewer with the other filters"
    return Refused(400, "bad-parameter", message, pointer="sort")


def total_of(call: Call, count: int) -> Document:
    """Return what `count=true` adds to a page."""
    if not call.flag("count"):
        return {}
    return {"total": min(count, MOST_COUNTED), "total_is_minimum": count > MOST_COUNTED}
