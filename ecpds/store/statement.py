"""SQL texts, declared beside the one function that runs each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL text; `hot` ones may not scan a table (a test reads their plans)."""

    sql: str
    hot: bool = False


def statement(sql: str, *, hot: bool = False) -> Statement:
    """Declare a statement beside the one function that runs it."""
    return Statement(" ".join(sql.split()), hot)
