"""`ecpds retrieval …`: the fetching of registered and discovered files as a whole."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import connect
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.verbs import Verb, add_output, as_json

Found = dict[str, Any]


def _arguments(parser: ArgumentParser) -> None:
    add_output(parser, ids=False)
    add_arguments(parser)


def _set_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, metavar="N", help="files at a time")
    parser.add_argument("--stream-timeout", metavar="TIME", help="end one after so long a silence")
    _arguments(parser)


def _status(args: Namespace) -> int:
    with connect(args) as client:
        return _tell(args, client.call("GET", "/retrieval"))


def _act(verb: str, args: Namespace) -> int:
    with connect(args) as client:
        return _tell(args, client.call("POST", f"/retrieval/actions/{verb}", body={}))


def _set(args: Namespace) -> int:
    given = {"streams": args.streams, "stream_timeout": args.stream_timeout}
    body = {key: value for key, value in given.items() if value is not None}
    if not body:
        raise CommandError("say --streams or --stream-timeout", Exit.USAGE)
    with connect(args) as client:
        return _tell(args, client.call("PATCH", "/retrieval", body=body))


def _tell(args: Namespace, found: Found) -> int:
    if args.output == "json":
        as_json(found)
    else:
        state = "stopped" if found["stopped"] else "started"
        timeout = found["stream_timeout"] or "that of each host"
        print(
            f"Scheduler {state} (streams={found['streams']}, running={found['running']}, "
            f"timeout={timeout})"
        )
    return Exit.DONE


VERBS: Final = (
    Verb(words="retrieval status", help="tell whether retrieval runs", arguments=_arguments,
         run=_status),
    Verb(words="retrieval start", help="let retrieval go on", arguments=_arguments,
         run=partial(_act, "start")),
    Verb(words="retrieval stop", help="start no retrieval any more", arguments=_arguments,
         run=partial(_act, "stop")),
    Verb(words="retrieval set", help="change its limits", arguments=_set_arguments, run=_set),
)  # fmt: skip
