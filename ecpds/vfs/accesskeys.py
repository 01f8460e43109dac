"""Access keys as the gate knows them: read once, kept while no account is told to have changed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ecpds.engine.core import Core
from ecpds.model.errors import EcpdsError
from ecpds.model.secret import Secret
from ecpds.store import accesskeys
from ecpds.store.accesskeys import StoredKey

BELIEVED_FOR: Final = timedelta(seconds=5)
"""Longest age of a key; a change through the operations is seen at once."""

TOLD_EVERY: Final = timedelta(minutes=1)
"""How often the use of a key is written down."""

MOST_KEPT: Final = 2_000
LONGEST: Final = 128  # characters of an access key


@dataclass(slots=True, kw_only=True)
class OpenKey:
    """A key pair with its secret in clear."""

    stored: StoredKey
    secret: Secret
    read_at: datetime
    told: int
    used_at: datetime | None = None  # when its use was last written down

    def is_fresh_use(self, now: datetime) -> bool:
        """Tell whether this use is one to be written down; it is taken for done then."""
        if self.used_at is not None and now - self.used_at < TOLD_EVERY:
            return False
        self.used_at = now
        return True


class AccessKeys:
    """Finds key pairs."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._kept: OrderedDict[str, OpenKey] = OrderedDict()

    async def find(self, access_key: str) -> OpenKey | None:
        """Return the key pair, None when nobody has it or its time is over."""
        if not 0 < len(access_key) <= LONGEST or not access_key.isprintable():
            return None
        core = self._core
        now, told = core.clock.now(), core.bus.told["account"]
        kept = self._kept.get(access_key)
        if kept is None or kept.told != told or now - kept.read_at >= BELIEVED_FOR:
            kept = await self._read(access_key, kept, told, now)
        if kept is None:
            return None
        ends = kept.stored.expires_at
        return None if ends is not None and ends <= now else kept

    async def _read(
        self, access_key: str, before: OpenKey | None, told: int, now: datetime
    ) -> OpenKey | None:
        stored = await self._core.store.read(accesskeys.one, access_key)
        self._kept.pop(access_key, None)
        if stored is None:
            return None
        try:
            secret = self._core.vault.open(stored.secret)
        except EcpdsError:
            return None
        used_at = before.used_at if before is not None else None
        kept = OpenKey(stored=stored, secret=secret, read_at=now, told=told, used_at=used_at)
        self._kept[access_key] = kept
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return kept
