"""`ecpds version`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from ecpds import __version__
from ecpds.cli.codes import Exit
from ecpds.cli.verbs import Verb, add_output, as_json


def _arguments(parser: ArgumentParser) -> None:
    add_output(parser, ids=False)


def _run(args: Namespace) -> int:
    if args.output == "json":
        as_json({"release": __version__})
    else:
        print(f"ecpds {__version__}")
    return Exit.DONE


VERBS: Final = (Verb(words="version", help="print the release", arguments=_arguments, run=_run),)
