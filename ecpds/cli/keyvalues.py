"""`KEY=VALUE` words as a document: keys of a site file, options by their full key."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from ecpds.cli.codes import CommandError, Exit

HELP: Final = (
    "keys of a site file; a list with commas; options by their key, such as sftp.port=22, nothing"
    " behind the sign removes one; KEY:=JSON for the rest"
)
LISTS: Final = frozenset(
    {"hosts", "destinations", "operations", "policies", "ssh_keys", "scopes", "objects", "networks"}
)
SECRETS: Final = {"password": "--password-file", "totp": "a site file", "s3_keys": "a site file"}
LONGEST: Final = 4096  # characters of a password


def read_values(words: Iterable[str]) -> dict[str, Any]:
    """Return the document that the words say; CommandError for a word that says nothing."""
    found: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key.strip(":"):
            raise CommandError(f"{word!r} is not KEY=VALUE", Exit.USAGE)
        if key.endswith(":"):
            _enter(found, key[:-1].strip(), _json(word, text))
        else:
            _enter(found, key.strip(), text)
    return found


def _json(word: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CommandError(f"{word!r}: there is no JSON behind :=", Exit.USAGE) from None


def _enter(found: dict[str, Any], key: str, value: Any) -> None:
    if key in SECRETS and value:
        message = f"{key} would be visible to other users of this machine: use {SECRETS[key]}"
        raise CommandError(message, Exit.USAGE)
    key = key.removeprefix("options.")
    if "." in key:  # an option such as sftp.port
        found.setdefault("options", {})[key] = None if value == "" else value
    elif key == "roles" and isinstance(value, str):
        found[key] = [_role(part) for part in _parts(value)]
    elif key in LISTS and isinstance(value, str):
        found[key] = _parts(value)
    else:
        found[key] = value


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _role(text: str) -> dict[str, str]:
    role, _, scope = text.partition(":")
    return {"role": role, "scope": scope or "*"}


def read_password(path: Path) -> str:
    """Return the first line of a file; `-` asks for it, or reads it from standard input."""
    if str(path) == "-":
        if sys.stdin.isatty():
            return getpass.getpass()
        return sys.stdin.readline(LONGEST).rstrip("\r\n")
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline(LONGEST).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        text = getattr(error, "strerror", None) or "it is no text"
        raise CommandError(f"{path} cannot be read: {text}", Exit.USAGE) from None
