"""Named places where a test can kill or break the process.

`ECPDS_FAILPOINTS=objects.renamed:kill,store.before_commit:kill@3` ends the process by SIGKILL at
the first pass of one point and at the third pass of another; `:error` raises OSError(EIO) there,
`:full` raises OSError(ENOSPC).  Without the variable a pass costs one dictionary look-up.
"""

from __future__ import annotations

import errno
import os
import signal

# Every name that `hit` is called with, for the crash tests to walk through.
POINTS = (
    "objects.opened",
    "objects.synced",
    "objects.renamed",
    "objects.directory_synced",
    "store.before_commit",
    "store.after_commit",
    "vfs.before_register",
    "vfs.after_register",
    "acquisition.listed",
    "acquisition.registered",
    "retrieval.stored",
    "retrieval.committed",
    "attempt.claimed",
    "attempt.sent",
    "attempt.renamed",
    "attempt.committed",
    "retention.marked",
    "retention.removed",
    "eventlog.written",
    "packing.made",
    "packing.stored",
    "leftover.removed",
    "copy.made",
    "job.acted",
    "job.saved",
    "outbox.prepared",
    "outbox.published",
    "outbox.settled",
    "mail.posted",
    "check.written",
    "recovering.started",
    "sink.sent",
)


class Failpoints:
    """The failpoints armed for this process."""

    def __init__(self, text: str = "") -> None:
        self._armed: dict[str, tuple[str, int]] = {}
        for part in filter(None, text.split(",")):
            name, _, act = part.partition(":")
            act, _, count = act.partition("@")
            if name not in POINTS:
                raise ValueError(f"no failpoint {name!r}")
            self._armed[name] = (act or "kill", int(count or 1))

    @classmethod
    def from_environment(cls) -> Failpoints:
        """Read `ECPDS_FAILPOINTS`."""
        return cls(os.environ.get("ECPDS_FAILPOINTS", ""))

    def hit(self, name: str, times: int = 1) -> None:
        """Pass the point `name`, so many times for so many files; do what is armed there."""
        if not self._armed or name not in self._armed:
            return
        for _ in range(times):
            self._pass(name)

    def _pass(self, name: str) -> None:
        if name not in self._armed:
            return
        act, left = self._armed[name]
        if left > 1:
            self._armed[name] = (act, left - 1)
            return
        if act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        del self._armed[name]
        code = errno.ENOSPC if act == "full" else errno.EIO
        raise OSError(code, os.strerror(code), f"failpoint {name}")
