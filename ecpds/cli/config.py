"""`ecpds config check|show`: the settings of a node."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from ecpds.base.settings import effective, load
from ecpds.cli.access import settings_path
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.tomltext import toml_text
from ecpds.cli.verbs import Verb, add_output, as_json


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, help="settings; default ./ecpds.toml")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the same")
    add_output(parser, ids=False)


def _path(args: Namespace) -> Path | None:
    if args.file is not None and args.config is not None and args.file != args.config:
        raise CommandError("name one file", Exit.USAGE)
    return args.file or settings_path(args)


def _check(args: Namespace) -> int:
    path = _path(args)
    load(path)
    if args.output == "json":
        as_json({"file": str(path) if path else None, "ok": True})
    else:
        print(f"{path or 'defaults'}: ok")
    return Exit.DONE


def _show(args: Namespace) -> int:
    settings = effective(load(_path(args)))
    if args.output == "json":
        as_json(settings)
    else:
        print(toml_text(settings), end="")
    return Exit.DONE


VERBS: Final = (
    Verb(words="config check", arguments=_arguments, run=_check,
         help="read settings and environment; name a mistake with file, line and nearest key"),
    Verb(words="config show", arguments=_arguments, run=_show,
         help="print the settings in effect, secrets masked"),
)  # fmt: skip
