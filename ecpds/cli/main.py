"""The `ecpds` command: finds the sub-command and runs it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ecpds import __version__
from ecpds.base.settings import load
from ecpds.daemon import serve
from ecpds.model.errors import EcpdsError, InputError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (cli.md section 8)."""
    parser = argparse.ArgumentParser(prog="ecpds")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("serve", help="run the daemon in the foreground")
    run.add_argument("--config", type=Path)
    given = parser.parse_args(arguments)
    try:
        config = given.config or (Path("ecpds.toml") if Path("ecpds.toml").exists() else None)
        serve(load(config), config, say=lambda text: print(text, flush=True))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except EcpdsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
