"""The monitor's listener: TLS that is reloaded, hand-made peers, drain and close."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from ecpds.base.settings import MonitorSettings
from ecpds.base.tls import Certificates, make_self_signed
from ecpds.model.errors import ConfigError
from ecpds.web.app import Monitor
from tests.node import SmallNode, small_node
from tests.protocol.api import rig, small_templates
from tests.waiting import until


def monitor_of(node: SmallNode, listen: str, certificates: Certificates | None = None) -> Monitor:
    settings = MonitorSettings(listen=listen, tls=certificates is not None)
    node.core.settings = replace(node.core.settings, monitor=settings)
    return Monitor(
        node.engine,
        node.gate,
        tls=certificates.context if certificates else None,
        templates=small_templates(node.core.settings.data_dir),
        endpoints=dict,
        ready=lambda: {"listeners": {"ok": True}},
    )


def serial(port: int) -> bytes:
    """Return the certificate that the server shows to a new connection."""
    text = ssl.get_server_certificate(("127.0.0.1", port), timeout=20)
    return ssl.PEM_cert_to_DER_cert(text)


async def test_a_new_certificate_needs_no_restart(tmp_path: Path) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    certificates = Certificates(*make_self_signed(tmp_path / "tls", "localhost", now))
    async with small_node(tmp_path / "node") as node:
        monitor = monitor_of(node, "127.0.0.1:0", certificates)
        [(host, port)] = await monitor.start()
        try:
            base = f"https://{host}:{port}"
            connector = aiohttp.TCPConnector(ssl=False)
            async with aiohttp.ClientSession(connector=connector) as session:
                async with session.get(f"{base}/healthz") as answer:
                    assert await answer.text() == "ok\n"
                before = await asyncio.to_thread(serial, port)
                make_self_signed(tmp_path / "tls", "localhost", now)
                certificates.reload()
                assert await asyncio.to_thread(serial, port) != before
                async with session.get(f"{base}/healthz") as answer:
                    assert answer.status == 200  # the old connection goes on
                form = {"name": "x", "password": "y"}
                async with session.post(f"{base}/login", data=form) as answer:
                    assert answer.status == 401
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")  # no TLS
            async with asyncio.timeout(20):
                await reader.read()
            writer.close()
        finally:
            await monitor.close()


async def test_switched_off_and_impossible_addresses(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        off = monitor_of(node, "")
        assert await off.start() == []
        await off.drain()
        await off.close()
        for listen in ("192.0.2.1:0", "nowhere.invalid:0"):
            odd = monitor_of(node, listen)
            with pytest.raises(ConfigError, match="cannot listen"):
                await odd.start()
            await odd.close()


async def test_the_port_is_told(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        first = monitor_of(node, "127.0.0.1:0")
        [(host, port)] = await first.start()
        assert host == "127.0.0.1"
        second = monitor_of(node, f"127.0.0.1:{port}")
        with pytest.raises(ConfigError, match="in use"):
            await second.start()
        await second.close()
        await first.close()
        await first.close()


async def test_a_drain_lets_an_upload_end(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        host, _, port = hub.base.removeprefix("http://").partition(":")
        body = (
            b'--xx\r\nContent-Disposition: form-data; name="destination"\r\n\r\nNORTH\r\n'
            b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            + b"x" * 100_000
            + b"\r\n--xx--\r\n"
        )
        head = (
            f"POST /api/v2/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hub.admin.token}\r\n"
            f"Content-Type: multipart/form-data; boundary=xx\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body[:50_000])
        volume = hub.node.core.objects.volumes[0]
        await until(lambda: any(volume.temporary.iterdir()), what="the upload has begun")
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(hub.monitor.drain())
            listener = hub.monitor._listener
            assert listener is not None
            await until(lambda: not listener._sockets)
            with pytest.raises(OSError, match="Connect"):
                await asyncio.open_connection(host, int(port))
            assert not draining.done()
            writer.write(body[50_000:])
            answer = await reader.read(65536)
            assert b" 201 " in answer.splitlines()[0]
        writer.close()


async def test_a_close_ends_what_a_drain_would_wait_for(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        host, _, port = hub.base.removeprefix("http://").partition(":")
        head = (
            f"POST /api/v2/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hub.admin.token}\r\n"
            "Content-Type: multipart/form-data; boundary=xx\r\nContent-Length: 1000000\r\n\r\n"
            '--xx\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nxxx'
        )
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + b"x" * 10_000)
        volume = hub.node.core.objects.volumes[0]
        await until(lambda: any(volume.temporary.iterdir()), what="the upload has begun")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await hub.monitor.drain()
        async with asyncio.timeout(20):
            await hub.monitor.close()
        await until(lambda: not any(volume.temporary.iterdir()), what="nothing is left")
        writer.close()
        del reader
