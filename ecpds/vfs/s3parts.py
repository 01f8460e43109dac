"""Uploads in parts: durable part by part, put together without moving their bytes.

Where the parts lie one behind the other in one file (`s3part`), to complete the upload is to give
that file a second name and to register it; any other is put together by the kernel.

Spec: portal.md 3.6 (multipart: persistent, owner-bound, seven days); interface.md 6.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ecpds.model.account import Permission
from ecpds.model.errors import Denied, InputError, LimitError, NotFound, TooLarge
from ecpds.objects.upload import Upload, full
from ecpds.objects.volume import Volume
from ecpds.store import multipart
from ecpds.store.accesskeys import StoredKey
from ecpds.store.db import Connection
from ecpds.store.multipart import StoredPart, StoredUpload
from ecpds.store.objectkeys import successor
from ecpds.store.portal import LAST
from ecpds.vfs import paths, uploads
from ecpds.vfs.contract import Node
from ecpds.vfs.limits import slower
from ecpds.vfs.s3contract import Attributes, Ending, PartInfo, PartWriter, UploadInfo
from ecpds.vfs.s3part import PortalPart, Room, Rooms, copy_all, forget, info_of
from ecpds.vfs.s3session import PortalUpload, S3Objects, metadata_of
from ecpds.vfs.tree import Place

MOST_UPLOADS: Final = 1_000
"""Unfinished uploads of one user."""

_ADLER: Final = 65521


def joined_adler(first: int, second: int, size: int) -> int:
    """Return the Adler-32 of two pieces from those of each; `size` is that of the second."""
    rest = size % _ADLER
    low1, high1 = first & 0xFFFF, first >> 16
    low2, high2 = second & 0xFFFF, second >> 16
    low = (low1 + low2 - 1) % _ADLER
    high = (high1 + high2 + rest * (low1 - 1)) % _ADLER
    return high << 16 | low


class S3Session(S3Objects):
    """A session of an S3 client, complete."""

    rooms: Rooms

    def share(self, rooms: Rooms, key: StoredKey | None) -> None:
        """Work with the uploads that all sessions share, in the scope of an access key."""
        self.rooms = rooms
        if key is not None and (key.prefix or key.read_only):
            self._scope = key
            self.take(self._facts)

    async def begin_upload(
        self, path: str, attributes: Attributes, *, checksum: str, whole: bool
    ) -> str:
        """Begin an upload in parts."""
        place = self._place(path)
        paths.check_new(path)
        await self._need(Permission.PUT, place)
        if place.entry is None or place.is_top:
            raise Denied("files live in destinations")
        uploads.check_target(place)
        await self._services.check_quotas(self._facts.quotas, place.entry, "upload")
        await self._room()
        core, login = self._services.core, self.visitor.login
        if await core.store.read(multipart.open_uploads, login) >= MOST_UPLOADS:
            raise LimitError(f"a user may have at most {MOST_UPLOADS} unfinished uploads")
        number = secrets.token_hex(24)
        fields = dict(attributes.fields) | {":checksum": checksum, ":whole": "1" if whole else ""}
        kept = Attributes(fields=fields, metadata=attributes.metadata, tags=attributes.tags)
        await core.store.write(
            multipart.create, number, user=login, destination=place.entry.name, path=place.inner,
            document=kept.dump(), now=core.clock.now(),
        )  # fmt: skip
        return number

    async def _stored(self, place: Place, number: str) -> StoredUpload:
        found = None
        if 0 < len(number) <= 64:
            found = await self._services.core.store.read(multipart.upload, number)
        if (
            found is None
            or found.user != self.visitor.login
            or (found.destination, found.path) != (place.destination, place.inner)
        ):
            raise NotFound("there is no such upload")
        return found

    async def upload(self, path: str, number: str) -> UploadInfo:
        """Return an upload of this user."""
        place = self._place(path)
        await self._need(Permission.PUT, place)
        return _info(await self._stored(place, number), path)

    async def uploads_of(
        self, bucket: str, prefix: str, after: tuple[str, str], limit: int
    ) -> Sequence[UploadInfo]:
        """Return open uploads below a bucket."""
        found: list[UploadInfo] = []
        place = self._place(bucket)
        await self._need(Permission.DIR, place)
        roots = {"": place.entry} if place.entry is not None else self._view.roots
        for base, entry in sorted((f"{n}/" if n else "", e) for n, e in roots.items()):
            if entry is None or not (base.startswith(prefix) or prefix.startswith(base)):
                continue
            inner, behind = prefix[len(base) :], after[0]
            mark = (behind[len(base) :], after[1]) if behind.startswith(base) else ("", "")
            if behind > base and not behind.startswith(base):
                continue
            rows = await self._services.core.store.read(
                multipart.uploads, self.visitor.login, entry.name, low=inner,
                high=successor(inner) if inner else LAST, after=mark, limit=limit - len(found),
            )  # fmt: skip
            found += [_info(row, base + row.path) for row in rows]
            if len(found) >= limit:
                break
        return found

    async def write_part(self, upload: UploadInfo, number: int, size: int | None) -> PartWriter:
        """Begin a part."""
        place = self._place(upload.path)
        await self._need(Permission.PUT, place)
        stored = await self._stored(place, upload.id)
        if stored.etag is not None:
            raise NotFound("the upload has ended")
        entry, core = place.inside(), self._services.core
        quotas = await self._services.check_quotas(self._facts.quotas, entry, "upload")
        others = await core.store.read(multipart.stored_bytes, upload.id, beside=number)
        room = await self._room()
        bounds = [quota.most for quota in quotas] + ([] if room is None else [room])
        limit = _limit(entry.destination.max_file_size, bounds, others)
        if limit is not None and size is not None and size > limit:
            raise TooLarge(f"the object would be larger than the {limit + others} bytes allowed")
        desk = self.rooms.enter(upload.id)
        part = PortalPart(core, self.rooms, desk, upload, number, limit)
        rate = slower(entry.incoming.max_rate_out, self.visitor.rate_out)
        try:
            await part.place(stored, size, rate)
        except BaseException:
            await part.close()
            raise
        return part

    async def copy_part(
        self,
        upload: UploadInfo,
        number: int,
        source: str,
        span: Callable[[Node], tuple[int, int]],
    ) -> PartWriter:
        """Fill a part from an object."""
        place = self._place(source)
        await self._need(Permission.GET, place)
        looked, _ = await self._readable(place)
        shown = looked.found
        node = looked.node(place, place.inside(), self._facts.options.list_time)
        offset, length = span(node)
        objects = self._services.core.objects
        part = await self.write_part(upload, number, length)
        descriptor = -1
        try:
            descriptor = objects.open(shown.volume, shown.object_key)
            if isinstance(part, PortalPart):
                await part.take(descriptor, offset, length)
        except BaseException:
            await part.close()
            raise
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return part

    async def parts(
        self, upload: UploadInfo, *, after: int = 0, limit: int = 10_000
    ) -> Sequence[PartInfo]:
        """Return the stored parts by number."""
        rows = await self._services.core.store.read(
            multipart.parts, upload.id, after=after, limit=limit
        )
        return [info_of(row) for row in rows]

    async def abort(self, upload: UploadInfo) -> None:
        """Forget an upload."""
        room = self.rooms.enter(upload.id)
        try:
            await self._close_room(room)
            gone = await self._services.core.store.write(multipart.drop, upload.id)
            forget(self._volumes(gone))
        finally:
            self.rooms.leave(upload.id)

    async def _close_room(self, room: Room) -> None:
        """Let nobody write to the parts any more."""
        async with room.lock:  # no part is being stored
            room.check()
            room.is_closed = True
        while room.copying:
            room.quiet.clear()
            await room.quiet.wait()

    def _volumes(self, named: Sequence[tuple[str, str]]) -> list[tuple[Volume, str]]:
        objects = self._services.core.objects
        found = []
        for volume, name in named:
            with contextlib.suppress(NotFound):
                found.append((objects.volume(volume), name))
        return found

    # --- completion ---------------------------------------------------------------------

    async def complete(self, upload: UploadInfo, ending: Ending) -> Node:
        """Make the parts an object."""
        room = self.rooms.enter(upload.id)
        try:
            await self._close_room(room)
            try:
                return await self._complete(upload, ending)
            except BaseException:
                room.is_closed = False  # it goes on as it was
                raise
        finally:
            self.rooms.leave(upload.id)

    async def _complete(self, upload: UploadInfo, ending: Ending) -> Node:
        core = self._services.core
        rows = await core.store.read(multipart.parts, upload.id)
        chosen = {part.number: part.md5 for part in ending.parts}
        wanted = [row for row in rows if chosen.get(row.number) == row.md5]
        if len(wanted) != len(chosen):
            raise InputError("a part was replaced meanwhile")
        size = sum(part.size for part in wanted)
        self._ready = content = await self._assembled(wanted, rows, size)
        gone: list[tuple[str, str]] = []
        try:
            writer = await self._begin(
                upload.path, size=size, exclusive=ending.exclusive, if_match=ending.if_match,
                metadata=metadata_of(ending.attributes),
            )  # fmt: skip
        except BaseException:
            self._ready = None
            content.discard()
            raise
        done = PortalUpload(writer, ending.attributes)
        keep = writer.after

        def after(db: Connection, file: int, instance: int | None) -> None:
            if keep is not None:
                keep(db, file, instance)
            gone[:] = multipart.finish(db, upload.id, ending.etag)  # it may run twice

        writer.after = after
        async with writer:
            node = await done.commit(size, ending.etag, {})
        forget(self._volumes(gone))
        return node

    async def _assembled(
        self, wanted: Sequence[StoredPart], rows: Sequence[StoredPart], size: int
    ) -> Upload:
        """Return the content of the object: the file of the parts itself, or a copy."""
        core = self._services.core
        adler = 1
        for part in wanted:
            adler = joined_adler(adler, part.adler, part.size)
        if _is_in_place(wanted, rows, size):
            content = core.objects.adopt(wanted[0].volume, wanted[0].temporary)
            os.ftruncate(content.descriptor, size)
        else:
            content = core.objects.create(size)
            try:
                await core.threads.run("disk", self._join, wanted, content)
            except BaseException:
                content.discard()
                raise
        content.take_over(size, adler)
        return content

    def _join(self, wanted: Sequence[StoredPart], content: Upload) -> None:
        objects, where = self._services.core.objects, 0
        for part in wanted:
            path = objects.volume(part.volume).temporary / Path(part.temporary).name
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                copy_all(descriptor, content.descriptor, part.size, part.place, where)
            except OSError as error:
                raise full(error, content.volume) from error
            finally:
                os.close(descriptor)
            where += part.size


def _is_in_place(wanted: Sequence[StoredPart], rows: Sequence[StoredPart], size: int) -> bool:
    """Tell whether the parts lie one behind the other in one file, and no other part behind."""
    where, name = 0, wanted[0].temporary
    for part in wanted:
        if part.temporary != name or part.place != where:
            return False
        where += part.size
    return not any(row.temporary == name and row.place >= size for row in rows)


def _limit(most: int | None, quotas: Sequence[int], others: int) -> int | None:
    bounds = [*quotas, *(() if most is None else (most,))]
    return max(min(bounds) - others, 0) if bounds else None


def _info(stored: StoredUpload, path: str) -> UploadInfo:
    kept = Attributes.load(stored.document)
    fields = {name: text for name, text in kept.fields.items() if not name.startswith(":")}
    return UploadInfo(
        id=stored.id,
        path=path,
        created_at=stored.created_at,
        attributes=Attributes(fields=fields, metadata=kept.metadata, tags=kept.tags),
        checksum=kept.fields.get(":checksum", ""),
        whole=bool(kept.fields.get(":whole", "")),
        etag=stored.etag or "",
    )
