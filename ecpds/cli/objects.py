"""`ecpds destination|host|user|policy|web-user|token …`: list, show, set, delete, act."""

from __future__ import annotations

import getpass
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecpds.cli.client import Client, add_arguments, find, segment
from ecpds.cli.codes import CommandError, Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one kind of object is reached."""

    path: str
    key: str
    actions: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    has_password: bool = False


KINDS: Mapping[str, Kind] = {
    "destination": Kind(
        path="/destinations",
        key="name",
        actions=("start", "stop", "restart", "status"),
        columns=("name", "status", "queued", "outstanding", "comment"),
    ),
    "host": Kind(
        path="/hosts",
        key="name",
        actions=("test", "acquire"),
        columns=("name", "role", "method", "host", "active"),
        has_password=True,
    ),
    "user": Kind(
        path="/portal/users",
        key="login",
        columns=("login", "service", "active", "comment"),
        has_password=True,
    ),
    "policy": Kind(path="/portal/policies", key="name", columns=("name", "active", "comment")),
    "web-user": Kind(
        path="/web_users", key="name", columns=("name", "active", "comment"), has_password=True
    ),
    "token": Kind(path="/tokens", key="name", columns=("id", "name", "owner", "expires")),
}


def arguments(name: str, parser: ArgumentParser) -> None:
    """Declare the arguments."""
    kind = KINDS[name]
    verbs = ("list", "show", "exists", "add", "set", "delete", *kind.actions)
    parser.add_argument("verb", choices=verbs)
    parser.add_argument("name", nargs="?")
    parser.add_argument(
        "values", nargs="*", metavar="KEY=VALUE", help="keys of a site file; lists with commas"
    )
    if kind.has_password:
        parser.add_argument(
            "--password-file", type=Path, help="file with the password, - asks for it"
        )
    if name == "token":
        parser.add_argument("--scope", action="append", default=[], help="such as transfers:read")
    add_arguments(parser)


def run(name: str, args: Namespace) -> int:
    """Run one verb."""
    kind = KINDS[name]
    client = Client(find(args), args.timeout)
    if args.verb == "list":
        return _list(client, kind, args)
    if not args.name:
        raise CommandError(f"name the {name}", Exit.USAGE)
    path = f"{kind.path}/{segment(args.name)}"
    if args.verb in {"show", "status", "exists"}:
        return _show(args, client.call("GET", path))
    if args.verb in kind.actions:
        return _show(args, client.call("POST", f"{path}/actions/{args.verb}", json_body={}))
    if args.verb == "delete":
        client.call("DELETE", path, headers={"If-Match": "*"})
        print(f"{name} {args.name} deleted")
        return Exit.DONE
    return _write(client, kind, args, name, path)


def _list(client: Client, kind: Kind, args: Namespace) -> int:
    for one in client.items(kind.path):
        if args.output == "json":
            print(json.dumps(one, ensure_ascii=False))
        elif args.output == "id":
            print(one[kind.key])
        else:
            cells = [str("" if one.get(key) is None else one[key]) for key in kind.columns]
            print("  ".join(f"{cell:<18}" for cell in cells).rstrip())
    return Exit.DONE


def _show(args: Namespace, value: Any) -> int:
    if args.output == "json":
        print(json.dumps(value, ensure_ascii=False))
    elif args.verb != "exists":
        for key, one in (value or {}).items():
            print(f"{key:<22} {json.dumps(one, ensure_ascii=False)}")
    else:
        print("found")
    return Exit.DONE


def _write(client: Client, kind: Kind, args: Namespace, name: str, path: str) -> int:
    given: dict[str, Any] = {}
    for text in args.values:
        key, sign, value = text.partition("=")
        if not sign:
            raise CommandError(f"{text!r} is not KEY=VALUE", Exit.USAGE)
        _enter(given, key.strip(), value)
    if kind.has_password and args.password_file is not None:
        given["password"] = _password(args.password_file)
    if name == "token":
        body = given | {"name": args.name} | ({"scopes": args.scope} if args.scope else {})
        return _show(args, client.call("POST", kind.path, json_body=body))
    if args.verb == "add":
        client.call("POST", kind.path, json_body=given | {kind.key: args.name})
        print(f"{name} {args.name} created")
    else:
        client.call("PATCH", path, json_body=given, headers={"If-Match": "*"})
        print(f"{name} {args.name} changed")
    return Exit.DONE


LISTS = {"hosts", "destinations", "operations", "policies", "ssh_keys"}


def _enter(given: dict[str, Any], key: str, value: str) -> None:
    if "." in key:  # an option such as sftp.port
        given.setdefault("options", {})[key] = value
    elif key in LISTS:
        given[key] = [part.strip() for part in value.split(",") if part.strip()]
    else:
        given[key] = value


def _password(path: Path) -> str:
    if str(path) == "-":
        return getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}", Exit.USAGE) from None
