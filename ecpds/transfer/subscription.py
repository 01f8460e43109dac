"""A Host that announces its files by messages instead of being listed.

A module that can listen gives a `Subscriber`; the engine takes what arrives, stores it, and only
then acknowledges, so that what was not stored is announced again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Operation = Literal["new", "update", "deletion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What one message says of one file; with a `problem` it says nothing that can be used."""

    topic: str
    message: bytes
    problem: str = ""
    ignored: bool = False  # not for us, and nothing is wrong with it
    operation: Operation = "new"
    href: str = ""
    name: str = ""
    size: int | None = None
    time: datetime | None = None  # of the file
    base: datetime | None = None  # of the data in it
    body: bytes | None = None  # the content itself
    method: str = ""  # of the digest, as hashlib calls it
    digest: bytes = b""
    identifier: str = ""  # of the message, the same from every broker
    data_id: str = ""
    published: datetime | None = None
    metadata: str = ""  # a=b,c=d
    add_message: bool = False  # the message is to be stored beside the file
    warning: str = ""  # what is wrong with it though it can be used
    may_cache: bool = True  # Global Caches may copy the data
    preferred: bool = False  # its link is to be taken rather than those of others


@dataclass(frozen=True, slots=True)
class Arrived:
    """A notification and the message that brought it, to be acknowledged."""

    notification: Notification
    token: object


class Subscription(ABC):
    """An open subscription."""

    was_known: bool = False  # the other side remembers what we have not acknowledged

    @abstractmethod
    async def next(self) -> Sequence[Arrived]:
        """Return what has arrived, at least one; raises RemoteError when the connection is lost."""

    @abstractmethod
    def acknowledge(self, arrived: Sequence[Arrived]) -> None:
        """Tell that these are safe; they are not sent again."""


class Subscriber(ABC):
    """Who can subscribe at one Host."""

    brokers: int = 1  # that announce the same, listened to at a time
    replays: bool = False  # what was missed can be asked for

    @abstractmethod
    def listen(
        self,
        topics: Sequence[str],
        client_id: str,
        now: datetime,
        *,
        broker: int = 0,
        is_raw: bool = False,
    ) -> AbstractAsyncContextManager[Subscription]:
        """Connect and subscribe; `client_id` is used unless the Host names one.

        `is_raw`: notifications say nothing but topic and message, a script reads them (`said`).

        Raises RemoteError.  Leaving the block disconnects; what was not acknowledged comes again.
        """

    def missed(
        self, topics: Sequence[str], since: datetime, now: datetime, *, is_raw: bool = False
    ) -> AsyncIterator[Sequence[Notification]]:
        """Yield what was announced since then, for those that have `replays`; RemoteError."""
        raise NotImplementedError

    def said(self, raw: Notification, values: Mapping[str, Any]) -> Notification:
        """Return what a script of the Host made of a message; a problem is in it, never raised."""
        raise NotImplementedError
