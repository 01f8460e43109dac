"""`ecpds doctor`: whether machine and node are well, and what to do where they are not."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ecpds.cli.access import settings_path
from ecpds.cli.codes import Exit
from ecpds.cli.verbs import Verb, add_output, as_json
from ecpds.model.errors import ConfigError

if TYPE_CHECKING:
    from ecpds.cli.doctor_checks import Finding

MARKS: Final = {"ok": "ok", "warning": "WARNING", "failed": "FAILED"}


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings of the node")
    add_output(parser, ids=False)


def _run(args: Namespace) -> int:
    from ecpds.base.settings import load
    from ecpds.cli.doctor_checks import CHECKS, Finding, Patient

    path = settings_path(args)
    found: list[Finding] = []
    try:
        patient = Patient(load(path))
    except ConfigError as error:
        found.append(Finding("settings", "failed", str(error), "mend the file; nothing else"
                             " can be looked at before"))  # fmt: skip
    else:
        found.append(Finding("settings", "ok", str(path or "defaults")))
        for check in CHECKS:
            found += check(patient)
    if args.output == "json":
        as_json({"ok": all(one.state != "failed" for one in found),
                 "checks": [one.document() for one in found]})  # fmt: skip
    else:
        _print(found)
    return Exit.UNEXPECTED if any(one.state == "failed" for one in found) else Exit.DONE


def _print(found: list[Finding]) -> None:
    width = max(len(one.name) for one in found)
    for one in found:
        print(f"{MARKS[one.state]:<8} {one.name:<{width}}  {one.text}".rstrip())
        if one.advice:
            print(f"{'':<8} {'':<{width}}  -> {one.advice}")
    sys.stdout.flush()


VERBS: Final = (
    Verb(words="doctor", arguments=_arguments, run=_run,
         help="look at settings, rights, disks, limits, certificate, listeners, clock, names, mail,"
         " store; 1 when something failed"),
)  # fmt: skip
