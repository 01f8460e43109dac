"""`ecpds broker files`: password and ACL file of a Mosquitto, also on another machine."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import connect
from ecpds.cli.codes import Exit
from ecpds.cli.verbs import Verb, add_output, as_json


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="where `passwords` and `acl` are written")
    parser.add_argument("--pid-file", type=Path, help="of the broker: SIGHUP when they changed")
    add_output(parser, ids=False)
    add_arguments(parser)


def _files(args: Namespace) -> int:
    from ecpds.vfs.brokerfiles import BrokerTexts, reload, write_files

    with connect(args) as client:
        found = client.call("GET", "/notify/mosquitto")
    texts = BrokerTexts(passwords=found["passwords"], access=found["acl"], users=(), left_out=())
    changed = write_files(args.directory, texts)
    told = reload(args.pid_file) if changed and args.pid_file else None
    if args.output == "json":
        facts = {"users": found["users"], "left_out": found["left_out"], "changed": changed}
        as_json(facts | {"reloaded": told})
    else:
        print(f"{len(found['users'])} users in {args.directory}")
        for one in found["left_out"]:
            print(f"left out: {one['login']}: {one['reason']}")
    return Exit.UNEXPECTED if told is False else Exit.DONE


VERBS: Final = (
    Verb(words="broker files", help="write password and ACL file of a Mosquitto",
         arguments=_arguments, run=_files),
)  # fmt: skip
