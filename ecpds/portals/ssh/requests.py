"""What each SFTP request does with the session.

`Requests.plan` turns one request into its answer at once, or into a `Job` that has to wait for the
session.  Jobs name the paths they concern, so that the channel may run unrelated ones side by side
and keep related ones in the client's order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial

from ecpds.base.clock import Clock
from ecpds.base.threads import Threads
from ecpds.model.errors import Denied, Unsupported
from ecpds.portals.ssh import wire
from ecpds.portals.ssh.extensions import Extensions
from ecpds.portals.ssh.handles import (
    DirectoryHandle,
    Handle,
    Handles,
    ReadHandle,
    WriteHandle,
    key_of,
)
from ecpds.portals.ssh.jobs import Job
from ecpds.vfs.contract import Session

Opening = Callable[[], Awaitable[Handle]]
_REFUSED_FLAGS = "append and read-write are for broken uploads only"


class Requests:
    """The requests of one SFTP channel, reading and writing of blocks excepted."""

    def __init__(
        self, session: Session, handles: Handles, *, clock: Clock, threads: Threads
    ) -> None:
        self._session = session
        self._handles = handles
        self._clock = clock
        self._extensions = Extensions(session, handles, self._setstat, threads=threads)
        self._acts: Mapping[int, Callable[[int, wire.Fields], bytes | Job]] = {
            wire.OPEN: self._open,
            wire.CLOSE: self._close,
            wire.LSTAT: self._stat,  # the virtual tree has no links
            wire.STAT: self._stat,
            wire.FSTAT: self._fstat,
            wire.SETSTAT: self._setstat,
            wire.FSETSTAT: self._fsetstat,
            wire.OPENDIR: self._opendir,
            wire.READDIR: self._readdir,
            wire.REMOVE: self._remove,
            wire.MKDIR: self._mkdir,
            wire.RMDIR: self._rmdir,
            wire.REALPATH: self._realpath,
            wire.RENAME: self._rename,
            wire.EXTENDED: self._extensions.plan,
        }

    def plan(self, kind: int, request: int, fields: wire.Fields) -> bytes | Job:
        """Return the answer, or the job that will.

        Raises Malformed for a request that cannot be read, Unsupported for one that we do not know.
        """
        act = self._acts.get(kind)
        if act is None:
            raise Unsupported(f"request type {kind} is not supported")
        return act(request, fields)

    def _path(self, fields: wire.Fields) -> str:
        return self._session.absolute(fields.text())

    # --- files -------------------------------------------------------------------------------

    def _open(self, request: int, fields: wire.Fields) -> Job:
        path, flags = self._path(fields), fields.u32()
        wanted = wire.read_attributes(fields)
        if flags & wire.F_WRITE:
            if flags & wire.F_READ:
                raise Unsupported(_REFUSED_FLAGS)
            handle = WriteHandle(
                self._session,
                path,
                exclusive=bool(flags & wire.F_EXCLUSIVE),
                must_exist=not flags & wire.F_CREATE,
                append=bool(flags & wire.F_APPEND),
                mtime=wanted.mtime,
            )
            resume = not flags & (wire.F_TRUNCATE | wire.F_EXCLUSIVE)
            opened: Opening = partial(handle.open, resume=resume)
            return Job((path,), partial(self._keep, request, opened))
        if not flags & wire.F_READ or flags & wire.F_APPEND:
            raise Unsupported(_REFUSED_FLAGS)
        opened = partial(self._open_read, path)
        return Job((path,), partial(self._keep, request, opened), alone=False)

    async def _keep(self, request: int, opened: Opening) -> bytes:
        with self._handles.place():
            name = self._handles.add(await opened())
        return wire.answer(wire.HANDLE, request, wire.string(name))

    async def _open_read(self, path: str) -> Handle:
        return ReadHandle(await self._session.open_read(path))

    def _close(self, request: int, fields: wire.Fields) -> Job:
        name = fields.string()
        handle = self._handles.pop(name)
        paths = [key_of(name)]
        if isinstance(handle, WriteHandle):
            paths.append(handle.path)
        return Job(tuple(paths), partial(self._done, request, handle.close))

    async def _done(self, request: int, act: Callable[[], Awaitable[None]]) -> bytes:
        await act()
        return wire.status(request, wire.OK)

    # --- attributes --------------------------------------------------------------------------

    def _stat(self, request: int, fields: wire.Fields) -> Job:
        path = self._path(fields)
        return Job((path,), partial(self._do_stat, request, path), alone=False)

    async def _do_stat(self, request: int, path: str) -> bytes:
        node = await self._session.stat(path)
        return wire.answer(wire.ATTRS, request, wire.attributes(node))

    def _fstat(self, request: int, fields: wire.Fields) -> bytes:
        handle = self._handles.get(fields.string())
        return wire.answer(wire.ATTRS, request, handle.attributes())

    def _setstat(self, request: int, fields: wire.Fields) -> Job:
        path = self._path(fields)
        wanted = wire.read_attributes(fields)
        return Job((path,), partial(self._do_setstat, request, path, wanted))

    async def _do_setstat(self, request: int, path: str, wanted: wire.Attributes) -> bytes:
        """Keep the time as source time, tolerate the rest; a stored file is never cut or grown."""
        node = await self._session.stat(path)
        if wanted.size is not None and wanted.size != node.size:
            raise Unsupported("a stored file keeps its size")
        if wanted.mtime is not None and not node.is_directory:
            with suppress(Denied):  # clients that keep times set them unasked
                await self._session.set_mtime(path, wanted.mtime)
        return wire.status(request, wire.OK)

    def _fsetstat(self, request: int, fields: wire.Fields) -> bytes:
        handle = self._handles.get(fields.string())
        handle.set(wire.read_attributes(fields))
        return wire.status(request, wire.OK)

    # --- directories and names ---------------------------------------------------------------

    def _opendir(self, request: int, fields: wire.Fields) -> Job:
        path = self._path(fields)
        opened = DirectoryHandle(path, self._session.list(path)).open
        return Job((path,), partial(self._keep, request, opened), alone=False)

    def _readdir(self, request: int, fields: wire.Fields) -> Job:
        name = fields.string()
        handle = self._handles.get(name)
        if not isinstance(handle, DirectoryHandle):
            raise Unsupported("the handle is not a directory")
        return Job((key_of(name),), partial(self._do_readdir, request, handle))

    async def _do_readdir(self, request: int, handle: DirectoryHandle) -> bytes:
        entries = await handle.batch(self._clock.now())
        if not entries:
            return wire.status(request, wire.EOF)
        return wire.answer(wire.NAME, request, wire.u32(len(entries)) + b"".join(entries))

    def _remove(self, request: int, fields: wire.Fields) -> Job:
        path = self._path(fields)
        return self._change(request, partial(self._session.delete, path), path)

    def _mkdir(self, request: int, fields: wire.Fields) -> Job:
        path = self._path(fields)
        return self._change(request, partial(self._session.mkdir, path), path)

    def _rmdir(self, request: int, fields: wire.Fields) -> Job:
        path = self._path(fields)
        return self._change(request, partial(self._session.rmdir, path), path)

    def _rename(self, request: int, fields: wire.Fields) -> Job:
        old, new = self._path(fields), self._path(fields)
        return self._change(request, partial(self._session.rename, old, new), old, new)

    def _change(self, request: int, act: Callable[[], Awaitable[None]], *paths: str) -> Job:
        return Job(paths, partial(self._done, request, act))

    def _realpath(self, request: int, fields: wire.Fields) -> bytes:
        return wire.one_name(request, self._path(fields))
