"""`/products`: what producers expect, have started and have completed."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.engine.operations.products import Report
from ecpds.model.product import ProductEntry, ProductKey, ProductState
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import ProductReport
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import FIELDS, Query, Route

READ: Final = "products:read"
WRITE: Final = "products:write"
ALL: Final = "/api/v2/products"
TIME: Final = ALL + "/{product}/{time}"
STEP: Final = TIME + "/steps/{step}"
NO_TYPE: Final = "-"


def document(entry: ProductEntry) -> shown.Document:
    """Return one report."""
    return {
        "id": entry.id,
        "product": entry.key.stream,
        "time": entry.key.time,
        "step": entry.key.step,
        "type": entry.key.type or None,
        "status": entry.state.word,
        "schedule": shown.moment(entry.scheduled_at),
        "base": shown.moment(entry.time_base),
        "buffer": shown.plain(entry.buffer),
        "updated": shown.moment(entry.updated_at),
    }


def _step(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refused(400, "bad-parameter", f"step: {text[:40]!r} is no number")
    return int(text)


def _key(call: Call) -> ProductKey:
    kind = call.request.match_info.get("type", NO_TYPE)
    return ProductKey(
        stream=call.name("product"),
        time=call.name("time"),
        step=_step(call.name("step")),
        type="" if kind == NO_TYPE else kind,
    )


async def index(call: Call) -> web.StreamResponse:
    """List products and times with counts; `late` ones are past schedule and buffer."""
    now = call.services.core.clock.now()
    found: dict[tuple[str, str], list[ProductEntry]] = {}
    for entry in await call.services.products.current():
        found.setdefault((entry.key.stream, entry.key.time), []).append(entry)
    documents = []
    for (product, time), entries in found.items():
        late = [
            one
            for one in entries
            if one.state is not ProductState.DONE
            and one.scheduled_at is not None
            and one.scheduled_at + one.buffer < now
        ]
        documents.append(
            {
                "product": product,
                "time": time,
                **{
                    state.word: sum(one.state is state for one in entries)
                    for state in ProductState
                },
                "late": len(late),
                "base": shown.moment(max((e.time_base for e in entries if e.time_base),
                                         default=None)),
                "updated": shown.moment(max(one.updated_at for one in entries)),
            }
        )  # fmt: skip
    return answers.page(call, documents, None)


async def steps(call: Call) -> web.StreamResponse:
    """List the steps of one product and time, as they are now."""
    found = await call.services.products.current(
        stream=call.name("product"), time=call.name("time")
    )
    return answers.page(call, [document(one) for one in found], None)


async def history(call: Call) -> web.StreamResponse:
    """List all reports of one step and type, newest first."""
    found = await call.services.products.history(_key(call))
    return answers.page(call, [document(one) for one in found], None)


async def put(call: Call) -> web.StreamResponse:
    """Report one step; what the present state does not allow is ignored and says so."""
    given = await call.decoded(ProductReport)
    found = await call.services.products.report(
        Report(
            key=_key(call),
            state=ProductState.of_word(given.status),
            scheduled_at=given.schedule,
            time_base=given.base,
            buffer=given.buffer,
        ),
        call.caller.actor,
    )
    return answers.as_json(
        {
            "outcome": found.outcome,
            "message": found.message,
            "product": document(found.entry) if found.entry else None,
        }
    )


async def reset(call: Call) -> web.StreamResponse:
    """Forget one product and time, or one step of it."""
    step = call.text("step")
    count = await call.services.products.reset(
        call.caller.actor,
        stream=call.name("product"),
        time=call.name("time"),
        step=_step(step) if step else None,
    )
    return answers.as_json({"removed": count, "message": "Product status reseted"})


async def reset_all(call: Call) -> web.StreamResponse:
    """Forget all products."""
    count = await call.services.products.reset(call.caller.actor)
    return answers.as_json({"removed": count, "message": f"{count} product(s) status reseted"})


_STEP: Final = Query(name="step", help="Only that step.")

ROUTES: Final = (
    Route(method="GET", path=ALL, right=READ, handle=index, query=(FIELDS,),
          summary="Products and times with counts.", answer="[ProductTime]"),
    Route(method="DELETE", path=ALL, right=WRITE, handle=reset_all, answer="ProductsReset",
          summary="Forget all products."),
    Route(method="GET", path=TIME, right=READ, handle=steps, query=(FIELDS,),
          summary="The steps of one product and time.", answer="[Product]"),
    Route(method="GET", path=TIME + "/steps", right=READ, handle=steps, query=(FIELDS,),
          summary="The same.", answer="[Product]"),
    Route(method="DELETE", path=TIME, right=WRITE, handle=reset, query=(_STEP,),
          summary="Forget one product and time, or one step of it.", answer="ProductsReset"),
    Route(method="GET", path=STEP + "/{type}", right=READ, handle=history, query=(FIELDS,),
          summary="All reports of one step, newest first; type - is none.", answer="[Product]"),
    Route(method="PUT", path=STEP + "/{type}", right=WRITE, handle=put, body="ProductReport",
          summary="Report one step as expected, started or completed.",
          answer="ProductReported"),
)  # fmt: skip
