"""Fetching one object: in one answer, or several ranges at a time.

All requests of one download ask for the same version by its tag.  The digest that the service keeps
of a whole object is compared when all of it came in one answer.

Spec: AWS GetObject; RFC 9110 section 14.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import aiohttp
from crc32c import crc32c

from ecpds.model.errors import ConnectionLost, EcpdsError, RemoteError, RemoteVerify
from ecpds.modules.s3_client import Call, S3Client

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """How a download is divided."""

    at_once: int = 1
    size: int = 8 * 1024 * 1024


class Download:
    """One download."""

    def __init__(
        self, client: S3Client, call: Call, *, offset: int, tag: str, checked: bool
    ) -> None:
        """Prepare to read from `offset`; `tag` is the version if one is known."""
        headers = {"If-Match": tag} if tag else {}
        self._client = client
        self._call = replace(call, headers=headers)
        self._offset = offset
        self._checked = checked

    async def whole(self) -> AsyncGenerator[bytes, None]:
        """Yield the rest of the object out of one answer."""
        call = self._call
        if self._offset:
            call = _ranged(call, f"{self._offset}-")
        elif self._checked:
            call = replace(call, headers={**call.headers, "x-amz-checksum-mode": "ENABLED"})
        async with self._client.ask(call) as response:
            if self._offset:
                check_range(response.status, response.headers, self._offset, call.about)
            told = "" if self._offset else _told(response.headers)
            crc = 0
            while block := await response.content.readany():
                if told:
                    crc = crc32c(block, crc)
                yield block
            if told and told != b64encode(crc.to_bytes(4, "big")).decode():
                raise RemoteVerify(f"{call.about}: the CRC-32C of the object is another one")

    async def ranges(self, ranges: Ranges) -> AsyncGenerator[bytes, None]:
        """Yield the rest, several ranges at a time; memory: all of them.

        The first answer tells how much there is and of which version.
        """
        position = self._offset
        first, end, tag = await self._first(position, position + ranges.size)
        for block in first:
            yield block
        position = min(position + ranges.size, end)
        if tag:
            self._call = replace(self._call, headers={**self._call.headers, "If-Match": tag})
        while position < end:
            until = min(position + ranges.size * ranges.at_once, end)
            starts = range(position, until, ranges.size)
            for blocks in await self._side_by_side(starts, ranges.size, end):
                for block in blocks:
                    yield block
            position = until

    async def _first(self, start: int, stop: int) -> tuple[list[bytes], int, str]:
        call = replace(_ranged(self._call, f"{start}-{stop - 1}"), accepted=(416,))
        async with self._client.ask(call) as response:
            if response.status == 416 and start == 0:
                return [], 0, ""  # nothing in it: no first byte either
            end = check_range(response.status, response.headers, start, call.about)
            tag = response.headers.get("ETag", "")
            return await _blocks(response, min(stop, end) - start, call.about), end, tag

    async def _side_by_side(self, starts: range, size: int, end: int) -> list[list[bytes]]:
        failures: list[EcpdsError] = []

        async def one(start: int) -> list[bytes]:
            try:
                return await self._range(start, min(start + size, end))
            except EcpdsError as error:
                failures.append(error)
                return []

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(start)) for start in starts]
        if failures:
            raise failures[0]
        return [task.result() for task in tasks]

    async def _range(self, start: int, stop: int) -> list[bytes]:
        call = _ranged(self._call, f"{start}-{stop - 1}")
        async with self._client.ask(call) as response:
            check_range(response.status, response.headers, start, call.about)
            return await _blocks(response, stop - start, call.about)


async def _blocks(response: aiohttp.ClientResponse, size: int, about: str) -> list[bytes]:
    """Return exactly `size` bytes as they came: joined they would only be copied once more."""
    blocks, left = [], size
    while left >= 0 and (block := await response.content.readany()):
        blocks.append(block)
        left -= len(block)
    if left:
        raise ConnectionLost(f"{about}: a range has another length than asked for")
    return blocks


def _ranged(call: Call, text: str) -> Call:
    return replace(call, headers={**call.headers, "Range": f"bytes={text}"})


def _told(headers: Mapping[str, str]) -> str:
    """Return the CRC-32C of the whole object, if the service tells it."""
    told = headers.get("x-amz-checksum-crc32c", "")
    is_of_parts = "-" in told or headers.get("x-amz-checksum-type", "") == "COMPOSITE"
    return "" if is_of_parts else told


def check_range(status: int, headers: Mapping[str, str], start: int, about: str) -> int:
    """Return the size of the whole object; RemoteVerify for another range than asked for."""
    told = headers.get("Content-Range", "").strip()
    if status != 206 and not told:  # rclone 1.75 serves ranges with status 200
        raise RemoteError(f"{about}: the service sends no ranges", remote_code=str(status))
    found = _CONTENT_RANGE.fullmatch(told)
    if found is None or int(found[1]) != start:
        raise RemoteVerify(f"{about}: the service sends another range than asked for")
    return int(found[3])
