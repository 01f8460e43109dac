"""`ecpds transfer …`, `requeue`, `hold`, `release`, `stop`."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from ecpds.cli.client import Client, add_arguments, find
from ecpds.cli.codes import CommandError, Exit
from ecpds.model.units import format_bytes

LOOK_EVERY = 0.5  # seconds between two questions of `wait`
ENDED = {"done", "failed", "stopped"}


def arguments(name: str, parser: ArgumentParser) -> None:
    """Declare the arguments."""
    if name == "transfer":
        parser.add_argument("verb", choices=("list", "show", "history", "wait"))
        parser.add_argument("ids", nargs="*", type=int, metavar="ID")
        parser.add_argument("--limit", type=int, default=50)
        parser.add_argument(
            "--for", dest="wanted", choices=("done", "stored"), default="done", help="for wait"
        )
    else:
        parser.add_argument("ids", nargs="*", type=int, metavar="ID")
        parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--destination")
    parser.add_argument("--target", metavar="GLOB")
    parser.add_argument("--status")
    add_arguments(parser)


def run(name: str, args: Namespace) -> int:
    """Run one of them."""
    client = Client(find(args), args.timeout)
    if name != "transfer":
        return _act(client, args, name)
    if args.verb == "list":
        return _list(client, args)
    if not args.ids:
        raise CommandError("name a transfer by its id", Exit.USAGE)
    if args.verb == "wait":
        return _wait(client, args)
    for number in args.ids:
        if args.verb == "show":
            _show(args, client.call("GET", f"/transfers/{number}"))
        else:
            _history(args, client.call("GET", f"/transfers/{number}/history"))
    return Exit.DONE


def _chosen(client: Client, args: Namespace) -> Iterator[dict[str, Any]]:
    if args.ids:
        for number in args.ids:
            yield client.call("GET", f"/transfers/{number}")
        return
    if not (args.destination or args.target or args.status):
        raise CommandError("name transfers by id, --destination, --target or --status", Exit.USAGE)
    query = {"destination": args.destination, "target": args.target, "status": args.status}
    yield from list(client.items("/transfers", query))


def _act(client: Client, args: Namespace, verb: str) -> int:
    done = refused = 0
    for one in _chosen(client, args):
        if args.dry_run:
            print(f"would {verb} {one['id']} {one['destination']}/{one['target']}")
            done += 1
            continue
        try:
            client.call("POST", f"/transfers/{one['id']}/actions/{verb}", json_body={})
            done += 1
        except CommandError as error:
            if args.ids:
                print(f"error: {one['id']}: {error}", file=sys.stderr)
                refused += 1
    word = {"requeue": "requeued", "hold": "held", "release": "released", "stop": "stopped"}[verb]
    if args.output == "json":
        print(json.dumps({word: done, "refused": refused}))
    else:
        print(f"{done} transfers {word}")
    if refused:
        return Exit.PARTIAL if done else Exit.CONFLICT
    return Exit.DONE if done else Exit.NOT_FOUND


def _list(client: Client, args: Namespace) -> int:
    query = {"destination": args.destination, "target": args.target, "status": args.status}
    page = client.call("GET", "/transfers", query=query | {"limit": args.limit})
    for one in page["items"]:
        _show(args, one, short=True)
    return Exit.DONE


def _show(args: Namespace, one: dict[str, Any], *, short: bool = False) -> None:
    if args.output == "json":
        print(json.dumps(one, ensure_ascii=False))
    elif args.output == "id":
        print(one["id"])
    elif short:
        size = format_bytes(max(one["size"] or 0, 0))
        place = f"{one['destination']}/{one['target']}"
        print(f"{one['id']:>8}  {one['status']:<12} {one['priority']:>2} {size:>9}  {place}")
    else:
        for key, value in one.items():
            print(f"{key:<16} {'' if value is None else value}")


def _history(args: Namespace, answer: Any) -> None:
    rows = answer["items"] if isinstance(answer, dict) else answer
    for row in rows:
        if args.output == "json":
            print(json.dumps(row, ensure_ascii=False))
        else:
            text = row.get("comment") or row.get("reason") or ""
            print(f"{row['time']:<26} {row['status']:<12} {row['host'] or '-':<16} {text}")


def _wait(client: Client, args: Namespace) -> int:
    deadline = time.monotonic() + args.timeout
    waiting = set(args.ids)
    failed = 0
    while waiting:
        for number in sorted(waiting):
            one = client.call("GET", f"/transfers/{number}")
            stored = one["status"] not in {"arriving", "preset", "fetching"}
            if one["status"] in ENDED or (args.wanted == "stored" and stored):
                waiting.discard(number)
                failed += one["status"] in {"failed", "stopped"}
                _show(args, one, short=True)
        if waiting and time.monotonic() > deadline:
            raise CommandError(f"{len(waiting)} transfer(s) not yet {args.wanted}", Exit.TIMEOUT)
        if waiting:
            time.sleep(LOOK_EVERY)
    return Exit.PARTIAL if failed else Exit.DONE
