"""`ecpds group …`: batches of registered files, and waiting for one."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import Client, connect, segment
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.verbs import Verb, add_output, as_json, card, listed, table
from ecpds.cli.waiting import deadline

Found = dict[str, Any]
LOOK_EVERY: Final = 1.0  # seconds between two questions
NAME_EVERY: Final = 15.0  # seconds between two lists of the files that are left
FEW: Final = 10
FOUND_WITHIN: Final = 35.0  # seconds in which a group that nobody knows yet may come up
COLUMNS: Final = ("name", "files", "done", "waiting", "failed", "bytes")


def _name_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="GROUP", help="label of the batch")
    add_output(parser, ids=False)
    add_arguments(parser)


def _wait_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--fail-fast", action="store_true", help="end at the first failed retrieval of a file"
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="only the end")
    _name_arguments(parser)


def _list_arguments(parser: ArgumentParser) -> None:
    add_output(parser)
    add_arguments(parser)


def _list(args: Namespace) -> int:
    with connect(args) as client:
        listed(args, client.items("/groups"), "name", COLUMNS)
    return Exit.DONE


def _show(args: Namespace) -> int:
    with connect(args) as client:
        found = client.call("GET", f"/groups/{segment(args.name)}")
        if args.output == "json":
            as_json(found)
            return Exit.DONE
        card({key: value for key, value in found.items() if not isinstance(value, list)})
        rows = [
            [one["data_file_id"], one["state"], one["tries"], one["source"], _why(one)]
            for one in client.items(f"/groups/{segment(args.name)}/files")
        ]
    print()
    table(rows, ("data_file", "state", "tries", "source", "reason"))
    return Exit.DONE


def _why(one: Found) -> str:
    return str((one.get("reason") or {}).get("text") or "")


def _wait(args: Namespace) -> int:
    """Wait until no file of the batch waits for its content; 4 when some of them failed."""
    with connect(args, min(args.timeout or 60.0, 60.0)) as client:
        found = _Watch(client, args).wait()
        failed = list(client.items(f"/groups/{segment(args.name)}/files", {"state": "failed"}))
        if args.fail_fast and not failed and found["waiting"]:
            failed = list(client.items(f"/groups/{segment(args.name)}/files", {"state": "trouble"}))
    _tell_end(args, found, failed)
    return Exit.PARTIAL if failed else Exit.DONE


class _Watch:
    """Asks until a batch is complete, and tells how far it is."""

    def __init__(self, client: Client, args: Namespace) -> None:
        self._client, self._args = client, args
        self._path = f"/groups/{segment(args.name)}"
        self._named_at = float("-inf")

    def wait(self) -> Found:
        limit = deadline(self._args.timeout)
        found = self._first(limit)
        while found["waiting"] and not self._is_lost(found):
            self._tell(found)
            if time.monotonic() >= limit:
                message = f"{found['waiting']} of {found['files']} files are not yet there"
                raise CommandError(message, Exit.TIMEOUT)
            time.sleep(min(LOOK_EVERY, max(limit - time.monotonic(), 0.01)))
            found = self._client.call("GET", self._path)
        return found

    def _is_lost(self, found: Found) -> bool:
        return bool(self._args.fail_fast and (found["failed"] or found["retrying"]))

    def _first(self, limit: float) -> Found:
        """Return the batch; one that is not known may be on its way for a while."""
        limit = min(limit, time.monotonic() + FOUND_WITHIN)
        while True:
            try:
                found: Found = self._client.call("GET", self._path)
            except CommandError as error:
                if error.exit_code is not Exit.NOT_FOUND or time.monotonic() >= limit:
                    raise
                time.sleep(min(LOOK_EVERY, max(limit - time.monotonic(), 0.01)))
            else:
                return found

    def _tell(self, found: Found) -> None:
        if self._args.quiet:
            return
        if self._args.output == "json":
            as_json(found)
            return
        now = datetime.now().astimezone()  # noqa: TID251 - shown to the person who waits
        name = self._args.name
        print(f"{now:%b %d %H:%M:%S}: Still {found['waiting']} DataFile(s) to process for"
              f" group {name}", flush=True)  # fmt: skip
        if found["waiting"] < FEW and time.monotonic() - self._named_at >= NAME_EVERY:
            self._named_at = time.monotonic()
            for one in found["waiting_files"]:
                print(f"  {_line(one)}", flush=True)


def _line(one: Found) -> str:
    who = f"{one['submitter'] or '-'}@{one['from'] or '-'}"
    size, received = one["size"], one["received"]
    if received is None:
        done = "retrieval not started yet"
    elif size:
        done = f"{100 * received // size}% retrieved"
    else:
        done = f"{received} bytes retrieved"
    return f"{who} {one['source']} {'-' if size is None else size} {done}"


def _tell_end(args: Namespace, found: Found, failed: list[Found]) -> None:
    if args.output == "json":
        as_json(found | {"failed_files": failed, "waiting_files": []})
        return
    for one in failed:
        print(f"failed: {one['source']}: {_why(one) or 'not retrieved'}")
    if found["waiting"]:
        print(f"Group {args.name}: {found['waiting']} DataFile(s) still to process")
    elif failed:
        print(f"Group {args.name} ended, {len(failed)} of {found['files']} DataFile(s) failed")
    else:
        print(f"Group {args.name} completed ({found['files']} DataFile(s))")


VERBS: Final = (
    Verb(words="group wait", arguments=_wait_arguments, run=_wait,
         help="wait until a batch is retrieved; exit with 4 when files failed, 9 after --timeout"),
    Verb(words="group show", help="show a batch with its files", arguments=_name_arguments,
         run=_show),
    Verb(words="group list", help="list batches", arguments=_list_arguments, run=_list),
)  # fmt: skip
