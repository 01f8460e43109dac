"""The sample site of a first start with `[demo] enabled = true`."""

from __future__ import annotations

from ecpds.node import Node


async def make_demo(node: Node) -> list[str]:
    """Create the sample site once; return the lines to print."""
    del node
    return []
