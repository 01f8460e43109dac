"""`ecpds config check|show` and `ecpds version`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecpds import __version__
from ecpds.base.settings import effective, load


def arguments(name: str, parser: ArgumentParser) -> None:
    """Declare the arguments."""
    if name == "version":
        return
    parser.add_argument("verb", choices=("check", "show"))
    parser.add_argument("file", nargs="?", type=Path, help="settings; default ./ecpds.toml")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the same")
    parser.add_argument("--output", choices=("text", "json"), default="text")


def run(name: str, args: Namespace) -> int:
    """Print; a wrong file is an error with file, line, key and the nearest name."""
    if name == "version":
        print(f"ecpds {__version__}")
        return 0
    default = Path("ecpds.toml") if Path("ecpds.toml").exists() else None
    path = args.file or args.config or default
    settings = load(path)
    if args.verb == "check":
        print(f"{path or 'defaults'}: ok")
    elif args.output == "json":
        print(json.dumps(effective(settings), indent=1))
    else:
        print("\n".join(toml_lines(effective(settings))))
    return 0


def toml_lines(table: Mapping[str, Any], path: str = "") -> list[str]:
    """Return nested tables as TOML lines."""
    lines: list[str] = []
    plain = {k: v for k, v in table.items() if not _is_table(v)}
    if plain and path:
        lines.append(f"[{path}]")
    lines += [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    if plain:
        lines.append("")
    for key, value in table.items():
        name = f"{path}.{_key(key)}" if path else _key(key)
        if isinstance(value, Mapping):
            lines += toml_lines(value, name)
        elif _is_table(value):
            for one in value:
                lines += [f"[[{name}]]", *_body(one, name)]
    return lines


def _body(table: Mapping[str, Any], name: str) -> list[str]:
    plain = {k: v for k, v in table.items() if not _is_table(v)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += [f"[{name}.{_key(key)}]"]
            lines += [f"{_key(k)} = {_value(v)}" for k, v in value.items()]
        elif _is_table(value):
            for one in value:
                lines += [f"[[{name}.{_key(key)}]]"]
                lines += [f"{_key(k)} = {_value(v)}" for k, v in one.items()]
    return [*lines, ""]


def _is_table(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _key(key: str) -> str:
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isalnum() and bare.isascii() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if value is None:
        return '""'
    return json.dumps(value, ensure_ascii=False)
