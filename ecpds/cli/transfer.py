"""`ecpds transfer …`, `requeue`, `hold`, `release`, `stop`, `purge`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import Client, connect
from ecpds.cli.codes import CommandError, Exit, of_several
from ecpds.cli.verbs import Verb, add_output, as_json, card, complain, is_fatal, listed, table
from ecpds.cli.waiting import deadline, wait_for
from ecpds.model.units import format_bytes

Found = dict[str, Any]
DONE_WORDS: Final = {
    "requeue": "requeued",
    "hold": "held",
    "release": "released",
    "stop": "stopped",
    "purge": "deleted",
}
COLUMNS: Final = ("id", "status", "priority", "size", "destination", "target")


# --- arguments -----------------------------------------------------------------------------------


def _filter_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("filter")
    group.add_argument("--destination", metavar="NAME", help="to that destination")
    group.add_argument("--target", metavar="GLOB", help="with such a name there")
    group.add_argument("--version", metavar="TEXT", help="of that version")
    group.add_argument("--status", metavar="STATUS", help="one or more, with commas")
    group.add_argument("--file", type=int, metavar="ID", help="transfers of that data file")


def _ids_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ids", nargs="+", type=int, metavar="ID", help="of a transfer")
    add_output(parser)
    add_arguments(parser)


def _list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="most rows; 0: all")
    _filter_arguments(parser)
    add_output(parser)
    add_arguments(parser)


def _wait_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--for", dest="wanted", choices=("done", "stored"), default="done", help="default done"
    )
    _chosen_arguments(parser)


def _chosen_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="of a transfer")
    _filter_arguments(parser)
    add_output(parser)
    add_arguments(parser)


def _act_arguments(verb: str, parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only print which")
    if verb == "purge":
        parser.add_argument("--yes", "-y", action="store_true", help="do not ask")
    _chosen_arguments(parser)


# --- look ----------------------------------------------------------------------------------------


def _chosen(client: Client, args: Namespace) -> Iterator[Found]:
    """Yield the transfers that ids or filter name."""
    filters = {"destination": args.destination, "target": args.target, "status": args.status}
    if args.file is not None:
        if any(filters.values()) or args.version is not None:
            raise CommandError("--file stands alone", Exit.USAGE)
        yield from client.call("GET", f"/files/{args.file}")["transfers"]
        return
    for one in client.items("/transfers", filters):
        if args.version is None or one["version"] == args.version:
            yield one


def _check_choice(args: Namespace) -> None:
    named = args.destination or args.target or args.status or args.file is not None
    if args.ids and named:
        raise CommandError("name ids or a filter, not both", Exit.USAGE)
    if not args.ids and not named:
        message = "name transfers by id, --destination, --target, --status or --file"
        raise CommandError(message, Exit.USAGE)


def _row(one: Found) -> list[Any]:
    size = one.get("size")
    shown = one | {"size": "" if size is None else format_bytes(size)}
    return [shown.get(column) for column in COLUMNS]


def _list(args: Namespace) -> int:
    with connect(args) as client:
        found = islice(_chosen(client, args), args.limit or None)
        if args.output == "text":
            table([_row(one) for one in found], COLUMNS)
        else:
            listed(args, found, "id", COLUMNS)
    return Exit.DONE


def _show(args: Namespace) -> int:
    def show(client: Client, number: int) -> None:
        one = client.call("GET", f"/transfers/{number}")
        if args.output == "text":
            card(one)
        else:
            listed(args, [one], "id", COLUMNS)

    return _each(args, show)


def _history(args: Namespace) -> int:
    def show(client: Client, number: int) -> None:
        rows = client.call("GET", f"/transfers/{number}/history")["items"]
        if args.output == "text":
            columns = ("time", "status", "host", "comment")
            texts = [row | {"comment": _why(row)} for row in rows]
            listed(args, texts, "time", columns)
        elif args.output == "json":
            for row in rows:
                as_json({"transfer": number} | row)
        else:
            print(number)

    return _each(args, show)


def _why(row: Found) -> str:
    reason = row.get("reason") or {}
    return str(row.get("comment") or reason.get("text") or "")


def _each(args: Namespace, act: Any) -> int:
    failures: list[Exit] = []
    done = 0
    with connect(args) as client:
        for number in args.ids:
            try:
                act(client, number)
                done += 1
            except CommandError as error:
                complain(args, number, error)
                failures.append(error.exit_code)
                if is_fatal(error):
                    break
    return of_several(failures, done)


def _wait(args: Namespace) -> int:
    _check_choice(args)
    limit = deadline(args.timeout)

    def tell(one: Found) -> None:
        if args.output == "text":
            print(f"{one['id']} {one['status']} {one['destination']}/{one['target']}", flush=True)
        else:
            listed(args, [one], "id", COLUMNS)

    with connect(args, min(args.timeout or 60.0, 60.0)) as client:
        numbers = args.ids or [one["id"] for one in _chosen(client, args)]
        if not numbers:
            raise CommandError("no transfer matches", Exit.NOT_FOUND)
        failed = wait_for(client, numbers, args.wanted, limit, tell)
    return Exit.PARTIAL if failed else Exit.DONE


# --- act -----------------------------------------------------------------------------------------


def _act(verb: str, args: Namespace) -> int:
    _check_choice(args)
    with connect(args) as client:
        if args.ids and not args.dry_run and verb != "purge":
            return _do(client, args, verb, args.ids)
        found = (
            [client.call("GET", f"/transfers/{number}") for number in args.ids]
            if args.ids
            else list(_chosen(client, args))
        )
        if args.dry_run:
            return _tell_only(args, verb, found)
        if verb == "purge" and not args.yes:
            _ask(found)
        return _do(client, args, verb, [one["id"] for one in found])


def _tell_only(args: Namespace, verb: str, found: list[Found]) -> int:
    if args.output == "text":
        for one in found:
            place = f"{one['destination']}/{one['target']}"
            print(f"would {verb} {one['id']} {place} ({one['status']})")
        print(f"{len(found)} transfers would be {DONE_WORDS[verb]}")
    else:
        listed(args, found, "id", COLUMNS)
    return Exit.DONE if found else Exit.NOT_FOUND


def _ask(found: list[Found]) -> None:
    if not found:
        return
    if not sys.stdin.isatty():
        raise CommandError("say --yes: nobody can be asked here", Exit.USAGE)
    print(f"Delete {len(found)} transfers? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandError("nothing deleted", Exit.INTERRUPTED)


def _do(client: Client, args: Namespace, verb: str, numbers: list[int]) -> int:
    """Act on each; what a filter finds in a state that does not allow it is only counted."""
    action = "delete" if verb == "purge" else verb
    done: list[int] = []
    failures: list[Exit] = []
    skipped = 0
    for number in numbers:
        try:
            client.call("POST", f"/transfers/{number}/actions/{action}", body={})
            done.append(number)
        except CommandError as error:
            if not args.ids and error.reason in {"bad-state", "not-found"}:
                skipped += 1
                continue
            complain(args, number, error)
            failures.append(error.exit_code)
            if is_fatal(error):
                break
    _tell(args, verb, done, skipped, len(failures))
    if not numbers:
        return Exit.NOT_FOUND
    if not done and not failures:
        return Exit.CONFLICT
    return of_several(failures, len(done))


def _tell(args: Namespace, verb: str, done: list[int], skipped: int, refused: int) -> None:
    if args.output == "json":
        as_json({DONE_WORDS[verb]: len(done), "ids": done, "skipped": skipped, "refused": refused})
    elif args.output == "id":
        for number in done:
            print(number)
    else:
        rest = f", {skipped} in a state that does not allow it" if skipped else ""
        print(f"{len(done)} transfers {DONE_WORDS[verb]}{rest}")


def _acting(verb: str, text: str) -> Verb:
    return Verb(words=verb, help=text, arguments=partial(_act_arguments, verb),
                run=partial(_act, verb))  # fmt: skip


VERBS: Final = (
    Verb(words="transfer list", help="list transfers, newest first", arguments=_list_arguments,
         run=_list),
    Verb(words="transfer show", help="show transfers", arguments=_ids_arguments, run=_show),
    Verb(words="transfer history", help="show what happened to transfers",
         arguments=_ids_arguments, run=_history),
    Verb(words="transfer wait", arguments=_wait_arguments, run=_wait,
         help="wait until transfers are done; exit with 4 when one fails, 9 after --timeout"),
    _acting("requeue", "give transfers another try, with fresh counters"),
    _acting("hold", "hold transfers until they are released"),
    _acting("release", "queue held transfers"),
    _acting("stop", "stop transfers, running ones too"),
    _acting("purge", "delete transfers, and content that no other one needs; asks first"),
)  # fmt: skip
