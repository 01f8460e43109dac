"""`ecpds status`, `bans` and `unban`: the node as a whole."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import connect, segment
from ecpds.cli.codes import Exit
from ecpds.cli.verbs import Verb, add_output, as_json, cell, listed, table

BANS: Final = "/portal/bans"


def _status_arguments(parser: ArgumentParser) -> None:
    add_output(parser, ids=False)
    add_arguments(parser)


def _status(args: Namespace) -> int:
    with connect(args) as client:
        found = client.readiness()
    ready = bool(found.get("ready"))
    if args.output == "json":
        as_json(found)
    else:
        print("ready" if ready else "not ready")
        rows = []
        for name, check in found.get("checks", {}).items():
            facts = ", ".join(f"{key} {cell(one)}" for key, one in check.items() if key != "ok")
            rows.append([name, "ok" if check["ok"] else "FAILED", facts])
        table(rows, ("check", "state", "facts"))
    return Exit.DONE if ready else Exit.UNEXPECTED


def _bans_arguments(parser: ArgumentParser) -> None:
    add_output(parser)
    add_arguments(parser)


def _bans(args: Namespace) -> int:
    with connect(args) as client:
        found = client.call("GET", BANS)["items"]
    listed(args, found, "address", ("address", "until", "reason"))
    return Exit.DONE


def _unban_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("address", help="IP address")
    _bans_arguments(parser)


def _unban(args: Namespace) -> int:
    with connect(args) as client:
        client.call("DELETE", f"{BANS}/{segment(args.address)}")
    if args.output == "json":
        as_json({"address": args.address, "banned": False})
    else:
        print(args.address if args.output == "id" else f"{args.address} may come in again")
    return Exit.DONE


VERBS: Final = (
    Verb(words="status", help="tell whether the node is ready; exit with 1 when it is not",
         arguments=_status_arguments, run=_status),
    Verb(words="bans", help="list addresses that are kept out",
         arguments=_bans_arguments, run=_bans),
    Verb(words="unban", help="let an address in again", arguments=_unban_arguments, run=_unban),
)  # fmt: skip
