"""Telling the progress of long transfers in the log (`ectrans.putMonitoredInputDelta`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from ecpds.base.logs import get_logger
from ecpds.transfer.meter import Meter

log = get_logger(__name__)


class Progress:
    """Called about once a second with the meter of one transfer."""

    def __init__(
        self, every: timedelta, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._every = every.total_seconds()
        self._monotonic = monotonic
        self._next = monotonic() + self._every

    def __call__(self, meter: Meter) -> None:
        """Write a line when it is time for one."""
        now = self._monotonic()
        if now >= self._next:
            self._next = now + self._every
            log.info("transfer goes on", bytes=meter.moved, rate=int(meter.rate()))
