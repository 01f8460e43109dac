"""`ecpds product …`: what producers expect, have started and have completed."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import connect, segment
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.verbs import Verb, add_output, as_json, listed

Found = dict[str, Any]
COLUMNS: Final = ("product", "time", "step", "type", "status", "schedule", "updated")


def _key_arguments(parser: ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--stream", required=required, help="product, with its domain in front")
    parser.add_argument("--time", required=required, help="hour of its base, such as 06")
    parser.add_argument("--step", type=int, required=required, help="step")
    parser.add_argument("--type", default="", help="type")


def _report_arguments(parser: ArgumentParser) -> None:
    _key_arguments(parser, required=True)
    parser.add_argument("--at", metavar="TIME", help="when it is due, RFC 3339")
    parser.add_argument("--base", metavar="TIME", help="product date, RFC 3339")
    parser.add_argument("--buffer", metavar="TIME", help="tolerance, such as 10m")
    add_output(parser)
    add_arguments(parser)


def _reset_arguments(parser: ArgumentParser) -> None:
    _key_arguments(parser, required=False)
    parser.add_argument("--all", action="store_true", help="forget all products")
    add_output(parser, ids=False)
    add_arguments(parser)


def _show_arguments(parser: ArgumentParser) -> None:
    _key_arguments(parser, required=False)
    add_output(parser)
    add_arguments(parser)


def place_of(stream: str, time: str) -> str:
    """Return the address of one product and time."""
    return f"/products/{segment(stream)}/{segment(time)}"


def step_of(stream: str, time: str, step: int, kind: str) -> str:
    """Return the address of one step."""
    return f"{place_of(stream, time)}/steps/{step}/{segment(kind or '-')}"


def _report(status: str, args: Namespace) -> int:
    given = {"schedule": args.at, "base": args.base, "buffer": args.buffer}
    body = {"status": status} | {key: value for key, value in given.items() if value}
    with connect(args) as client:
        path = step_of(args.stream, args.time, args.step, args.type)
        found: Found = client.call("PUT", path, body=body)
    if args.output == "json":
        as_json(found)
    elif args.output == "text":
        print(found["message"])
    elif found["product"]:
        print(found["product"]["id"])
    return Exit.DONE


def _reset(args: Namespace) -> int:
    named = bool(args.stream or args.time or args.step is not None)
    if args.all is named or (named and not (args.stream and args.time)):
        raise CommandError("say --stream and --time, or --all alone", Exit.USAGE)
    with connect(args) as client:
        path = "/products" if args.all else place_of(args.stream, args.time)
        query = {} if args.step is None else {"step": args.step}
        found: Found = client.call("DELETE", path, query=query)
    if args.output == "json":
        as_json(found)
    else:
        print(found["message"])
    return Exit.DONE


def _show(args: Namespace) -> int:
    if bool(args.stream) is not bool(args.time) or (args.step is not None and not args.stream):
        raise CommandError("--stream and --time belong together", Exit.USAGE)
    with connect(args) as client:
        if args.step is not None:
            path = step_of(args.stream, args.time, args.step, args.type)
            found = client.call("GET", path)["items"]
        elif args.stream:
            found = client.call("GET", place_of(args.stream, args.time))["items"]
        else:
            products = client.call("GET", "/products")["items"]
            columns = ("product", "time", "expected", "started", "completed", "late")
            listed(args, products, "product", columns)
            return Exit.DONE
        listed(args, found, "id", COLUMNS)
    return Exit.DONE


def _reporting(status: str) -> Verb:
    return Verb(words=f"product {status}", help=f"report a product as {status}",
                arguments=_report_arguments, run=partial(_report, status))  # fmt: skip


VERBS: Final = (
    _reporting("expected"),
    _reporting("started"),
    _reporting("completed"),
    Verb(words="product reset", help="forget what is known of products",
         arguments=_reset_arguments, run=_reset),
    Verb(words="product show", help="show products, the steps of one, or the reports of a step",
         arguments=_show_arguments, run=_show),
)  # fmt: skip
