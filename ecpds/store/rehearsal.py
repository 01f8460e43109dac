"""A transaction that is tried and undone: what it would lead to, with every check it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from ecpds.store.db import Connection, Store

P = ParamSpec("P")
T = TypeVar("T")


class Rehearsed(Exception):
    """Carries the result out of a transaction that is undone by it."""

    def __init__(self, result: object) -> None:
        super().__init__("rehearsed")
        self.result = result


async def rehearse(
    store: Store, act: Callable[Concatenate[Connection, P], T], *args: P.args, **given: P.kwargs
) -> T:
    """Return what `act` would return, and leave nothing of it; its errors are raised."""

    def run(db: Connection) -> Any:
        raise Rehearsed(act(db, *args, **given))

    try:
        await store.write(run)
    except Rehearsed as found:
        return found.result  # type: ignore[return-value] # of act
    raise AssertionError("the rehearsal was stored")
