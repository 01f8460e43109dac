"""Content that is a list of other files: they are fetched one after the other into one object.

The list is a text at the same Host, one name a line, `#` begins a comment; names without a leading
`/` are beside the list.  Spec: cli.md section 2, `-index`.
"""

from __future__ import annotations

from typing import Any, Final

from ecpds.engine.content import UploadSink
from ecpds.model.errors import RemoteMissing, RemoteName, RemoteVerify
from ecpds.transfer.contract import ByteSink, Surroundings, TransferModule
from ecpds.transfer.fetch import fetch
from ecpds.transfer.meter import Meter, Watch

LONGEST: Final = 4 * 1024 * 1024  # bytes of a list
MOST: Final = 10_000  # names in it


class TextSink(ByteSink):
    """Keeps what comes in memory, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found = bytearray()

    async def write(self, block: bytes | memoryview) -> None:
        """Take one block; raises RemoteVerify when it becomes too much."""
        self._found += block
        if len(self._found) > self._limit:
            raise RemoteVerify(f"the list is longer than {self._limit} bytes")

    @property
    def text(self) -> str:
        """Return what came; bytes that are no UTF-8 are kept as surrogates."""
        return self._found.decode("utf-8", "surrogateescape")


def names_of(text: str, place: str) -> list[str]:
    """Return the files that a list at `place` names; RemoteName when there are too many or none."""
    folder = place.rpartition("/")[0]
    found = []
    for line in text.splitlines():
        name = line.partition("#")[0].strip()
        if name:
            found.append(name if name.startswith("/") or not folder else f"{folder}/{name}")
        if len(found) > MOST:
            raise RemoteName(f"the list {place} names more than {MOST} files")
    if not found:
        raise RemoteMissing(f"no file(s) found in index {place}")
    return found


async def fetch_listed(
    module: TransferModule[Any],
    place: str,
    sink: UploadSink,
    *,
    around: Surroundings,
    watch: Watch,
    meter: Meter,
    expected_size: int,
) -> tuple[int, str]:
    """Fetch all files of the list into `sink`; return how many, and the peer.

    Raises as `fetch` does, RemoteVerify also when the sizes do not add up to `expected_size`.
    """
    index = TextSink(LONGEST)
    await fetch(module, place, index, around=around, watch=watch, meter=meter)
    names = names_of(index.text, place)
    total = 0
    for name in names:
        fetched = await fetch(module, name, sink, around=around, watch=watch, meter=meter)
        total += fetched.received
    if 0 <= expected_size != total:
        raise RemoteVerify(f"{total} bytes came instead of {expected_size}", received=total)
    return len(names), module.peer
