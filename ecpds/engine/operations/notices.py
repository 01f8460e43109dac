"""What people do with publications, retained messages and clients of the broker."""

from __future__ import annotations

from ecpds.engine.notices import EMBEDDED
from ecpds.engine.operations.actor import Actor, record
from ecpds.engine.publish_drivers import Broker
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.model.errors import BadState, NotFound
from ecpds.model.message import ClientInfo, Message
from ecpds.store import outbox
from ecpds.store.db import Connection
from ecpds.store.outbox import Publication


class NoticeOperations:
    """Verbs on notifications."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core
        self._teller = Teller(node=engine.core.node)

    async def page(
        self,
        *,
        limit: int,
        before: int | None = None,
        state: str | None = None,
        destination: str | None = None,
        transfer: int | None = None,
    ) -> list[Publication]:
        """Return publications, newest first."""
        return await self._core.store.read(
            outbox.page, limit=limit, before=before, state=state, destination=destination,
            transfer=transfer,
        )  # fmt: skip

    async def counts(self) -> dict[str, int]:
        """Return how many publications there are by state."""
        return await self._core.store.read(outbox.counts)

    async def get(self, number: int) -> Publication:
        """Return one publication; NotFound."""
        found = await self._core.store.read(outbox.get, number)
        if found is None:
            raise NotFound(f"Publication {number} not found")
        return found

    async def retry(self, number: int, actor: Actor) -> Publication:
        """Send a publication (again), whatever became of it; NotFound."""
        await self.get(number)
        now = self._core.clock.now()

        def change(db: Connection) -> None:
            outbox.again(db, number, now=now)
            record(db, actor, "retry", "publication", str(number), {}, self._teller, now=now)

        await self._core.store.write(change)
        self._engine.outbox.poke()
        return await self.get(number)

    async def drop(self, number: int, actor: Actor) -> None:
        """Give up a publication that was not sent; NotFound, BadState."""
        await self.get(number)
        now = self._core.clock.now()

        def change(db: Connection) -> None:
            if not outbox.drop(db, number):
                raise BadState("the publication was sent", status="sent")
            record(db, actor, "drop", "publication", str(number), {}, self._teller, now=now)

        await self._core.store.write(change)
        self._engine.outbox.poke()

    async def preview(self, transfer: int, event: str) -> Message:
        """Return the message of a transfer, sending nothing; NotFound, TemplateError."""
        return await self._engine.outbox.preview(transfer, event)

    async def announce(self, transfer: int, event: str, actor: Actor) -> None:
        """Publish a transfer now, as if the event had just happened; NotFound, BadState."""
        message = await self.preview(transfer, event)
        entry = self._core.snapshot.destination(message.destination)
        rule = entry.notices
        kinds = (*rule.kinds, *rule.wis2_kinds) if rule is not None else ()
        if not kinds:
            raise BadState(f"destination {entry.name} publishes nothing", status="off")
        now = self._core.clock.now()

        def change(db: Connection) -> None:
            outbox.add(
                db, kinds, entry.name, transfer, event, expires_at=message.expires_at, now=now
            )
            record(db, actor, "announce", "transfer", str(transfer), {}, self._teller, now=now)

        await self._core.store.write(change)
        self._engine.outbox.poke()

    # --- the embedded broker ------------------------------------------------------------

    @property
    def _broker(self) -> Broker | None:
        return self._engine.outbox.broker

    def clients(self) -> list[ClientInfo]:
        """Return connected clients and sessions that wait for theirs."""
        return self._broker.clients() if self._broker is not None else []

    async def disconnect(self, user: str, client: str, actor: Actor) -> None:
        """Hang up on a client and forget its session; NotFound."""
        if self._broker is None or not self._broker.disconnect(user, client):
            raise NotFound(f"Client {client} of {user} not found")
        await self._recorded(actor, "disconnect", "mqtt-client", f"{user}/{client}")

    def retained(self, name: str = "#") -> list[Message]:
        """Return the retained messages that match a filter, by topic."""
        return self._broker.retained(name) if self._broker is not None else []

    async def clear(self, topic: str, actor: Actor) -> None:
        """Forget the retained message of a topic; NotFound."""
        driver = self._engine.outbox.drivers.get(EMBEDDED)
        if driver is None or not await driver.clear([topic]):
            raise NotFound(f"There is no retained message on {topic}")
        await self._recorded(actor, "clear", "mqtt-topic", topic)

    async def _recorded(self, actor: Actor, action: str, kind: str, name: str) -> None:
        now = self._core.clock.now()
        await self._core.store.write(record, actor, action, kind, name, {}, self._teller, now=now)
