"""Names become addresses; when they no longer do, the last ones are used."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest

from ecpds.model.errors import Phase, RemoteTransient
from ecpds.transfer.contract import Surroundings, Target
from ecpds.transfer.memory import Memory
from ecpds.transfer.sockets import Addresses
from tests.clock import FakeClock
from tests.loopthreads import LoopThreads


class Names(LoopThreads):
    """A name service."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, list[str]] = {}

    async def run(self, pool: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        assert pool == "dns"
        name, port = args
        if name not in self.known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, 1, 6, "", (one, port)) for one in self.known[name]]


async def test_the_last_addresses_outlive_the_name_service() -> None:
    names = Names()
    around = Surroundings(threads=names, clock=FakeClock())
    target = Target(host_name="north", host="north.example.org")
    addresses = Addresses()
    with pytest.raises(RemoteTransient, match=r"north\.example\.org") as caught:
        await addresses.resolve(target, 22, around)
    assert caught.value.phase is Phase.RESOLVE
    names.known["north.example.org"] = ["192.0.2.1", "192.0.2.2"]
    found = await addresses.resolve(target, 22, around)
    assert [where for _, where in found] == [("192.0.2.1", 22), ("192.0.2.2", 22)]
    names.known.clear()
    again = await addresses.resolve(target, 2222, around)
    assert [where for _, where in again] == [("192.0.2.1", 2222), ("192.0.2.2", 2222)]
    with pytest.raises(RemoteTransient):
        await addresses.resolve(replace(target, may_use_old_address=False), 22, around)


async def test_only_so_many_names_are_remembered() -> None:
    names = Names()
    names.known = {f"n{n}": ["192.0.2.1"] for n in range(3)}
    around = Surroundings(threads=names, clock=FakeClock(), memory=Memory(limit=2))
    addresses = Addresses()
    for n in range(3):
        await addresses.resolve(Target(host_name="h", host=f"n{n}"), 22, around)
    names.known.clear()
    with pytest.raises(RemoteTransient):
        await addresses.resolve(Target(host_name="h", host="n0"), 22, around)
    assert await addresses.resolve(Target(host_name="h", host="n1"), 22, around)


async def test_what_lasts_is_told_once_and_taken_back() -> None:
    names = Names()
    names.known = {"n": ["192.0.2.1", "2001:db8::1"]}
    around = Surroundings(threads=names, clock=FakeClock())
    target = Target(host_name="h", host="n")
    await Addresses().resolve(target, 22, around)
    facts = around.memory.learned()
    assert facts == [("tcp", "h", "address of n", "2,192.0.2.1 2,2001:db8::1")]
    names.known["n"].reverse()
    await Addresses().resolve(target, 22, around)
    assert around.memory.learned() == []
    names.known.clear()
    later = Surroundings(threads=names, clock=FakeClock())
    later.memory.restore(facts)
    assert len(await Addresses().resolve(target, 22, later)) == 2
    assert later.memory.learned() == []
    with pytest.raises(RemoteTransient):
        await Addresses(remembers=False).resolve(target, 22, later)


async def test_a_given_address_is_used_as_it_is() -> None:
    names = Names()
    names.known = {"192.0.2.9": ["192.0.2.9"]}
    around = Surroundings(threads=names, clock=FakeClock())
    target = Target(host_name="h", host="north.example.org", address="192.0.2.9")
    assert await Addresses().resolve(target, 22, around) == [(socket.AF_INET, ("192.0.2.9", 22))]
