"""`ecpds push`: store files and queue them for a destination."""

from __future__ import annotations

import json
import os
import stat
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import IO, Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import Client, connect, segment
from ecpds.cli.codes import CommandError, Exit, of_several
from ecpds.cli.progress import progress
from ecpds.cli.upload import Form
from ecpds.cli.verbs import Verb, add_output, as_json, complain, is_fatal
from ecpds.cli.waiting import deadline, wait_for

Found = dict[str, Any]
STDIN: Final = "-"


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("destination", help="where it is to go")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a file, a glob, or - for standard input"
    )
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
    parser.add_argument("--event", action="store_true", help="announce it when it is available")
    parser.add_argument(
        "--on-duplicate", choices=("fail", "overwrite", "skip"), default="fail",
        help="when there is such a target and version already",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="same as --on-duplicate overwrite")
    parser.add_argument(
        "--remove-source", action="store_true", help="delete each file once it is stored"
    )
    parser.add_argument(
        "--checksum", choices=("sha256",), help="compare with what the node has stored"
    )
    parser.add_argument(
        "--wait", choices=("stored", "sent"), default="stored",
        help="sent: end when the transfers have ended, at most --timeout",
    )  # fmt: skip
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bar")
    add_output(parser)
    add_arguments(parser)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One local file, opened; `size` None for what is read to its end."""

    name: str  # as typed
    file: IO[bytes]
    size: int | None


def _run(args: Namespace) -> int:
    """Push each file; print an id or an error for each; 4 when only some worked."""
    files = _files(args)
    metadata = _metadata(args.meta)
    failures: list[Exit] = []
    pushed: list[int] = []
    done = 0
    limit = deadline(args.timeout)
    with connect(args, None if args.wait == "stored" else 60) as client:
        _check_destination(client, args.destination)
        for path in files:
            try:
                answer = _push(client, args, path, metadata)
                done += 1
                pushed += [one["id"] for one in answer["transfers"]]
            except CommandError as error:
                complain(args, path, error)
                failures.append(error.exit_code)
                if is_fatal(error):
                    break
        if args.wait == "sent" and pushed:
            lost = wait_for(client, pushed, "done", limit, _no_news)
            failures += [Exit.PARTIAL] * lost
    return of_several(failures, done)


def _no_news(one: Found) -> None:
    """Say nothing: what was pushed is printed already."""


def _files(args: Namespace) -> list[str]:
    """Return the files to push; CommandError (usage) before anything is sent."""
    found: list[str] = []
    for path in args.files:
        if path == STDIN or os.path.lexists(path):
            found.append(path)
        elif has_magic(path) and (matches := sorted(glob(path))):  # noqa: PTH207 - keeps texts
            found += matches
        else:
            raise CommandError(f"{path}: there is no such file", Exit.USAGE)
    for path in found:
        if path != STDIN and Path(path).is_dir():
            raise CommandError(f"{path} is a directory", Exit.USAGE)
    if STDIN in found and (not args.target or args.target.endswith("/") or len(found) > 1):
        raise CommandError("standard input is pushed alone and needs a --target", Exit.USAGE)
    if len(found) > 1 and args.target and not args.target.endswith("/"):
        raise CommandError("with several files --target must end with /", Exit.USAGE)
    return found


def _metadata(words: list[str]) -> str:
    """Return `--meta` as JSON; a part without `=` continues the value before (cli.md 6)."""
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
    return json.dumps(found) if found else ""


def _check_destination(client: Client, name: str) -> None:
    """Raise CommandError for a wrong name before content is sent."""
    try:
        client.call("GET", f"/destinations/{segment(name)}", query={"fields": "name"})
    except CommandError as error:
        if error.reason != "denied":  # who may write need not be allowed to look
            raise


def _push(client: Client, args: Namespace, path: str, metadata: str) -> Found:
    with _opened(path) as source, progress(args, path, source.size) as watch:
        fields = _fields(args, path) | ({"metadata": metadata} if metadata else {})
        form = Form(
            fields,
            _base(path),
            source.file,
            size=source.size,
            sha256=args.checksum == "sha256",
            watch=watch,
        )
        answer: Found = client.upload("/files", form)
    if not answer.get("skipped"):
        _compare(client, answer["data_file"], form)
    _tell(args, path, answer, form)
    if args.remove_source and path != STDIN and not answer.get("skipped"):
        _remove(path)
    return answer


def _base(path: str) -> str:
    return "stdin" if path == STDIN else Path(path).name


def _fields(args: Namespace, path: str) -> dict[str, str]:
    target = args.target or _base(path)
    if target.endswith("/"):
        target += _base(path)
    given = {
        "destination": args.destination,
        "target": target,
        "original": args.original or (path if path != STDIN else target),
        "identity": args.identity,
        "version": args.version,
        "priority": args.priority,
        "lifetime": args.lifetime,
        "delay": args.delay,
        "at": args.at,
        "group": args.group,
        "standby": "yes" if args.standby else None,
        "event": "yes" if args.event else None,
        "on_duplicate": "overwrite" if args.force else args.on_duplicate,
    }
    return {key: str(value) for key, value in given.items() if value not in (None, "")}


@contextmanager
def _opened(path: str) -> Iterator[Source]:
    if path == STDIN:
        yield Source(name=path, file=sys.stdin.buffer, size=None)
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below, whatever happens
    except OSError as error:
        raise CommandError(f"cannot be read: {error.strerror}", Exit.USAGE) from None
    with file:
        state = os.fstat(file.fileno())
        is_plain = stat.S_ISREG(state.st_mode)  # of a pipe the size is not known
        yield Source(name=path, file=file, size=state.st_size if is_plain else None)


def _compare(client: Client, stored: Found, form: Form) -> None:
    """Raise CommandError unless the node has stored what was read here."""
    same = stored["size"] == form.count and stored["checksum"] in (None, form.adler32)
    if same and form.sha256 is not None:
        found = client.call("GET", f"/files/{stored['id']}", query={"digests": "sha256"})
        same = found["sha256"] == form.sha256
    if not same:
        message = f"the node has stored other bytes as data file {stored['id']}"
        raise CommandError(message, Exit.UNEXPECTED, reason="checksum")


def _remove(path: str) -> None:
    try:
        Path(path).unlink()
    except OSError as error:
        message = f"stored, but cannot be removed: {error.strerror}"
        raise CommandError(message, Exit.UNEXPECTED) from None


def _tell(args: Namespace, path: str, answer: Found, form: Form) -> None:
    file, transfers = answer["data_file"], answer["transfers"]
    first = transfers[0] if transfers else {"target": None, "status": None, "scheduled": None}
    if args.output == "id":
        print(file["id"])
    elif args.output == "json":
        as_json(
            {
                "file": path,
                "destination": args.destination,
                "target": first["target"],
                "data_file_id": file["id"],
                "transfers": [one["id"] for one in transfers],
                "status": first["status"],
                "updated": bool(answer.get("updated")),
                "skipped": bool(answer.get("skipped")),
                "bytes": file["size"],
                "sha256": form.sha256 or file.get("sha256"),
                "scheduled": first["scheduled"],
            }
        )
    else:
        ids = ", ".join(str(one["id"]) for one in transfers)
        what = "is there already, skipped" if answer.get("skipped") else f"{file['size']} bytes"
        updated = " (updated)" if answer.get("updated") else ""
        print(f"{path}: data file {file['id']}, {what}, transfer {ids}{updated}")


VERBS: Final = (
    Verb(words="push", help="store files and queue them for a destination",
         arguments=_arguments, run=_run),
)  # fmt: skip
