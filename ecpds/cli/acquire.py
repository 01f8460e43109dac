"""`ecpds host acquire|interrupt|ls`: discoveries now, dry or stopped, and a look into a host."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, Final

from ecpds.cli.client import Client
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.verbs import card, table

Found = dict[str, Any]
MOST_TEXT: Final = 900 * 1024  # bytes of a listing; the API takes 1 MiB


def acquire_arguments(parser: ArgumentParser) -> None:
    """Add what a dry run looks at."""
    parser.add_argument("--destination", default="", metavar="NAME", help="only for that one")
    group = parser.add_argument_group("dry run")
    group.add_argument("--dry-run", action="store_true",
                       help="tell what would be taken or not, and why; store nothing")  # fmt: skip
    group.add_argument("--directory", metavar="FILE", help="directory text to try; - reads it")
    group.add_argument("--listing", metavar="FILE", help="pasted listing; - reads it")
    group.add_argument("--names", action="store_true",
                       help="the listing has names, with size and time behind tabs")  # fmt: skip
    group.add_argument("--limit", type=int, default=1000, metavar="N", help="most entries told")


def acquire(client: Client, path: str, args: Namespace) -> Found:
    """Ask for a discovery, or for what it would find."""
    body: Found = {"destination": args.destination}
    if not args.dry_run:
        if args.directory or args.listing:
            raise CommandError("--directory and --listing need --dry-run", Exit.USAGE)
        found: Found = client.call("POST", f"{path}/actions/acquire", body=body)
        return found
    body |= {"names_only": args.names, "limit": args.limit}
    for name in ("directory", "listing"):
        if getattr(args, name) is not None:
            body[name] = _text(getattr(args, name))
    query = {"dry_run": "true"}
    tried: Found = client.call("POST", f"{path}/actions/acquire", body=body, query=query)
    return tried


def _text(path: str) -> str:
    try:
        data = sys.stdin.buffer.read(MOST_TEXT + 1) if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", Exit.USAGE) from None
    if len(data) > MOST_TEXT:
        raise CommandError(f"{path}: more than {MOST_TEXT} bytes", Exit.USAGE)
    return data.decode(errors="replace")


def show_acquire(found: Found) -> None:
    """Print each line, each entry and the counts."""
    if "entries" not in found:
        card(found)
        return
    for line in found["lines"]:
        print(f"line {line['line']}: {line['error'] or line['path']}")
    rows = [
        [one["line"], one["outcome"], one["name"], one["target"], one["size"], one["time"],
         one["why"] or _known(one)]
        for one in found["entries"]
    ]  # fmt: skip
    table(rows, ("line", "outcome", "name", "target", "size", "time", "why"))
    counts = ", ".join(f"{count} {word}" for word, count in found["outcomes"].items())
    print(f"{found['listed']} listed: {counts or 'nothing'}")
    for error in found["errors"]:
        print(f"error: {error}")


def _known(one: Found) -> str:
    return f"data file {one['data_file']}" if one["data_file"] else ""


def acquire_code(found: Found) -> Exit:
    """Return 1 when a dry run met an error."""
    return Exit.UNEXPECTED if found.get("errors") else Exit.DONE


def interrupt(client: Client, path: str, args: Namespace) -> Found:
    """End the discoveries that run."""
    del args
    found: Found = client.call("POST", f"{path}/actions/interrupt", body={})
    return found


def list_arguments(parser: ArgumentParser) -> None:
    """Add the path."""
    parser.add_argument("path", nargs="?", default="", help="directory at the host")
    parser.add_argument("--limit", type=int, default=1000, metavar="N", help="most entries")


def listing(client: Client, path: str, args: Namespace) -> Found:
    """List a directory of the host."""
    body = {"path": args.path, "limit": args.limit}
    found: Found = client.call("POST", f"{path}/actions/list", body=body)
    return found


def show_listing(found: Found) -> None:
    """Print the entries."""
    columns = ("kind", "size", "time", "name")
    table([[one[name] for name in columns] for one in found["entries"]], columns)
    if found["truncated"]:
        print("... and more")
