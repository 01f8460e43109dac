"""The version part of a unique key: `$date $timestamp $destination $target $original $timefile`."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from ecpds.model.dates import DatePattern, milliseconds
from ecpds.model.rulesettings import VERSION_TOKENS
from ecpds.model.tokens import DateParams, Pieces, parse_pieces
from ecpds.model.tokenvalues import Dates, render_pieces


@lru_cache(maxsize=256)
def version_pieces(text: str, *, legacy: bool = False) -> Pieces:
    """Compile a version or metadata template; RuleError.  `legacy` keeps unknown tokens as text."""
    return parse_pieces(text, VERSION_TOKENS, legacy=legacy)


def expand_version(
    text: str | Pieces,
    *,
    destination: str,
    target: str,
    original: str,
    file_time: datetime | None,
    date_format: str,
    now: datetime,
) -> str:
    """Return the version text of one submission; raises RuleError or TemplateError."""
    values = {
        "timestamp": str(milliseconds(now)),
        "destination": destination,
        "target": target,
        "original": original,
        "timefile": str(milliseconds(file_time)) if file_time else "0",
    }
    defaults = {"date": DateParams(dateformat=DatePattern.parse(date_format))}
    pieces = version_pieces(text) if isinstance(text, str) else text
    return render_pieces(pieces, values, Dates(now=now, defaults=defaults))


def key_of(
    destination: str,
    target: str,
    *,
    unique_name: str,
    version: str | Pieces,
    original: str,
    file_time: datetime | None,
    date_format: str,
    now: datetime,
) -> tuple[str, str, str]:
    """Return the unique key of a submission: destination, target, version."""
    if not version:
        return destination, target, unique_name
    text = expand_version(
        version,
        destination=destination,
        target=target,
        original=original,
        file_time=file_time,
        date_format=date_format,
        now=now,
    )
    return destination, target, unique_name + text
