"""Random lives of a queue against a model that fits one page: submissions, attempts, people,
failover, restarts, time that passes, and clocks that are set back a day.

The engine's own transactions are driven, one after the other, on a real store; what a transfer is
afterwards must be what the model says.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ecpds.engine import recovery
from ecpds.engine.attempt_store import Claimed, store_failure, store_success
from ecpds.engine.clockwatch import settle_times
from ecpds.engine.dissemination import Slots, claim_for
from ecpds.engine.operations.actor import SYSTEM, Actor
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.engine.submit import Submission
from ecpds.engine.telling import Teller
from ecpds.model.errors import BadState
from ecpds.model.host import Host, HostRole
from ecpds.model.status import REQUEUABLE, TransferStatus
from ecpds.model.transfer import Reason
from ecpds.objects.directory import Stored
from ecpds.store import destinations, transfers
from ecpds.transfer.contract import Delivered
from tests.clock import START, FakeClock
from tests.node import SmallNode, small_node

S = TransferStatus
ANN = Actor(name="ann")
LOST = Reason(kind="transient", phase="data", code="remote-lost", text="gone")
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
HOSTS = {"A": (2, timedelta(seconds=15)), "B": (1, timedelta(seconds=20))}
MAX_START, MAX_REQUEUE = 2, 2
DELAY, ROUND = timedelta(minutes=10), timedelta(seconds=30)
PENDING = {S.WAIT, S.RETR}


@dataclass
class One:
    """What the model knows of a transfer."""

    id: int
    priority: int
    scheduled: datetime
    queue: datetime
    due: datetime
    expires: datetime
    created: datetime
    status: TransferStatus = S.WAIT
    starts: int = 0
    requeues: int = 0
    delays: int = 0
    failed: datetime | None = None
    deleted: bool = False


@dataclass
class Model:
    """The queue of one destination with the hosts A and B."""

    all: dict[int, One] = field(default_factory=dict)
    current: str = ""
    failures: int = 0
    switched: datetime | None = None
    delayed: bool = False
    stopped: bool = False
    active: set[str] = field(default_factory=lambda: set(HOSTS))

    def due(self, now: datetime) -> list[One]:
        found = [
            one for one in self.all.values()
            if one.status in PENDING and not one.deleted and one.due <= now < one.expires
        ]  # fmt: skip
        return sorted(found, key=lambda one: (one.priority, one.due, one.id))

    @property
    def hosts(self) -> list[str]:
        return sorted(self.active)

    def host(self, now: datetime) -> str:
        first = self.hosts[0]
        if self.current not in self.active:
            self.current, self.failures = first, 0
            return first
        reset = self.switched is not None and now - self.switched >= timedelta(minutes=20)
        if self.current != first and reset:
            self.current, self.failures, self.switched = first, 0, now
        return self.current

    def succeeded(self, one: One) -> None:
        self.failures = 0
        if self.delayed:
            self.delayed = False
            for other in self.all.values():
                waits = other.status in PENDING and not other.deleted
                if waits and (other.starts or other.delays):
                    other.queue = other.due = other.scheduled
        one.status = S.DONE

    def failed(self, one: One, host: str, began: datetime, now: datetime) -> None:
        one.status, one.failed = S.RETR, now
        one.due = now + self._move(host, began, now)
        if one.starts >= MAX_START:
            one.starts, one.requeues, one.delays = 0, one.requeues + 1, one.delays + 1
            if one.requeues >= MAX_REQUEUE:
                one.status = S.FAIL
                return
            one.queue = now + DELAY
            one.due = max(one.queue, one.due)
            self.delayed = True

    def _move(self, host: str, began: datetime, now: datetime) -> timedelta:
        if host not in self.active:
            return timedelta(0)
        most, pause = HOSTS[host]
        is_old = self.switched is not None and began < self.switched
        if host != self.current or is_old:
            return pause
        self.failures += 1
        if self.failures < most:
            return pause
        place = (self.hosts.index(host) + 1) % len(self.hosts)
        self.current, self.failures, self.switched = self.hosts[place], 0, now
        return timedelta(0) if place else ROUND

    def set_back(self, now: datetime) -> None:
        for one in self.all.values():
            lives = not one.deleted and one.status in PENDING | {S.HOLD, S.EXEC}
            if lives and one.created > now:
                step = one.created - now
                one.due, one.queue = max(one.due - step, now), max(one.queue - step, now)
                one.scheduled = max(one.scheduled - step, now)
                one.expires = max(one.expires - step, now + timedelta(microseconds=1))
                one.created = now
            failed_later = one.failed is not None and one.failed > now
            waits = not one.deleted and one.status in PENDING
            if waits and failed_later and one.due > max(now, one.scheduled):
                one.due = one.queue = max(one.scheduled, now)
        if self.switched is not None:
            self.switched = min(self.switched, now)


class Queue(RuleBasedStateMachine):
    """One destination, its transfers, and everything that happens to them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock(START)
        self.model = Model()
        self.running: dict[int, Claimed] = {}
        self.count = 0
        self.opened: Any = None
        self.node: SmallNode

    def do(self, act: Any) -> Any:
        return self.runner.run(act)

    def open(self) -> None:
        self.opened = small_node(Path(self.folder.name), clock=self.clock)
        self.node = self.do(self.opened.__aenter__())
        self.verbs = TransferOperations(self.node.engine)

    def close(self) -> None:
        if self.opened is not None:
            self.do(self.opened.__aexit__(None, None, None))
            self.opened = None

    @initialize()
    def begin(self) -> None:
        self.open()
        for name in HOSTS:
            self.do(self.put_host(name))
        self.do(
            self.node.destination(
                "D", hosts=("A", "B"), max_start=MAX_START, start_frequency=DELAY,
                max_requeue=MAX_REQUEUE, retry_frequency=ROUND, max_connections=-1,
            )
        )  # fmt: skip

    @rule(priority=st.integers(0, 3), delay=st.sampled_from([0, 0, 5, 600]),
          life=st.sampled_from([30, 600, 2880]))  # fmt: skip
    def submit(self, priority: int, delay: int, life: int) -> None:
        self.count += 1
        now, name = self.clock.now(), f"f{self.count}"
        content = Stored(size=1, checksum="00000001", volume="default", key=name)
        submission = Submission(
            destination="D", target=name, content=content, priority=priority,
            delay=delay * MINUTE, lifetime=life * MINUTE,
        )  # fmt: skip
        (number,) = self.do(self.node.engine.submit(submission)).transfers
        at = now + delay * MINUTE
        self.model.all[number] = One(number, priority, at, at, at, at + life * MINUTE, now)

    @precondition(lambda self: self.model.active)
    @rule(most=st.integers(1, 3))
    def claim(self, most: int) -> None:
        """The engine takes exactly the first due ones, in order, for the host of the model."""
        core, now = self.node.core, self.clock.now()
        entry = core.snapshot.destination("D")
        usable = core.snapshot.hosts_of("D", HostRole.DISSEMINATION)
        claim = self.do(
            core.store.write(claim_for, "D", entry, usable, Slots(limit=100), most, now, [])
        )
        if self.model.stopped:
            assert claim.claimed == []
            return
        host, expected = self.model.host(now), self.model.due(now)[:most]
        assert [one.transfer.id for one in claim.claimed] == [one.id for one in expected]
        for one, claimed in zip(expected, claim.claimed, strict=True):
            assert claimed.host.name == host
            one.status, one.starts = S.EXEC, one.starts + 1
            self.running[one.id] = claimed

    @precondition(lambda self: self.running)
    @rule(data=st.data(), works=st.booleans())
    def attempt_ends(self, data: Any, works: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        claimed, core, now = self.running.pop(number), self.node.core, self.clock.now()
        one, teller = self.model.all[number], Teller(node="m1")
        if works:
            delivered = Delivered(
                path="/x/f", sent=1, size=1, peer="", started_at=now, finished_at=now
            )
            self.do(core.store.write(store_success, claimed, delivered, core, teller, "test", now))
            if one.status is S.EXEC:
                self.model.succeeded(one)
        else:
            self.do(
                core.store.write(store_failure, claimed, 0, LOST, None, core, teller, "test", now)
            )
            if one.status is S.EXEC:
                self.model.failed(one, claimed.host.name, claimed.started_at, now)

    def person(self, verb: str, allowed: Callable[[One], bool], data: Any) -> One | None:
        """Do what a person asks for; the engine refuses exactly what the model forbids."""
        one = self.model.all[data.draw(st.sampled_from(sorted(self.model.all)))]
        act = getattr(self.verbs, verb)(one.id, ANN)
        if allowed(one):
            self.do(act)
            return one
        with pytest.raises(BadState):
            self.do(act)
        return None

    def lives(self, one: One) -> bool:
        return not one.deleted and one.expires > self.clock.now()

    @precondition(lambda self: self.model.all)
    @rule(data=st.data())
    def stop(self, data: Any) -> None:
        one = self.person("stop", lambda one: one.status not in {S.STOP, S.DONE}, data)
        if one is not None:
            one.status = S.STOP

    @precondition(lambda self: self.model.all)
    @rule(data=st.data())
    def hold(self, data: Any) -> None:
        one = self.person("hold", lambda one: self.lives(one) and one.status is not S.HOLD, data)
        if one is not None:
            one.status = S.HOLD

    @precondition(lambda self: self.model.all)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        one = self.person("release", lambda one: self.lives(one) and one.status is S.HOLD, data)
        if one is not None:
            one.status = S.WAIT
            one.queue = one.due = max(self.clock.now(), one.scheduled)

    @precondition(lambda self: self.model.all)
    @rule(data=st.data())
    def requeue(self, data: Any) -> None:
        hosts = self.model.active  # without any it could not be sent
        one = self.person(
            "requeue",
            lambda one: bool(hosts) and self.lives(one) and one.status in REQUEUABLE,
            data,
        )
        if one is not None:
            one.status, one.starts, one.requeues = S.RETR, 0, 0
            one.queue = one.due = max(self.clock.now(), one.scheduled)

    @precondition(lambda self: self.model.all)
    @rule(data=st.data())
    def schedule_now(self, data: Any) -> None:
        one = self.person(
            "schedule_now", lambda one: self.lives(one) and one.status in PENDING, data
        )
        if one is not None:
            one.scheduled = one.queue = one.due = self.clock.now()

    @precondition(lambda self: self.model.all)
    @rule(data=st.data())
    def extend(self, data: Any) -> None:
        one = self.person("extend", lambda one: not one.deleted, data)
        if one is not None:
            one.expires = max(one.expires, self.clock.now()) + DAY

    @precondition(lambda self: self.model.all)
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        one = self.model.all[data.draw(st.sampled_from(sorted(self.model.all)))]
        self.do(self.verbs.delete(one.id, ANN))
        if not one.deleted:
            one.deleted = True
            one.status = one.status if one.status is S.DONE else S.STOP

    @rule(name=st.sampled_from(sorted(HOSTS)))
    def host_is_switched(self, name: str) -> None:
        """On or off; the attempts that run there go on."""
        self.model.active ^= {name}
        self.do(self.put_host(name))

    async def put_host(self, name: str) -> None:
        count, pause = HOSTS[name]
        is_active = name in self.model.active
        host = Host(name=name, method="genericTest", retry_count=count, retry_frequency=pause,
                    max_connections=-1, directory="/x/", active=is_active)  # fmt: skip
        await HostOperations(self.node.engine).put(host, SYSTEM)

    @rule()
    def destination_stops(self) -> None:
        self.do(self.node.destinations.stop("D", ANN))
        self.model.stopped = True

    @rule()
    def destination_starts(self) -> None:
        """At its first host."""
        self.do(self.node.destinations.start("D", ANN))
        self.model.stopped = False
        self.model.current, self.model.failures, self.model.switched = "", 0, None

    @rule(minutes=st.sampled_from([1, 10, 20, 60, 3000]))
    def time_passes(self, minutes: int) -> None:
        self.clock._now += minutes * MINUTE

    @rule()
    def clock_is_set_back(self) -> None:
        self.clock._now -= DAY
        self.do(self.node.store.write(settle_times, now=self.clock.now()))
        self.running = {
            number: replace(claimed, started_at=min(claimed.started_at, self.clock.now()))
            for number, claimed in self.running.items()
        }
        self.model.set_back(self.clock.now())

    @rule()
    def expire(self) -> None:
        now = self.clock.now()
        self.do(self.node.engine.retention.expire())
        for one in self.model.all.values():
            if one.deleted or one.expires > now or one.status is S.EXEC:
                continue
            one.deleted = True
            one.status = S.FAIL if one.status in PENDING else one.status

    @rule()
    def restart(self) -> None:
        """As after `kill -9`: what was under way is queued again, nothing else changes."""
        self.close()
        self.open()
        now = self.clock.now()
        self.do(self.node.store.write(recovery.settle, now=now))
        self.running.clear()
        for one in self.model.all.values():
            if one.status is S.EXEC and not one.deleted:
                one.status, one.due = S.RETR, now

    @invariant()
    def same(self) -> None:
        if self.opened is None:
            return
        for one in self.model.all.values():
            found = self.do(self.node.store.read(transfers.get, one.id))
            assert found is not None
            there = (found.status, found.deleted, found.priority, found.due_at, found.queue_at,
                     found.expires_at, found.start_count, found.requeue_count)  # fmt: skip
            here = (one.status, one.deleted, one.priority, one.due, one.queue, one.expires,
                    one.starts, one.requeues)  # fmt: skip
            assert there == here, one
        waiting = [o for o in self.model.all.values() if o.status in PENDING and not o.deleted]
        assert self.do(self.node.store.read(destinations.pending, "D")) == len(waiting)

    def teardown(self) -> None:
        try:
            self.close()
        finally:
            self.runner.close()
            self.folder.cleanup()


TestQueue = Queue.TestCase
TestQueue.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
