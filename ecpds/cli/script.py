"""`ecpds script try`: runs a script on the node, in its sandbox."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import connect
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.keyvalues import read_values
from ecpds.cli.verbs import Verb, add_output, as_json

MOST_TEXT: Final = 128 * 1024  # bytes of a script


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="with the script; - reads standard input")
    parser.add_argument("--language", choices=("javascript", "python"),
                        help="else by the ending of the file; javascript")  # fmt: skip
    parser.add_argument("--transfer", type=int, metavar="ID", help="use the values of a transfer")
    parser.add_argument("--destination", default="", metavar="NAME", help="or write one by hand")
    parser.add_argument("--target", default="", metavar="NAME", help="its target")
    parser.add_argument("--meta", action="append", default=[], metavar="KEY=VALUE", help="metadata")
    parser.add_argument("--host", default="", metavar="NAME", help="use the values of a host")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="values",
                        help="more variables; KEY:=JSON for what is no text")  # fmt: skip
    add_output(parser, ids=False)
    add_arguments(parser)


def _try(args: Namespace) -> int:
    body: dict[str, Any] = {
        "language": args.language or ("python" if args.file.endswith(".py") else "javascript"),
        "code": _text(args.file),
        "variables": read_values(args.values),
        "destination": args.destination,
        "target": args.target,
        "metadata": read_values(args.meta),
        "host": args.host,
    }
    if args.transfer is not None:
        body["transfer"] = args.transfer
    with connect(args) as client:
        found = client.call("POST", "/scripts/try", body=body)
    if args.output == "json":
        as_json(found)
    elif found["ok"]:
        print(found["text"])
    else:
        print(f"error: {found['error']}", file=sys.stderr)
    return Exit.DONE if found["ok"] else Exit.UNEXPECTED


def _text(path: str) -> str:
    try:
        data = sys.stdin.buffer.read(MOST_TEXT + 1) if path == "-" else Path(path).read_bytes()
        text = data.decode()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", Exit.USAGE) from None
    except UnicodeDecodeError:
        raise CommandError(f"{path}: no UTF-8 text", Exit.USAGE) from None
    if len(data) > MOST_TEXT:
        raise CommandError(f"{path}: more than {MOST_TEXT} bytes", Exit.USAGE)
    return text


VERBS: Final = (
    Verb(words="script try", arguments=_arguments, run=_try,
         help="run a script on the node, with the values of a transfer"),
)  # fmt: skip
