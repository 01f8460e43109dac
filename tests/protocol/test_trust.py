"""TLS contexts are made once for all sessions of one trust, and anew when a file is another one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.model.errors import RemoteConfig
from ecpds.modules.trust import ClientContext, shared_context
from ecpds.transfer.contract import Surroundings, TlsTrust
from ecpds.transfer.memory import Made
from tests.peers.certificates import Authority


async def test_one_context_for_one_trust(tmp_path: Path) -> None:
    """Pins, versions and checks of names make others; a renewed authority is read."""
    authority = tmp_path / "ca.pem"
    authority.write_bytes(Authority(tmp_path / "one").ca.read_bytes())
    threads = Threads()
    around = Surroundings(threads=threads, clock=SystemClock())
    trust = TlsTrust(ca=str(authority))

    async def context(**other: Any) -> ClientContext:
        return await shared_context(around, replace(trust, **other))

    try:
        first = await context()
        assert await context() is first
        assert await context(ca="") is await context(ca="")
        loose = await shared_context(around, trust, check_host=False)
        assert first.check_hostname
        assert not loose.check_hostname
        others = [first, loose, await context(ca=""), await context(pin="0a" * 32)]
        others.append(await context(minimum="1.3"))
        assert len(set(map(id, others))) == len(others)
        authority.write_bytes(Authority(tmp_path / "two").ca.read_bytes())
        second = await context()
        assert second is not first
        assert second.get_ca_certs() != first.get_ca_certs()
        authority.unlink()
        with pytest.raises(RemoteConfig):
            await context()
    finally:
        await asyncio.to_thread(threads.close)


def test_what_is_made_is_made_anew_after_an_hour() -> None:
    """And the one that was not used for longest goes first."""
    now = [0.0]
    made = Made(limit=2, monotonic=lambda: now[0])
    for key in ("a", "b"):
        made.keep(key, key.upper())
    assert made.find("a") == "A"
    made.keep("c", "C")
    assert made.find("b") is None
    now[0] = 3601.0
    assert made.find("a") is None
