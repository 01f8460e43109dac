"""The retry and failover arithmetic: worked examples of schedulers.md 4.3 and 4.4, by name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ecpds.engine.breaker import Breakers
from ecpds.engine.retry import after_failure, after_success, host_in_use, reason_of
from ecpds.model.destination import Destination, DestinationState, OnHostFailure
from ecpds.model.errors import ConnectionLost, Phase, RemoteAuth, SourceBroke
from ecpds.model.host import Host
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Reason, Transfer

NOW = datetime(2031, 5, 4, 12, 0, tzinfo=UTC)
LOST = Reason(kind="transient", phase="data", code="remote-lost", text="gone")
A = Host(name="A", retry_count=2, retry_frequency=timedelta(seconds=15))
B = Host(name="B", retry_count=1, retry_frequency=timedelta(seconds=20))


def transfer(**changes: object) -> Transfer:
    """A transfer in its first attempt at NOW."""
    plain = Transfer(
        id=1,
        destination="D",
        data_file=1,
        target="a",
        status=TransferStatus.EXEC,
        scheduled_at=NOW,
        queue_at=NOW,
        due_at=NOW,
        expires_at=NOW + timedelta(days=2),
        created_at=NOW,
        start_count=1,
        host="A",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


class Line:
    """One transfer failing again and again, as the scheduler would drive it."""

    def __init__(self, destination: Destination, hosts: list[Host]) -> None:
        self.destination, self.hosts = destination, hosts
        self.state = DestinationState()
        self.transfer = transfer(status=TransferStatus.WAIT, start_count=0)
        self.now = NOW
        self.used: list[str] = []
        self.gave_up = False

    def fail(self) -> None:
        """Start when due, on the Host in use, and fail at once."""
        self.now = max(self.now, self.transfer.due_at)
        self.state, host = host_in_use(self.state, self.destination, self.hosts, self.now)
        assert host is not None
        self.used.append(host.name)
        running = replace(
            self.transfer,
            status=TransferStatus.EXEC,
            start_count=self.transfer.start_count + 1,
            host=host.name,
        )
        decision = after_failure(
            running, self.state, self.destination, self.hosts, LOST,
            started_at=self.now, now=self.now,
        )  # fmt: skip
        self.transfer, self.state = decision.transfer, decision.state
        self.gave_up = decision.gave_up


def test_schedulers_4_3_six_attempts_with_two_delays_then_failed() -> None:
    """maxStart 2, startFrequency 10 m, maxRequeue 3: 2+2+2 attempts, FAIL after the 6th."""
    patient = Host(name="A", retry_count=100, retry_frequency=timedelta(0))
    destination = Destination(
        name="D", max_start=2, start_frequency=timedelta(minutes=10), max_requeue=3
    )
    line = Line(destination, [patient])
    starts = []
    while line.transfer.status is not TransferStatus.FAIL:
        starts.append(max(line.now, line.transfer.due_at) - NOW)
        line.fail()
    minutes = [start // timedelta(minutes=1) for start in starts]
    assert minutes == [0, 0, 10, 10, 20, 20]
    assert line.transfer.requeue_count == 3


def test_schedulers_4_3_max_start_zero_is_never_delayed() -> None:
    """maxStart 0: only the host's own pause."""
    line = Line(Destination(name="D", max_start=0), [replace(A, retry_count=1000)])
    for _ in range(50):
        line.fail()
    assert line.transfer.requeue_count == 0
    assert line.transfer.status is TransferStatus.RETR
    assert line.transfer.due_at - line.now == A.retry_frequency


def test_schedulers_4_4_a_a_b_then_gives_up_with_one_round() -> None:
    """A(retryCount 2), B(1), destination.retryCount 1: fail A, fail A -> B, fail B -> HOLD."""
    line = Line(Destination(name="D", retry_count=1, max_start=0), [A, B])
    for _ in range(3):
        line.fail()
    assert line.used == ["A", "A", "B"]
    assert line.gave_up


def test_schedulers_4_4_minus_one_pauses_and_starts_again_at_the_first() -> None:
    """The same with -1: pause retryFrequency, then A again."""
    pause = timedelta(seconds=30)
    line = Line(Destination(name="D", retry_count=-1, retry_frequency=pause, max_start=0), [A, B])
    for _ in range(3):
        line.fail()
    assert not line.gave_up
    assert line.transfer.due_at - line.now == pause
    assert line.state.round == 2
    line.fail()
    assert line.used[-1] == "A"


@pytest.mark.parametrize("count", [0, 1])
def test_schedulers_4_4_retry_count_zero_and_one_both_mean_one_failure(count: int) -> None:
    """One failure moves on."""
    line = Line(Destination(name="D", max_start=0), [replace(A, retry_count=count), B])
    line.fail()
    line.fail()
    assert line.used == ["A", "B"]


def test_schedulers_4_4_revert_goes_back_to_the_first_after_a_success() -> None:
    """Revert mode: A fails, B succeeds -> the next transfer tries A."""
    hosts = [replace(A, retry_count=1), B]
    destination = Destination(name="D", on_host_failure=OnHostFailure.REVERT, max_start=0)
    line = Line(destination, hosts)
    line.fail()
    state, host = host_in_use(line.state, destination, hosts, line.now)
    assert host is not None
    assert host.name == "B"
    decision = after_success(transfer(host="B"), state, destination, hosts)
    assert host_in_use(decision.state, destination, hosts, line.now)[1] == hosts[0]


def test_schedulers_4_4_stay_keeps_the_second_until_reset_frequency() -> None:
    """Stay mode keeps B until 20 minutes after the switch."""
    hosts = [replace(A, retry_count=1), B]
    destination = Destination(name="D", max_start=0)
    line = Line(destination, hosts)
    line.fail()
    state = after_success(transfer(host="B"), line.state, destination, hosts).state
    before, after = timedelta(minutes=19), timedelta(minutes=20)
    assert host_in_use(state, destination, hosts, line.now + before)[1] == B
    assert host_in_use(state, destination, hosts, line.now + after)[1] == hosts[0]


def test_schedulers_4_4_a_failure_that_began_before_the_switch_changes_nothing() -> None:
    """Attempts of the old choice do not move the new one."""
    destination = Destination(name="D", max_start=0)
    state = DestinationState(current_host="B", switched_at=NOW + timedelta(seconds=5), failures=0)
    decision = after_failure(
        transfer(host="A"), state, destination, [A, B], LOST,
        started_at=NOW, now=NOW + timedelta(seconds=6),
    )  # fmt: skip
    assert decision.state.current_host == "B"
    assert decision.state.failures == 0


def test_schedulers_4_4_a_success_after_a_delay_releases_the_backlog() -> None:
    """hasRequeued is cleared by any success and the delayed ones come back."""
    state = DestinationState(current_host="A", has_requeued=True, failures=3, round=2)
    decision = after_success(transfer(), state, Destination(name="D"), [A])
    assert decision.release_backlog
    assert not decision.state.has_requeued
    assert (decision.state.failures, decision.state.round) == (0, 1)


def test_a_remote_site_without_room_is_tried_late() -> None:
    """Class space waits at least five minutes."""
    full = Reason(kind="space", code="552", text="no room")
    decision = after_failure(
        transfer(), DestinationState(current_host="A"), Destination(name="D"), [A], full,
        started_at=NOW, now=NOW,
    )  # fmt: skip
    assert decision.transfer.due_at - NOW == timedelta(minutes=5)


def test_reasons_are_typed() -> None:
    """Class, phase and code come from the error."""
    lost = reason_of(ConnectionLost("closed", phase=Phase.DATA, remote_code="426"))
    assert (lost.kind, lost.phase, lost.code, lost.text) == ("transient", "data", "426", "closed")
    assert reason_of(RemoteAuth("no", phase=Phase.AUTH)).kind == "auth"
    assert reason_of(SourceBroke("short")).kind == "source-broke"
    assert reason_of(ValueError("x")).kind == "internal"


def test_the_breaker_opens_after_five_failures_and_at_once_for_a_wrong_login() -> None:
    """Five of any transfers; auth, pin and config immediately."""
    breakers = Breakers()
    opened = [breakers.failed("A", LOST, now=NOW, version=1) for _ in range(5)]
    assert opened == [False, False, False, False, True]
    assert breakers.open_reason("A", version=1) == LOST
    auth = Reason(kind="auth", phase="auth", code="530", text="no")
    assert breakers.failed("B", auth, now=NOW, version=1)
    assert breakers.due(NOW + timedelta(seconds=59)) == []
    assert sorted(breakers.due(NOW + timedelta(minutes=1))) == ["A", "B"]


def test_the_breaker_probes_later_and_later_and_closes_when_the_host_is_edited() -> None:
    """1 m, 2 m, 4 m … 30 m; another version of the host is a new chance."""
    breakers = Breakers()
    auth = Reason(kind="auth", phase="auth", code="530", text="no")
    breakers.failed("A", auth, now=NOW, version=1)
    now, pauses = NOW, []
    for _ in range(8):
        probe = breakers.next_probe()
        assert probe is not None
        pauses.append((probe - now) // timedelta(minutes=1))
        now = probe
        breakers.probe_failed("A", auth, now=now)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert breakers.open_reason("A", version=2) is None
    assert breakers.next_probe() is None


def test_a_bad_name_says_nothing_about_the_host() -> None:
    """Failures of one file never open the breaker."""
    breakers = Breakers()
    bad = Reason(kind="name", phase="data", code="553", text="bad name")
    assert not any(breakers.failed("A", bad, now=NOW, version=1) for _ in range(20))
