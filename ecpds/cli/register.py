"""`ecpds register`: files that the node fetches from a host of its own."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import IO, Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import connect, refusal
from ecpds.cli.codes import CommandError, Exit, of_several
from ecpds.cli.submission import add_submission, check_destination, submission_of, tell
from ecpds.cli.verbs import Verb, add_output, complain
from ecpds.model.errors import ConfigError
from ecpds.model.names import nearest

Found = dict[str, Any]
KEYS: Final = ("source", "target", "size", "metadata", "priority", "lifetime")
LONGEST: Final = 64 * 1024  # characters of one line of a manifest
MOST: Final = 1_000_000  # lines
LOT: Final = 200  # files of one request


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("destination", help="where it is to go")
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="path at the host")
    parser.add_argument(
        "--from", dest="host", metavar="HOST", help="default: the destination's source_host"
    )
    parser.add_argument(
        "--manifest", metavar="FILE",
        help="JSON lines with source, target, size, metadata, priority, lifetime; - reads them"
        " from standard input",
    )  # fmt: skip
    parser.add_argument(
        "--index", action="store_true",
        help="each SOURCE lists names, one a line; their contents become one file",
    )  # fmt: skip
    parser.add_argument(
        "--no-store", action="store_true", help="never stored: read from the source at each sending"
    )
    add_submission(parser)
    add_output(parser)
    add_arguments(parser)


def _run(args: Namespace) -> int:
    """Register each source; print an id or an error for each; 4 when only some worked."""
    wanted = _wanted(args)
    failures: list[Exit] = []
    done = 0
    with connect(args) as client:
        check_destination(client, args.destination)
        for start in range(0, len(wanted), LOT):
            lot = wanted[start : start + LOT]
            answer = client.call("POST", "/files/batch", body={"files": lot})
            for one, became in zip(lot, answer["items"], strict=True):
                try:
                    tell(args, one["source"], _submitted(became))
                    done += 1
                except CommandError as error:
                    complain(args, one["source"], error)
                    failures.append(error.exit_code)
    return of_several(failures, done)


def _submitted(became: Found) -> Found:
    """Return what was stored of one file; CommandError with the words of a refusal."""
    if became["problem"] is not None:
        raise refusal(became["status"], became["problem"])
    submitted: Found = became["submitted"]
    return submitted


def _wanted(args: Namespace) -> list[Found]:
    """Return all requests; CommandError or ConfigError before the first one is sent."""
    entries = [{"source": source} for source in args.sources]
    if args.manifest is not None:
        entries += _manifest(args.manifest)
    if not entries:
        raise CommandError("name a SOURCE or a --manifest", Exit.USAGE)
    if len(entries) > 1 and args.target and not args.target.endswith("/"):
        raise CommandError("with several sources --target must end with /", Exit.USAGE)
    return [_request(args, entry) for entry in entries]


def _request(args: Namespace, entry: Found) -> Found:
    source = entry["source"]
    found = submission_of(args, source.rstrip("/").rpartition("/")[2], source)
    if args.host:
        found["host"] = args.host
    found |= {"index": True} if args.index else {}
    found |= {"no_store": True} if args.no_store else {}
    if "metadata" in entry:
        entry = entry | {"metadata": found.get("metadata", {}) | entry["metadata"]}
    return found | entry


def _manifest(name: str) -> list[Found]:
    if name == "-":
        return _entries(sys.stdin, "standard input")
    try:
        with Path(name).open(encoding="utf-8") as file:
            return _entries(file, name)
    except (OSError, UnicodeDecodeError) as error:
        text = getattr(error, "strerror", None) or "it is no text"
        raise CommandError(f"{name} cannot be read: {text}", Exit.USAGE) from None


def _entries(file: IO[str], name: str) -> list[Found]:
    found: list[Found] = []
    while line := file.readline(LONGEST + 1):
        number = len(found) + 1
        if len(line) > LONGEST or number > MOST:
            limit = f"more than {LONGEST} characters or {MOST} lines"
            raise ConfigError(limit, file=name, line=number)
        found.append(_entry(line, name, number))
    return found


def _entry(line: str, name: str, number: int) -> Found:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError("no JSON", file=name, line=number) from None
    if not isinstance(entry, dict) or not isinstance(entry.get("source"), str):
        raise ConfigError("source is missing", file=name, line=number)
    for key in entry:
        if key not in KEYS:
            near = nearest(key, KEYS)
            raise ConfigError(f"{key}: unknown key", file=name, line=number, nearest=near)
    if not isinstance(entry.get("metadata", {}), dict):
        raise ConfigError("metadata: a table is expected", file=name, line=number)
    return entry


VERBS: Final = (
    Verb(words="register", help="queue files that the node fetches from a host of its own",
         arguments=_arguments, run=_run),
)  # fmt: skip
