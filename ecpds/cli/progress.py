"""A bar on a terminal while a file goes out."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Watch = Callable[[int], None]


@contextmanager
def bars(args: Namespace) -> Iterator[Callable[[str, int | None], Watch | None]]:
    """Give a function that adds a bar for a file and returns what moves it; for any thread."""
    if args.quiet or args.output != "text" or not sys.stderr.isatty():
        yield lambda _name, _size: None
        return
    from rich.console import Console  # 80 ms that scripts do not have to pay
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:

        def add(name: str, size: int | None) -> Watch:
            for old in shown.tasks:
                if old.finished:
                    shown.remove_task(old.id)
            task = shown.add_task(name, total=size)
            return lambda count: shown.advance(task, count)

        yield add


@contextmanager
def progress(
    args: Namespace, name: str, size: int | None
) -> Iterator[Callable[[int], None] | None]:
    """Give a function that moves the bar by some bytes; None when nobody would see one."""
    with bars(args) as add:
        yield add(name, size)
