"""`ecpds push`: store files and queue them for a destination."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import IO, Any, Final

from ecpds.cli.access import Retry, add_arguments
from ecpds.cli.client import Client, connect
from ecpds.cli.codes import CommandError, Exit, of_several
from ecpds.cli.parallel import MOST, Side
from ecpds.cli.progress import Watch, bars
from ecpds.cli.resume import Resumed
from ecpds.cli.submission import add_submission, check_destination, submission_of, tell
from ecpds.cli.upload import Form
from ecpds.cli.verbs import Verb, add_output, complain, is_fatal
from ecpds.cli.waiting import deadline, wait_for

Found = dict[str, Any]
STDIN: Final = "-"
PARALLEL: Final = 4
FEW: Final = 8  # files whose order people see


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
    parser.add_argument(
        "--resume", action="store_true",
        help="go on where an earlier try broke off; the node keeps it for a day",
    )  # fmt: skip
    parser.add_argument(
        "--parallel", type=_workers, metavar="N",
        help=f"files at a time, 1 to {MOST}; when not given {PARALLEL}, but up to {FEW} files go "
        "one behind the other",
    )  # fmt: skip
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bar")
    add_output(parser)
    add_arguments(parser)


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= MOST):
        raise ArgumentTypeError(f"{text!r} is no number from 1 to {MOST}")
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One local file, opened; `size` None for what is read to its end."""

    name: str  # as typed
    file: IO[bytes]
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What became of one file: the answer of the node, or why there is none."""

    path: str
    answer: Found | None = None
    sha256: str | None = None
    error: CommandError | None = None


class Pusher:
    """Pushes files; each thread has a connection of its own."""

    def __init__(
        self,
        args: Namespace,
        add_bar: Callable[[str, int | None], Watch | None],
        client: Client,
    ) -> None:
        """`client` is that of the thread that makes this."""
        self._args, self._add_bar = args, add_bar
        self._own = threading.local()
        if not args.resume:
            self._own.client = client

    def _client(self) -> Client:
        if not hasattr(self._own, "client"):
            timeout = None if self._args.wait == "stored" else 60
            retry = Retry() if self._args.resume else self._args.retry  # it tries again itself
            self._own.client = connect(self._args, timeout, retry)
        client: Client = self._own.client
        return client

    def push(self, path: str) -> Pushed:
        """Push one file and do what is to be done with it afterwards; errors are an answer."""
        try:
            answer, sha256 = self._pushed(path)
        except CommandError as error:
            return Pushed(path=path, error=error)
        return Pushed(path=path, answer=answer, sha256=sha256)

    def _pushed(self, path: str) -> tuple[Found, str | None]:
        args, client = self._args, self._client()
        with _opened(path) as source:
            watch = self._add_bar(path, source.size)
            way: Form | Resumed
            if args.resume:
                way = self._resumed(client, path, source, watch)
                answer = way.send()
            else:
                way = Form(
                    _fields(args, path), _base(path), source.file, size=source.size,
                    sha256=args.checksum == "sha256", watch=watch,
                )  # fmt: skip
                answer = client.upload("/files", way)
        if not answer.get("skipped"):
            _compare(client, answer["data_file"], way)
        return answer, way.sha256

    def _resumed(self, client: Client, path: str, source: Source, watch: Watch | None) -> Resumed:
        if source.size is None:
            message = "only a file can be resumed, not a pipe"
            raise CommandError(message, Exit.USAGE)
        args = self._args
        return Resumed(
            client, source.file, submission_of(args, _base(path), path), path=path,
            sha256=args.checksum == "sha256", watch=watch, retry=args.retry,
        )  # fmt: skip


def _run(args: Namespace) -> int:
    """Push the files; print an id or an error for each, in order; 4 when only some worked."""
    files = _files(args)
    for path in files:
        _fields(args, path)  # mistakes show before anything is sent
    failures: list[Exit] = []
    pushed: list[int] = []
    done = 0
    limit = deadline(args.timeout)
    with connect(args, None if args.wait == "stored" else 60) as client:
        check_destination(client, args.destination)
        with bars(args) as add_bar:
            for one in _outcomes(args, files, Pusher(args, add_bar, client)):
                error = one.error or _told(args, one)
                if error is not None:
                    complain(args, one.path, error)
                    failures.append(error.exit_code)
                if one.answer is not None:
                    done += error is None
                    pushed += [each["id"] for each in one.answer["transfers"]]
        if args.wait == "sent" and pushed:
            lost = wait_for(client, pushed, "done", limit, _no_news)
            failures += [Exit.PARTIAL] * lost
    return of_several(failures, done)


def _outcomes(args: Namespace, files: list[str], pusher: Pusher) -> Iterator[Pushed]:
    """Yield what became of each file in order, until an error would meet all others too."""
    workers = args.parallel or (PARALLEL if len(files) > FEW else 1)
    workers = min(workers, len(files))
    side = Side(files, pusher.push, workers=workers) if workers > 1 else None
    for one in map(pusher.push, files) if side is None else side:
        yield one
        if one.error is not None and is_fatal(one.error):
            if side is None:
                return
            side.stop()


def _told(args: Namespace, one: Pushed) -> CommandError | None:
    """Print what became of a file; remove it when that was asked for, return why it cannot be."""
    if one.answer is None:
        return None
    tell(args, one.path, one.answer, sha256=one.sha256)
    try:
        if args.remove_source and one.path != STDIN and not one.answer.get("skipped"):
            _remove(one.path)
    except CommandError as error:
        return error
    return None


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
    _check_together(args, found)
    return found


def _check_together(args: Namespace, found: list[str]) -> None:
    """Raise CommandError (usage) for files that cannot be pushed so."""
    if STDIN in found and args.resume:
        raise CommandError("standard input cannot be resumed", Exit.USAGE)
    if STDIN in found and (not args.target or args.target.endswith("/") or len(found) > 1):
        raise CommandError("standard input is pushed alone and needs a --target", Exit.USAGE)
    if len(found) > 1 and args.target and not args.target.endswith("/"):
        raise CommandError("with several files --target must end with /", Exit.USAGE)


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


def _compare(client: Client, stored: Found, form: Form | Resumed) -> None:
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
