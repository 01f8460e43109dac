"""However a stream of requests is cut into pieces, the same requests come out of it."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from ecpds.portals.https.wire import Wire


class Pipe(asyncio.Transport):
    """A transport that goes nowhere."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def feed(wire: Wire, data: bytes) -> None:
    """Hand over bytes as a loop does: through the protocol's own buffer."""
    while data:
        buffer = wire.get_buffer(-1)
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        wire.buffer_updated(count)
        data = data[count:]


bodies = st.one_of(st.none(), st.binary(max_size=40), st.binary(min_size=17_000, max_size=17_100))
requests = st.lists(st.tuples(bodies, st.booleans()), min_size=1, max_size=6)


def encoded(number: int, body: bytes | None, *, chunked: bool) -> bytes:
    head = f"PUT /{number} HTTP/1.1\r\nHost: x\r\n".encode()
    if body is None:
        return head + b"\r\n"
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    parts = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    text = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + text + b"0\r\n\r\n"


@settings(deadline=None, max_examples=150)
@given(requests, st.lists(st.integers(1, 20_000), max_size=12), st.booleans())
async def test_pieces_make_no_difference(
    wanted: list[tuple[bytes | None, bool]], cuts: list[int], poured: bool
) -> None:
    """Targets and bodies are the ones that were sent, read or poured, and nothing is left over."""
    wire = Wire("192.0.2.1", secure=False, body_timeout=5)
    wire.connection_made(Pipe())
    stream = b"".join(encoded(n, body, chunked=c) for n, (body, c) in enumerate(wanted))
    found: list[tuple[str, bytes]] = []

    async def serve() -> None:
        while (ask := await wire.next(5)) is not None:
            content = bytearray()
            if poured:
                await ask.body.pour(content.extend)
            else:
                while block := await ask.body.read():
                    content += block
            assert ask.body.complete
            found.append((ask.target, bytes(content)))

    async with asyncio.TaskGroup() as group:
        group.create_task(serve())
        for cut in cuts:
            feed(wire, stream[:cut])
            stream = stream[cut:]
            await asyncio.sleep(0)
        feed(wire, stream)
        for _ in range(3 * len(wanted) + 3):
            await asyncio.sleep(0)
        wire.eof_received()
    wire.connection_lost(None)
    assert found == [(f"/{n}", body or b"") for n, (body, _) in enumerate(wanted)]


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200), st.integers(1, 50))
async def test_any_bytes_end_in_requests_or_a_refusal(data: bytes, cut: int) -> None:
    """Nothing raises, and nothing is left waiting when the client has gone."""
    wire = Wire("192.0.2.1", secure=False, body_timeout=5)
    wire.connection_made(Pipe())
    for start in range(0, len(data), cut):
        feed(wire, data[start : start + cut])
    wire.eof_received()
    wire.connection_lost(None)
    for _ in range(100):
        if await wire.next(1) is None:
            return
