"""`ecpds import-openecpds`: the configuration of an OpenECPDS, and what became of each part."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.site import node_of
from ecpds.cli.tomltext import toml_text
from ecpds.cli.verbs import Verb, add_output, as_json
from ecpds.model.decode import Where

Document = dict[str, Any]
LONGEST: Final = 256 * 1024 * 1024  # bytes of a document
KEYS: Final = {"data_users": "login"}


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="BACKUP.json",
                        help="answer of GET /ecpds/v1/destination/backup")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only print the report")
    parser.add_argument(
        "--update", action="store_true", help="replace objects that are here already"
    )
    parser.add_argument(
        "--site", type=Path, metavar="FILE", help="write the site file, secrets included (0600)"
    )
    parser.add_argument("--all", action="store_true", help="report what was kept, too")
    add_output(parser, ids=False)
    add_arguments(parser)


def _run(args: Namespace) -> int:
    """Translate, report, apply; 4 when something could not be taken."""
    from ecpds.engine.importing import read_document, translate
    from ecpds.modules import BUILTIN
    from ecpds.node import make_catalogue
    from ecpds.transfer.registry import Registry

    registry = Registry(BUILTIN, installed=True)
    document = read_document(_text(args.file))
    found = translate(document, make_catalogue(registry), registry.methods())
    site = found.site
    with closing(node_of(args)) as node:
        if not args.update:
            site = _missing(site, node.export(secrets=False), found)
        if args.site is not None:
            _write(args.site, site)
        args.prune = False
        changes = node.apply(str(args.file.absolute()), site, Where(file=str(args.file)), args)
    _report(args, found.lines, changes)
    refused = any(line.outcome == "refused" for line in found.lines)
    return Exit.PARTIAL if refused else Exit.DONE


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LONGEST:
            raise CommandError(f"{path} is longer than {LONGEST} bytes", Exit.USAGE)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or "it is no text"
        raise CommandError(f"{path} cannot be read: {told}", Exit.USAGE) from None


def _missing(site: Document, present: Document, found: Any) -> Document:
    """Return the objects that are not here yet."""
    left: Document = {}
    for kind, objects in site.items():
        key = KEYS.get(kind, "name")
        known = {one[key] for one in present.get(kind, [])}
        left[kind] = [one for one in objects if one[key] not in known]
        for one in objects:
            if one[key] in known:
                found.tell("skipped", kind.rstrip("s").replace("_", " "), one[key],
                           text="is here already and stays as it is")  # fmt: skip
    return {kind: objects for kind, objects in left.items() if objects}


def _write(path: Path, site: Document) -> None:
    try:
        path.touch(mode=0o600, exist_ok=False)
        is_json = path.suffix == ".json"
        text = json.dumps(site, indent=1, ensure_ascii=False) if is_json else toml_text(site)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", Exit.USAGE) from None


def _report(args: Namespace, lines: list[Any], changes: list[Document]) -> None:
    counts = Counter(line.outcome for line in lines)
    if args.output == "json":
        as_json({"counts": dict(counts), "lines": [asdict(line) for line in lines],
                 "changes": changes, "dry_run": args.dry_run})  # fmt: skip
        return
    for line in lines:
        if line.outcome == "kept" and not args.all:
            continue
        place = f"{line.kind} {line.name}" + (f", {line.field}" if line.field else "")
        print(f"{line.outcome:<8} {place}" + (f": {line.text}" if line.text else ""))
    done = sum(change["action"] != "unchanged" for change in changes)
    summary = ", ".join(f"{counts[key]} {key}" for key in ("kept", "mapped", "refused", "skipped"))
    print(f"{summary}; {done} object(s) {'would change' if args.dry_run else 'changed'}")


VERBS: Final = (
    Verb(words="import-openecpds", arguments=_arguments, run=_run,
         help="take over the configuration of an OpenECPDS; exit with 4 when parts were refused"),
)  # fmt: skip
