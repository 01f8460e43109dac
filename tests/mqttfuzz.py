"""Packets that are nearly right, for the parser and for a whole broker.

A crash is any error but an orderly refusal: one that rises from the parser, one that the broker
logs, a broker that no longer serves others, or memory that stays.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ecpds.model.message import Message
from ecpds.portals.mqtt.codec import Broken, Framer, P
from ecpds.portals.mqtt.codec import text as encoded
from ecpds.portals.mqtt.packets import V3, V5, parse, parse_connect
from tests.protocol.mqttrig import Rig, connect, packet, subscribe

LIMIT = 64 * 1024
AT_ONCE = 16
MOST_TOGETHER = 30  # packets of one connection
CLIENTS = 40  # different ids: some take over others, some come back to their sessions
PATIENCE = 30.0  # seconds for the broker to read and hang up

SEEDS = [
    connect("c", version=4), connect("c", version=5, found={P.SESSION_EXPIRY: 60}),
    subscribe("a/b", ("c/#", 0)), subscribe("a/+", version=5),
    packet(0xA2, b"\x00\x01" + encoded("a")), packet(0x40, b"\x00\x01"), packet(0xC0, b""),
    packet(0xE0, b"\x00"), packet(0x32, encoded("t") + b"\x00\x01payload"),
    packet(0x30, encoded("t") + b"\x0a\x03" + encoded("x") + b"\x02\x00\x00\x00\x01payload"),
    packet(0x62, b"\x00\x01\x92"), packet(0xF0, b"\x18\x00"),
]  # fmt: skip


def mutated(chance: random.Random) -> bytes:
    """Return a good packet with a few bytes changed, cut or doubled."""
    data = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 4)):
        place, act = chance.randrange(len(data)), chance.randrange(4)
        if act == 0:
            data[place] = chance.randrange(256)
        elif act == 1:
            data[place] ^= 1 << chance.randrange(8)
        elif act == 2 and len(data) > 2:
            del data[place]
        else:
            data[place:place] = data[place : place + 3]
    return bytes(data)


def read_all(data: bytes) -> None:
    """Parse what comes, as either version."""
    framer = Framer(LIMIT)
    framer.add(data)
    while (found := framer.next()) is not None:
        if found[0] >> 4 == 1:
            parse_connect(*found)
            continue
        parse(*found, V3)
        parse(*found, V5)


def parse_many(count: int, seed: int) -> int:
    """Parse that many; return how many were refused.  Any error but Broken is a crash."""
    chance, refused = random.Random(seed), 0
    for _ in range(count):
        try:
            read_all(mutated(chance))
        except Broken:
            refused += 1
    return refused


async def send_many(rig: Rig, count: int, seed: int) -> int:
    """Send that many to a broker over many connections; return how many it had to read."""
    chance = random.Random(seed)
    sent = 0

    async def one() -> None:
        nonlocal sent
        while sent < count:
            parts = [mutated(chance) for _ in range(chance.randint(1, MOST_TOGETHER))]
            sent += len(parts)
            await _connection(rig, chance, parts)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one())
    return sent


async def _connection(rig: Rig, chance: random.Random, parts: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    version, has_login = chance.choice([4, 5]), chance.random() < 0.8  # others never log in
    try:
        if has_login:
            found: dict[int, int | str | bytes] = {P.SESSION_EXPIRY: chance.choice([0, 60])}
            name, clean = f"fuzz{chance.randrange(CLIENTS)}", chance.random() < 0.5
            writer.write(connect(name, version=version, clean=clean, found=found))
            with suppress(asyncio.IncompleteReadError):
                await reader.readexactly(2)
        writer.write(b"".join(parts))
        if chance.random() < 0.9:
            writer.write_eof()
            async with asyncio.timeout(PATIENCE):
                await reader.read(-1)
    except OSError:  # the broker hung up first
        return
    finally:
        writer.transport.abort()


async def is_well(rig: Rig) -> bool:
    """Tell whether the broker still serves a client that behaves."""
    good = await rig.client("t")
    await rig.portal.publish([Message(topic="t", payload=b"x", qos=1)])
    return await good.message() == ("t", b"x")


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


@contextmanager
def errors() -> Iterator[list[str]]:
    """Gather what is logged as an error, and what reaches nobody but the loop."""
    handler, loop = _Errors(), asyncio.get_running_loop()
    root = logging.getLogger()
    before = loop.get_exception_handler()

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        handler.found.append(str(context.get("exception") or context["message"]))

    root.addHandler(handler)
    loop.set_exception_handler(note)
    try:
        yield handler.found
    finally:
        root.removeHandler(handler)
        loop.set_exception_handler(before)
