"""`genericPortal`: a file is offered at our own portals, and nothing is sent.

Data users of the destination find it there anyway; a Host of this method makes "offered" a delivery
like any other, with history and events.  The content is looked at, so that a file that cannot be
read is no delivery, and no byte of it goes through the hub a second time.

Spec: transfer-modules-protocols.md section 8.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar, Self

from ecpds.model.errors import SourceBroke
from ecpds.model.options import OptionFamily
from ecpds.transfer.contract import (
    ByteSource,
    Feature,
    Naming,
    Surroundings,
    Target,
    TransferModule,
)
from ecpds.transfer.options import HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalHostOptions(OptionFamily):
    """Options of the module: there are none (`portal.*` are those of data users)."""

    prefix: ClassVar[str] = "offer"
    scopes: ClassVar[frozenset[str]] = HOST


class PortalModule(TransferModule[PortalHostOptions]):
    """A session with nobody."""

    name = "portal"
    options = PortalHostOptions
    features: ClassVar[Feature] = Feature.PUT | Feature.ATOMIC_PUT
    sends: ClassVar[bool] = False

    @classmethod
    def naming(cls, options: PortalHostOptions) -> Naming:
        """Return that nothing is written anywhere."""
        return Naming(temporary=False, make_parents=False)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: PortalHostOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Give a session; nothing is connected."""
        yield cls()

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Look whether the content is there in its whole length; return its size.

        Content that is no plain file (compressed on the way) is read to its end instead.
        """
        if source.descriptor is None:
            count = 0
            async for block in source:
                count += len(block)
            return count
        try:
            state = os.fstat(source.descriptor)
            if stat.S_ISREG(state.st_mode) and state.st_size != source.offset + source.size:
                raise SourceBroke(
                    f"the content has {state.st_size} instead of"
                    f" {source.offset + source.size} bytes"
                )
            if source.size:  # its last byte: the volume answers
                os.pread(source.descriptor, 1, source.offset + source.size - 1)
        except OSError as error:
            raise SourceBroke(f"the content cannot be read: {error.strerror}") from error
        return source.size
