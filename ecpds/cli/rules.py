"""`ecpds rules test|check`: which rule hits a name, and whether a rule text can be read."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import connect
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.keyvalues import HELP, read_values
from ecpds.cli.verbs import Verb, add_output, as_json, table

Found = dict[str, Any]
MOST_TEXT: Final = 512 * 1024  # bytes of a rule text from a file


def _test_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("destination", nargs="?", default="", help="that it is submitted to")
    parser.add_argument("target", nargs="?", default="", help="name as submitted")
    parser.add_argument("--transfer", type=int, metavar="ID", help="take a real transfer")
    parser.add_argument("--meta", action="append", default=[], metavar="KEY=VALUE", help="metadata")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="values",
                        help=f"other fields, such as size=10 or original=/x/a; {HELP}")  # fmt: skip
    parser.add_argument("--host", default="", help="only the path on that host")
    group = parser.add_argument_group("texts to try in place of the stored ones; - reads them")
    group.add_argument("--directory", metavar="FILE", help="directory of a dissemination host")
    group.add_argument("--force", metavar="FILE", help="scheduler.force")
    group.add_argument("--alias", nargs=2, metavar=("TO", "FILE"), help="rule of an alias")
    group.add_argument("--legacy", action="store_true", help="they keep their old meaning")
    add_output(parser, ids=False)
    add_arguments(parser)


def _check_arguments(parser: ArgumentParser) -> None:
    kinds = ("directory", "listing", "force", "alias", "requeueon")
    parser.add_argument("kind", choices=kinds, help="what the text is")
    parser.add_argument("file", metavar="FILE", help="with the text; - reads standard input")
    parser.add_argument("--legacy", action="store_true", help="it keeps its old meaning")
    add_output(parser, ids=False)
    add_arguments(parser)


def _text(path: str) -> str:
    """Return a rule text; the newline at its end is the file's."""
    try:
        data = sys.stdin.buffer.read(MOST_TEXT + 1) if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", Exit.USAGE) from None
    if len(data) > MOST_TEXT:
        raise CommandError(f"{path}: more than {MOST_TEXT} bytes", Exit.USAGE)
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise CommandError(f"{path}: no UTF-8 text", Exit.USAGE) from None


def _question(args: Namespace) -> Found:
    asked: Found = read_values(args.values)
    asked |= {"destination": args.destination, "target": args.target, "host": args.host}
    asked = {key: value for key, value in asked.items() if value != ""}
    if args.transfer is not None:
        asked["transfer"] = args.transfer
    if args.meta:
        asked["metadata"] = dict(_pair(text) for text in args.meta)
    for name in ("directory", "force"):
        if getattr(args, name) is not None:
            asked[name] = _text(getattr(args, name))
    if args.alias:
        asked |= {"alias_to": args.alias[0], "alias_rule": _text(args.alias[1])}
    if args.legacy:
        asked["legacy"] = True
    return asked


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise CommandError(f"--meta {text!r} is not KEY=VALUE", Exit.USAGE)
    return key, value


def _test(args: Namespace) -> int:
    with connect(args) as client:
        found: Found = client.call("POST", "/rules/test", body=_question(args))
    if args.output == "json":
        as_json(found)
    else:
        _show(found)
    is_wrong = found["refused"] or any(one["error"] for one in found["problems"])
    return Exit.UNEXPECTED if is_wrong else Exit.DONE


def _show(found: Found) -> None:
    for one in found["problems"]:
        print(_problem(one))
    print(f"target    {found['target']}")
    key = found["key"]
    if key is not None:
        version = f", version {key['version']}" if key["version"] else ""
        print(f"key       {key['destination']} {key['target']}{version}")
    for one in found["duplicates"]:
        print(f"known     transfer {one['id']} to {one['destination']} is {one['status']}")
    if found["refused"]:
        print(f"refused   {found['refused']['text']} [{found['refused']['code']}]")
    print(f"force     {_hit(found['force'])}")
    for one in found["aliases"]:
        print(f"alias     {one['from']} -> {one['to']}: {_hit(one)}")
    if found["metadata"]:
        print("metadata  " + ", ".join(f"{k}={v}" for k, v in found["metadata"].items()))
    table([[one[name] for name in _PLANNED] for one in found["transfers"]], _PLANNED)
    for one in found["hosts"]:
        _show_path(one)


_PLANNED: Final = ("destination", "target", "priority", "scheduled", "expires", "standby", "alias")


def _hit(one: Found) -> str:
    if not one["line"]:
        return str(one["why"])
    rest = "" if one["applies"] else f" (does not apply: {one['why']})"
    return f"line {one['line']}: {one['rule']}{rest}"


def _show_path(one: Found) -> None:
    print(f"host {one['host']}: {one['path'] or 'error: ' + str(one['error'])}")
    if one["line"]:
        how = "the default" if one["default"] else f"{one['score']} conditions hold"
        print(f"  line {one['line']} ({how}): {one['rule']}")
    for token, value in one["tokens"].items():
        print(f"  {token} = {value}")
    if one["appended"]:
        print("  the target is appended")


def _problem(one: Found) -> str:
    kind = "error" if one["error"] else "warning"
    return f"{kind}: {one['field']}: {one['text']}"


def _check(args: Namespace) -> int:
    body = {"kind": args.kind, "text": _text(args.file), "legacy": args.legacy}
    with connect(args) as client:
        found: Found = client.call("POST", "/rules/check", body=body)
    if args.output == "json":
        as_json(found)
    else:
        for one in found["problems"]:
            print(_problem(one))
        print("ok" if found["ok"] else "not ok")
    return Exit.DONE if found["ok"] else Exit.USAGE


VERBS: Final = (
    Verb(words="rules test", arguments=_test_arguments, run=_test,
         help="tell what the rules make of a name: lines that hit, path, key, copies"),
    Verb(words="rules check", arguments=_check_arguments, run=_check,
         help="tell whether a rule text can be read; exit with 2 when it cannot"),
)  # fmt: skip
