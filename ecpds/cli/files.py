"""`ecpds ls`, `get` and `rm`: files of a destination by name."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ecpds.cli.client import BLOCK, Client, add_arguments, find
from ecpds.cli.codes import CommandError, Exit
from ecpds.model.units import format_bytes


def arguments(name: str, parser: ArgumentParser) -> None:
    """Declare the arguments."""
    add_arguments(parser)
    if name == "ls":
        parser.add_argument("path", metavar="DESTINATION[/PATH]")
        parser.add_argument("-l", "--long", action="store_true", help="size, time, status")
        return
    parser.add_argument("paths", nargs="+", metavar="DESTINATION/PATH")
    if name == "get":
        parser.add_argument("-o", "--into", type=Path, help="file or directory; - prints")


def run(name: str, args: Namespace) -> int:
    """Run one of the three."""
    client = Client(find(args), args.timeout)
    if name == "ls":
        return _ls(client, args)
    act = _get if name == "get" else _rm
    failures = []
    for path in args.paths:
        try:
            act(client, args, path)
        except CommandError as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            failures.append(error.exit_code)
    if not failures:
        return Exit.DONE
    return Exit.PARTIAL if len(failures) < len(args.paths) else failures[0]


def _split(path: str) -> tuple[str, str]:
    destination, _, rest = path.strip("/").partition("/")
    return destination, rest


def _ls(client: Client, args: Namespace) -> int:
    destination, path = _split(args.path)
    client.call("GET", f"/destinations/{destination}")
    prefix = f"{path.rstrip('/')}/" if path else ""
    seen: dict[str, dict[str, Any] | None] = {}
    query = {"destination": destination}
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


def _line(args: Namespace, name: str, one: dict[str, Any] | None) -> None:
    if args.output == "json":
        print(json.dumps({"name": name, "transfer": one}, ensure_ascii=False))
    elif args.long and one is not None:
        when = one["scheduled"] or ""
        print(f"{format_bytes(one['size']):>10}  {when:<25} {one['status']:<12} {name}")
    else:
        print(name)


def _find(client: Client, path: str) -> dict[str, Any]:
    destination, target = _split(path)
    if not target:
        raise CommandError("write DESTINATION/PATH", Exit.USAGE)
    query = {"destination": destination, "target": _literal(target), "limit": 1}
    items = client.call("GET", "/transfers", query=query)["items"]
    if not items:
        raise CommandError("there is no such file", Exit.NOT_FOUND)
    found: dict[str, Any] = items[0]
    return found


def _literal(target: str) -> str:
    """Return a glob that matches only this text."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in target)


def _get(client: Client, args: Namespace, path: str) -> None:
    one = _find(client, path)
    response = client.download(f"/transfers/{one['id']}/content")
    if args.into is not None and str(args.into) == "-":
        while block := response.read(BLOCK):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        return
    place = args.into or Path(Path(one["target"]).name)
    if place.is_dir():
        place = place / Path(one["target"]).name
    temporary = place.with_name(f".{place.name}.part")
    try:
        with temporary.open("wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            if file.tell() != one["size"]:
                raise CommandError(f"{file.tell()} of {one['size']} bytes came", Exit.UNEXPECTED)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)
    if args.output == "text":
        print(f"{place}: {one['size']} bytes")


def _rm(client: Client, args: Namespace, path: str) -> None:
    one = _find(client, path)
    client.call("DELETE", f"/transfers/{one['id']}", headers={"If-Match": "*"})
    if args.output == "text":
        print(f"{path}: deleted")
