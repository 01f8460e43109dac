"""`ecpds serve` and `ecpds init`: the node itself."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ecpds.base.settings import Settings, load
from ecpds.node import ADMIN, DataDirectory, open_node


def arguments(name: str, parser: ArgumentParser) -> None:
    """Declare the arguments."""
    del name
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings; default ./ecpds.toml if there"
    )


def run(name: str, args: Namespace) -> int:
    """Run the daemon, or only create what a first start creates."""
    config = args.config or (Path("ecpds.toml") if Path("ecpds.toml").exists() else None)
    settings = load(config)
    if name == "init":
        return asyncio.run(_init(settings))
    from ecpds.daemon import serve

    serve(settings, config, say=lambda text: print(text, flush=True))
    return 0


async def _init(settings: Settings) -> int:
    directory = DataDirectory(settings)
    directory.open()
    try:
        node = await open_node(settings)
        await node.close()
    finally:
        directory.close()
    print(f"data directory {settings.data_dir} is ready")
    if node.first_password:
        print(f"administrator {ADMIN!r}, password {node.first_password} (not shown again)")
    return 0
