"""Sockets to remote systems: options, local address, several addresses, statistics."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from ecpds.base.clock import SystemClock
from ecpds.model.errors import Phase, RemoteConfig, RemoteTimeout, RemoteTransient
from ecpds.transfer.contract import Surroundings, Target, Timeouts
from ecpds.transfer.sockets import (
    SO_MAX_PACING_RATE,
    Address,
    Addresses,
    SocketTuning,
    open_socket,
    statistics,
)
from tests.loopthreads import LoopThreads
from tests.waiting import until


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[int, list[tuple[str, int]]]]:
    """Give a port that takes all bytes, and the addresses of those who came."""
    came: list[tuple[str, int]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer.get_extra_info("peername"))
        while await reader.read(65536):
            pass
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], came
    finally:
        server.close()
        await server.wait_closed()


def around(addresses: Addresses | None = None) -> Surroundings:
    return Surroundings(
        threads=LoopThreads(), clock=SystemClock(), addresses=addresses or Addresses()
    )


async def test_options_are_set_before_the_connection_is_made() -> None:
    tuning = SocketTuning(
        keep_alive=True,
        keep_alive_time=77,
        keep_alive_interval=11,
        keep_alive_probes=3,
        user_timeout=5000,
        congestion_control="cubic",
        max_segment=1000,
        linger=2,
        pacing_rate=5 * 2**30,
        send_buffer=32 * 1024,
        receive_buffer=32 * 1024,
        local_address="127.0.0.5",
    )
    async with listening() as (port, came):
        target = Target(host_name="h", host="127.0.0.1", sockets=tuning)
        sock = await open_socket(target, port, around())
        with sock:
            tcp, sol = socket.IPPROTO_TCP, socket.SOL_SOCKET
            assert sock.getsockopt(tcp, socket.TCP_NODELAY) == 1
            assert sock.getsockopt(sol, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(tcp, socket.TCP_KEEPIDLE) == 77
            assert sock.getsockopt(tcp, socket.TCP_KEEPINTVL) == 11
            assert sock.getsockopt(tcp, socket.TCP_KEEPCNT) == 3
            assert sock.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 5000
            assert sock.getsockopt(tcp, socket.TCP_CONGESTION, 16).startswith(b"cubic")
            assert sock.getsockopt(sol, socket.SO_LINGER, 8) == struct.pack("ii", 1, 2)
            assert sock.getsockopt(sol, SO_MAX_PACING_RATE, 8) == struct.pack("Q", 5 * 2**30)
            assert sock.getsockopt(sol, socket.SO_SNDBUF) == 64 * 1024  # the kernel doubles it
            await until(lambda: came)
            assert came[0][0] == "127.0.0.5"


def test_what_the_kernel_refuses_is_told_and_hurts_nobody() -> None:
    with socket.socket() as sock:
        assert SocketTuning(congestion_control="no-such").apply(sock) == ["tcpCongestionControl"]


async def test_a_local_address_of_another_machine_is_a_matter_of_configuration() -> None:
    async with listening() as (port, _):
        tuning = SocketTuning(local_address="192.0.2.1")
        target = Target(host_name="h", host="127.0.0.1", sockets=tuning)
        with pytest.raises(RemoteConfig, match=r"192\.0\.2\.1"):
            await open_socket(target, port, around())


class Two(Addresses):
    """A name with two addresses, of which the first does not answer."""

    async def resolve(self, target: Target, port: int, around: Surroundings) -> list[Address]:
        return [
            (socket.AF_INET, ("127.0.0.9", port)),
            (socket.AF_INET, ("127.0.0.1", port)),
        ]


async def test_the_next_address_is_tried() -> None:
    async with listening() as (port, came):
        sock = await open_socket(Target(host_name="h", host="two"), port, around(Two()))
        sock.close()
        await until(lambda: came)


async def test_nobody_there() -> None:
    async with listening() as (port, _):
        pass
    with pytest.raises(RemoteTransient) as caught:
        await open_socket(Target(host_name="h", host="127.0.0.1"), port, around())
    assert (caught.value.phase, caught.value.remote_code) == (Phase.CONNECT, "ECONNREFUSED")


async def test_a_queue_that_is_full_times_out() -> None:
    """As a firewall that drops: nothing comes back at all."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for taken in (first, second):
            taken.setblocking(False)
            taken.connect_ex(full.getsockname())
        timeouts = Timeouts(connect=timedelta(milliseconds=100))
        target = Target(host_name="h", host="127.0.0.1", timeouts=timeouts)
        with pytest.raises(RemoteTimeout) as caught:
            await open_socket(target, full.getsockname()[1], around())
        assert caught.value.phase is Phase.CONNECT


async def test_statistics_count_what_was_confirmed() -> None:
    async with listening() as (port, _):
        target = Target(host_name="h", host="127.0.0.1")
        with await open_socket(target, port, around()) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"x" * 100_000)
            await until(lambda: statistics(sock).get("bytes_acked", 0) >= 100_000)
            told = statistics(sock)
            assert 0 < told["rtt"] < 1_000_000
            assert told["total_retrans"] == 0
    with socket.socket(socket.AF_UNIX) as other:
        assert statistics(other) == {}
