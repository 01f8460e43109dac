"""Products: expected, started, completed; how late, and when to be expected by experience."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from ecpds.model.errors import NotFound
from ecpds.model.prediction import Prediction, predict
from ecpds.model.product import ProductEntry, ProductKey, ProductState
from ecpds.store import products
from ecpds.store.db import Connection
from ecpds.web.api.products import document
from ecpds.web.call import Call
from ecpds.web.display import Look
from ecpds.web.pages import lists
from ecpds.web.pages.addresses import get
from ecpds.web.pages.frame import show

READ: Final = "products:read"
COMPLETED: Final = Look("Completed", "check", "good")
EARLY: Final = Look("In time", "clock", "good")
NEAR: Final = Look("Soon due", "clock", "info")
DUE: Final = Look("Due", "clock", "warn")
LATE: Final = Look("Late", "light-yellow", "warn")
MISSING: Final = Look("Missing", "light-red", "bad")
UNKNOWN: Final = Look("No schedule", "idle", "off")
STATES: Final = {
    ProductState.INIT: Look("Expected", "clock", "off"),
    ProductState.EXEC: Look("Started", "up", "info"),
    ProductState.DONE: COMPLETED,
}
WORST: Final = (MISSING, LATE, DUE, NEAR, UNKNOWN, EARLY, COMPLETED)
MOST_STEPS: Final = 400  # drawn as marks in the matrix


def ahead_of(entry: ProductEntry, now: datetime) -> timedelta | None:
    """Return the time that is left, with its buffer; None without a schedule."""
    if entry.scheduled_at is None:
        return None
    at = entry.updated_at if entry.state is ProductState.DONE else now
    return entry.scheduled_at - at + entry.buffer


def look_of(entry: ProductEntry, now: datetime) -> Look:
    """Return how urgent a step is (monitor.md 3.4)."""
    if entry.state is ProductState.DONE:
        return COMPLETED
    ahead = ahead_of(entry, now)
    if ahead is None:
        return UNKNOWN
    minutes = ahead / timedelta(minutes=1)
    if minutes >= 15:
        return EARLY if minutes >= 30 else NEAR
    if minutes >= 0:
        return DUE
    return MISSING if minutes < -60 and entry.state is ProductState.INIT else LATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One product and time."""

    product: str
    time: str
    steps: Sequence[tuple[ProductEntry, Look]]
    look: Look  # the worst of them
    base: datetime | None
    updated: datetime

    def count(self, state: ProductState) -> int:
        """Return how many steps are in that state."""
        return sum(entry.state is state for entry, _ in self.steps)

    @property
    def late(self) -> int:
        """Return how many steps are late or missing."""
        return sum(look in {LATE, MISSING} for _, look in self.steps)


def lines_of(entries: Sequence[ProductEntry], now: datetime) -> list[Line]:
    """Return the products, the most urgent first."""
    found: dict[tuple[str, str], list[ProductEntry]] = {}
    for entry in entries:
        found.setdefault((entry.key.stream, entry.key.time), []).append(entry)
    lines = []
    for (product, time), steps in found.items():
        looks = [(entry, look_of(entry, now)) for entry in steps]
        lines.append(
            Line(
                product=product,
                time=time,
                steps=looks,
                look=min((look for _, look in looks), key=WORST.index),
                base=max((e.time_base for e in steps if e.time_base), default=None),
                updated=max(entry.updated_at for entry in steps),
            )
        )
    return sorted(lines, key=lambda line: (WORST.index(line.look), line.product, line.time))


async def index(call: Call) -> web.Response:
    """All products with a mark for each step."""
    now = call.services.core.clock.now()
    entries = await call.services.products.current()
    if lists.wanted(call) == "json":
        return lists.as_json([document(one) for one in entries], None)
    if lists.wanted(call) == "csv":
        heads = ("product", "time", "step", "type", "status", "schedule", "updated")
        return lists.as_csv("products", heads, (
            (one.key.stream, one.key.time, one.key.step, one.key.type, one.state.word,
             one.scheduled_at, one.updated_at) for one in entries))  # fmt: skip
    lines = lines_of(entries, now)
    text = call.text("q").strip().lower()
    return show(
        call,
        "pages/products.html",
        topics=("product:*",),
        lines=[line for line in lines if text in f"{line.time}-{line.product}".lower()],
        total=len(lines),
        states=list(ProductState),
        legend=WORST,
        most=MOST_STEPS,
        address=lambda **changes: lists.address(call, **changes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step with what experience says of it."""

    entry: ProductEntry
    look: Look
    ahead: timedelta | None
    prediction: Prediction | None
    expected_at: datetime | None  # by experience, while it is not complete


def read_steps(
    db: Connection, stream: str, time: str
) -> tuple[list[ProductEntry], dict[tuple[int, str], list[timedelta]]]:
    """Return the steps of a product, and how long after its base time each came earlier."""
    entries = products.current(db, stream=stream, time=time)
    offsets: dict[tuple[int, str], list[timedelta]] = {}
    for one in products.completed(db, stream, time):
        if one.time_base is not None:
            offset = one.updated_at - one.time_base
            offsets.setdefault((one.key.step, one.key.type), []).append(offset)
    return entries, offsets


async def detail(call: Call) -> web.Response:
    """The steps of one product and time."""
    product, time = call.name("product"), call.name("time")
    core = call.services.core
    now = core.clock.now()
    entries, offsets = await core.store.read(read_steps, product, time)
    if not entries:
        raise NotFound(f"nothing is known of {product} {time}")
    steps = []
    for entry in entries:
        found = predict(offsets.get((entry.key.step, entry.key.type), ()))
        is_open = entry.state is not ProductState.DONE
        expected = entry.time_base + found.after if found and entry.time_base and is_open else None
        steps.append(
            Step(
                entry=entry,
                look=look_of(entry, now),
                ahead=ahead_of(entry, now),
                prediction=found,
                expected_at=expected,
            )
        )
    return show(
        call, "pages/product.html", topics=("product:*",), product=product, time=time,
        steps=steps, line=lines_of(entries, now)[0], states=STATES,
    )  # fmt: skip


async def step(call: Call) -> web.Response:
    """All reports of one step."""
    text, kind = call.name("step"), call.name("type")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound(f"there is no step {text}")
    key = ProductKey(
        stream=call.name("product"), time=call.name("time"), step=int(text),
        type="" if kind == "-" else kind,
    )  # fmt: skip
    rows = await call.services.products.history(key)
    return show(call, "pages/product_step.html", key=key, rows=rows[:200], states=STATES)


ROUTES: Final = (
    get("/products", READ, index, "Products and their steps."),
    get("/products/{product}/{time}", READ, detail, "The steps of one product."),
    get("/products/{product}/{time}/{step}/{type}", READ, step, "All reports of one step."),
)
