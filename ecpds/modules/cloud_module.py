"""What sessions with object stores that speak REST share: naming, addresses, places, tags.

Used by `genericAzure` and `genericGcs`, whose objects appear when all of them has arrived.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar, Final, TypeVar

from yarl import URL

from ecpds.model.errors import RemoteError, RemoteName
from ecpds.modules.cloud import TRIES, Answer, Call, CloudClient, Signs
from ecpds.modules.cloud_options import CloudOptions
from ecpds.modules.trust import certificate_of
from ecpds.transfer.contract import (
    Feature,
    Identity,
    Naming,
    Surroundings,
    Target,
    TransferModule,
)

TAGS: Final = 256
"""Objects whose tags are remembered from `stat`, for going on with a download."""

C = TypeVar("C", bound=CloudOptions)


class CloudModule(TransferModule[C]):
    """A session with one account of such a store."""

    features: ClassVar[Feature] = (
        Feature.LIST
        | Feature.GET
        | Feature.PUT
        | Feature.RESUME_GET
        | Feature.RESUME_PUT
        | Feature.SIZE
        | Feature.DELETE
        | Feature.ATOMIC_PUT
        | Feature.CHECKSUM
    )

    first_part: ClassVar[tuple[str, str]]
    """What the first part of a name is, and the option that says it for all names."""

    def __init__(
        self, client: CloudClient, target: Target, options: C, around: Surroundings
    ) -> None:
        self._client = client
        self._target = target
        self._options = options
        self._around = around
        self._tags: OrderedDict[str, str] = OrderedDict()

    @classmethod
    def naming(cls, options: C) -> Naming:
        """Return that objects have their final name from the start."""
        return Naming(temporary=False, make_parents=False)

    @classmethod
    def keep_alive(cls, options: C) -> timedelta:
        """Return how long idle connections may wait for their next use."""
        return options.keep_alive

    @classmethod
    def address(cls, target: Target, options: C) -> tuple[str, int] | None:
        """Return where sessions connect to, unless a proxy does that for us."""
        base = cls.base(target, options)
        return None if options.proxy else (base.host or "", base.port or 443)

    @classmethod
    async def identity(cls, target: Target, options: C, around: Surroundings) -> Identity | None:
        """Return the certificate."""
        base = cls.base(target, options)
        if base.scheme != "https" or options.proxy:
            return None
        there = replace(target, host=base.host or "")
        return await certificate_of(there, base.port or 443, around, minimum=options.protocol)

    @classmethod
    @abstractmethod
    def base(cls, target: Target, options: C) -> URL:
        """Return the address of the service."""

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        target: Target,
        options: C,
        around: Surroundings,
        signs: Signs,
        meaning: Callable[[Answer, Call], RemoteError],
    ) -> AsyncIterator[CloudClient]:
        """Give a client of the service; nothing is connected yet."""
        base = cls.base(target, options)
        scheme = "https" if base.scheme == "https" else "http"
        http = replace(options.http(), scheme=scheme, port=base.port)  # type: ignore[arg-type]
        tries = 1 if options.disable_retries else TRIES
        async with CloudClient.open(
            target, base, http, around, signs, meaning, tries=tries
        ) as client:
            yield client

    @property
    def peer(self) -> str:
        """Return the address of the service, once it was asked something."""
        return self._client.peer

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the last connection."""
        return self._client.statistics()

    @abstractmethod
    def _whole(self) -> tuple[str, str]:
        """Return the container of all names and what is put before them; empty if not given."""

    def _split(self, name: str) -> tuple[str, str]:
        """Return the container and what `name` is in it."""
        path = name if name.startswith("/") else f"{self._target.directory.rstrip('/')}/{name}"
        path = path.lstrip("/")
        container, prefix = self._whole()
        if container:
            prefix = prefix.strip("/")
            return container, f"{prefix}/{path}" if prefix else path
        container, _, found = path.partition("/")
        if not container:
            kind, option = self.first_part
            raise RemoteName(f"{name!r} names no {kind}: see {option}")
        return container, found

    def _remember(self, name: str, tag: str) -> None:
        self._tags[name] = tag
        self._tags.move_to_end(name)
        if len(self._tags) > TAGS:
            self._tags.popitem(last=False)


def number(text: str) -> int | None:
    """Return a size, None for a text that is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
