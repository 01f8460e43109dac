"""Documents as TOML text; what `tomllib` reads back is what was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def toml_text(document: Mapping[str, Any]) -> str:
    """Return nested tables and lists of tables as TOML; None is an empty text."""
    return "\n".join(_lines(document, "")).strip("\n") + "\n"


def _lines(table: Mapping[str, Any], path: str) -> list[str]:
    """Return first what the table itself says, then the tables in it, as TOML wants it."""
    lines = [f"{_key(key)} = {_value(one)}" for key, one in table.items() if not _has_tables(one)]
    for key, value in table.items():
        name = f"{path}.{_key(key)}" if path else _key(key)
        if isinstance(value, Mapping):
            lines += ["", f"[{name}]", *_lines(value, name)]
        elif _has_tables(value):
            for one in value:
                lines += ["", f"[[{name}]]", *_lines(one, name)]
    return lines


def _has_tables(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    is_list = isinstance(value, (list, tuple)) and bool(value)
    return is_list and all(isinstance(one, Mapping) for one in value)


def _key(key: str) -> str:
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isalnum() and bare.isascii() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}"
    if value is None:
        return '""'
    # a JSON text is a TOML basic string, but for one character
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
