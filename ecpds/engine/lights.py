"""The alert light of a destination does not turn green the moment a fault seems to be over.

Green after yellow or red is held back until a success that is newer than the fault, at most ten
minutes: a queue that only begins to work again has not proved anything yet.  Spec: schedulers.md 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ecpds.model.status import Light

HELD_BACK: Final = timedelta(minutes=10)
ALARMS: Final = frozenset({Light.YELLOW, Light.RED})


@dataclass(frozen=True, slots=True)
class _Alarm:
    light: Light
    seen_at: datetime  # for the last time


class Lights:
    """Remembers which destinations were yellow or red when somebody last looked."""

    def __init__(self) -> None:
        self._alarms: dict[str, _Alarm] = {}

    def shown(self, name: str, light: Light, last_ok_at: datetime | None, now: datetime) -> Light:
        """Return the light that people see, given what it would be by the present figures."""
        if light in ALARMS:
            self._alarms[name] = _Alarm(light, now)
            return light
        alarm = self._alarms.get(name)
        if alarm is None:
            return light
        is_proved = last_ok_at is not None and last_ok_at > alarm.seen_at
        is_over = not timedelta(0) <= now - alarm.seen_at < HELD_BACK
        if light is Light.GREEN and not is_proved and not is_over:
            return alarm.light
        del self._alarms[name]
        return light
