"""The graph of aliases around a destination, drawn by the server: it needs no script and prints.

Columns are steps: copies go from left to right.  The same is told as a table beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from markupsafe import Markup

MOST: Final = 60  # destinations drawn
WIDE, HIGH = 150, 30  # of a box
ACROSS, DOWN = 210, 44  # from box to box
EDGE: Final = 8
LETTERS: Final = 18

Edges = Sequence[tuple[str, str]]


def levels(name: str, edges: Edges) -> dict[str, int]:
    """Return how many copies away each destination is: before it below 0, behind it above."""
    found = {name: 0}
    for step, pick in ((1, 0), (-1, 1)):
        near: dict[str, list[str]] = {}
        for edge in edges:
            near.setdefault(edge[pick], []).append(edge[1 - pick])
        waiting = deque([name])
        while waiting and len(found) < MOST:
            one = waiting.popleft()
            for other in near.get(one, ()):
                if other not in found:
                    found[other] = found[one] + step
                    waiting.append(other)
    return found


def aliases(name: str, edges: Edges, tones: Mapping[str, str]) -> Markup:
    """Return the graph around `name`; `tones` gives each destination the tone of its light."""
    placed = levels(name, edges)
    columns: dict[int, list[str]] = {}
    for one, level in sorted(placed.items()):
        columns.setdefault(level, []).append(one)
    first = min(columns)
    high = max(len(column) for column in columns.values())
    places = {
        one: (
            EDGE + (level - first) * ACROSS,
            EDGE + row * DOWN + (high - len(column)) * DOWN / 2,
        )
        for level, column in columns.items()
        for row, one in enumerate(column)
    }
    width = (max(columns) - first) * ACROSS + WIDE + 2 * EDGE
    height = (high - 1) * DOWN + HIGH + 2 * EDGE
    lines = [_line(places[a], places[b]) for a, b in edges if a in places and b in places]
    boxes = [_box(one, places[one], tones.get(one, "off"), one == name) for one in places]
    label = f"{name} with {len(placed) - 1} destinations that copy to it or get copies"
    frame = (
        '<svg class="graph" viewBox="0 0 {:g} {:g}" width="{:g}" height="{:g}" role="group"'
        ' aria-label="{}"><defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4"'
        ' markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8Z"/></marker></defs>'
        "{}{}</svg>"
    )
    joined = Markup("").join
    return Markup(frame).format(  # noqa: S704 - a constant
        width, height, width, height, label, joined(lines), joined(boxes)
    )


def _line(begin: tuple[float, float], end: tuple[float, float]) -> Markup:
    x1, y1 = begin[0] + WIDE, begin[1] + HIGH / 2
    x2, y2 = end[0], end[1] + HIGH / 2
    if end[0] <= begin[0]:  # against the stream: below the boxes
        x1, y1 = begin[0] + WIDE / 2, begin[1] + HIGH
        x2, y2 = end[0] + WIDE / 2, end[1] + HIGH
        path = f"M{x1:g} {y1:g}C{x1:g} {y1 + 30:g} {x2:g} {y2 + 30:g} {x2:g} {y2:g}"
    else:
        middle = (x1 + x2) / 2
        path = f"M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"
    text = '<path class="edge" d="{}" marker-end="url(#arrow)"/>'
    return Markup(text).format(path)  # noqa: S704 - a constant


def _box(name: str, place: tuple[float, float], tone: str, here: bool) -> Markup:
    shown = name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
    text = (
        '<a href="/destinations/{}/aliases"><title>{}</title><rect class="box {}{}" x="{:g}"'
        ' y="{:g}" width="{:g}" height="{:g}" rx="6"/><circle class="part {}" cx="{:g}" cy="{:g}"'
        ' r="4"/><text x="{:g}" y="{:g}">{}</text></a>'
    )
    x, y = place
    return Markup(text).format(  # noqa: S704 - a constant
        quote(name, safe=""), name, tone, " here" if here else "", x, y, WIDE, HIGH, tone,
        x + 13, y + HIGH / 2, x + 24, y + HIGH / 2 + 4.5, shown,
    )  # fmt: skip
