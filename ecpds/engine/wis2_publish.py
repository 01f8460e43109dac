"""From a publication to a WIS2 message: facts from store and disk, the rules of what is told.

`canonical` for a new datum, `update` when another content was told before, nothing when the same
was; `deletion` when people delete it.  What the own checker finds wrong is not sent.
Spec: notifications.md section 5.5.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.engine.publish_text import Subject
from ecpds.engine.wis2_passing import PASSED
from ecpds.engine.wis2_text import (
    LARGEST_INLINE,
    Content,
    Relation,
    address_of,
    cached_of,
    data_id_of,
    deletion_of,
    document_of,
    encoded,
    passed_of,
    record_message,
)
from ecpds.model.errors import NotFound, TemplateError
from ecpds.model.message import Message
from ecpds.model.transfer import DataFile
from ecpds.model.wis2 import Wis2Options
from ecpds.model.wis2_check import check_message, problems
from ecpds.objects.digests import digests_of
from ecpds.store import files, wis2
from ecpds.store.db import Connection
from ecpds.store.outbox import Publication
from ecpds.store.wis2 import Told

log = get_logger(__name__)

JSON: Final = "application/json"
CODE_LIST: Final = "wis2/earth-system-discipline.csv"  # below the data directory
NO_RECORD: Final = "the discovery record was not announced: "


class NothingNew(TemplateError):
    """What would be told was told before, or need not be told."""


@dataclass(slots=True, kw_only=True)
class Memory:
    """What messages of one batch change in what was told, until they are sent."""

    told: dict[str, Told | None] = field(default_factory=dict)  # None: withdrawn
    records: list[str] = field(default_factory=list)  # that were announced


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    told: Told | None
    is_announced: bool


class Wis2Publisher:
    """Makes the messages of one node."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.known_topics: frozenset[str] = frozenset()  # of an imported code list
        self._is_ready = False

    async def ready(self) -> None:
        """Read the code list of topics that was put into the data directory, once."""
        if self._is_ready:
            return
        path = self._core.settings.data_dir / CODE_LIST
        self.known_topics = await self._core.threads.run("disk", read_topics, path)
        self._is_ready = True

    async def message(
        self, subject: Subject, options: Wis2Options, memory: Memory, *, is_trial: bool = False
    ) -> Message:
        """Return the message of a file; `memory` learns what it tells.

        Raises NothingNew, TemplateError.  `is_trial`: also what was told before.
        """
        await self.ready()
        if subject.event in ("deleted", "cleared"):
            return await self._deletion(subject, options, memory)
        if options.channel == "cache":
            return await self._cached(subject, options)
        now = self._core.clock.now()
        data_id = data_id_of(subject, options, now)
        known = await self._core.store.read(_known, data_id, options.metadata_id)
        if options.require_record and not known.is_announced and not is_trial:
            raise TemplateError(NO_RECORD + options.metadata_id)
        content = await self._content(subject.file, options)
        before = memory.told.get(data_id, known.told)
        relation = _relation(before, content.digest.hex(), subject, is_trial=is_trial)
        document = document_of(
            subject, options, content, data_id=data_id, relation=relation, now=now
        )
        made = self._checked(subject, options.data_topic, document)
        memory.told[data_id] = Told(
            data_id=data_id,
            destination=subject.transfer.destination,
            transfer=subject.transfer.id,
            digest=content.digest.hex(),
            relation=relation,
            href=address_of(subject, options),
            told_at=now,
        )
        return made

    def _checked(self, subject: Subject, topic: str, document: Mapping[str, Any]) -> Message:
        """Return the message unless the own checker finds it wrong; raises TemplateError."""
        payload = encoded(document)
        found = problems(check_message(payload, topic, known_topics=self.known_topics))
        if found:
            for one in found:
                reason = one.partition(":")[0]
                self._core.metrics.wis2_invalid.labels("out", reason).inc()
            raise TemplateError("; ".join(found))
        return Message(
            topic=topic,
            payload=payload,
            qos=1,
            retain=False,  # whatever mqtt.retain says: WIS2 forbids it
            content_type=JSON,
            expires_at=subject.transfer.expires_at if subject.event != "deleted" else None,
            destination=subject.transfer.destination,
            transfer=subject.transfer.id,
        )

    async def _deletion(self, subject: Subject, options: Wis2Options, memory: Memory) -> Message:
        if options.channel == "cache":
            return await self._cached(subject, options)
        told = next(
            (one for one in memory.told.values() if one and one.transfer == subject.transfer.id),
            None,
        ) or await self._core.store.read(wis2.told_of, subject.transfer.id)
        if told is None:
            raise NothingNew("it was not told before")
        document = deletion_of(subject, options, data_id=told.data_id, href=told.href)
        memory.told[told.data_id] = None
        return self._checked(subject, options.data_topic, document)

    async def _cached(self, subject: Subject, options: Wis2Options) -> Message:
        found = await self._core.store.read(wis2.origin, subject.file.id)
        if found is None:
            raise NothingNew("no message announced this file")
        topic, document = cached_of(subject, options, *found)
        is_gone = document["links"] and document["links"][0]["rel"] == "deletion"
        if (subject.event in ("deleted", "cleared")) is not bool(is_gone):
            raise NothingNew("its origin did not withdraw it")
        return self._checked(subject, topic, document)

    async def record(self, row: Publication, base_url: str, memory: Memory) -> Message:
        """Return the message about a discovery record, or one that is only passed on.

        Raises NothingNew, TemplateError.
        """
        if row.event == PASSED:
            return self._passed(row)
        identifier = str(row.content.get("record", ""))
        known = await self._core.store.read(wis2.record, identifier)
        relation: Relation = "canonical"
        if row.event == "deleted":
            relation = "deletion"
        elif known is None:
            raise NothingNew("the record is gone")
        elif known.announced_at is not None or identifier in memory.records:
            relation = "update"
        text = known.text if known is not None else ""
        document = json.loads(text) if text else {"id": identifier}
        topic, made = record_message(
            document, text, base_url=row.content.get("base_url") or base_url,
            noted_at=row.created_at, node=self._core.node, relation=relation,
        )  # fmt: skip
        payload = encoded(made)
        found = problems(check_message(payload, topic))
        if found:
            raise TemplateError("; ".join(found))
        if relation != "deletion":
            memory.records.append(identifier)
        return Message(topic=topic, payload=payload, qos=1, content_type=JSON)

    def _passed(self, row: Publication) -> Message:
        topic, made = passed_of(row.content)
        payload = encoded(made)
        found = problems(check_message(payload, topic))
        if found:
            raise TemplateError("; ".join(found))
        return Message(topic=topic, payload=payload, qos=1, content_type=JSON)

    # --- content ------------------------------------------------------------------------

    async def _content(self, file: DataFile, options: Wis2Options) -> Content:
        """Return digest and small content; raises TemplateError when the content is gone."""
        core, method = self._core, options.hash
        if not file.stored or file.removed:
            raise TemplateError("the content is not stored")
        known = await core.store.read(files.digests, file.id, file.instance)
        try:
            descriptor = core.objects.open(file.volume, file.object_key)
        except (NotFound, OSError):
            raise TemplateError("the content is gone") from None
        try:
            if method not in known:
                made = await core.threads.run("digest", digests_of, descriptor, [method])
                await core.store.write_lazily(files.set_digests, file.id, file.instance, made)
                known = known | made
            inline = None
            if options.inline == "auto" and 0 < file.size <= LARGEST_INLINE:
                inline = await core.threads.run("disk", os.pread, descriptor, file.size, 0)
        finally:
            os.close(descriptor)
        return Content(digest=bytes.fromhex(known[method]), method=method, inline=inline)


def read_topics(path: Path) -> frozenset[str]:
    """Return the topics of a code list (CSV, name first); empty when there is none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, csv.Error) as error:
        log.warning("code list cannot be read", path=str(path), reason=str(error))
        return frozenset()
    return frozenset(row[0].strip() for row in rows[1:] if row and row[0].strip())


def _known(db: Connection, data_id: str, record: str) -> _Known:
    found = wis2.record(db, record) if record else None
    return _Known(
        told=wis2.told(db, data_id),
        is_announced=found is not None and found.announced_at is not None,
    )


def _relation(before: Told | None, digest: str, subject: Subject, *, is_trial: bool) -> Relation:
    """Return what a message says; raises NothingNew for what was told already."""
    if before is None:
        return "canonical"
    if before.digest != digest:
        return "update"
    is_older = subject.noted_at <= before.told_at
    is_again = before.transfer == subject.transfer.id and (is_older or subject.event != "updated")
    if is_again or is_trial:  # people want it sent once more
        return "update" if before.relation == "update" else "canonical"
    raise NothingNew("the same content was told before")


def remember(db: Connection, memory: Memory, *, now: datetime) -> Sequence[str]:
    """Store what was told; return the records that were announced for the first time."""
    for data_id, one in memory.told.items():
        if one is None:
            wis2.drop_told(db, data_id)
        else:
            wis2.put_told(db, one)
    return [one for one in memory.records if wis2.set_announced(db, one, now=now)]
