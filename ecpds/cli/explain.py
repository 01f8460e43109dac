"""`ecpds explain`: why a transfer waits or failed, and what happens next."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import Client, connect
from ecpds.cli.codes import CommandError, Exit, of_several
from ecpds.cli.verbs import Verb, add_output, as_json, complain, is_fatal

Found = dict[str, Any]


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ids", nargs="+", type=int, metavar="ID", help="of a transfer")
    add_output(parser, ids=False)
    add_arguments(parser)


def _explain(args: Namespace) -> int:
    failures: list[Exit] = []
    done = 0
    with connect(args) as client:
        for number in args.ids:
            try:
                _one(client, args, number)
                done += 1
            except CommandError as error:
                complain(args, number, error)
                failures.append(error.exit_code)
                if is_fatal(error):
                    break
    return of_several(failures, done)


def _one(client: Client, args: Namespace, number: int) -> None:
    found: Found = client.call("GET", f"/transfers/{number}/explain")
    if args.output == "json":
        as_json(found)
        return
    one: Found = client.call("GET", f"/transfers/{number}")
    print(f"{number} {one['destination']}/{one['target']} is {found['status']}")
    for cause in found["reasons"]:
        mark = "*" if cause["blocks"] else "-"
        until = f" (until {cause['until']})" if cause["until"] and cause["blocks"] else ""
        print(f"  {mark} {cause['text']} [{cause['code']}, {cause['subject']}]{until}")
    if found["next"]:
        print(f"  next: {found['step']} at {found['next']}")


VERBS: Final = (
    Verb(words="explain", arguments=_arguments, run=_explain,
         help="tell why transfers wait or failed, and what happens next"),
)  # fmt: skip
