"""The bodies of `/rules` and `/scripts`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from ecpds.model.decode import opt


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesTest:
    """A transfer, real or hand-written, and rule texts to be tried in place of the stored ones."""

    transfer: int | None = opt(None, "A real one; the other fields then replace what it has.")
    destination: str = opt("", "Destination that the name is submitted to.")
    target: str = opt("", "Name as submitted.")
    original: str = opt("", "Name at the origin.")
    source: str = opt("", "Path at the source.")
    size: int | None = opt(None, "Bytes; none: unknown.", low=-1)
    file_time: datetime | None = opt(None, "Time of the file at its source.")
    metadata: dict[str, str] | None = opt(None, "Keys and values.")
    priority: int | None = opt(None, "0 first to 99 last.", low=0, high=99)
    lifetime: timedelta | None = opt(None, "How long it is kept.", low=1)
    delay: timedelta | None = opt(None, "Added to the start.", low=0)
    standby: bool = opt(False, "Submitted to be held.")
    event: bool | None = opt(None, "Submitted to be announced.")
    version: str | None = opt(None, "Tells equal targets apart.")
    host: str = opt("", "Only this host; none: all dissemination hosts of the destination.")
    directory: str | None = opt(None, "Directory text to try.")
    force: str | None = opt(None, "Text of scheduler.force to try.")
    alias_to: str = opt("", "Destination of an alias to try.")
    alias_rule: str | None = opt(None, "Its rule.")
    legacy: bool = opt(False, "The texts keep their old meaning.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCheck:
    """One rule text."""

    kind: Literal["directory", "listing", "force", "alias", "requeueon"] = opt(
        "directory",
        "directory of a dissemination host, listing of an acquisition host, force, alias, "
        "requeueon.",
    )
    text: str = opt("", "The text.")
    legacy: bool = opt(False, "It keeps its old meaning.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptTry:
    """A script, and what its values are taken from."""

    language: Literal["javascript", "python"] = opt(
        "javascript", "Language; a text as $(python: ...) tells its own."
    )
    code: str = opt("", "The script, with or without $( ) around it.")
    variables: dict[str, Any] = opt(dict, "Values by name, on top of those of the transfer.")
    transfer: int | None = opt(None, "A real transfer whose values are used.")
    destination: str = opt("", "Destination of a hand-written transfer.")
    target: str = opt("", "Target of a hand-written transfer.")
    metadata: dict[str, str] | None = opt(None, "Its metadata.")
    host: str = opt("", "Host whose values are used.")
