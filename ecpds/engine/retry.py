"""What a success or a failure changes: the transfer, and which Host its Destination uses next.

Pure arithmetic over values, so that each worked example of schedulers.md 4.3 and 4.4 is a test
without sockets.  A pause after a failure belongs to the transfer that failed, not to its
neighbours; with `scheduler.legacyPause` the caller gives the pause to the whole Destination.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ecpds.model.destination import Destination, DestinationState, OnHostFailure
from ecpds.model.errors import EcpdsError, RemoteError, root_message
from ecpds.model.host import Host
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Reason, Transfer

SPACE_PAUSE = timedelta(minutes=5)  # before a remote site without room is tried again
AT_ONCE = frozenset({"auth", "pin", "config"})  # classes that no further try can help


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The new values, and what else has to be done."""

    transfer: Transfer
    state: DestinationState
    gave_up: bool = False  # the destination tried all rounds
    release_backlog: bool = False
    pause_until: datetime | None = None  # of the whole destination, for legacy_pause


def reason_of(error: BaseException) -> Reason:
    """Return the typed reason of an error."""
    if isinstance(error, RemoteError):
        return Reason(
            kind=error.kind,
            phase=error.phase.value,
            code=error.remote_code or error.code,
            text=error.message,
        )
    if isinstance(error, EcpdsError):
        return Reason(kind=error.code, code=error.code, text=error.message)
    return Reason(kind="internal", code="internal", text=root_message(error))


def host_in_use(
    state: DestinationState, destination: Destination, hosts: Sequence[Host], now: datetime
) -> tuple[DestinationState, Host | None]:
    """Return the Host of the next attempt; the first again when reset_frequency has passed."""
    if not hosts:
        return state, None
    first = hosts[0]
    current = next((host for host in hosts if host.name == state.current_host), None)
    if current is None:
        return replace(state, current_host=first.name, failures=0, round=1), first
    reset = destination.reset_frequency
    if (
        current is not first
        and reset
        and state.switched_at is not None
        and now - state.switched_at >= reset
    ):
        return replace(state, current_host=first.name, failures=0, switched_at=now), first
    return state, current


def after_success(
    transfer: Transfer, state: DestinationState, destination: Destination, hosts: Sequence[Host]
) -> Decision:
    """Count a success on `transfer.host`."""
    changed = replace(state, failures=0, round=1, has_requeued=False)
    reverts = destination.on_host_failure is OnHostFailure.REVERT
    if reverts and hosts and state.current_host == transfer.host:
        changed = replace(changed, current_host=hosts[0].name)
    return Decision(transfer=transfer, state=changed, release_backlog=state.has_requeued)


def after_failure(
    transfer: Transfer,
    state: DestinationState,
    destination: Destination,
    hosts: Sequence[Host],
    reason: Reason,
    *,
    started_at: datetime,
    now: datetime,
) -> Decision:
    """Count a failed attempt of `transfer` on `transfer.host`, begun at `started_at`."""
    state, pause, gave_up = _next_host(
        transfer, state, destination, hosts, started_at=started_at, now=now
    )
    if reason.kind == "space":
        pause = max(pause, SPACE_PAUSE)
    failed = replace(
        transfer,
        status=TransferStatus.RETR,
        status_by="",
        reason=reason,
        comment=reason.text,
        failed_at=now,
        finished_at=now,
        due_at=now + pause,
    )
    state = replace(state, last_failed_at=now, last_failed_id=transfer.id)
    if destination.max_start and transfer.start_count >= destination.max_start:
        failed, delayed = _delay(failed, destination, now=now, pause=pause)
        state = replace(state, has_requeued=state.has_requeued or delayed)
    return Decision(transfer=failed, state=state, gave_up=gave_up, pause_until=now + pause)


def _delay(
    transfer: Transfer, destination: Destination, *, now: datetime, pause: timedelta
) -> tuple[Transfer, bool]:
    count = transfer.requeue_count + 1
    changed = replace(
        transfer,
        start_count=0,
        requeue_count=count,
        requeue_history=transfer.requeue_history + 1,
    )
    if 0 < destination.max_requeue <= count:
        return replace(changed, status=TransferStatus.FAIL), False
    queue_at = now + destination.start_frequency
    due_at = max(queue_at, now + pause)
    return replace(changed, queue_at=queue_at, due_at=due_at), True


def _next_host(
    transfer: Transfer,
    state: DestinationState,
    destination: Destination,
    hosts: Sequence[Host],
    *,
    started_at: datetime,
    now: datetime,
) -> tuple[DestinationState, timedelta, bool]:
    names = [host.name for host in hosts]
    if transfer.host not in names:
        return state, timedelta(0), False
    used = hosts[names.index(transfer.host)]
    began_before = state.switched_at is not None and started_at < state.switched_at
    if transfer.host != state.current_host or began_before:
        return state, used.retry_frequency, False  # an older choice failed, the new one stands
    failures = state.failures + 1
    if failures < used.retry_count:
        return replace(state, failures=failures), used.retry_frequency, False
    position = (names.index(used.name) + 1) % len(names)
    moved = replace(state, current_host=names[position], failures=0, switched_at=now)
    if position:
        return moved, timedelta(0), False
    if 0 <= destination.retry_count <= state.round:
        return replace(moved, round=1), timedelta(0), True
    return replace(moved, round=state.round + 1), destination.retry_frequency, False
