"""`ecpds destination|host|user|policy|web-user|token …`: look, create, change, delete, act."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from ecpds.cli import actions
from ecpds.cli.access import add_arguments
from ecpds.cli.actions import Action
from ecpds.cli.client import Client, connect, segment
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.keyvalues import HELP, read_password, read_values
from ecpds.cli.verbs import Verb, add_output, as_json, card, listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one kind of object is reached and shown."""

    word: str  # as in the command
    text: str
    path: str
    columns: tuple[str, ...]
    key: str = "name"
    has_password: bool = False
    can_change: bool = True
    actions: Mapping[str, Action] = field(default_factory=dict)


KINDS: Final = (
    Kind(
        word="destination",
        text="destination",
        path="/destinations",
        columns=("name", "status", "queued", "outstanding", "comment"),
        actions=actions.DESTINATION,
    ),
    Kind(
        word="host",
        text="host",
        path="/hosts",
        columns=("name", "role", "method", "host", "active", "comment"),
        has_password=True,
        actions=actions.HOST,
    ),
    Kind(
        word="user",
        text="data user",
        path="/portal/users",
        columns=("login", "service", "active", "comment"),
        key="login",
        has_password=True,
        actions=actions.USER,
    ),
    Kind(
        word="policy",
        text="policy",
        path="/portal/policies",
        columns=("name", "active", "destinations", "comment"),
    ),
    Kind(
        word="web-user",
        text="dashboard account",
        path="/web_users",
        columns=("name", "active", "comment"),
        has_password=True,
    ),
    Kind(
        word="role",
        text="role",
        path="/roles",
        columns=("name", "built_in", "scopes", "comment"),
    ),
    Kind(
        word="token",
        text="token",
        path="/tokens",
        columns=("id", "name", "owner", "expires", "last_used"),
        key="id",
        can_change=False,
        actions=actions.TOKEN,
    ),
)

Run = Callable[[Kind, Client, Namespace], int]


# --- arguments -----------------------------------------------------------------------------------


def _list_arguments(kind: Kind, parser: ArgumentParser) -> None:
    del kind
    add_output(parser)
    add_arguments(parser)


def _name_arguments(kind: Kind, parser: ArgumentParser) -> None:
    parser.add_argument("name", help=f"name of the {kind.text}")
    _list_arguments(kind, parser)


def _delete_arguments(kind: Kind, parser: ArgumentParser) -> None:
    if kind.word == "destination":
        parser.add_argument("--cascade", action="store_true", help="delete its transfers too")
    if kind.can_change:
        parser.add_argument("--dry-run", action="store_true", help="only check")
    _name_arguments(kind, parser)


def _write_arguments(kind: Kind, parser: ArgumentParser) -> None:
    parser.add_argument("name", help=f"name of the {kind.text}")
    parser.add_argument("values", nargs="*", metavar="KEY=VALUE", help=HELP)
    if kind.has_password:
        parser.add_argument(
            "--password-file", type=Path, metavar="FILE",
            help="file with the password; - asks for it, or reads standard input",
        )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only check")
    _list_arguments(kind, parser)


def _action_arguments(action: Action, kind: Kind, parser: ArgumentParser) -> None:
    parser.add_argument("name", help=f"name of the {kind.text}")
    if action.arguments is not None:
        action.arguments(parser)
    _list_arguments(kind, parser)


# --- verbs ---------------------------------------------------------------------------------------


def _path(kind: Kind, args: Namespace) -> str:
    return f"{kind.path}/{segment(args.name)}"


def _list(kind: Kind, client: Client, args: Namespace) -> int:
    listed(args, list(client.items(kind.path)), kind.key, kind.columns)
    return Exit.DONE


def _show(kind: Kind, client: Client, args: Namespace) -> int:
    return _tell(kind, args, client.call("GET", _path(kind, args)))


def _exists(kind: Kind, client: Client, args: Namespace) -> int:
    found = client.call("GET", _path(kind, args))
    if args.output != "text":
        return _tell(kind, args, found)
    print("found")
    return Exit.DONE


def _add(kind: Kind, client: Client, args: Namespace) -> int:
    body = _document(kind, args) | {kind.key: args.name}
    query = {"dry_run": "true"} if args.dry_run else None
    return _changed(kind, args, "created", client.call("POST", kind.path, body=body, query=query))


def _set(kind: Kind, client: Client, args: Namespace) -> int:
    body = _document(kind, args)
    if not body:
        raise CommandError("say what to set: KEY=VALUE", Exit.USAGE)
    query = {"dry_run": "true"} if args.dry_run else None
    found = client.call("PATCH", _path(kind, args), body=body, query=query, match="*")
    return _changed(kind, args, "changed", found)


def _delete(kind: Kind, client: Client, args: Namespace) -> int:
    wanted = ("cascade", "dry_run")
    query = {name: "true" for name in wanted if getattr(args, name, False)}
    client.call("DELETE", _path(kind, args), query=query, match="*")
    found = {kind.key: args.name, "deleted": not query.get("dry_run")}
    return _changed(kind, args, "deleted", found)


def _act(action: Action, kind: Kind, client: Client, args: Namespace) -> int:
    found = action.run(client, _path(kind, args), args)
    if args.output == "id" and kind.key not in found:
        found = {kind.key: args.name}
    code = action.code(found)
    if args.output == "text":
        action.show(found)
    else:
        _tell(kind, args, found)
    return code


def _document(kind: Kind, args: Namespace) -> dict[str, Any]:
    found = read_values(args.values)
    if kind.has_password and args.password_file is not None:
        found["password"] = read_password(args.password_file)
    return found


def _tell(kind: Kind, args: Namespace, found: Mapping[str, Any]) -> int:
    if args.output == "json":
        as_json(found)
    elif args.output == "id":
        print(found[kind.key])
    else:
        card(found)
    return Exit.DONE


def _changed(kind: Kind, args: Namespace, done: str, found: Mapping[str, Any]) -> int:
    if args.output != "text":
        return _tell(kind, args, found)
    done = f"would be {done}" if getattr(args, "dry_run", False) else done
    print(f"{kind.text} {args.name} {done}")
    return Exit.DONE


def _run(kind: Kind, run: Run, args: Namespace) -> int:
    with connect(args) as client:
        return run(kind, client, args)


def _verb(
    kind: Kind, word: str, text: str, arguments: Callable[[Kind, ArgumentParser], None], run: Run
) -> Verb:
    return Verb(
        words=f"{kind.word} {word}",
        help=text,
        arguments=partial(arguments, kind),
        run=partial(_run, kind, run),
    )


def _verbs(kind: Kind) -> list[Verb]:
    a = "an" if kind.text[0] in "aeiou" else "a"
    found = [
        _verb(kind, "list", f"list every {kind.text}", _list_arguments, _list),
        _verb(kind, "show", f"show {a} {kind.text}", _name_arguments, _show),
        _verb(kind, "exists", f"exit with 0 when there is such {a} {kind.text}, else with 6",
              _name_arguments, _exists),
    ]  # fmt: skip
    if kind.can_change:
        found += [
            _verb(kind, "add", f"create {a} {kind.text}", _write_arguments, _add),
            _verb(kind, "set", f"change {a} {kind.text}", _write_arguments, _set),
        ]
    found.append(_verb(kind, "delete", f"delete {a} {kind.text}", _delete_arguments, _delete))
    found += [
        _verb(kind, word, one.help, partial(_action_arguments, one), partial(_act, one))
        for word, one in kind.actions.items()
    ]
    return found


VERBS: Final = tuple(verb for kind in KINDS for verb in _verbs(kind))
