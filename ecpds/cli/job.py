"""`ecpds job …`: one verb on many transfers, done by the node in the background."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import Client, connect
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.verbs import Verb, add_output, as_json, card, listed
from ecpds.cli.waiting import deadline

Found = dict[str, Any]
ACTIONS: Final = (
    "requeue", "stop", "hold", "release", "schedule_now", "extend", "prioritise", "delete",
)  # fmt: skip
COLUMNS: Final = ("id", "verb", "state", "done", "skipped", "failed", "total", "created", "by")
LOOK_EVERY: Final = 0.5  # seconds


def _start_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("verb", choices=ACTIONS, help="what to do")
    parser.add_argument("--query", "-Q", metavar="Q", help="such as 'status=failed target=*.grib'")
    parser.add_argument("--destination", metavar="NAME", help="only of that destination")
    parser.add_argument("--status", metavar="STATUS", help="one or more, with commas")
    parser.add_argument("--target", metavar="GLOB", help="with such a name")
    parser.add_argument("--since", metavar="TIME", help="scheduled at that time or later, RFC 3339")
    parser.add_argument("--until", metavar="TIME", help="scheduled before that time")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many")
    parser.add_argument("--priority", type=int, metavar="N", help="for prioritise")
    parser.add_argument("--dry-run", action="store_true", help="only count them")
    parser.add_argument("--wait", action="store_true", help="end when the job has ended")
    add_output(parser)
    add_arguments(parser)


def _number_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", type=int, metavar="JOB", help="its number")
    add_output(parser)
    add_arguments(parser)


def _list_arguments(parser: ArgumentParser) -> None:
    add_output(parser)
    add_arguments(parser)


def _start(args: Namespace) -> int:
    given = {
        "q": args.query,
        "destination": args.destination,
        "status": args.status.split(",") if args.status else None,
        "target": args.target,
        "since": args.since,
        "until": args.until,
        "limit": args.limit,
        "priority": args.priority,
    }
    body = {key: value for key, value in given.items() if value is not None}
    with connect(args) as client:
        query = {"dry_run": "true"} if args.dry_run else {}
        path = f"/transfers/actions/{args.verb}"
        found: Found = client.call("POST", path, body=body, query=query)
        if args.dry_run:
            return _tried(args, found)
        if args.wait:
            found = _ended(client, found["id"], deadline(args.timeout))
    return _tell(args, found)


def _tried(args: Namespace, found: Found) -> int:
    if args.output == "json":
        as_json(found)
    else:
        least = "at least " if found["total_is_minimum"] else ""
        print(f"{least}{found['total']} transfers")
    return Exit.DONE if found["total"] else Exit.NOT_FOUND


def _ended(client: Client, number: int, limit: float) -> Found:
    while True:
        found: Found = client.call("GET", f"/jobs/{number}")
        if found["state"] != "running":
            return found
        if time.monotonic() >= limit:
            raise CommandError(f"job {number} still runs", Exit.TIMEOUT)
        time.sleep(min(LOOK_EVERY, max(limit - time.monotonic(), 0.01)))


def _tell(args: Namespace, found: Found) -> int:
    if args.output == "json":
        as_json(found)
    elif args.output == "id":
        print(found["id"])
    else:
        card({key: value for key, value in found.items() if key != "errors"})
        for error in found["errors"]:
            print(f"{error['id']}: {error['message']}")
    if found["state"] == "failed":
        return Exit.UNEXPECTED
    return Exit.PARTIAL if found["failed"] else Exit.DONE


def _show(args: Namespace) -> int:
    with connect(args) as client:
        return _tell(args, client.call("GET", f"/jobs/{args.job}"))


def _wait(args: Namespace) -> int:
    with connect(args) as client:
        return _tell(args, _ended(client, args.job, deadline(args.timeout)))


def _cancel(args: Namespace) -> int:
    with connect(args) as client:
        client.call("DELETE", f"/jobs/{args.job}", match="*")
        return _tell(args, client.call("GET", f"/jobs/{args.job}"))


def _list(args: Namespace) -> int:
    with connect(args) as client:
        listed(args, client.items("/jobs"), "id", COLUMNS)
    return Exit.DONE


VERBS: Final = (
    Verb(words="job start", help="do something with all transfers that fit",
         arguments=_start_arguments, run=_start),
    Verb(words="job show", help="show how far a job is", arguments=_number_arguments, run=_show),
    Verb(words="job wait", help="wait until a job has ended; exit with 4 when something failed",
         arguments=_number_arguments, run=_wait),
    Verb(words="job cancel", help="end a job; what it has done stays done",
         arguments=_number_arguments, run=_cancel),
    Verb(words="job list", help="list jobs, newest first", arguments=_list_arguments, run=_list),
)  # fmt: skip
