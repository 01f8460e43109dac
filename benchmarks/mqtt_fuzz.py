"""`python -m benchmarks.mqtt_fuzz [--packets N] [--seed N]`: nearly right packets, a million.

First the parser reads them, then a whole broker, over many connections.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

from tests.mqttfuzz import errors, is_well, parse_many, send_many
from tests.protocol.mqttrig import mqtt_rig

WARM = 20_000  # packets before the first look at the memory


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def _attack(count: int, seed: int) -> bool:
    with tempfile.TemporaryDirectory() as folder, errors() as found:
        async with mqtt_rig(Path(folder)) as rig:
            await send_many(rig, min(count, WARM), seed + 1)
            before = _resident()
            sent = await send_many(rig, count, seed)
            grown = _resident() - before
            well = await is_well(rig)
    for text in found[:10]:
        print(f"error: {text}", file=sys.stderr)
    print(f"broker: {sent:,} sent, {len(found)} errors, memory {grown:+.1f} MiB, well: {well}")
    return well and not found


def main() -> int:
    """Return 0 unless something crashed."""
    parser = ArgumentParser(prog="python -m benchmarks.mqtt_fuzz", description=__doc__)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    begun = time.monotonic()
    refused = parse_many(options.packets, options.seed)
    print(f"parser: {options.packets:,} read, {refused:,} refused, none crashed", flush=True)
    is_good = asyncio.run(_attack(options.packets, options.seed))
    print(f"{time.monotonic() - begun:.0f} s")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
