"""`ecpds ls`, `get`, `rm` and `mv`: files of a destination by name."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import Client, connect, segment
from ecpds.cli.codes import CommandError, Exit, of_several
from ecpds.cli.progress import Watch, progress
from ecpds.cli.verbs import Verb, add_output, as_json, complain, is_fatal
from ecpds.model.units import format_bytes

Found = dict[str, Any]
STDOUT: Final = "-"


def _ls_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="DESTINATION[/PATH]", help="file or directory")
    parser.add_argument("-l", "--long", action="store_true", help="size, time and status, too")
    add_output(parser)
    add_arguments(parser)


def _get_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="DESTINATION/PATH", help="file to fetch")
    parser.add_argument("-o", "--into", metavar="PLACE", help="file or directory; - prints")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bar")
    add_output(parser)
    add_arguments(parser)


def _rm_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="DESTINATION/PATH", help="file to delete")
    parser.add_argument("--dry-run", action="store_true", help="only print what would go")
    add_output(parser)
    add_arguments(parser)


def _ls(args: Namespace) -> int:
    destination, path = _split(args.path)
    prefix = f"{path}/" if path else ""
    with connect(args) as client:
        client.call("GET", f"/destinations/{segment(destination)}")
        seen: dict[str, Found | None] = {}
        for query in _queries(destination, path):
            for one in client.items("/transfers", query):
                target = one["target"]
                if target == path:
                    seen.setdefault(target, one)
                elif target.startswith(prefix):
                    name, slash, _ = target[len(prefix) :].partition("/")
                    seen.setdefault(name + slash, None if slash else one)
    if path and not seen:
        raise CommandError(f"{args.path}: there is no such file or directory", Exit.NOT_FOUND)
    for name in sorted(seen):
        _line(args, name, seen[name])
    return Exit.DONE


def _queries(destination: str, path: str) -> list[Found]:
    """Return what to ask for a file of that name, and for what lies below it."""
    if not path:
        return [{"destination": destination}]
    globs = (_literal(path), f"{_literal(path)}/*")
    return [{"destination": destination, "target": glob} for glob in globs]


def _line(args: Namespace, name: str, one: Found | None) -> None:
    if args.output == "json":
        as_json({"name": name, "directory": one is None, "transfer": one})
    elif args.output == "id":
        if one is not None:
            print(one["id"])
    elif args.long:
        facts = one or {"size": None, "scheduled": None, "status": ""}
        size = "" if facts["size"] is None else format_bytes(facts["size"])
        print(f"{size:>10}  {facts['scheduled'] or '':<27} {facts['status']:<12} {name}")
    else:
        print(name)


def _split(path: str) -> tuple[str, str]:
    destination, _, rest = path.strip("/").partition("/")
    return destination, rest.strip("/")


def _literal(target: str) -> str:
    """Return a glob that matches only this text."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in target)


def _find(client: Client, path: str) -> Found:
    """Return the newest transfer of that name."""
    destination, target = _split(path)
    if not target:
        raise CommandError("write DESTINATION/PATH", Exit.USAGE)
    query = {"destination": destination, "target": _literal(target), "limit": 1}
    items = client.call("GET", "/transfers", query=query)["items"]
    if not items:
        raise CommandError("there is no such file", Exit.NOT_FOUND)
    found: Found = items[0]
    return found


def _each(args: Namespace, act: Callable[[Client, Namespace, str], None]) -> int:
    failures: list[Exit] = []
    done = 0
    with connect(args) as client:
        for path in args.paths:
            try:
                act(client, args, path)
                done += 1
            except CommandError as error:
                complain(args, path, error)
                failures.append(error.exit_code)
                if is_fatal(error):
                    break
    return of_several(failures, done)


def _get(args: Namespace) -> int:
    if len(args.paths) > 1 and args.into not in {None, STDOUT} and not Path(args.into).is_dir():
        raise CommandError(f"{args.into} is no directory", Exit.USAGE)
    return _each(args, _fetch)


def _fetch(client: Client, args: Namespace, path: str) -> None:
    one = _find(client, path)
    if args.into == STDOUT:
        with closing(client.download(f"/transfers/{one['id']}/content")) as blocks:
            for block in blocks:
                sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        return
    place = _place(args, one["target"])
    try:
        with progress(args, str(place), one["size"]) as watch:
            size = _save(client, one["id"], place, watch)
    except OSError as error:
        raise CommandError(f"{place} cannot be written: {error.strerror}", Exit.USAGE) from None
    if args.output == "json":
        as_json({"file": str(place), "target": one["target"], "transfer": one["id"], "bytes": size})
    else:
        print(one["id"] if args.output == "id" else f"{place}: {size} bytes")


def _place(args: Namespace, target: str) -> Path:
    name = target.rpartition("/")[2]
    if name in {"", ".", ".."}:
        raise CommandError("give a name with --into", Exit.USAGE)
    place = Path(args.into or name)
    return place / name if place.is_dir() else place


def _save(client: Client, number: int, place: Path, watch: Watch | None) -> int:
    """Write the content under its name once it is complete and on disk; return its size."""
    temporary = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        with (
            closing(client.download(f"/transfers/{number}/content")) as blocks,
            temporary.open("xb") as file,
        ):
            for block in blocks:
                file.write(block)
                if watch is not None:
                    watch(len(block))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)
    return size


def _rm(args: Namespace) -> int:
    return _each(args, _remove)


def _remove(client: Client, args: Namespace, path: str) -> None:
    one = _find(client, path)
    if not args.dry_run:
        client.call("POST", f"/transfers/{one['id']}/actions/delete", body={})
    if args.output == "json":
        as_json({"path": path, "transfer": one["id"], "deleted": not args.dry_run})
    else:
        done = "would be deleted" if args.dry_run else "deleted"
        print(one["id"] if args.output == "id" else f"{path}: {done}")


def _mv_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="DESTINATION/PATH", help="file to rename")
    parser.add_argument("target", metavar="TARGET", help="new name; ends with / for a directory")
    add_output(parser)
    add_arguments(parser)


def _mv(args: Namespace) -> int:
    with connect(args) as client:
        one = _find(client, args.path)
        base = one["target"].rpartition("/")[2]
        target = args.target + base if args.target.endswith("/") else args.target
        changed = client.call(
            "PATCH", f"/transfers/{one['id']}", body={"target": target}, match="*"
        )
    if args.output == "json":
        as_json({"path": args.path, "transfer": one["id"], "target": changed["target"]})
    else:
        print(one["id"] if args.output == "id" else f"{args.path}: now {changed['target']}")
    return Exit.DONE


VERBS: Final = (
    Verb(words="ls", help="list the files of a destination", arguments=_ls_arguments, run=_ls),
    Verb(words="get", help="fetch files of a destination; a file appears once it is complete",
         arguments=_get_arguments, run=_get),
    Verb(words="rm", help="delete files of a destination", arguments=_rm_arguments, run=_rm),
    Verb(words="mv", help="give a file another name in its destination",
         arguments=_mv_arguments, run=_mv),
)  # fmt: skip
