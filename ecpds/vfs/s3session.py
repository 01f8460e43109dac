"""The session of an S3 client: the same tree as buckets, keys and attributes.

Spec: portal.md 2.1 and 3.6; interface.md 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from ecpds.engine.core import DestinationEntry
from ecpds.model.account import Permission
from ecpds.model.errors import Denied, NotFound
from ecpds.model.metadata import MAX_KEY, MAX_VALUE
from ecpds.objects.upload import Upload
from ecpds.store import files, multipart, objectkeys, portal
from ecpds.store.accesskeys import StoredKey
from ecpds.store.db import Connection
from ecpds.store.portal import Directory, Entry
from ecpds.vfs import looking, paths, uploads
from ecpds.vfs.contract import Node, Reader, Writer
from ecpds.vfs.handles import Opened, PortalReader, PortalWriter
from ecpds.vfs.looking import Looked
from ecpds.vfs.profiles import Facts
from ecpds.vfs.rights import ScopedRights
from ecpds.vfs.s3contract import (
    NOTHING,
    Attributes,
    Bucket,
    KeyPage,
    KeyQuery,
    ObjectSession,
    ObjectUpload,
    ObjectWish,
)
from ecpds.vfs.s3listing import KeyLister
from ecpds.vfs.session import PortalSession
from ecpds.vfs.tree import DOMAIN, Place, directory_node, missing

TAG: Final = "tag."  # what the metadata of a file call its tags


@dataclass(frozen=True, slots=True)
class Described:
    """A file and what its client keeps with it."""

    looked: Looked[Entry]
    document: str


def look_object(
    db: Connection, entry: DestinationEntry, place: Place, *, now: datetime
) -> Described:
    """Return the object at a place; raises as `looking.look_file`."""
    looked = looking.look_file(db, entry, place, now=now)
    found = looked.found
    return Described(looked, multipart.attributes(db, found.file, found.instance))


def metadata_of(attributes: Attributes) -> dict[str, str]:
    """Return the tags as metadata values, as far as those can hold them."""
    named = {TAG + name: value for name, value in attributes.tags.items()}
    return {
        name: value
        for name, value in named.items()
        if len(name) <= MAX_KEY and len(value) <= MAX_VALUE and (name + value).isprintable()
    }


class PortalUpload(ObjectUpload):
    """An object under way."""

    def __init__(self, writer: PortalWriter, attributes: Attributes) -> None:
        self.writer: Writer = writer
        self.attributes = attributes
        self._writer = writer
        writer.after = self._keep

    def _keep(self, db: Connection, file: int, instance: int | None) -> None:
        text = self.attributes.dump()
        if text:
            multipart.set_attributes(db, file, instance, text)

    async def commit(self, size: int | None, etag: str, digests: Mapping[str, str]) -> Node:
        """Store the object."""
        self._writer.known = digests
        return await self._writer.commit(size=size, etag=etag)


class S3Objects(PortalSession, ObjectSession):
    """Buckets and objects; `s3parts` adds uploads in parts."""

    _ready: Upload | None = None  # content of the next upload, when it is there already
    _scope: StoredKey | None = None  # that takes something away from the user's rights

    def take(self, facts: Facts) -> None:
        """Go on with the rights that user and key have now."""
        super().take(facts)
        if self._scope is not None:
            mine = facts.rights
            self._rights = ScopedRights(
                mine.login, mine.operations, mine.patterns,
                prefix=self._scope.prefix, read_only=self._scope.read_only,
            )  # fmt: skip

    # --- buckets ------------------------------------------------------------------------

    async def buckets(self) -> Sequence[Bucket]:
        """Return the buckets by name."""
        await self._need(Permission.DIR, Place(path="/"))
        core = self._services.core
        self._place("/")  # a change of destinations since the login
        if self._view.moved is not None:
            named = {self.profile.user.login: self._view.moved}
        else:
            named = dict(self._view.roots)
        allowed = [
            name
            for name, entry in sorted(named.items())
            if self._rights.allows(Permission.DIR, entry.name, "")
        ]
        newest = await core.store.read(
            looking.newest_of, [named[name].name for name in allowed], now=core.clock.now()
        )
        now = core.clock.now()
        return [Bucket(name=name, created=newest[named[name].name] or now) for name in allowed]

    def bucket_path(self, name: str) -> str:
        """Return the path of a bucket; a destination of the user's name wins over the tree."""
        self._place("/")
        if self._view.moved is None and name in self._view.roots:
            return f"/{DOMAIN}/{name}/" if name == DOMAIN else f"/{name}/"
        if name == self.profile.user.login:
            return "/"
        raise missing(f"/{name}")

    async def keys(self, bucket: str, query: KeyQuery) -> KeyPage:
        """Return keys of a bucket."""
        place = self._place(bucket)
        directory = query.prefix.rpartition("/")[0]
        if place.entry is None:
            name, _, directory = directory.partition("/")
            entry = self._view.roots.get(name)
            place = replace(place, entry=entry)
        await self._need(Permission.DIR, place, directory)
        rights, shown = self._rights, self._facts.options.list_time
        lister = KeyLister(self._services.core.store, self._services.core.clock, rights, shown)
        roots = {"": place.entry} if self._is_bucket(bucket) else self._view.roots
        return await lister.page(roots, query)

    def _is_bucket(self, path: str) -> bool:
        return self._place(path).entry is not None

    # --- one object ---------------------------------------------------------------------

    async def find(self, path: str) -> tuple[Node, Attributes]:
        """Return an object or a made directory."""
        place = self._place(path)
        if not self._rights.allows_stat(place.destination, place.inner):
            raise missing(place.path)
        entry = place.inside()
        core = self._services.core
        if path.endswith("/"):
            made = await core.store.read(made_directory, entry, place.inner)
            return directory_node(made, place.path, entry), NOTHING
        looked, attributes = await self._object(entry, place)
        self._check_real(place, looked.inner)
        return looked.node(place, entry, self._facts.options.list_time), attributes

    async def open_object(self, path: str) -> tuple[Reader, Attributes]:
        """Open an object."""
        place = self._place(path)
        await self._need(Permission.GET, place)
        entry = place.inside()
        quotas = await self._services.check_quotas(self._facts.quotas, entry, "download")
        core = self._services.core
        for is_last in (False, True):
            looked, attributes = await self._readable(place)
            shown = looked.found
            try:
                descriptor = core.objects.open(shown.volume, shown.object_key)
                break
            except NotFound:  # replaced and removed since we looked
                if is_last:
                    raise
        node = looked.node(place, entry, self._facts.options.list_time)
        self.downloads += 1
        opened = Opened(node=node, shown=shown, where=entry, quotas=quotas)
        reader = PortalReader(self._services, self.visitor, opened, descriptor)
        return reader, attributes

    async def _object(
        self, entry: DestinationEntry, place: Place
    ) -> tuple[Looked[Entry], Attributes]:
        """Return an object: as it was a moment ago, by a glance, or by the longer look."""
        core = self._services.core
        now = core.clock.now()
        known = self._services.looks.described(entry, place, now=now)
        if known is not None:
            return known
        found = await core.store.read(look_object, entry, place, now=now)
        return found.looked, Attributes.load(found.document)

    async def _readable(self, place: Place) -> tuple[Looked[Entry], Attributes]:
        """Return an object that may be read."""
        looked, attributes = await self._object(place.inside(), place)
        if looked.inner is not None:
            await self._need(Permission.GET, place, looked.inner)
        return looked, attributes

    async def write_object(self, path: str, wish: ObjectWish) -> ObjectUpload:
        """Begin an upload."""
        writer = await self._begin(
            path, size=wish.size, exclusive=wish.exclusive, if_match=wish.if_match,
            metadata=metadata_of(wish.attributes),
        )  # fmt: skip
        return PortalUpload(writer, wish.attributes)

    async def copy_object(
        self,
        source: str,
        target: str,
        wish: ObjectWish,
        judge: Callable[[Node], None],
        change: Callable[[Attributes], Attributes],
    ) -> Node:
        """Copy an object inside the hub."""
        place = self._place(source)
        await self._need(Permission.GET, place)
        looked, attributes = await self._readable(place)
        judge(looked.node(place, place.inside(), self._facts.options.list_time))
        attributes = change(attributes)
        content = looked.found
        kept = {key: text for key, text in looked.metadata.items() if not key.startswith(TAG)}
        writer = await self._begin(
            target, size=content.size, exclusive=wish.exclusive, if_match=wish.if_match,
            mtime=content.file_time, metadata=kept | metadata_of(attributes), content=content,
        )  # fmt: skip
        upload = PortalUpload(writer, attributes)
        async with writer:
            etag = content.etag or await self._digests.of(content, "md5")
            return await upload.commit(content.size, etag, {})

    async def mkdir(self, path: str) -> None:
        """Make a directory; one that is there stays, and so does a file of the name."""
        place = self._place(path)
        paths.check_new(path)
        await self._need(Permission.MKDIR, place)
        if place.entry is None or place.is_top:
            raise Denied("directories live in destinations")
        if place.entry.destination.group_by_date:
            raise Denied("directories of a destination by date are its product dates")
        uploads.check_target(place)
        core = self._services.core
        await core.store.write(
            portal.make_directory, place.entry.name, place.inner,
            user=self.visitor.login, now=core.clock.now(),
        )  # fmt: skip

    async def delete_object(self, path: str) -> None:
        """Delete an object or a made directory."""
        place = self._place(path)
        if path.endswith("/"):
            await self._need(Permission.RMDIR, place)
            core = self._services.core
            await core.store.write(objectkeys.remove_made, place.inside().name, place.inner)
            return
        try:
            await self.delete(path)
        except NotFound:
            return

    async def set_tags(self, path: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object."""
        place = self._place(path)
        await self._need(Permission.PUT, place)
        core = self._services.core
        await core.store.write(store_tags, place.inside(), place, tags, now=core.clock.now())

    # --- content that is there already --------------------------------------------------

    def _upload(
        self, order: uploads.Order, prepared: uploads.Prepared, size: int | None, offset: int
    ) -> Upload:
        ready, self._ready = self._ready, None
        return super()._upload(order, prepared, size, offset) if ready is None else ready


def made_directory(db: Connection, entry: DestinationEntry, inner: str) -> Directory:
    """Return the directory that was made at exactly that path; NotFound."""
    made_at = objectkeys.made_at(db, entry.name, inner)
    if made_at is None:
        raise missing(inner)
    return Directory(name=paths.last(inner), newest=made_at)


def store_tags(
    db: Connection,
    entry: DestinationEntry,
    place: Place,
    tags: Mapping[str, str],
    *,
    now: datetime,
) -> None:
    """Replace the tags of the file at a place, in its attributes and among its metadata."""
    found = look_object(db, entry, place, now=now)
    shown = found.looked.found
    attributes = replace(Attributes.load(found.document), tags=dict(tags))
    multipart.set_attributes(db, shown.file, shown.instance, attributes.dump())
    kept = {k: v for k, v in files.metadata(db, shown.file).items() if not k.startswith(TAG)}
    files.set_metadata(db, shown.file, kept | metadata_of(attributes))
