"""`ecpds push`: store files and queue them for a destination."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from ecpds.cli.client import Client, add_arguments, find
from ecpds.cli.codes import CommandError, Exit


def arguments(name: str, parser: ArgumentParser) -> None:
    """Declare the arguments."""
    del name
    add_arguments(parser)
    parser.add_argument("destination")
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file, or - for standard input")
    parser.add_argument("--target", help="name at the destination; ends with / for a directory")
    parser.add_argument("--original", help="name recorded as the original")
    parser.add_argument("--identity", help="name that recurs from day to day")
    parser.add_argument("--version", help="tells equal targets apart")
    parser.add_argument("--priority", type=int, help="0 first to 99 last")
    parser.add_argument("--lifetime", help="such as 2d")
    parser.add_argument("--delay", help="such as 10m, added to the start")
    parser.add_argument("--at", help="start, RFC 3339")
    parser.add_argument("--group", help="name of a batch")
    parser.add_argument("--meta", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--standby", action="store_true", help="store only")
    parser.add_argument("--event", action="store_true", help="announce when available")
    parser.add_argument("--on-duplicate", choices=("fail", "overwrite", "skip"), default="fail")
    parser.add_argument("--force", action="store_true", help="same as --on-duplicate overwrite")
    parser.add_argument("--remove-source", action="store_true", help="delete the file when stored")


def run(name: str, args: Namespace) -> int:
    """Push each file; print an id or an error for each; 4 when only some worked."""
    del name
    if "-" in args.files and not args.target:
        raise CommandError("--target is needed with standard input", Exit.USAGE)
    many = len(args.files) > 1
    if many and args.target and not args.target.endswith("/"):
        raise CommandError("with several files --target must end with /", Exit.USAGE)
    missing = [path for path in args.files if path != "-" and not Path(path).is_file()]
    if missing:
        raise CommandError(f"{missing[0]}: there is no such file", Exit.USAGE)
    client = Client(find(args), args.timeout)
    client.call("GET", f"/destinations/{args.destination}")  # no content is sent for a wrong name
    failures: list[Exit] = []
    for path in args.files:
        try:
            _show(args, path, _push(client, args, path))
        except CommandError as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            failures.append(error.exit_code)
            client.close()
    if not failures:
        return Exit.DONE
    return Exit.PARTIAL if len(failures) < len(args.files) else failures[0]


def _push(client: Client, args: Namespace, path: str) -> Any:
    base = "stdin" if path == "-" else Path(path).name
    target = args.target or base
    if target.endswith("/"):
        target += base
    given = {
        "destination": args.destination,
        "target": target,
        "original": args.original or (path if path != "-" else target),
        "identity": args.identity,
        "version": args.version,
        "priority": args.priority,
        "lifetime": args.lifetime,
        "delay": args.delay,
        "at": args.at,
        "group": args.group,
        "metadata": ",".join(args.meta),
        "standby": "yes" if args.standby else None,
        "event": "yes" if args.event else None,
        "on_duplicate": "overwrite" if args.force else args.on_duplicate,
    }
    fields = {key: str(value) for key, value in given.items() if value not in (None, "")}
    with _opened(path) as content, _progress(args, path) as watched:
        answer = client.upload("/files", fields, base, watched(content))
    if args.remove_source and path != "-":
        Path(path).unlink()
    return answer


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise CommandError(f"cannot be read: {error.strerror}", Exit.USAGE) from None


@contextmanager
def _progress(args: Namespace, path: str) -> Iterator[Any]:
    """Give a function that wraps a file so that a bar moves as it is read."""
    if args.quiet or args.output != "text" or not sys.stderr.isatty():
        yield lambda file: file
        return
    size = None if path == "-" else os.path.getsize(path)  # noqa: PTH202 - a text is at hand
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(path, total=size)
        yield lambda file: _Watched(file, lambda count: bar.advance(task, count))


class _Watched:
    def __init__(self, file: IO[bytes], advance: Any) -> None:
        self._file, self._advance = file, advance

    def read(self, count: int) -> bytes:
        block = self._file.read(count)
        self._advance(len(block))
        return block


def _show(args: Namespace, path: str, answer: Any) -> None:
    file, transfers = answer["data_file"], answer["transfers"]
    if args.output == "id":
        print(file["id"])
    elif args.output == "json":
        line = {
            "file": path,
            "destination": args.destination,
            "target": transfers[0]["target"] if transfers else None,
            "data_file_id": file["id"],
            "transfers": [one["id"] for one in transfers],
            "status": transfers[0]["status"] if transfers else None,
            "updated": bool(answer.get("updated")),
            "bytes": file["size"],
            "sha256": file.get("sha256"),
            "scheduled": transfers[0]["scheduled"] if transfers else None,
        }
        print(json.dumps(line, ensure_ascii=False))
    else:
        ids = ", ".join(str(one["id"]) for one in transfers)
        print(f"{path}: data file {file['id']}, {file['size']} bytes, transfer(s) {ids}")
