"""What people and programs do with data files: submit, look, read, digest, delete."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from ecpds.engine.core import Snapshot
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.engine.submit import Registered, Submission, storage_group
from ecpds.engine.supervisor import Engine, Told
from ecpds.engine.telling import Teller
from ecpds.model.errors import BadState, EcpdsError, NotFound, NotStored, StoreError
from ecpds.model.names import nearest
from ecpds.model.transfer import DataFile, Transfer
from ecpds.objects.digests import ALGORITHMS, digests_of
from ecpds.objects.upload import Upload
from ecpds.store import filelist, files, transfers
from ecpds.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class FileView:
    """A data file as people see it."""

    file: DataFile
    metadata: Mapping[str, str]
    digests: Mapping[str, str]
    transfers: Sequence[Transfer]  # deleted ones too

    @property
    def destinations(self) -> tuple[str, ...]:
        """Return where it goes or went, each once."""
        return tuple(dict.fromkeys(one.destination for one in self.transfers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Stored content, open for reading; it stays readable whatever happens to the file."""

    file: DataFile
    descriptor: int
    size: int  # bytes


class FileOperations:
    """Verbs on data files."""

    def __init__(self, engine: Engine, transfer_operations: TransferOperations) -> None:
        self._engine = engine
        self._core = engine.core
        self._transfers = transfer_operations
        self._teller = Teller(node=engine.core.node)
        self._digesting: dict[int, asyncio.Lock] = {}

    async def view(self, number: int) -> FileView:
        """Return one data file; NotFound."""
        found = await self._core.store.read(read_view, number)
        if found is None:
            raise NotFound(f"Data file {number} not found")
        return found

    async def page(
        self,
        *,
        limit: int,
        before: int | None = None,
        name: str | None = None,
        deleted: bool | None = False,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[FileView]:
        """Return data files, newest first, with id below `before`; `name` is a glob."""
        return await self._core.store.read(
            read_page, limit=limit, before=before, name=name, deleted=deleted, since=since,
            until=until,
        )  # fmt: skip

    async def part(
        self,
        *,
        limit: int,
        before: int | None,
        name: str | None,
        deleted: bool | None,
        since: datetime | None,
        until: datetime | None,
    ) -> tuple[list[FileView], int | None]:
        """Return data files of one window of ids, and below which id one has still to look."""
        return await self._core.store.read(
            read_part, limit=limit, before=before, name=name, deleted=deleted, since=since,
            until=until,
        )  # fmt: skip

    # --- content ----------------------------------------------------------------------------

    @asynccontextmanager
    async def open(self, number: int) -> AsyncIterator[Content]:
        """Open the content for the time of the block; NotFound, NotStored."""
        file = await self._core.store.read(files.get, number)
        if file is None or file.deleted:
            raise NotFound(f"Data file {number} not found")
        if not file.stored or not file.object_key:
            raise NotStored(f"the content of data file {number} has not arrived yet")
        descriptor = self._core.objects.open(file.volume, file.object_key)
        try:
            yield Content(file=file, descriptor=descriptor, size=file.size)
        finally:
            os.close(descriptor)

    async def digests(self, number: int, algorithms: Sequence[str]) -> dict[str, str]:
        """Return the digests asked for as algorithm to hex; computed once, then remembered.

        Raises NotFound, NotStored, BadState (the content was replaced meanwhile).
        """
        for algorithm in algorithms:
            if algorithm not in ALGORITHMS:
                near = nearest(algorithm, ALGORITHMS)
                hint = f" (did you mean {near!r}?)" if near else ""
                raise NotFound(f"there is no digest {algorithm!r}{hint}")
        lock = self._digesting.setdefault(number, asyncio.Lock())
        try:
            async with lock:  # whoever asks for the same file meanwhile finds it done
                return await self._digests(number, algorithms)
        finally:
            if not lock.locked():
                self._digesting.pop(number, None)

    async def _digests(self, number: int, algorithms: Sequence[str]) -> dict[str, str]:
        async with self.open(number) as content:
            file = content.file
            known = await self._core.store.read(files.digests, number, file.instance)
            if file.checksum:
                known["adler32"] = file.checksum
            missing = [one for one in dict.fromkeys(algorithms) if one not in known]
            if missing:
                found = await self._core.threads.run(
                    "digest", digests_of, content.descriptor, missing
                )
                await self._core.store.write(remember_digests, file, found)
                known |= found
        return {algorithm: known[algorithm] for algorithm in algorithms}

    # --- submission -------------------------------------------------------------------------

    def begin(self, size: int | None = None, *, destination: str = "", target: str = "") -> Upload:
        """Begin an upload of about `size` bytes; StorageFull.  The caller discards or submits it.

        `upload.write` runs in the loop: hand over blocks of up to 1 MiB.
        """
        entry = self._core.snapshot.destinations.get(destination)
        group = storage_group(entry, target) if entry is not None else ""
        return self._core.objects.create(size, group=group)

    async def submit(self, submission: Submission, upload: Upload) -> Registered:
        """Make the upload durable and register it; this is the acknowledgement.

        The upload is used up, also by an error.
        Raises as `engine.submit` does; the content is removed then.  A cancelled caller leaves it,
        because the registration may be on its way.
        """
        try:
            stored = await self._core.objects.seal(upload)
        except BaseException:
            upload.discard()
            raise
        finally:
            upload.close()
        try:
            registered = await self._engine.submit(
                replace(submission, content=stored), self._told(submission, "upload")
            )
        except StoreError:
            raise  # it may be registered all the same; the sweep removes it if it is not
        except EcpdsError:
            await self._core.objects.remove([(stored.volume, stored.key)])
            raise
        if registered.skipped:
            await self._core.objects.remove([(stored.volume, stored.key)])
        return registered

    async def register(self, submission: Submission) -> Registered:
        """Register a file whose content is to be fetched from its source later."""
        return await self._engine.submit(submission, self._told(submission, "scheduled"))

    def _told(self, submission: Submission, action: str) -> Told:
        """Return what adds the INH event of a submission by API or command line."""
        began = self._core.clock.now()

        def tell(db: Connection, registered: Registered, now: datetime) -> None:
            if not registered.skipped:
                tell_incoming(
                    db, registered, submission, action, self._core.snapshot, self._teller,
                    began=began, now=now,
                )  # fmt: skip

        return tell

    # --- deletion ---------------------------------------------------------------------------

    async def delete(self, number: int, actor: Actor) -> None:
        """Delete a data file with all its transfers; the bytes go soon after."""
        view = await self.view(number)
        if view.file.deleted:
            raise BadState("the data file is deleted already", status="deleted")
        for transfer in view.transfers:
            await self._transfers.delete(transfer.id, actor)
        await self._core.store.write(files.mark_unused, number)
        self._engine.retention.poke()
        self._core.bus.tell("file", number)


def tell_incoming(
    db: Connection,
    registered: Registered,
    submission: Submission,
    action: str,
    snapshot: Snapshot,
    teller: Teller,
    *,
    began: datetime,
    now: datetime,
) -> None:
    """INH: content came, or was announced, by API or command line; for the first transfer."""
    transfer = transfers.get(db, registered.transfers[0]) if registered.transfers else None
    file = files.get(db, registered.file)
    if transfer is None or file is None:
        return
    entry = snapshot.destinations.get(transfer.destination)
    teller.incoming(
        db,
        transfer,
        file,
        entry,
        action=action,
        user=submission.submitter,
        description="",
        country=entry.destination.country if entry else "",
        kind="token",
        protocol="ecpds",
        client=submission.submitted_from,
        sent=max(file.size, 0) if action == "upload" else 0,
        offset=0,
        error=None,
        started_at=began,
        now=now,
    )


def read_view(db: Connection, number: int) -> FileView | None:
    """Return a data file with everything about it, None if there is none."""
    file = files.get(db, number)
    return None if file is None else _view(db, file)


def read_page(
    db: Connection,
    *,
    limit: int,
    before: int | None,
    name: str | None,
    deleted: bool | None,
    since: datetime | None,
    until: datetime | None,
) -> list[FileView]:
    """Return a page of data files with everything about them."""
    found = files.page(
        db, limit=limit, before=before, name=name, deleted=deleted, since=since, until=until
    )
    return [_view(db, file) for file in found]


def read_part(
    db: Connection,
    *,
    limit: int,
    before: int | None,
    name: str | None,
    deleted: bool | None,
    since: datetime | None,
    until: datetime | None,
) -> tuple[list[FileView], int | None]:
    """Return what `filelist.part` found with everything about it."""
    found = filelist.part(
        db, limit=limit, before=before, name=name, deleted=deleted, since=since, until=until
    )
    return [_view(db, file) for file in found.items], found.below


def _view(db: Connection, file: DataFile) -> FileView:
    return FileView(
        file=file,
        metadata=files.metadata(db, file.id),
        digests=files.digests(db, file.id, file.instance),
        transfers=transfers.of_file(db, file.id, live=False),
    )


def remember_digests(db: Connection, file: DataFile, found: Mapping[str, str]) -> None:
    """Store digests unless the content was replaced while they were computed."""
    present = files.get(db, file.id)
    if present is None or present.instance != file.instance or not present.stored:
        raise BadState("the content was replaced meanwhile, ask again")
    files.set_digests(db, file.id, file.instance, found)
