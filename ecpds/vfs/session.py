"""One logged-in client and everything it may do in its tree.

Each question costs one hop to a reader at most, each change one commit.  Spec: portal.md 2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from ecpds.engine.core import DestinationEntry
from ecpds.engine.submit import storage_group
from ecpds.model.account import Permission, Profile, Protocol
from ecpds.model.errors import (
    Denied,
    IsDirectory,
    NotFound,
    QuotaExceeded,
    Stopping,
    Unsupported,
)
from ecpds.objects.upload import Upload
from ecpds.store import files, properties
from ecpds.store.portal import Entry
from ecpds.vfs import changes, layouts, looking, paths, records, uploads
from ecpds.vfs.changes import Change, Rename
from ecpds.vfs.contract import Listing, NewsPage, Node, Reader, Session, Space, Writer
from ecpds.vfs.digests import Digests
from ecpds.vfs.handles import Begun, Opened, PortalReader, PortalWriter
from ecpds.vfs.listing import Lister, Wanted, name_of
from ecpds.vfs.news import Newsroom, watching
from ecpds.vfs.profiles import Facts
from ecpds.vfs.services import STOP_WAIT, Services, Visitor
from ecpds.vfs.tree import DOMAIN, SHOWS_DOMAIN, Place, View, missing, node_of, upper_node
from ecpds.vfs.uploads import Order, Prepared

MOST_OWN: Final = 1_000
"""Uploads under embargo that their uploader can still stat on the same connection."""

MOST_REFUSALS: Final = 100
"""Refused operations of one session that are told as DEA events."""

DEEP: Final = 8
"""Directories above a new file up to which a look at each of them does not hold up the others."""

Ended = Callable[["PortalSession"], None]


class PortalSession(Session):
    """A session of one data user."""

    def __init__(
        self,
        services: Services,
        facts: Facts,
        *,
        number: int,
        protocol: Protocol,
        peer: str,
        visitor: Visitor,
        ended: Ended,
        subscriber: int | None = None,
    ) -> None:
        self.number = number
        self.subscriber = subscriber
        self.protocol = protocol
        self.peer = peer
        self.visitor = visitor
        self.since = self.used_at = services.core.clock.now()
        self.uploads = self.downloads = 0
        self._services = services
        self._ended = ended
        self._digests = Digests(services)
        self._lister = Lister(services.core.store, services.core.clock)
        self._own: OrderedDict[tuple[str, str], int] = OrderedDict()  # embargoed, by place
        self._refusals = 0
        self._is_closing = False
        self._is_closed = False
        self.take(facts)

    def take(self, facts: Facts) -> None:
        """Go on with the rights that the user has now."""
        self.profile: Profile = facts.profile
        self._facts = facts
        self._rights = facts.rights
        self.terms = facts.terms
        self._view = facts.view(self.protocol)
        self._snapshot = facts.snapshot
        if self.changed is not None:
            self.changed()

    @property
    def options(self) -> Mapping[str, str]:
        """Return the effective options as texts, `portal.*` by full key."""
        return self.profile.options

    # --- paths and rights ---------------------------------------------------------------

    def absolute(self, path: str, *, base: str = "/") -> str:
        """Return the normal form of a path."""
        return paths.normal(path, base=base)

    def _place(self, path: str) -> Place:
        if self._is_closed or self._services.is_stopping:
            raise Stopping("the session has ended")
        snapshot = self._services.core.snapshot
        if snapshot is not self._snapshot:  # a destination was changed, added or removed
            names, options = self.profile.destinations, self._facts.options
            self._view = View.of(names, options, snapshot, self.protocol)
            self._snapshot = snapshot
        return self._view.place(paths.normal(path))

    def may(self, permission: Permission, path: str) -> bool:
        """Tell whether an operation is granted on a path, there or not."""
        try:
            place = self._place(path)
        except NotFound:
            return False
        return self._rights.allows(permission, place.destination, place.inner)

    async def _need(self, permission: Permission, place: Place, inner: str | None = None) -> None:
        """Raise Denied, and tell of it, unless the operation is granted."""
        path = place.inner if inner is None else inner
        if self._rights.allows(permission, place.destination, path):
            return
        text = f"Permission denied for {permission.value}"
        self._refusals += 1
        if self._refusals <= MOST_REFUSALS:
            services = self._services
            await services.recorder.put(
                records.record_denied, services.teller, self.visitor, text,
                now=services.core.clock.now(),
            )  # fmt: skip
        raise Denied(text)

    # --- looking ------------------------------------------------------------------------

    async def stat(self, path: str) -> Node:
        """Return a node; one hop."""
        place = self._place(path)
        if not self._rights.allows_stat(place.destination, place.inner):
            raise missing(place.path)
        if place.entry is None:
            return upper_node(place.path)
        core = self._services.core
        shown = self._facts.options.list_time
        named = self._services.looks.named(place.entry, place, now=core.clock.now())
        if named is not None:
            return named.node(place, place.entry, shown)
        own = self._own.get((place.destination, place.inner))
        looked = await core.store.read(looking.look, place.entry, place, own, now=core.clock.now())
        self._check_real(place, looked.inner)
        return looked.node(place, place.entry, shown)

    def _check_real(self, place: Place, inner: str | None) -> None:
        """Hide what is asked for by its number and lies where the user may not look."""
        if inner is not None and not self._rights.allows_stat(place.destination, inner):
            raise missing(place.path)

    async def list(self, path: str, listing: Listing | None = None) -> AsyncIterator[Node]:
        """Yield the members of a directory."""
        place = self._place(path)
        await self._need(Permission.DIR, place)
        options = self._facts.options
        wanted = Wanted.of(listing or Listing(), place.entry, options, self.protocol)
        if place.entry is None:
            for node in await self._upper(place, wanted):
                yield node
            return
        async for found in self._lister.members(place, wanted):
            member = paths.joined(place.path, name_of(found))
            yield node_of(found, member, place.entry, shown=options.list_time)

    async def _upper(self, place: Place, wanted: Wanted) -> Sequence[Node]:
        if place.is_above_domain:
            nodes = [upper_node(f"/{DOMAIN}")]
        else:
            core, roots = self._services.core, self._view.roots
            names = [entry.name for entry in roots.values()]
            times = await core.store.read(looking.newest_of, names, now=core.clock.now())
            nodes = [
                looking.root_node(entry, paths.joined(place.path, name), times[entry.name])
                for name, entry in roots.items()
            ]
        return looking.arranged(nodes, wanted)

    async def walk(
        self, path: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> AsyncIterator[Node]:
        """Yield the files at any depth below a directory inside a destination."""
        place = self._place(path)
        await self._need(Permission.DIR, place)
        entry = place.inside()
        found = self._lister.walk(place, prefix=prefix, after=after, limit=limit)
        base = place.path.rstrip("/") + "/"
        is_date = entry.destination.group_by_date and place.inner
        cut = len(place.inner) + 1 if place.inner else 0
        async for one in found:
            below = name_of(one) if is_date else layouts.shown_path(entry, one)[cut:]
            yield node_of(one, base + below, entry, shown=self._facts.options.list_time)

    async def news(self, path: str, since: str, *, limit: int) -> NewsPage:
        """Return what became visible below a directory after `since`; its newest without."""
        place = self._place(path)
        await self._need(Permission.DIR, place)
        shown = self._facts.options.list_time
        room = Newsroom(self._services.core, self._rights, self._view, shown)
        return await room.page(place, since, limit)

    def watching(self) -> AbstractContextManager[Callable[[float], Awaitable[None]]]:
        """Return what waits for news."""
        return watching(self._services.core.bus)

    # --- reading ------------------------------------------------------------------------

    async def open_read(self, path: str) -> Reader:
        """Open a file; one hop, then the descriptor."""
        place = self._place(path)
        await self._need(Permission.GET, place)
        if place.entry is None or place.is_top:
            raise IsDirectory(f"{place.path} is a directory")
        quotas = await self._services.check_quotas(self._facts.quotas, place.entry, "download")
        core = self._services.core
        for is_last in (False, True):
            looked = await self._services.looks.file(place.entry, place, now=core.clock.now())
            if looked.inner is not None:
                await self._need(Permission.GET, place, looked.inner)
            try:
                descriptor = core.objects.open(looked.found.volume, looked.found.object_key)
                break
            except NotFound:  # replaced and removed since we looked
                if is_last:
                    raise
        node = looked.node(place, place.entry, self._facts.options.list_time)
        self.downloads += 1
        opened = Opened(node=node, shown=looked.found, where=place.entry, quotas=quotas)
        return PortalReader(self._services, self.visitor, opened, descriptor)

    async def digest(self, path: str, algorithm: str) -> str:
        """Return a digest, computed the first time that somebody asks."""
        place = self._place(path)
        await self._need(Permission.GET, place)
        if place.entry is None or place.is_top:
            raise IsDirectory(f"{place.path} is a directory")
        core = self._services.core
        looked = await core.store.read(looking.look_file, place.entry, place, now=core.clock.now())
        if looked.inner is not None:
            await self._need(Permission.GET, place, looked.inner)
        return await self._digests.of(looked.found, algorithm)

    # --- writing ------------------------------------------------------------------------

    async def open_write(
        self,
        path: str,
        *,
        size: int | None = None,
        offset: int = 0,
        exclusive: bool = False,
        if_match: Sequence[str] = (),
        mtime: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        make_parents: bool = True,
    ) -> Writer:
        """Begin an upload; one hop."""
        return await self._begin(
            path, size=size, offset=offset, exclusive=exclusive, if_match=if_match, mtime=mtime,
            metadata=metadata, make_parents=make_parents,
        )  # fmt: skip

    async def _begin(
        self,
        path: str,
        *,
        size: int | None = None,
        offset: int = 0,
        exclusive: bool = False,
        if_match: Sequence[str] = (),
        mtime: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        make_parents: bool = True,
        content: Entry | None = None,
    ) -> PortalWriter:
        place = self._place(path)
        paths.check_new(path)
        await self._need(Permission.PUT, place)
        if place.entry is None:
            raise Denied("files live in destinations")
        core = self._services.core
        order = uploads.order_for(
            place.entry, place.path, place.inner, now=core.clock.now(), mtime=mtime,
            metadata=metadata, exclusive=exclusive, if_match=if_match,
            is_shared=self.protocol is Protocol.S3,
        )  # fmt: skip
        uploads.check_size(order, size)
        quotas = await self._services.check_quotas(self._facts.quotas, place.entry, "upload")
        room = await self._room(size) if self.terms is not None else None
        self._lock(order)
        try:
            may_make = self._may_make(place, order) if make_parents else None
            prepared = await self._prepared(order, offset, may_make)
            begun = Begun(
                order=order, prepared=prepared, promised=size, quotas=quotas,
                is_resumed=offset > 0, room=room, shown=self._facts.options.list_time,
                registered=self._registered,
            )  # fmt: skip
            upload = (
                self._upload(order, prepared, size, offset)
                if content is None
                else await self._linked(content)
            )
        except BaseException:
            self._unlock(order)
            raise
        return PortalWriter(self._services, self.visitor, begun, upload)

    async def _room(self, size: int | None = None) -> int | None:
        """Return the bytes that the user may still keep; QuotaExceeded when there are too few."""
        if self.terms is None:
            return None
        return await self._services.keeping.room(self.profile.user.login, self.terms, size)

    async def _prepared(self, order: Order, offset: int, may_make: bool | None) -> Prepared:
        """Look whether the upload may begin: here, as it takes a few seeks, if not by date."""
        store = self._services.core.store
        look = partial(
            uploads.prepare, order=order, login=self.profile.user.login,
            now=self._services.core.clock.now(), offset=offset,
            both=self.protocol is Protocol.S3, may_make=may_make,
        )  # fmt: skip
        is_flat = order.target.count("/") <= DEEP or self.protocol is Protocol.S3
        if is_flat and not order.entry.destination.group_by_date:
            return store.glance(look)
        return await store.read(look)

    async def _linked(self, content: Entry) -> Upload:
        """Return an upload that holds the content already: shared, or copied by the kernel."""
        core = self._services.core
        try:
            return core.objects.link(content.volume, content.object_key)
        except OSError:  # too many links to one file
            upload = core.objects.create(content.size)
            try:
                await core.threads.run("disk", uploads.copy_content, core.objects, content, upload)
            except BaseException:
                upload.discard()
                raise
            return upload

    async def copy(
        self,
        source: str,
        target: str,
        *,
        replace: bool = True,
        metadata: Mapping[str, str] | None = None,
    ) -> Node:
        """Copy a file; two hops and one commit, whatever its size."""
        place = self._place(source)
        await self._need(Permission.GET, place)
        if place.entry is None or place.is_top:
            raise IsDirectory(f"{place.path} is a directory")
        core = self._services.core
        looked = await core.store.read(looking.look_file, place.entry, place, now=core.clock.now())
        if looked.inner is not None:
            await self._need(Permission.GET, place, looked.inner)
        found = looked.found
        writer = await self._begin(
            target, size=found.size, exclusive=not replace, mtime=found.file_time,
            metadata=looked.metadata if metadata is None else metadata, content=found,
        )  # fmt: skip
        async with writer:
            return await writer.commit(size=found.size, etag=found.etag)

    def _lock(self, order: Order) -> None:
        if order.lock_key is not None:
            self._services.lock(order.entry.name, order.lock_key, self.profile.user.login)

    def _unlock(self, order: Order) -> None:
        if order.lock_key is not None:
            self._services.unlock(order.entry.name, order.lock_key)

    def _may_make(self, place: Place, order: Order) -> bool:
        parent = order.target.rpartition("/")[0]
        return self._rights.allows(Permission.MKDIR, place.destination, parent)

    def _upload(self, order: Order, prepared: Prepared, size: int | None, offset: int) -> Upload:
        objects = self._services.core.objects
        if not offset or prepared.parked is None:
            return objects.create(size, group=storage_group(order.entry, order.target))
        volume, temporary, _ = prepared.parked
        try:
            return objects.reopen(volume, temporary, offset)
        except NotFound as error:
            raise Unsupported(f"Offset not supported: {error.message}") from None

    def _registered(self, node: Node, shown: Entry) -> None:
        self.uploads += 1
        if shown.visible_at <= self._services.core.clock.now():
            return
        place = self._view.place(node.path)
        self._own[place.destination, place.inner] = shown.transfer
        if len(self._own) > MOST_OWN:
            self._own.popitem(last=False)

    async def parked(self, path: str) -> int:
        """Return the length of what was parked; without a hop for users who never parked."""
        place = self._place(path)
        login = self.profile.user.login
        if (login, place.destination, place.inner) not in self._services.parked:
            return 0
        store, objects = self._services.core.store, self._services.core.objects
        found = await store.read(files.parked, login, place.destination, place.inner)
        if found is None:
            return 0
        return min(found[2], uploads.parked_length(objects, found[0], found[1]))

    async def set_mtime(self, path: str, mtime: datetime) -> None:
        """Keep the time at origin; who may write may set it."""
        place = self._place(path)
        if not self._rights.allows(Permission.PUT, place.destination, place.inner):
            await self._need(Permission.MTIME, place)
        if place.entry is None or place.is_top:
            return
        core = self._services.core
        own = self._own.get((place.destination, place.inner))
        await core.store.write(
            looking.set_time, place.entry, place, own, mtime, now=core.clock.now()
        )

    # --- changing -----------------------------------------------------------------------

    def _change(self, entry: DestinationEntry) -> Change:
        return Change(visitor=self.visitor, entry=entry, teller=self._services.teller)

    async def delete(self, path: str) -> None:
        """Delete a file; one commit."""
        place = self._place(path)
        await self._need(Permission.DELETE, place)
        if place.entry is None or place.is_top:
            raise IsDirectory(f"{place.path} is a directory")
        core = self._services.core
        gone = await core.store.write(
            changes.delete_file, self._change(place.entry), place, now=core.clock.now()
        )
        self._own.pop((place.destination, place.inner), None)
        await self._gone(place.entry, gone)

    async def _gone(self, entry: DestinationEntry, numbers: Sequence[int]) -> None:
        services = self._services
        if self.terms is not None:
            services.keeping.forget(self.profile.user.login)
        for number in numbers:
            await services.engine.attempts.stop(number, "deleted", wait=STOP_WAIT)
            services.core.bus.tell("transfer", number, destination=entry.name)
        services.told((entry.name,))
        services.engine.retention.poke()

    async def mkdir(self, path: str) -> None:
        """Make a directory."""
        place = self._place(path)
        paths.check_new(path)
        await self._need(Permission.MKDIR, place)
        if place.entry is None or place.is_top:
            raise Denied("directories live in destinations")
        uploads.check_target(place)
        core = self._services.core
        await core.store.write(
            changes.make_directory, self._change(place.entry), place, now=core.clock.now()
        )

    async def rmdir(self, path: str, *, recursive: bool = False) -> None:
        """Remove a directory, with its members when `recursive`."""
        place = self._place(path)
        await self._need(Permission.RMDIR, place)
        if place.entry is None or place.is_top:
            raise Denied("a destination is not removed here")
        core, change = self._services.core, self._change(place.entry)
        if recursive:
            members = await core.store.read(
                changes.check_directory, change, place, now=core.clock.now(), recursive=True
            )
            for member in members:
                await self._need(Permission.DELETE, place, member.target)
            for begin in range(0, len(members), changes.BATCH):
                part = members[begin : begin + changes.BATCH]
                gone = await core.store.write(
                    changes.delete_entries, change, part, now=core.clock.now()
                )
                await self._gone(place.entry, gone)
        await core.store.write(
            changes.remove_directory, change, place, now=core.clock.now(), recursive=recursive
        )

    async def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        """Rename a file or directory within its destination; one commit."""
        source, target = self._place(old), self._place(new)
        paths.check_new(new)
        await self._need(Permission.RENAME, source)
        await self._need(Permission.RENAME, target)
        if source.entry is None or source.is_top:
            raise Denied("a destination is not renamed here")
        if target.destination != source.destination or target.is_top:
            raise Unsupported("a rename stays in its destination")
        uploads.check_target(target)
        core = self._services.core
        replaces = self._facts.options.rename_replace and self.protocol in SHOWS_DOMAIN
        wanted = Rename(
            change=self._change(source.entry),
            old=source,
            new=target,
            replace=replace or replaces,
            may=partial(self._rights.allows, Permission.RENAME, source.destination),
            snapshot=core.snapshot,
        )
        touched, names = await core.store.write(changes.rename, wanted, now=core.clock.now())
        self._own.pop((source.destination, source.inner), None)
        for number in touched:
            await self._services.engine.attempts.stop(number, "renamed", wait=STOP_WAIT)
            core.bus.tell("transfer", number, destination=source.destination)
        self._services.told(names)

    # --- the rest -----------------------------------------------------------------------

    async def space(self, path: str) -> Space | None:
        """Return the room of quota and volumes."""
        place = self._place(path)
        try:
            room = await self._room()
        except QuotaExceeded:
            room = 0
        return await looking.space(self._services, self._facts.quotas, place.entry, room)

    def identity(self, path: str) -> str:
        """Return destination and path inside it."""
        place = self._place(path)
        return f"{place.destination}/{place.inner}".rstrip("/") or "/"

    async def properties(self, nodes: Sequence[Node]) -> Mapping[int, Mapping[str, str]]:
        """Return what clients keep with files; one hop."""
        numbers = [node.transfer_id for node in nodes if node.transfer_id is not None]
        return await self._services.core.store.read(properties.of, numbers) if numbers else {}

    async def set_properties(
        self, path: str, changes: Mapping[str, str | None], *, replace: bool = False
    ) -> None:
        """Keep texts with a file; one commit."""
        place = self._place(path)
        await self._need(Permission.PUT, place)
        if place.entry is None or place.is_top:
            raise Unsupported("only files have properties of their own")
        core = self._services.core
        await core.store.write(
            looking.set_properties, place.entry, place, changes,
            now=core.clock.now(), replace=replace,
        )  # fmt: skip

    def admits(self, protocol: Protocol) -> bool:
        """Tell whether the login may be used for another protocol too."""
        return protocol.value not in self._facts.excluded

    def using(self, protocol: Protocol) -> None:
        """Name another protocol of the same login in history and events."""
        self.visitor = replace(self.visitor, protocol=protocol)

    def touch(self) -> None:
        """Remember when the client did something."""
        self.used_at = self._services.core.clock.now()

    @property
    def closing(self) -> bool:
        """Whether the session is to end."""
        return self._is_closing

    def end(self) -> None:
        """Make the portal hang up."""
        self._is_closing = True
        if self.changed is not None:
            self.changed()

    async def close(self) -> None:
        """Log out; may be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._ended(self)
        if self.protocol in records.STAYING:
            services = self._services
            await services.recorder.put(
                records.record_log, services.teller, self.visitor, "logout",
                now=services.core.clock.now(),
            )  # fmt: skip
