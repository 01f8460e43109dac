"""An SFTP channel that takes fewer requests, as the options -R, -p and -P of sftp-server say.

What is refused is not announced either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ecpds.model.errors import InputError, Malformed
from ecpds.portals.ssh import wire
from ecpds.portals.ssh.extensions import ANNOUNCED
from ecpds.portals.ssh.sftp import SftpService

# The names that sftp-server has for requests.
KINDS: Final[Mapping[int, str]] = {
    wire.OPEN: "open",
    wire.CLOSE: "close",
    wire.READ: "read",
    wire.WRITE: "write",
    wire.LSTAT: "lstat",
    wire.FSTAT: "fstat",
    wire.SETSTAT: "setstat",
    wire.FSETSTAT: "fsetstat",
    wire.OPENDIR: "opendir",
    wire.READDIR: "readdir",
    wire.REMOVE: "remove",
    wire.MKDIR: "mkdir",
    wire.RMDIR: "rmdir",
    wire.REALPATH: "realpath",
    wire.STAT: "stat",
    wire.RENAME: "rename",
    wire.READLINK: "readlink",
    wire.SYMLINK: "symlink",
}
EXTENDED: Final[Mapping[bytes, str]] = {
    name: name.decode().partition("@")[0] for name in (*ANNOUNCED, b"hardlink@openssh.com")
}
NAMES: Final = frozenset((*KINDS.values(), *EXTENDED.values()))
WRITING: Final = frozenset(
    ("write", "setstat", "fsetstat", "remove", "mkdir", "rmdir", "rename", "symlink",
     "posix-rename", "hardlink", "fsync", "lsetstat", "copy-data")
)  # fmt: skip
_FLAGS_AFTER = 5  # bytes before the path of OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """Which requests are refused."""

    refused: frozenset[str] = frozenset()
    read_only: bool = False

    def __bool__(self) -> bool:
        return self.read_only or bool(self.refused)


def narrowing(*, read_only: bool, allowed: Iterable[str], refused: Iterable[str]) -> Narrowing:
    """Return what the options say; no `allowed` allows all.  Raises InputError for other names."""
    only, never = frozenset(allowed), frozenset(refused)
    unknown = sorted((only | never) - NAMES)
    if unknown:
        raise InputError(f"there is no SFTP request {unknown[0]!r}")
    out = never | (NAMES - only if only else frozenset())
    return Narrowing(refused=out | (WRITING if read_only else frozenset()), read_only=read_only)


class NarrowSftp(SftpService):
    """Serves the requests that are left."""

    narrowing = Narrowing()

    def _announced(self) -> Mapping[bytes, bytes]:
        return {
            name: value
            for name, value in ANNOUNCED.items()
            if EXTENDED[name] not in self.narrowing.refused
        }

    def _packet(self, packet: memoryview) -> None:
        if self._greeted and len(packet) >= _FLAGS_AFTER and self._is_refused(bytes(packet)):
            request = int.from_bytes(packet[1:_FLAGS_AFTER], "big")
            self._send(wire.status(request, wire.PERMISSION_DENIED, "not allowed here"))
        else:
            super()._packet(packet)

    def _is_refused(self, packet: bytes) -> bool:
        kind = packet[0]
        fields = wire.Fields(packet, _FLAGS_AFTER)
        try:
            if kind == wire.EXTENDED:
                return EXTENDED.get(fields.string(), "") in self.narrowing.refused
            if kind == wire.OPEN and self.narrowing.read_only:
                fields.string()
                if fields.u32() & (wire.F_WRITE | wire.F_APPEND | wire.F_CREATE):
                    return True
        except Malformed:
            return False  # told as such by who reads it
        return KINDS.get(kind, "") in self.narrowing.refused
