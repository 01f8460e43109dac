"""One circuit breaker for each Host: stops attempts that cannot succeed, probes by itself.

Opens after five failures in a row of any transfers, or at once when the login, the key or an option
is wrong.  A probe opens a session and nothing more; it is no attempt of any transfer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ecpds.engine.retry import AT_ONCE
from ecpds.model.transfer import Reason

OPENS_AFTER = 5
FIRST_PROBE = timedelta(minutes=1)
LAST_PROBE = timedelta(minutes=30)
SUSPECT_PAUSE = timedelta(seconds=15)  # doubled after each failed probe
# Classes that tell of one file or of our side, not of the host.
ABOUT_THE_FILE = frozenset(
    {"name", "invalid-name", "missing", "verify", "cancelled", "template", "source-broke", "script"}
)


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    reason: Reason | None = None
    probe_at: datetime | None = None
    pause: timedelta = FIRST_PROBE
    version: int = 0


class Breakers:
    """The breakers of all hosts, in memory: a restart closes them."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Breaker] = {}

    def failed(self, host: str, reason: Reason, *, now: datetime, version: int) -> bool:
        """Count a failure; tell whether the breaker opened now."""
        if reason.kind in ABOUT_THE_FILE:
            return False
        one = self._hosts.setdefault(host, _Breaker())
        one.failures += 1
        one.version = version
        if one.probe_at is not None:
            return False
        if reason.kind in AT_ONCE or one.failures >= OPENS_AFTER:
            one.reason, one.pause = reason, FIRST_PROBE
            one.probe_at = now + one.pause
            return True
        return False

    def succeeded(self, host: str) -> None:
        """Close the breaker."""
        self._hosts.pop(host, None)

    def probe_failed(self, host: str, reason: Reason, *, now: datetime) -> None:
        """Probe again later, at most half an hour."""
        one = self._hosts.setdefault(host, _Breaker())
        one.pause = min(one.pause * 2, LAST_PROBE)
        one.reason, one.probe_at = reason, now + one.pause

    def open_reason(self, host: str, *, version: int) -> Reason | None:
        """Return why the host is not used now, None when it is; an edited host is used again."""
        one = self._hosts.get(host)
        if one is None or one.probe_at is None:
            return None
        if one.version != version:
            del self._hosts[host]
            return None
        return one.reason

    def suspect(self, host: str, *, now: datetime, version: int) -> None:
        """Use the host only after a probe, which is due now; it failed before another one worked.

        Revert mode comes back to its first host by this, instead of trying with real files.
        """
        one = self._hosts.setdefault(host, _Breaker())
        if one.probe_at is None:
            text = "failed before; used again after a probe"
            one.reason = Reason(kind="transient", code="suspect", text=text)
            one.version, one.pause, one.probe_at = version, SUSPECT_PAUSE, now

    def clock_was_set(self) -> None:
        """Forget when probes were due; they come at once."""
        for one in self._hosts.values():
            if one.probe_at is not None:
                one.probe_at = datetime.min.replace(tzinfo=UTC)

    def probe_at(self, host: str) -> datetime | None:
        """Return when an unused host is probed next."""
        one = self._hosts.get(host)
        return one.probe_at if one is not None else None

    def due(self, now: datetime) -> list[str]:
        """Return the hosts whose probe is due."""
        return [
            name
            for name, one in self._hosts.items()
            if one.probe_at is not None and one.probe_at <= now
        ]

    def next_probe(self) -> datetime | None:
        """Return when the next probe is due."""
        return min((one.probe_at for one in self._hosts.values() if one.probe_at), default=None)
