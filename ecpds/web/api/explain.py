"""`/transfers/{id}/explain`: why a transfer waits or failed, and what happens next."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.engine.explain import Cause, Explanation, explain
from ecpds.web.api import answers
from ecpds.web.call import Call
from ecpds.web.routes import FIELDS, Route
from ecpds.web.shown import Document, moment

READ: Final = "transfers:read"
PATH: Final = "/api/v2/transfers/{transfer}/explain"


def document(found: Explanation) -> Document:
    """Return an explanation as JSON."""
    return {
        "transfer": found.transfer,
        "status": found.status.word,
        "summary": found.summary,
        "reasons": [_cause(cause) for cause in found.causes],
        "next": moment(found.next),
        "step": found.step,
    }


def _cause(cause: Cause) -> Document:
    return {
        "code": cause.code,
        "text": cause.text,
        "until": moment(cause.until),
        "subject": cause.subject,
        "blocks": cause.blocks,
    }


async def get(call: Call) -> web.StreamResponse:
    """Explain one transfer."""
    number = call.number("transfer", "Transfer")
    found = await call.services.transfers.get(number)
    call.caller.check(READ, found.destination, f"Transfer {number} not found")
    return answers.one(call, document(await explain(call.services.engine, number)))


ROUTES: Final = (
    Route(method="GET", path=PATH, right=READ, handle=get, query=(FIELDS,), answer="Explanation",
          summary="Why it waits or failed, cause by cause, and when it goes on."),
)  # fmt: skip
