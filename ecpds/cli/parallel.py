"""Several acts side by side, told in their order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST: Final = 16


class Side(Generic[T, R]):
    """Runs `act` for each item on some threads; iterating gives the results in order.

    The threads are daemons: Ctrl-C ends the command at once, what was half sent is not registered.
    """

    def __init__(self, items: Sequence[T], act: Callable[[T], R], *, workers: int) -> None:
        self._act = act
        self._waiting: SimpleQueue[tuple[int, T]] = SimpleQueue()
        for number, item in enumerate(items):
            self._waiting.put((number, item))
        self._count = len(items)
        self._done: SimpleQueue[tuple[int, R | None, BaseException | None]] = SimpleQueue()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, daemon=True)
            for _ in range(min(workers, self._count, MOST))
        ]

    def stop(self) -> None:
        """Begin nothing more; what runs goes on to its end."""
        self._stopped.set()

    def __iter__(self) -> Iterator[R]:
        for thread in self._threads:
            thread.start()
        ready: dict[int, tuple[R | None, BaseException | None]] = {}
        for wanted in range(self._count):
            while wanted not in ready:
                number, result, error = self._done.get()
                ready[number] = (result, error)
            result, error = ready.pop(wanted)
            if error is not None:
                raise error
            if result is not None:  # None: not begun any more
                yield result

    def _work(self) -> None:
        while True:
            try:
                number, item = self._waiting.get_nowait()
            except Empty:
                return
            if self._stopped.is_set():
                self._done.put((number, None, None))
                continue
            try:
                self._done.put((number, self._act(item), None))
            except BaseException as error:  # noqa: BLE001 - raised where the results are read
                self._done.put((number, None, error))
