"""`ecpds fsck`: compares what the store says with what the disks have.

Exit codes: 0 nothing is wrong, or all of it was repaired; 1 the database itself is damaged; 4
something is wrong and was left; 5 a daemon runs, or the store is of another release; 6 no store.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ecpds.cli.access import settings_path
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.verbs import Verb, add_output, as_json


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--repair", action="store_true",
        help="correct counters, move orphans away, mark lost content, keep a report",
    )  # fmt: skip
    parser.add_argument("--deep", action="store_true", help="read all content, compare checksums")
    parser.add_argument(
        "--online", action="store_true", help="look beside a running daemon, change nothing"
    )
    parser.add_argument(
        "--force", action="store_true", help="mark content as lost even when most of a volume is"
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="instead of that of --config")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings of the node")
    add_output(parser, ids=False)


def _run(args: Namespace) -> int:
    from ecpds.base.settings import load
    from ecpds.cli.fsck_checks import Checks
    from ecpds.model.errors import ConfigError
    from ecpds.node import DataDirectory

    if args.online and args.repair:
        raise CommandError("nothing is repaired beside a running daemon", Exit.USAGE)
    settings = load(settings_path(args))
    if args.data_dir is not None:
        settings = replace(settings, node=replace(settings.node, data_dir=args.data_dir))
    if not settings.store_path.exists():
        raise CommandError(f"there is no store {settings.store_path}", Exit.NOT_FOUND)
    directory = DataDirectory(settings)
    if not args.online:
        try:
            directory.open()
        except ConfigError as error:
            text = f"{error.message}: stop it, or look with --online"
            raise CommandError(text, Exit.CONFLICT) from None
    try:
        checks = Checks(
            settings, deep=args.deep, repair=args.repair, online=args.online, force=args.force
        )
        summary = checks.run()
    finally:
        directory.close()
    _tell(args, summary)
    if summary["damage"]:
        return Exit.UNEXPECTED
    return Exit.PARTIAL if summary["problems"] > summary["repaired"] else Exit.DONE


def _tell(args: Namespace, summary: dict[str, Any]) -> None:
    if args.output == "json":
        as_json(summary)
        return
    for line in summary["told"]:
        print(line)
    if summary["untold"]:
        print(f"… and {summary['untold']} more")
    counts = ", ".join(f"{count} {kind}" for kind, count in summary["kinds"].items() if count)
    print(f"{summary['files']} files looked at, {summary['problems']} problems", end="")
    print(f" ({counts})" if counts else "", end="")
    print(f", {summary['repaired']} repaired" if args.repair else "")
    if summary["report"]:
        print(f"report: {summary['report']}")


VERBS: Final = (
    Verb(words="fsck", arguments=_arguments, run=_run,
         help="compare the store with the content on disk; 0 fine, 1 store damaged, 4 problems"),
)  # fmt: skip
