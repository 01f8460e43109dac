"""What may be said of a file that is stored or registered, and what became of it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import Any

from ecpds.cli.client import Client, segment
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.verbs import as_json

Found = dict[str, Any]


def add_submission(parser: ArgumentParser) -> None:
    """Add what `push` and `register` both take."""
    parser.add_argument("--target", help="name at the destination; ends with / for a directory")
    parser.add_argument("--original", help="name recorded as the original; default as typed")
    parser.add_argument("--identity", help="name that recurs from day to day; default the target")
    parser.add_argument("--version", help="tells equal targets apart")
    parser.add_argument("--priority", type=int, help="0 first to 99 last")
    parser.add_argument("--lifetime", metavar="TIME", help="how long it is kept, such as 2d")
    parser.add_argument("--delay", metavar="TIME", help="added to the start, such as 10m")
    parser.add_argument("--at", metavar="TIME", help="start, RFC 3339")
    parser.add_argument("--group", help="name of a batch")
    parser.add_argument(
        "--meta", action="append", default=[], metavar="KEY=VALUE",
        help="metadata; may be repeated, or several with commas",
    )  # fmt: skip
    parser.add_argument("--standby", action="store_true", help="store it, wait for a release")
    parser.add_argument(
        "--asap", action="store_true", help="send it at once; a group when all of it is there"
    )
    parser.add_argument("--event", action="store_true", help="announce it when it is available")
    parser.add_argument(
        "--on-duplicate", choices=("fail", "overwrite", "skip"), default="fail",
        help="when there is such a target and version already",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="same as --on-duplicate overwrite")


def submission_of(args: Namespace, base: str, original: str) -> Found:
    """Return what the arguments say of one file; `base` is its name without directories."""
    target = args.target or base
    given = {
        "destination": args.destination,
        "target": target + base if target.endswith("/") else target,
        "original": args.original or original,
        "identity": args.identity,
        "version": args.version,
        "priority": args.priority,
        "lifetime": args.lifetime,
        "delay": args.delay,
        "at": args.at,
        "group": args.group,
        "metadata": metadata(args.meta) or None,
        "standby": True if args.standby else None,
        "asap": True if args.asap else None,
        "event": True if args.event else None,
        "on_duplicate": "overwrite" if args.force else args.on_duplicate,
    }
    return {key: value for key, value in given.items() if value not in (None, "")}


def metadata(words: Iterable[str]) -> dict[str, str]:
    """Return `--meta` as a document; a part without `=` continues the value before (cli.md 6)."""
    found: dict[str, str] = {}
    for word in words:
        key = ""
        for part in word.split(","):
            name, sign, value = part.partition("=")
            if sign and name.strip():
                key = name.strip()
                found[key] = value
            elif key:
                found[key] += f",{part}"
            else:
                raise CommandError(f"--meta {word!r} is not KEY=VALUE", Exit.USAGE)
    return found


def check_destination(client: Client, name: str) -> None:
    """Raise CommandError for a wrong name before anything is sent."""
    try:
        client.call("GET", f"/destinations/{segment(name)}", query={"fields": "name"})
    except CommandError as error:
        if error.reason != "denied":  # who may write need not be allowed to look
            raise


def tell(args: Namespace, what: str, answer: Found, *, sha256: str | None = None) -> None:
    """Print what became of one file, in the form that was asked for."""
    file, transfers = answer["data_file"], answer["transfers"]
    first = transfers[0] if transfers else {"target": None, "status": None, "scheduled": None}
    if args.output == "id":
        print(file["id"])
    elif args.output == "json":
        as_json(
            {
                "file": what,
                "destination": args.destination,
                "target": first["target"],
                "data_file_id": file["id"],
                "transfers": [one["id"] for one in transfers],
                "status": first["status"],
                "updated": bool(answer.get("updated")),
                "skipped": bool(answer.get("skipped")),
                "bytes": file["size"],
                "sha256": sha256 or file.get("sha256"),
                "scheduled": first["scheduled"],
            }
        )
    else:
        ids = ", ".join(str(one["id"]) for one in transfers)
        size = "size unknown" if file["size"] is None else f"{file['size']} bytes"
        became = "is there already, skipped" if answer.get("skipped") else size
        updated = " (updated)" if answer.get("updated") else ""
        print(f"{what}: data file {file['id']}, {became}, transfer {ids}{updated}")
