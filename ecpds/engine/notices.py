"""What is to be published: decided and noted in the transaction of the change it tells of.

A destination that publishes nothing has no rule, and costs one comparison.
Spec: notifications.md sections 3 and 7.
"""

from __future__ import annotations

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
EVENTS: Final = ("available", "delivered", "updated", "deleted")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRule:
    """What a destination publishes of its transfers."""

    destination: str
    kinds: tuple[str, ...]
    events: frozenset[str]  # none: available for what is only fetched here, else delivered
    only_flagged: bool  # only transfers with the event flag
    delivers: bool  # the destination has hosts to deliver to

    @classmethod
    def of(
        cls, name: str, options: MqttOptions, kinds: tuple[str, ...], *, delivers: bool
    ) -> NoticeRule | None:
        """Return the rule of a destination, None when it publishes nothing."""
        if not options.publish:
            return None
        return cls(
            destination=name,
            kinds=kinds,
            events=frozenset(options.events),
            only_flagged=options.require_event,
            delivers=delivers,
        )

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
        status: TransferStatus,
        *,
        replaced: bool,
        flagged: bool,
        expires_at: datetime,
        now: datetime,
    ) -> None:
        """Note that content can be fetched, or was replaced."""
        event = "updated" if replaced else "available"
        held = status is TransferStatus.HOLD
        if (flagged or not self.only_flagged) and self.wants(event, held=held):
            outbox.add(
                db, self.kinds, self.destination, transfer, event, expires_at=expires_at, now=now
            )

    def delivered(self, db: Connection, transfer: Transfer, *, now: datetime) -> None:
        """Note a success of dissemination."""
        if (transfer.event or not self.only_flagged) and self.wants("delivered", held=False):
            outbox.add(
                db, self.kinds, self.destination, transfer.id, "delivered",
                expires_at=transfer.expires_at, now=now,
            )  # fmt: skip
