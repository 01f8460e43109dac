"""`ecpds apply` and `ecpds export`: the configuration as a document.

Through the running node, else directly on the data directory.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from ecpds.cli.access import add_arguments, is_elsewhere, settings_path
from ecpds.cli.client import Client, connect
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.tomltext import toml_text
from ecpds.cli.verbs import Verb, add_output, as_json
from ecpds.engine.operations.sitefile import read_file, read_site
from ecpds.model.decode import Where

Document = dict[str, Any]


def _apply_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="TOML or JSON; each all or nothing"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would change")
    parser.add_argument(
        "--prune",
        action="store_true",
        help="remove what a former apply of the file created and it no longer names",
    )
    add_output(parser, ids=False)
    add_arguments(parser)


def _export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--secrets", action="store_true", help="clear text instead of stars")
    parser.add_argument("--format", choices=("toml", "json"), default="toml", help="of the file")
    add_output(parser, ids=False)
    add_arguments(parser)


def _apply(args: Namespace) -> int:
    documents = [(path, *read_file(path)) for path in args.files]
    for _, data, where in documents:
        read_site(data, where)  # all files are read before the first one changes anything
    count = 0
    with closing(node_of(args)) as node:
        for path, data, where in documents:
            changes = node.apply(str(path.absolute()), data, where, args)
            count += sum(change["action"] != "unchanged" for change in changes)
            _print(args, changes)
    if args.output == "text":
        print(f"{count} object(s) {'would change' if args.dry_run else 'changed'}")
    return Exit.DONE


def _print(args: Namespace, changes: list[Document]) -> None:
    for change in changes:
        if args.output == "json":
            as_json(change)
        elif change["action"] != "unchanged":
            print(change["line"])


def _export(args: Namespace) -> int:
    with closing(node_of(args)) as node:
        document = node.export(secrets=args.secrets)
    if args.format == "json" or args.output == "json":
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        print(toml_text(document), end="")
    return Exit.DONE


class Running:
    """A node that runs."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def apply(self, name: str, data: Document, where: Where, args: Namespace) -> list[Document]:
        """Apply one document; return the changes."""
        body = {
            "data": data,
            "file": name,
            "lines": [[list(key), line] for key, line in where.lines.items()],
            "dry_run": args.dry_run,
            "prune": args.prune,
        }
        return list(self._client.call("POST", "/site", body=body)["changes"])

    def export(self, *, secrets: bool) -> Document:
        """Return the configuration."""
        query = {"secrets": "true"} if secrets else {}
        return dict(self._client.call("GET", "/site", query=query))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def node_of(args: Namespace) -> Any:
    """Return the running node; where none runs on this data directory, the node at rest."""
    try:
        client = connect(args)
        if is_elsewhere(args):
            return Running(client)
        client.probe()
    except CommandError as error:
        if error.exit_code is not Exit.UNREACHABLE or is_elsewhere(args):
            raise
        from ecpds.cli.atrest import AtRest  # the whole engine

        return AtRest(settings_path(args))
    return Running(client)


VERBS: Final = (
    Verb(words="apply", help="bring the configuration to what site files say",
         arguments=_apply_arguments, run=_apply),
    Verb(words="export", help="print the configuration as a site file",
         arguments=_export_arguments, run=_export),
)  # fmt: skip
