"""What is to be published: decided and noted in the transaction of the change it tells of.

A destination that publishes nothing has no rule, and costs one comparison.
Spec: notifications.md sections 3 and 7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ecpds.model.families import MqttOptions
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.store import outbox
from ecpds.store.db import Connection

EMBEDDED: Final = "mqtt"
EXTERNAL: Final = "mqtt-external"
KINDS: Final = {"embedded": (EMBEDDED,), "external": (EXTERNAL,), "both": (EMBEDDED, EXTERNAL)}
WIS2_KINDS: Final = {EMBEDDED: "wis2", EXTERNAL: "wis2-external"}  # messages of WIS2, by carrier
IS_WIS2: Final = frozenset(WIS2_KINDS.values())
EVENTS: Final = ("available", "delivered", "updated", "deleted")
CLEARED: Final = "cleared"  # only retained messages go


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRule:
    """What a destination publishes of its transfers."""

    destination: str
    kinds: tuple[str, ...]
    events: frozenset[str]  # none: available for what is only fetched here, else delivered
    only_flagged: bool  # only transfers with the event flag
    delivers: bool  # the destination has hosts to deliver to
    temporary: re.Pattern[str] | None = None  # names that are not told
    wis2_kinds: tuple[str, ...] = ()  # WIS2 is told what can be fetched, whatever `events` says

    @classmethod
    def of(
        cls,
        name: str,
        options: MqttOptions,
        kinds: tuple[str, ...],
        *,
        delivers: bool,
        tmp_pattern: str = "",
        wis2: bool = False,
    ) -> NoticeRule | None:
        """Return the rule of a destination, None when it publishes nothing.

        `tmp_pattern`: names that uploads have until they are complete.
        """
        if not options.publish and not wis2:
            return None
        is_plain = options.publish and options.template != "wis2"
        return cls(
            destination=name,
            kinds=kinds if is_plain else (),
            wis2_kinds=tuple(WIS2_KINDS[kind] for kind in kinds) if wis2 else (),
            events=frozenset(options.events),
            only_flagged=options.require_event,
            delivers=delivers,
            temporary=_pattern(tmp_pattern),
        )

    def is_temporary(self, target: str) -> bool:
        """Tell whether a name is one that will be changed."""
        return self.temporary is not None and self.temporary.fullmatch(target) is not None

    def wants(self, event: str, *, held: bool) -> bool:
        """Tell whether an event is published; `held`: nobody is to deliver that transfer."""
        if self.events:
            return event in self.events or (event == "updated" and "available" in self.events)
        stays = held or not self.delivers
        return stays if event in ("available", "updated") else event == "delivered"

    def arrived(
        self,
        db: Connection,
        transfer: int,
        target: str,
        status: TransferStatus,
        *,
        replaced: bool,
        flagged: bool,
        expires_at: datetime,
        now: datetime,
    ) -> None:
        """Note that content can be fetched, or was replaced."""
        if self.is_temporary(target):
            return
        event = "updated" if replaced else "available"
        held = status is TransferStatus.HOLD
        if self.wis2_kinds:
            outbox.add(
                db, self.wis2_kinds, self.destination, transfer, event, expires_at=expires_at,
                now=now,
            )  # fmt: skip
        if not self.kinds:
            return
        if (flagged or not self.only_flagged) and self.wants(event, held=held):
            outbox.add(
                db, self.kinds, self.destination, transfer, event, expires_at=expires_at, now=now
            )

    def renamed(
        self, db: Connection, old: str, transfer: Transfer, status: TransferStatus, *, now: datetime
    ) -> None:
        """Note that content can be fetched under another name, and under the old one no more."""
        if not self.is_temporary(old):
            outbox.add_cleared(db, transfer.id, now=now)
        self.arrived(
            db, transfer.id, transfer.target, status, replaced=False, flagged=transfer.event,
            expires_at=transfer.expires_at, now=now,
        )  # fmt: skip

    def delivered(self, db: Connection, transfer: Transfer, *, now: datetime) -> None:
        """Note a success of dissemination."""
        if not self.kinds:
            return
        if (transfer.event or not self.only_flagged) and self.wants("delivered", held=False):
            outbox.add(
                db, self.kinds, self.destination, transfer.id, "delivered",
                expires_at=transfer.expires_at, now=now,
            )  # fmt: skip


def _pattern(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error:  # refused when it is saved; imported texts may have it
        return None
