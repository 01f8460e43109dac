"""Us and the peers of a portal case, each with the same files, behind one form."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from benchmarks import clients, node, peers
from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Contender
from benchmarks.scene import MANY, Material, Scene, fresh
from tests.peers.peer import Peer

S = TypeVar("S")

FURTHER = "rclone"
"""A peer without a reach: two rounds of fewer files tell enough, its uploads are not synced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side(Generic[S]):
    """One server: `site` is how the client reaches it, `disk` the folder that holds its files.

    `with_sync`: measure its uploads also with a `sync` behind them, because what it acknowledged
    is only in memory. `forget` removes files between rounds. `rounds`: it takes part in no more.
    `many` is how many small files it is asked for: rates do not depend on it, the time does.
    """

    site: S
    disk: Path
    with_sync: bool
    forget: Callable[[Sequence[str]], None]
    rounds: int | None = None
    many: int = MANY


Sides = Mapping[str, "Side[S] | MeasurementFailed"]
Work = Callable[[str, "Side[S]", int], Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol(Generic[S]):
    """How a case addresses servers; `servers` maps the shown name of a peer to its own name."""

    servers: Mapping[str, str]
    of_peer: Callable[[Peer], S]
    of_node: Callable[[node.Node], S]


async def opened(
    running: AsyncExitStack, scene: Scene, folder: Path, protocol: Protocol[S]
) -> Sides[S]:
    """Start everybody with the material in place; who cannot start is there as its error."""
    material = await asyncio.to_thread(Material(folder=scene.work / "material").create)
    fresh(folder)
    sides: dict[str, Side[S] | MeasurementFailed] = {}
    if scene.ours:
        sides[US] = await _ours(running, folder / US, material, protocol)
    for name, server in protocol.servers.items():
        try:
            found = await running.enter_async_context(peers.available(server, folder=folder))
        except MeasurementFailed as error:
            sides[name] = error
            continue
        peer = found[server]
        material.link_into(peer.root)
        sides[name] = _peer(name, peer, protocol)
    return sides


def _peer(name: str, peer: Peer, protocol: Protocol[S]) -> Side[S]:
    further = name == FURTHER
    return Side(
        site=protocol.of_peer(peer),
        disk=peer.root,
        with_sync=not further,
        forget=_unlink(peer.root),
        rounds=2 if further else None,
        many=MANY // 5 if further else MANY,
    )


async def _ours(
    running: AsyncExitStack, folder: Path, material: Material, protocol: Protocol[S]
) -> Side[S] | MeasurementFailed:
    sources = [material.big, material.medium, *material.small()]
    try:
        ours = await running.enter_async_context(node.portal(folder, sources))
    except MeasurementFailed as error:
        return error

    def forget(names: Sequence[str]) -> None:
        clients.http_delete(ours.http(), names, folder / "delete.curl")

    return Side(site=protocol.of_node(ours), disk=folder, with_sync=False, forget=forget)


def _unlink(root: Path) -> Callable[[Sequence[str]], None]:
    def forget(names: Sequence[str]) -> None:
        for name in names:
            (root / name).unlink(missing_ok=True)

    return forget


def contenders(sides: Sides[S], work: Work[S]) -> list[Contender]:
    """Return one contender a side, doing `work` with it."""
    return [
        Contender(name=name, run=_run(name, side, work), rounds=getattr(side, "rounds", None))
        for name, side in sides.items()
    ]


def _run(
    name: str, side: Side[S] | MeasurementFailed, work: Work[S]
) -> Callable[[int], Mapping[str, float]]:
    def run(number: int) -> Mapping[str, float]:
        if isinstance(side, MeasurementFailed):
            raise side
        return work(name, side, number)

    return run


def rates(name: str, side: Side[S], amount: float, seconds: float) -> dict[str, float]:
    """Return the rate of an upload; for a peer also the rate with its bytes on the disk."""
    found = {name: amount / seconds}
    if side.with_sync:
        found[synced(name)] = amount / (seconds + clients.flush(side.disk))
    return found


def synced(name: str) -> str:
    """Return the name of a peer's figure that includes `sync`."""
    return f"{name} + sync"
