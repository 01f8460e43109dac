"""A node that does not run: its data directory held, its store opened for one act."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from ecpds.base.settings import load
from ecpds.cli.codes import CommandError, Exit
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.site import SiteOperations
from ecpds.engine.operations.sitefile import read_site
from ecpds.model.decode import Where
from ecpds.model.errors import ConfigError
from ecpds.node import ADMIN, DataDirectory, Node, open_node

Document = dict[str, Any]


class AtRest:
    """The node of a data directory on which no daemon runs."""

    def __init__(self, config: Path | None) -> None:
        self._settings = load(config)
        self._directory = DataDirectory(self._settings)
        try:
            self._directory.open()
        except ConfigError as error:  # a daemon starts or stops: it listens not yet or no more
            raise CommandError(error.message, Exit.UNREACHABLE) from None
        self._runner = asyncio.Runner()
        self._node: Node = self._runner.run(open_node(self._settings))
        if self._node.first_password:
            print(first_password(self._node), file=sys.stderr)

    def apply(self, name: str, data: Document, where: Where, args: Namespace) -> list[Document]:
        """Apply one document; return the changes."""
        found = self._runner.run(
            SiteOperations(self._node.engine).apply(
                read_site(data, where),
                Actor(name="command line", kind="system"),
                file=name,
                dry_run=args.dry_run,
                prune=args.prune,
            )
        )
        return [
            {"action": one.action, "kind": one.kind, "name": one.name, "line": one.line()}
            for one in found
        ]

    def export(self, *, secrets: bool) -> Document:
        """Return the configuration."""
        return self._runner.run(SiteOperations(self._node.engine).export(secrets=secrets))

    def close(self) -> None:
        """Close the store and let the directory go."""
        try:
            self._runner.run(self._node.close())
        finally:
            self._runner.close()
            self._directory.close()


def first_password(node: Node) -> str:
    """Return the line that tells the password of a node made just now."""
    return f"administrator {ADMIN!r}, password {node.first_password} (not shown again)"
