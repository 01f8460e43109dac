"""What the HTTPS portal offers beside the tree itself; None: not at this portal."""

from __future__ import annotations

from dataclasses import dataclass

from ecpds.engine.core import Core
from ecpds.vfs.contract import Registrar
from ecpds.vfs.gate import PortalGate
from ecpds.vfs.links import Links
from ecpds.vfs.registration import Registration
from ecpds.vfs.replay import Replays
from ecpds.vfs.resumables import Resumables


@dataclass(frozen=True, slots=True, kw_only=True)
class Desks:
    """Where people register, where uploads are gone on with, where links are made."""

    registrar: Registrar | None = None
    resumables: Resumables | None = None
    links: Links | None = None
    replays: Replays | None = None


def make_desks(core: Core, gate: PortalGate) -> Desks:
    """Return all of them for a node."""
    return Desks(
        registrar=Registration(core),
        resumables=Resumables(core),
        links=Links(core, gate),
        replays=Replays(core),
    )
