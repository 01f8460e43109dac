"""Which kill belongs to which scheduler; a new scheduler or failpoint has to find its place."""

from __future__ import annotations

import re
from pathlib import Path

from ecpds.base.failpoints import POINTS

ROOT = Path(__file__).parents[2]
CRASH = ROOT / "tests" / "crash"

KILLED = {
    "acquisition": ("acquisition.listed", "acquisition.registered"),  # test_kill.py
    "subscription": ("acquisition.registered",),  # flow/test_mqtt_acquisition.py
    "retrieval": ("retrieval.stored", "retrieval.committed"),  # fetch mode: _schedulers.py
    "dissemination": ("attempt.claimed", "attempt.sent", "attempt.renamed", "attempt.committed"),
    "packing": ("packing.made", "packing.stored"),  # test_kill_schedulers.py
    "leftovers": ("leftover.removed",),
    "replication": ("copy.made",),  # proxies: flow/test_replication.py
    "retention": ("retention.marked", "retention.removed"),
    "hostchecks": ("check.written",),
    "mailnotices": ("mail.posted",),
    "recovering": ("recovering.started",),
    "jobs": ("job.acted", "job.saved"),
    "outbox": ("outbox.prepared", "outbox.published", "outbox.settled"),
    "sinks": ("sink.sent",),
    "eventlog": ("eventlog.written",),
}
DOORS = (
    "objects.opened", "objects.synced", "objects.renamed", "objects.directory_synced",
    "store.before_commit", "store.after_commit", "vfs.before_register", "vfs.after_register",
)  # fmt: skip
"""Points on everybody's way, killed in test_kill.py."""

ONE_STATEMENT = {
    "webhooks": "a message is told again until its row is written, as those of sinks",
    "ageing": "one transaction a round, made anew from the store",
    "holds": "one transaction for each hold that ends",
    "lateness": "reads only",
    "groups": "one transaction for each group",
    "incidents": "one transaction a round",
    "clockwatch": "one transaction for each step of the clock",
    "guard": "in memory only",
    "watch": "hints only: the next run by the clock finds the rest",
}
"""Loops that have no moment between two durable acts at which a kill could fall."""


def test_every_failpoint_belongs_to_somebody() -> None:
    assert {point for points in KILLED.values() for point in points} | set(DOORS) == set(POINTS)


def test_every_failpoint_is_passed_in_the_code_and_killed_in_a_test() -> None:
    """By its name, or all that are not named elsewhere (test_kill.py)."""
    code = "".join(path.read_text("utf-8") for path in (ROOT / "ecpds").rglob("*.py"))
    tests = "".join(path.read_text("utf-8") for path in CRASH.glob("test_*.py"))
    parts = re.search(r"ELSEWHERE = (.*?)@asynccontextmanager", tests, re.DOTALL)
    assert parts is not None
    elsewhere = set(re.findall(r'"([a-z_]+\.[a-z_]+)"', parts[1]))
    for point in POINTS:
        assert f'hit("{point}")' in code, point
    killed = set(re.findall(r'"([a-z_]+\.[a-z_]+)(?::kill)?"', tests.replace(parts[1], "")))
    assert elsewhere <= killed


def test_every_loop_of_the_engine_is_in_a_table() -> None:
    """What runs for ever in engine/ is killed, or there is a reason why it need not be."""
    loops = {
        path.stem
        for path in (ROOT / "ecpds" / "engine").glob("*.py")
        if re.search(r"^    async def (run|look|work_ahead|remove)\(self\)", path.read_text(), re.M)
    }
    known = KILLED.keys() | ONE_STATEMENT.keys() | {"probe", "supervisor"}  # asked for; the others
    assert loops - known == set()
