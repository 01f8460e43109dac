"""Small plots drawn by the server: they need no script and print as they are seen.

Each plot has a sentence for those who do not see it.  Sizes and places are SVG attributes, so that
the strict content policy needs no exception for styles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ecpds.web.pulse import Minute

HEIGHT = 40
STEP = 6  # width of a bar with its gap


def bars(minutes: Sequence[Minute], label: str, *, by: str = "bytes") -> Markup:
    """Return one bar a minute, newest on the right; minutes with failures have a red foot."""
    values = [one.bytes if by == "bytes" else one.files for one in minutes]
    most = max([*values, 1])
    pieces = []
    for place, (one, value) in enumerate(zip(minutes, values, strict=True)):
        height = max(round(value / most * (HEIGHT - 5)), 1 if not value else 2)
        kind = "full" if value else "zero"
        pieces.append(_rect(kind, place * STEP, HEIGHT - 4 - height, STEP - 1.5, height))
        if one.failed:
            pieces.append(_rect("failed", place * STEP, HEIGHT - 3, STEP - 1.5, 3))
    width = len(minutes) * STEP
    frame = (
        '<svg class="plot" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    )
    return Markup(frame).format(width, HEIGHT, label, Markup("").join(pieces))  # noqa: S704


def _rect(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    text = '<rect class="{}" x="{:g}" y="{:g}" width="{:g}" height="{:g}"/>'
    return Markup(text).format(kind, x, y, width, height)  # noqa: S704 - a constant


def parts(shares: Sequence[tuple[str, str, int]]) -> Markup:
    """Return one bar in parts, each given as tone, word and count."""
    total = sum(number for _, _, number in shares)
    if not total:
        return Markup("")
    pieces, begin = [], 0.0
    for tone, _, number in shares:
        width = max(number / total * 1000, 4)
        pieces.append(_rect(f"part {tone}", begin, 0, width - 1.5, 8))
        begin += width
    label = ", ".join(f"{number} {word}" for _, word, number in shares)
    frame = (
        '<svg class="parts" viewBox="0 0 {:g} 8" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    )
    return Markup(frame).format(begin, label, Markup("").join(pieces))  # noqa: S704


def gauge(share: float, tone: str, label: str) -> Markup:
    """Return a level from 0 to 1."""
    width = min(max(share, 0.0), 1.0) * 1000
    frame = (
        '<svg class="gauge" viewBox="0 0 1000 8" preserveAspectRatio="none" role="img"'
        ' aria-label="{}"><rect class="rest" x="0" y="0" width="1000" height="8"/>{}</svg>'
    )
    return Markup(frame).format(label, _rect(f"part {tone}", 0, 0, width, 8))  # noqa: S704


@dataclass(frozen=True, slots=True)
class Point:
    """One column of a plot: its value, and what is told of it."""

    value: float
    told: str
    bad: float = 0.0  # share of it that went wrong, drawn on top


def columns(points: Sequence[Point], label: str, *, top: float = 0.0) -> Markup:
    """Return one column a point with a tooltip each, oldest on the left; `top` is full height."""
    most = max([top, *(one.value + one.bad for one in points)]) or 1.0
    step = 1000 / max(len(points), 1)
    pieces = []
    for place, one in enumerate(points):
        height = one.value / most * 100
        wrong = one.bad / most * 100
        box = Markup('<g class="column"><title>{}</title>').format(one.told)
        box += _rect("hit", place * step, 0, step, 100)
        box += _rect("full" if one.value else "zero", place * step, 100 - max(height, 0.8),
                     step * 0.8, max(height, 0.8))  # fmt: skip
        if wrong:
            box += _rect("failed", place * step, 100 - height - wrong, step * 0.8, wrong)
        pieces.append(box + Markup("</g>"))
    frame = (
        '<svg class="plot tall" viewBox="0 0 1000 100" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    )
    return Markup(frame).format(label, Markup("").join(pieces))  # noqa: S704
