"""Listing a directory in threads, so that leaving it half-way neither leaks nor pulls a descriptor.

A caller that is cancelled leaves its call running in the pool: whoever comes last, that call or
`close`, gives the descriptors back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Scan:
    """An open directory; calls come one at a time, from any thread."""

    def __init__(self) -> None:
        self.descriptor = -1
        self._lock = threading.Lock()
        self._is_busy = False
        self._is_closed = False
        self._entries: Iterator[os.DirEntry[str]] | None = None

    def call(self, fn: Callable[[Scan], T], nothing: T) -> T:
        """Return what `fn` makes of this, `nothing` when it was closed before."""
        with self._lock:
            if self._is_closed:
                return nothing
            self._is_busy = True
        try:
            return fn(self)
        finally:
            with self._lock:
                self._is_busy = False
                if self._is_closed:
                    self._release()

    def open(self, opener: Callable[[], int]) -> None:
        """Take the descriptor that `opener` gives; inside of `call`."""
        self.descriptor = opener()
        self._entries = os.scandir(self.descriptor)

    @property
    def entries(self) -> Iterator[os.DirEntry[str]]:
        """Return what is still to come; inside of `call`."""
        return self._entries if self._entries is not None else iter(())

    def close(self) -> None:
        """Give the descriptors back, now or when the call that runs has ended; never waits."""
        with self._lock:
            self._is_closed = True
            if not self._is_busy:
                self._release()

    def _release(self) -> None:
        entries, self._entries = self._entries, None
        if entries is not None:
            entries.close()  # type: ignore[attr-defined]  # of os.scandir
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
