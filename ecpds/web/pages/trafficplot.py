"""Bytes in and out of each day as bars, drawn by the server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from markupsafe import Markup

from ecpds.web.display import size

HEIGHT: Final = 60
STEP: Final = 12


def traffic(days: Sequence[tuple[date, int, int]]) -> tuple[Markup, str]:
    """Return a plot of (day, uploaded, downloaded), oldest first, and its sentence."""
    up, down = sum(day[1] for day in days), sum(day[2] for day in days)
    if not up and not down:
        return Markup(""), "Nothing was moved in the last days."
    most = max(max(day[1] + day[2] for day in days), 1)
    pieces = []
    for place, (day, one, other) in enumerate(days):
        title = f"{day:%Y-%m-%d}: {size(one)} up, {size(other)} down"
        low = round(other / most * (HEIGHT - 2), 1)
        high = round(one / most * (HEIGHT - 2), 1)
        pieces.append(_bar(place, HEIGHT - low, low, "info", title))
        pieces.append(_bar(place, HEIGHT - low - high, high, "good", title))
    sentence = f"{size(up)} up and {size(down)} down in {len(days)} days."
    frame = (
        '<svg class="plot tall" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    )
    body = Markup("").join(pieces)
    return Markup(frame).format(len(days) * STEP, HEIGHT, sentence, body), sentence  # noqa: S704


def _bar(place: int, y: float, height: float, tone: str, title: str) -> Markup:
    text = '<rect class="part {}" x="{}" y="{:g}" width="{}" height="{:g}"><title>{}</title></rect>'
    return Markup(text).format(  # noqa: S704 - a constant
        tone, place * STEP, y, STEP - 3, height, title
    )
