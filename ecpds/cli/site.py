"""`ecpds apply` and `ecpds export`: the configuration as a document."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from ecpds.base.settings import load
from ecpds.cli.client import Client, add_arguments, find
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.config import toml_lines
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.site import SiteOperations
from ecpds.engine.operations.sitefile import read_file, read_site
from ecpds.model.decode import Where
from ecpds.node import DataDirectory, Node, open_node

T = TypeVar("T")


def arguments(name: str, parser: ArgumentParser) -> None:
    """Declare the arguments."""
    add_arguments(parser)
    if name == "apply":
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        parser.add_argument("--dry-run", action="store_true", help="only print what would change")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="remove what a former apply of the file created and it no longer names",
        )
    else:
        parser.add_argument("--secrets", action="store_true", help="clear text instead of stars")
        parser.add_argument("--format", choices=("toml", "json"), default="toml")


def run(name: str, args: Namespace) -> int:
    """Work through the running node, else directly on the data directory."""
    return _apply(args) if name == "apply" else _export(args)


def _apply(args: Namespace) -> int:
    documents = [(path, *read_file(path)) for path in args.files]
    for _, data, where in documents:
        read_site(data, where)  # all files are read before the first one changes anything
    count = 0
    for path, data, where in documents:
        changes = _changes(args, path, data, where)
        for change in changes:
            if change["action"] != "unchanged" or args.output == "json":
                count += change["action"] != "unchanged"
                print(json.dumps(change) if args.output == "json" else change["line"])
    if args.output != "json":
        word = "would change" if args.dry_run else "changed"
        print(f"{count} object(s) {word}")
    return 0


def _changes(args: Namespace, path: Path, data: dict[str, Any], where: Where) -> list[Any]:
    client = _client(args)
    name = str(path.absolute())
    if client is not None:
        body = {
            "data": data,
            "file": name,
            "lines": [[list(key), line] for key, line in where.lines.items()],
            "dry_run": args.dry_run,
            "prune": args.prune,
        }
        return list(client.call("POST", "/site", json_body=body)["changes"])

    async def act(node: Node) -> list[Any]:
        found = await SiteOperations(node.engine).apply(
            read_site(data, where),
            Actor(name="command line", kind="system"),
            file=name,
            dry_run=args.dry_run,
            prune=args.prune,
        )
        return [
            {"action": one.action, "kind": one.kind, "name": one.name, "line": one.line()}
            for one in found
        ]

    return _at_rest(args, act)


def _export(args: Namespace) -> int:
    client = _client(args)
    if client is not None:
        wanted = {"secrets": "true"} if args.secrets else {}
        document = client.call("GET", "/site", query=wanted)
    else:
        document = _at_rest(
            args, lambda node: SiteOperations(node.engine).export(secrets=args.secrets)
        )
    if args.format == "json" or args.output == "json":
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        print("\n".join(toml_lines(document)))
    return 0


def _client(args: Namespace) -> Client | None:
    """Return a client of the running node, None when none runs on this data directory."""
    try:
        return Client(find(args), args.timeout)
    except CommandError as error:
        if error.exit_code is Exit.UNREACHABLE and not args.server:
            return None
        raise


def _at_rest(args: Namespace, act: Callable[[Node], Awaitable[T]]) -> T:
    config = args.config or (Path("ecpds.toml") if Path("ecpds.toml").exists() else None)

    async def work() -> T:
        settings = load(config)
        directory = DataDirectory(settings)
        directory.open()
        try:
            node = await open_node(settings)
            try:
                return await act(node)
            finally:
                await node.close()
        finally:
            directory.close()

    return asyncio.run(work())
