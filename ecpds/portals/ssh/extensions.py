"""Extended requests of SFTP: those of OpenSSH, and check-file.

Spec: OpenSSH PROTOCOL section 4; draft-ietf-secsh-filexfer-extensions-00 section 3 (check-file) and
section 7 (copy-data).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from functools import partial

from ecpds.base.threads import Threads
from ecpds.model.errors import Conflict, NotFound, Unsupported
from ecpds.portals.ssh import wire
from ecpds.portals.ssh.checkfile import Check
from ecpds.portals.ssh.handles import Handles, ReadHandle, WriteHandle, key_of
from ecpds.portals.ssh.jobs import Job
from ecpds.vfs.contract import Reader, Session

_COPY_BLOCK = 1 << 20
_NAME_MAX = 255
_STATVFS_UNIT = 4096

# What VERSION announces; values as OpenSSH has them, "1" where there is none.
ANNOUNCED: Mapping[bytes, bytes] = {
    b"posix-rename@openssh.com": b"1",
    b"statvfs@openssh.com": b"2",
    b"fstatvfs@openssh.com": b"2",
    b"fsync@openssh.com": b"1",
    b"lsetstat@openssh.com": b"1",
    b"limits@openssh.com": b"1",
    b"expand-path@openssh.com": b"1",
    b"copy-data": b"1",
    b"check-file": b"1",
    b"check-file-name": b"1",
    b"check-file-handle": b"1",
}


class Extensions:
    """The extended requests of one SFTP channel."""

    def __init__(
        self,
        session: Session,
        handles: Handles,
        setstat: Callable[[int, wire.Fields], bytes | Job],
        *,
        threads: Threads,
    ) -> None:
        self._session = session
        self._handles = handles
        self._threads = threads
        self._acts: Mapping[bytes, Callable[[int, wire.Fields], bytes | Job]] = {
            b"posix-rename@openssh.com": self._rename,
            b"statvfs@openssh.com": self._statvfs,
            b"fstatvfs@openssh.com": self._fstatvfs,
            b"fsync@openssh.com": self._fsync,
            b"lsetstat@openssh.com": setstat,
            b"limits@openssh.com": self._limits,
            b"expand-path@openssh.com": self._expand,
            b"copy-data": self._copy,
            b"check-file": partial(self._check_handle, b"check-file"),
            b"check-file-handle": partial(self._check_handle, b""),
            b"check-file-name": self._check_name,
        }

    def plan(self, request: int, fields: wire.Fields) -> bytes | Job:
        """Return the answer, or the job that will; raise Unsupported for what is not here."""
        name = fields.string()
        act = self._acts.get(name)
        if act is None:
            raise Unsupported(f"extension {name[:64].decode(errors='replace')} is not supported")
        return act(request, fields)

    def _path(self, fields: wire.Fields) -> str:
        return self._session.absolute(fields.text())

    # --- names -------------------------------------------------------------------------------

    def _rename(self, request: int, fields: wire.Fields) -> Job:
        old, new = self._path(fields), self._path(fields)

        async def work() -> bytes:
            await self._session.rename(old, new, replace=True)
            return wire.status(request, wire.OK)

        return Job((old, new), work)

    def _expand(self, request: int, fields: wire.Fields) -> bytes:
        """Answer what `~` means: everybody's home is the root."""
        text = fields.text()
        if text.startswith("~"):
            user, _, rest = text[1:].partition("/")
            if user not in ("", self._session.profile.user.login):
                raise NotFound("no such user")
            text = f"/{rest}"
        return wire.one_name(request, self._session.absolute(text))

    # --- limits and room ---------------------------------------------------------------------

    def _limits(self, request: int, fields: wire.Fields) -> bytes:
        values = (wire.MAX_PACKET, wire.MAX_DATA, wire.MAX_DATA, self._handles.places.limit)
        return wire.answer(wire.EXTENDED_REPLY, request, b"".join(map(wire.u64, values)))

    def _statvfs(self, request: int, fields: wire.Fields) -> Job:
        path = self._path(fields)
        return Job((path,), partial(self._space, request, path), alone=False)

    def _fstatvfs(self, request: int, fields: wire.Fields) -> Job:
        name = fields.string()
        path = self._handles.get(name).path
        return Job((key_of(name),), partial(self._space, request, path), alone=False)

    async def _space(self, request: int, path: str) -> bytes:
        """Answer the room that an upload to `path` has, in blocks; nothing is known of inodes."""
        space = await self._session.space(path)
        if space is None:
            raise Unsupported("the room is not known")
        total, free = space.total // _STATVFS_UNIT, space.free // _STATVFS_UNIT
        values = (_STATVFS_UNIT, _STATVFS_UNIT, total, free, free, 0, 0, 0, 0, 0, _NAME_MAX)
        return wire.answer(wire.EXTENDED_REPLY, request, b"".join(map(wire.u64, values)))

    # --- content -----------------------------------------------------------------------------

    def _fsync(self, request: int, fields: wire.Fields) -> Job:
        name = fields.string()
        handle = self._handles.get(name)

        async def work() -> bytes:
            if isinstance(handle, WriteHandle) and handle.writer is not None:
                await self._threads.run("disk", _sync, os.dup(handle.writer.descriptor))
            return wire.status(request, wire.OK)

        return Job((key_of(name),), work)

    def _copy(self, request: int, fields: wire.Fields) -> Job:
        source_name, start, length = fields.string(), fields.u64(), fields.u64()
        target_name, target_start = fields.string(), fields.u64()
        source, target = self._handles.get(source_name), self._handles.get(target_name)
        if not isinstance(source, ReadHandle) or not isinstance(target, WriteHandle):
            raise Conflict("copying goes from a file that is read to one that is written")
        end = start + length if length else source.reader.size

        async def work() -> bytes:
            await target.begin(target_start)
            place = start
            while place < end:
                block = source.reader.read(place, min(_COPY_BLOCK, end - place))
                if not block:
                    break
                target.write(target_start + place - start, memoryview(block))
                place += len(block)
                await asyncio.sleep(target.pause())  # others have their turn between blocks
            return wire.status(request, wire.OK)

        return Job((key_of(source_name), key_of(target_name), target.path), work)

    # --- check-file --------------------------------------------------------------------------

    def _check_name(self, request: int, fields: wire.Fields) -> Job:
        path = self._path(fields)
        check = Check.read(fields)

        async def work() -> bytes:
            node = await self._session.stat(path)
            if check.is_whole(node.size):  # the hub remembers these
                found = bytes.fromhex(await self._session.digest(path, check.algorithm))
            else:
                async with await self._session.open_read(path) as reader:
                    found = await self._digests(check, reader)
            return check.answer(request, found)

        return Job((path,), work, alone=False)

    def _check_handle(self, echo: bytes, request: int, fields: wire.Fields) -> Job:
        name = fields.string()
        check = Check.read(fields)
        handle = self._handles.get(name)
        if not isinstance(handle, ReadHandle):
            raise Conflict("the handle is not open for reading")
        reader = handle.reader

        async def work() -> bytes:
            return check.answer(request, await self._digests(check, reader), echo=echo)

        return Job((key_of(name),), work, alone=False)

    async def _digests(self, check: Check, reader: Reader) -> bytes:
        # A copy of the descriptor: the thread may outlive a client that goes away.
        descriptor = os.dup(reader.descriptor)
        return await self._threads.run("digest", check.digests, descriptor, reader.size)


def _sync(descriptor: int) -> None:
    """Write the content to the disk; the descriptor is a copy and ends here."""
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
