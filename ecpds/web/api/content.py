"""Content on its way out: whole or one range, in blocks, with conditions.

Spec: RFC 9110 sections 13 (If-None-Match, If-Range) and 14 (one range; several are answered with
the whole).
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import Final
from urllib.parse import quote

from aiohttp import web

from ecpds.engine.operations.files import Content
from ecpds.web.call import Call
from ecpds.web.errors import Refused

BLOCK: Final = 256 * 1024  # bytes; as fast from the page cache as bigger ones
PATIENCE: Final = 60.0  # seconds for a reader to take one block
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def send(call: Call, number: int, name: str) -> web.StreamResponse:
    """Answer with the content of a data file under the last segment of `name`."""
    async with call.services.files.open(number) as content:
        etag = f'"{content.file.etag}"'
        headers = {
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
            "Content-Disposition": disposition(name.rpartition("/")[2]),
            "Last-Modified": f"{content.file.arrived_at:%a, %d %b %Y %H:%M:%S} GMT",
            "Cache-Control": "private, no-cache",
        }
        if call.unchanged(etag):
            return web.Response(status=304, headers=headers)
        start, end = 0, content.size
        status = 200
        wanted = _wanted(call, content, etag)
        if wanted is not None:
            start, end = wanted
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
        headers["Content-Length"] = str(end - start)
        answer = web.StreamResponse(status=status, headers=headers)
        await answer.prepare(call.request)
        if call.request.method != "HEAD":
            await _copy(call, answer, content, start, end)
        return answer


def disposition(name: str) -> str:
    """Return a Content-Disposition that saves under that name (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name) or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _wanted(call: Call, content: Content, etag: str) -> tuple[int, int] | None:
    """Return the range [start, end) that is asked for, None for everything."""
    text = call.request.headers.get("Range", "")
    condition = call.request.headers.get("If-Range")
    if not text or (condition is not None and condition.strip() != etag):
        return None
    found = _RANGE.fullmatch(text.strip().lower())
    if found is None or not (found[1] or found[2]):
        return None  # several ranges, or another unit
    size = content.size
    if not found[1]:
        start, end = max(size - int(found[2]), 0), size
    else:
        start = int(found[1])
        end = min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= size or start >= end:
        error = Refused(416, "range", "there is no such range")
        error.headers["Content-Range"] = f"bytes */{size}"
        raise error
    return start, end


async def _copy(
    call: Call, answer: web.StreamResponse, content: Content, start: int, end: int
) -> None:
    """Send [start, end); a failure after the head breaks the connection, the client can tell."""
    try:
        while start < end:
            block = os.pread(content.descriptor, min(BLOCK, end - start), start)
            if not block:
                raise OSError("the object is shorter than its size")
            async with asyncio.timeout(PATIENCE):
                await answer.write(block)
            start += len(block)
        await answer.write_eof()
    except (OSError, TimeoutError):
        if call.request.transport is not None:
            call.request.transport.abort()
