"""`POST /files/batch`: many files to fetch in one request, each accepted or refused alone.

They are registered side by side, so that one commit takes many: a request a file costs ten times
as much, and counts as one against the rate limit.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web

from ecpds.model.errors import EcpdsError, InputError
from ecpds.web.api import answers, upload
from ecpds.web.api.schemas import RegisterBatch, RegisterRequest
from ecpds.web.call import Call
from ecpds.web.errors import Refused, problem

MOST: Final = 500  # files of one request


async def post(call: Call) -> web.StreamResponse:
    """Register each file; the answer has one item for each, in the same order."""
    wanted = (await call.decoded(RegisterBatch)).files
    if not 0 < len(wanted) <= MOST:
        raise InputError(f"files: 1 to {MOST}, not {len(wanted)}", pointer="files")
    found: list[dict[str, Any]] = [{} for _ in wanted]

    async def one(number: int, given: RegisterRequest) -> None:
        found[number] = await _registered(call, given)

    async with asyncio.TaskGroup() as group:
        for number, given in enumerate(wanted):
            group.create_task(one(number, given), name=f"register {number}")
    return answers.as_json({"items": found})


async def _registered(call: Call, given: RegisterRequest) -> dict[str, Any]:
    try:
        (submitted,) = await upload.registered(call, given, given.destination)
    except (EcpdsError, Refused) as error:
        status, document, _ = problem(error, call.request_id)
        return {"status": status, "submitted": None, "problem": document}
    status = 200 if submitted["skipped"] else 201
    return {"status": status, "submitted": submitted, "problem": None}
