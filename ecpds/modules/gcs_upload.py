"""Resumable uploads of Google Cloud Storage: chunks in their order, gone on with after a break.

The service tells after each chunk, and when asked, how many bytes it keeps.  A session lives for a
week; its address is what another attempt or process needs to go on.

Spec: Google "Resumable uploads", "Perform resumable uploads".
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final, cast
from urllib.parse import parse_qsl

from crc32c import crc32c
from yarl import URL

from ecpds.model.errors import RemoteMissing, RemoteTimeout, RemoteTransient, RemoteVerify
from ecpds.modules.cloud import Call, CloudClient
from ecpds.modules.http_body import SourceBody
from ecpds.modules.s3_body import Bytes, Slice
from ecpds.modules.s3_upload import collected
from ecpds.transfer.contract import ByteSource, Surroundings, Target

QUANTUM: Final = 256 * 1024
"""Chunks but the last are multiples of this."""

AGAIN: Final = 3
"""Times that a chunk is gone on with inside one attempt."""

_RANGE: Final = re.compile(r"bytes=0-(\d{1,18})")
_INCOMPLETE: Final = 308


class Checked(ByteSource):
    """A part on its way, and the CRC-32C of all bytes that went by."""

    def __init__(self, inner: ByteSource, crc: list[int]) -> None:
        self.descriptor = None
        self.offset, self.size, self.meter = inner.offset, inner.size, inner.meter
        self._inner = inner
        self._crc = crc

    def start_at(self, offset: int) -> None:
        """Begin again; a chunk is made anew instead."""

    def count(self, sent: int) -> None:
        """Count bytes."""
        self._inner.count(sent)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield blocks."""
        async for block in self._inner:
            if self._crc:
                self._crc[0] = crc32c(block, self._crc[0])
            yield block


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk, which can be sent again from any of its bytes on."""

    size: int
    behind: Callable[[int], ByteSource]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How chunks are sent."""

    chunk: int  # bytes
    again: int  # times that one is gone on with


class Session:
    """One upload session at the service."""

    def __init__(
        self,
        client: CloudClient,
        target: Target,
        around: Surroundings,
        name: str,
        path: str,
        query: tuple[tuple[str, str], ...],
    ) -> None:
        self.reached = 0
        self.result: dict[str, Any] | None = None  # the object, when it is complete
        self._client = client
        self._target = target
        self._around = around
        self._name = name
        self._path = path
        self._query = query

    @classmethod
    def of_address(
        cls, client: CloudClient, target: Target, around: Surroundings, name: str, address: str
    ) -> Session:
        """Return the session at an address; host and port are always the service's own."""
        url = URL(address, encoded=True)
        query = tuple(parse_qsl(url.raw_query_string, keep_blank_values=True))
        return cls(client, target, around, name, client.below(url.raw_path), query)

    def _call(self, range_text: str) -> Call:
        stall = self._target.timeouts.stall
        return Call(
            method="PUT",
            about=f"{self._name!r}",
            path=self._path,
            query=self._query,
            headers={
                "Content-Range": f"bytes {range_text}",
                "Content-Type": "application/octet-stream",
            },
            limit=max(self._target.timeouts.command, stall),
            accepted=(_INCOMPLETE,),
            once=True,
        )

    async def ask(self, total: int = -1) -> bool:
        """Learn how far it is; False when the session is gone."""
        call = self._call(f"*/{total if total >= 0 else '*'}")
        try:
            await self._tell(call)
        except RemoteMissing:
            return False
        return True

    async def _tell(self, call: Call) -> None:
        answer = await self._client.demand(call)
        if answer.status != _INCOMPLETE:
            self.result = _object(answer.content)
            return
        found = _RANGE.fullmatch(answer.headers.get("Range", "").strip())
        # an emulator says 0-0 for nothing, and no service keeps a single byte
        self.reached = int(found[1]) + 1 if found and found[1] != "0" else 0

    async def send(
        self,
        source: ByteSource,
        offset: int,
        manner: Manner,
        on_reached: Callable[[int], None],
    ) -> int:
        """Send all from `offset` on; return the count of bytes, checked against the result."""
        self.reached = offset
        crc = [] if offset else [0]
        sent = 0
        async with aclosing(self._pieces(source, manner.chunk)) as pieces:
            async for piece, is_last in pieces:
                total = offset + sent + piece.size if is_last else -1
                await self._chunk(piece, offset + sent, total, manner, crc)
                sent += piece.size
                on_reached(self.reached)
        self._check(offset + sent, crc)
        return sent

    async def _pieces(
        self, source: ByteSource, chunk: int
    ) -> AsyncGenerator[tuple[Piece, bool], None]:
        """Yield chunks, and whether each is the last; there is at least one, maybe empty."""
        if source.descriptor is not None and source.size >= 0:
            end = source.offset + source.size
            for start in range(source.offset, max(end, source.offset + 1), chunk):
                size = min(chunk, end - start)
                yield self._stretch(source, start, size), start + size >= end
            return
        waiting: bytes | None = None
        blocks = cast(AsyncGenerator[bytes, None], aiter(source))
        async with aclosing(collected(blocks, chunk)) as pieces:
            async for content in pieces:
                if waiting is not None:
                    yield _kept(waiting), False
                waiting = content
        yield _kept(waiting or b""), True

    def _stretch(self, source: ByteSource, start: int, size: int) -> Piece:
        threads = self._around.threads
        return Piece(size, lambda done: Slice(source, start + done, size - done, threads))

    async def _chunk(
        self, piece: Piece, start: int, total: int, manner: Manner, crc: list[int]
    ) -> None:
        """Send one chunk, going on with it where the connection broke."""
        end, tries = start + piece.size, 0
        while True:
            rest = piece.behind(self.reached - start)
            try:
                await self._put(rest, self.reached, end, total, crc)
                break
            except RemoteTransient as error:
                tries += 1
                if tries > manner.again or isinstance(error, RemoteTimeout):
                    raise
                crc.clear()  # some bytes went by twice
                if not await self.ask(total) or not start <= self.reached <= end:
                    raise
            if self.result is not None:
                return
        if self.result is None and (total >= 0 or self.reached != end):
            raise RemoteTransient(f"{self._name!r}: the service keeps {self.reached} bytes")

    async def _put(
        self, part: ByteSource, start: int, end: int, total: int, crc: list[int]
    ) -> None:
        whole = str(total) if total >= 0 else "*"
        stall = self._target.timeouts.stall.total_seconds()
        if start == end:  # only the size is missing
            await self._tell(self._call(f"*/{whole}"))
            return
        checked = Checked(part, crc)
        call = replace(
            self._call(f"{start}-{end - 1}/{whole}"),
            body=lambda: SourceBody(checked, stall=stall),
            length=end - start,
        )
        await self._tell(call)

    def _check(self, size: int, crc: list[int]) -> None:
        told = self.result or {}
        if str(told.get("size", size)) != str(size):
            raise RemoteVerify(f"the object has {told.get('size')} instead of {size} bytes")
        theirs = told.get("crc32c")
        if crc and theirs and theirs != b64encode(crc[0].to_bytes(4, "big")).decode():
            raise RemoteVerify(f"{self._name!r}: the CRC-32C of the object is another one")

    async def drop(self) -> None:
        """End the session; one that is gone is fine."""
        call = replace(self._call("*/*"), method="DELETE", headers={})
        # 499 is the service's word for "cancelled"
        await self._client.demand(replace(call, accepted=(404, 405, 410, 499, 501)))


def _kept(content: bytes) -> Piece:
    return Piece(len(content), lambda done: Bytes(content[done:]))


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
