"""A bar on a terminal while a file goes out."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(
    args: Namespace, name: str, size: int | None
) -> Iterator[Callable[[int], None] | None]:
    """Give a function that moves the bar by some bytes; None when nobody would see one."""
    if args.quiet or args.output != "text" or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # 80 ms that scripts do not have to pay
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=size)
        yield lambda count: bar.advance(task, count)
