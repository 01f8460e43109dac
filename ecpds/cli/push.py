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
from ecpds.cli.client import Client, connect
from ecpds.cli.codes import CommandError, Exit, of_several
from ecpds.cli.progress import progress
from ecpds.cli.submission import add_submission, check_destination, submission_of, tell
from ecpds.cli.upload import Form
from ecpds.cli.verbs import Verb, add_output, complain, is_fatal
from ecpds.cli.waiting import deadline, wait_for

Found = dict[str, Any]
STDIN: Final = "-"


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("destination", help="where it is to go")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a file, a glob, or - for standard input"
    )
    add_submission(parser)
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
    fields = {path: _fields(args, path) for path in files}  # mistakes show before anything is sent
    failures: list[Exit] = []
    pushed: list[int] = []
    done = 0
    limit = deadline(args.timeout)
    with connect(args, None if args.wait == "stored" else 60) as client:
        check_destination(client, args.destination)
        for path in files:
            try:
                answer = _push(client, args, path, fields[path])
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


def _push(client: Client, args: Namespace, path: str, fields: dict[str, str]) -> Found:
    with _opened(path) as source, progress(args, path, source.size) as watch:
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
    tell(args, path, answer, sha256=form.sha256)
    if args.remove_source and path != STDIN and not answer.get("skipped"):
        _remove(path)
    return answer


def _base(path: str) -> str:
    return "stdin" if path == STDIN else Path(path).name


def _fields(args: Namespace, path: str) -> dict[str, str]:
    """Return the fields of the form; only texts go there."""
    original = (args.target or "") if path == STDIN else path
    found = submission_of(args, _base(path), original)
    texts = {key: "yes" if value is True else value for key, value in found.items()}
    return {
        key: json.dumps(value) if isinstance(value, dict) else str(value)
        for key, value in texts.items()
    }


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


VERBS: Final = (
    Verb(words="push", help="store files and queue them for a destination",
         arguments=_arguments, run=_run),
)  # fmt: skip
