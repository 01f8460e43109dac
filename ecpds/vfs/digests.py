"""Digests of stored content, computed when somebody asks and then remembered.

Spec: docs/decisions (digest on demand): MD5 runs at a fraction of the speed of the disk, so nobody
pays for it who does not need it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from ecpds.model.errors import Unsupported
from ecpds.objects.digests import ALGORITHMS, digests_of
from ecpds.store import files
from ecpds.store.portal import Entry
from ecpds.vfs.services import Services

ETAG: Final = "etag"  # kept beside the digests, no digest itself


class Digests:
    """Gives the digest of a file; several who ask at once wait for one computation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def of(self, entry: Entry, algorithm: str) -> str:
        """Return the hex digest of the content; Unsupported for an unknown algorithm."""
        name = algorithm.lower()
        if name not in ALGORITHMS:
            raise Unsupported(f"no digest {algorithm!r}; known are {', '.join(ALGORITHMS)}")
        if name == "adler32" and entry.checksum:
            return entry.checksum
        key = (entry.file, entry.instance or 0)
        held = self._services.digesting
        lock = held.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                return await self._known(entry, name) or await self._compute(entry, name)
        finally:
            if not lock.locked():
                held.pop(key, None)

    async def _known(self, entry: Entry, name: str) -> str:
        store = self._services.core.store
        return (await store.read(files.digests, entry.file, entry.instance)).get(name, "")

    async def _compute(self, entry: Entry, name: str) -> str:
        core = self._services.core
        descriptor = core.objects.open(entry.volume, entry.object_key)
        try:
            found = await core.threads.run("digest", digests_of, descriptor, [name])
        finally:
            os.close(descriptor)
        await core.store.write(files.set_digests, entry.file, entry.instance, found)
        return found[name]
