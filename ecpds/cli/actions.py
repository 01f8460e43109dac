"""What can be done with an object beyond creating, changing and deleting it."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ecpds.cli import acquire
from ecpds.cli.client import Client
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.keyvalues import HELP, read_values
from ecpds.cli.verbs import card, table

Found = dict[str, Any]


def _done(found: Found) -> Exit:
    del found
    return Exit.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One act; `run` gets the path of the object and returns what to print."""

    help: str
    run: Callable[[Client, str, Namespace], Found]
    arguments: Callable[[ArgumentParser], None] | None = None
    code: Callable[[Found], Exit] = _done
    show: Callable[[Found], None] = card


def _post(verb: str) -> Callable[[Client, str, Namespace], Found]:
    def run(client: Client, path: str, args: Namespace) -> Found:
        body = {}
        if getattr(args, "immediate", False):
            body["mode"] = "immediate"
        if getattr(args, "reason", None):
            body["reason"] = args.reason
        if getattr(args, "until", None):
            body["until"] = args.until
        found: Found = client.call("POST", f"{path}/actions/{verb}", body=body)
        return found

    return run


def _status(client: Client, path: str, args: Namespace) -> Found:
    found: Found = client.call("GET", f"{path}/status")
    return {"name": args.name} | found


def _stop_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--immediate", action="store_true", help="interrupt transfers instead of letting them end"
    )


def _hold_arguments(parser: ArgumentParser) -> None:
    _stop_arguments(parser)
    parser.add_argument("--reason", help="shown to operators")
    parser.add_argument("--until", metavar="TIME", help="release it then, RFC 3339")


DESTINATION: Final[Mapping[str, Action]] = {
    "status": Action(help="show only its state", run=_status),
    "start": Action(help="let it work again, from its first host", run=_post("start")),
    "stop": Action(help="start no transfer any more", run=_post("stop"), arguments=_stop_arguments),
    "restart": Action(help="stop it and start it again", run=_post("restart"),
                      arguments=_stop_arguments),
    "hold": Action(help="stop it with a reason", run=_post("hold"), arguments=_hold_arguments),
    "release": Action(help="start a held or stopped one", run=_post("release")),
}  # fmt: skip


def _show_test(found: Found) -> None:
    """Print the steps, then what to do, then the sum."""
    steps = found.pop("steps", [])
    lines = [
        (one["step"], one["outcome"], "" if one["outcome"] == "skipped" else one["milliseconds"],
         one["text"] or one["cause"])
        for one in steps
    ]  # fmt: skip
    table(lines, ("step", "outcome", "ms", "found"))
    for one in steps:
        if one["outcome"] == "failed":
            print(f"\n{one['step']} failed: {one['cause']}\n{one['advice']}")
    print()
    card({key: value for key, value in found.items() if value is not None})


def _test_code(found: Found) -> Exit:
    return Exit.DONE if found.get("ok", True) else Exit.UNEXPECTED


def _leftovers(client: Client, path: str, args: Namespace) -> Found:
    found: Found = client.call("GET", f"{path}/leftovers")
    return found


def _show_leftovers(found: Found) -> None:
    """Print a line for each file: a transfer goes on with it, or it is removed at that time."""
    rows = [
        (one["path"], one["size"], one["transfer"] or "", one["tries"], one["time"])
        for one in found["items"]
    ]
    table(rows, ("path", "size", "transfer", "tries", "time"))


def _clean_code(found: Found) -> Exit:
    return Exit.UNEXPECTED if found["left"] else Exit.DONE


HOST: Final[Mapping[str, Action]] = {
    "test": Action(help="try it out step by step; exit with 1 when a step fails",
                   run=_post("test"), code=_test_code, show=_show_test),
    "acquire": Action(help="look for new files now, or tell what that would find",
                      run=acquire.acquire, arguments=acquire.acquire_arguments,
                      show=acquire.show_acquire, code=acquire.acquire_code),
    "interrupt": Action(help="end the discoveries that run", run=acquire.interrupt),
    "leftovers": Action(help="list partial files that lie there", run=_leftovers,
                        show=_show_leftovers),
    "clean": Action(help="remove partial files that no transfer will go on with",
                    run=_post("clean"), code=_clean_code),
    "ls": Action(help="list a directory of the host now", run=acquire.listing,
                 arguments=acquire.list_arguments, show=acquire.show_listing),
}  # fmt: skip


def _new_key(client: Client, path: str, args: Namespace) -> Found:
    found: Found = client.call("POST", f"{path}/s3_keys", body={})
    return {"login": args.name} | found


USER: Final[Mapping[str, Action]] = {
    "reset-password": Action(help="give it a random password, shown once",
                             run=_post("reset_password")),
    "s3-key": Action(help="give it one more S3 key pair, its secret is shown once", run=_new_key),
}  # fmt: skip


def _token_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("values", nargs="*", metavar="KEY=VALUE", help=HELP)
    parser.add_argument(
        "--scope", action="append", default=[], metavar="AREA:VERB",
        help="such as transfers:read; may be repeated; default *:read",
    )  # fmt: skip
    parser.add_argument(
        "--object", action="append", default=[], metavar="GLOB", help="destinations; default all"
    )
    parser.add_argument("--expires", metavar="TIME", help="RFC 3339")
    parser.add_argument("--owner", help="web user whose rights bound it; default oneself")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="write the secret there (0600), do not print it"
    )


def _new_token(client: Client, path: str, args: Namespace) -> Found:
    given = {"scopes": args.scope, "objects": args.object, "expires": args.expires,
             "owner": args.owner}  # fmt: skip
    body = read_values(args.values) | {key: value for key, value in given.items() if value}
    _check_new(args.into)
    found: Found = client.call("POST", path.rpartition("/")[0], body=body | {"name": args.name})
    if args.into is not None:
        _keep(args.into, found.pop("token"))
    return found


def _rotate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--overlap", metavar="TIME", help="how long the secret before is good yet; default 1h"
    )
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="write the secret there (0600), do not print it"
    )


def _rotate(client: Client, path: str, args: Namespace) -> Found:
    _check_new(args.into)
    body = {"overlap": args.overlap} if args.overlap else {}
    found: Found = client.call("POST", f"{path}/actions/rotate", body=body)
    if args.into is not None:
        _keep(args.into, found.pop("token"))
    return found


def _check_new(path: Path | None) -> None:
    if path is not None and path.exists():
        raise CommandError(f"{path} exists", Exit.USAGE)


def _keep(path: Path, secret: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{secret}\n")


TOKEN: Final[Mapping[str, Action]] = {
    "add": Action(help="make a token, its secret is shown once", run=_new_token,
                  arguments=_token_arguments),
    "rotate": Action(help="give it another secret, the one before is good for a while yet",
                     run=_rotate, arguments=_rotate_arguments),
}  # fmt: skip
