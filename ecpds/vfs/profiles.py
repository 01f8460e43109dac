"""What a login gives a data user now: own settings and those of its active policies together.

Reading and compiling a profile costs more than a small download, so it is kept while nothing is
told to have changed: accounts through the bus, destinations through the snapshot.
Spec: portal.md 1.2, Ex 1.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core, Snapshot
from ecpds.model.account import Policy, Profile, Protocol
from ecpds.model.errors import InputError
from ecpds.model.families import PortalOptions
from ecpds.model.units import DaySchedule
from ecpds.store import accounts
from ecpds.store.accounts import StoredUser
from ecpds.store.db import Connection
from ecpds.vfs.geo import GeoRule
from ecpds.vfs.limits import Quota, read_schedule
from ecpds.vfs.rights import Rights
from ecpds.vfs.terms import Terms
from ecpds.vfs.tree import View

log = get_logger(__name__)

BELIEVED_FOR: Final = timedelta(seconds=5)
"""Longest age of a profile; a change through the operations is seen at once."""

MOST_KEPT: Final = 2_000
_HINTS: Final = ("account", "configuration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A profile with everything compiled that a session needs of it."""

    stored: StoredUser
    profile: Profile
    options: PortalOptions
    rights: Rights
    geo: GeoRule | None
    schedule: DaySchedule | None
    quotas: tuple[Quota, ...]
    excluded: frozenset[str]
    terms: Terms | None
    snapshot: Snapshot
    read_at: datetime
    told: int
    views: dict[Protocol, View] = field(default_factory=dict)  # made when first asked for

    @property
    def login(self) -> str:
        """Return the name of the user."""
        return self.profile.user.login

    def view(self, protocol: Protocol) -> View:
        """Return the upper levels of the user's tree."""
        found = self.views.get(protocol)
        if found is None:
            found = View.of(self.profile.destinations, self.options, self.snapshot, protocol)
            self.views[protocol] = found
        return found

    def may_stay(self, protocol: Protocol) -> bool:
        """Tell whether somebody with these rights may be logged in at all."""
        return bool(
            self.profile.user.active
            and self.profile.destinations
            and not self.rights.is_empty
            and word_of(protocol) not in self.excluded
        )


def word_of(protocol: Protocol) -> str:
    """Return what `portal.excludeProtocols` calls a protocol."""
    return "sftp" if protocol is Protocol.SCP else protocol.value


def read_account(db: Connection, login: str) -> tuple[StoredUser, list[Policy]] | None:
    """Return a data user with its policies, None if there is no such user."""
    stored = accounts.user(db, login)
    if stored is None:
        return None
    return stored, accounts.policies_of(db, stored.user.policies)


def read_accounts(db: Connection) -> list[tuple[StoredUser, list[Policy]]]:
    """Return all data users with their policies."""
    policies = {policy.name: policy for policy in accounts.policies(db)}
    return [
        (stored, [policies[name] for name in stored.user.policies if name in policies])
        for stored in accounts.users(db)
    ]


class Profiles:
    """Makes profiles and keeps them for a moment."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._kept: OrderedDict[str, Facts] = OrderedDict()

    @property
    def _told(self) -> int:
        return sum(self._core.bus.told[kind] for kind in _HINTS)

    async def of(self, login: str) -> Facts | None:
        """Return the facts of a user, None for an unknown one.

        Options that cannot be read (imported ones) raise InputError.
        """
        told, now = self._told, self._core.clock.now()
        kept = self._kept.get(login)
        if kept is not None and self._is_fresh(kept, told, now):
            return kept
        found = await self._core.store.read(read_account, login)
        if found is None:
            self._kept.pop(login, None)
            return None
        facts = self._make(*found, told=told, now=now)
        self._kept[login] = facts
        self._kept.move_to_end(login)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return facts

    async def everyone(self) -> list[Facts]:
        """Return the facts of all users whose options can be read; nothing is kept of it."""
        found, now = [], self._core.clock.now()
        for account in await self._core.store.read(read_accounts):
            with suppress(InputError):  # logged where it is read
                found.append(self._make(*account, told=self._told, now=now))
        return found

    def _is_fresh(self, kept: Facts, told: int, now: datetime) -> bool:
        return (
            kept.told == told
            and kept.snapshot is self._core.snapshot
            and now - kept.read_at < BELIEVED_FOR
        )

    def _make(
        self, stored: StoredUser, policies: Sequence[Policy], *, told: int, now: datetime
    ) -> Facts:
        snapshot = self._core.snapshot
        profile = effective(stored, policies, snapshot)
        texts = self._core.configuration.opened(profile.options)
        profile = Profile(
            user=profile.user,
            destinations=profile.destinations,
            operations=profile.operations,
            options=texts,
        )
        try:
            options = PortalOptions.read(texts)
            terms = Terms.of(options)
        except InputError as error:
            log.warning("options of a user", user=stored.user.login, reason=error.message)
            raise
        login = stored.user.login
        return Facts(
            stored=stored,
            profile=profile,
            options=options,
            rights=Rights.of(profile, options),
            geo=GeoRule.of(options),
            schedule=read_schedule(options.max_connections_schedule, login),
            quotas=Quota.of_user(login, options),
            excluded=_words(options.exclude_protocols),
            terms=terms,
            snapshot=snapshot,
            read_at=now,
            told=told,
        )


def _words(text: str) -> frozenset[str]:
    return frozenset(text.lower().replace(",", " ").replace(";", " ").split())


def effective(stored: StoredUser, policies: Sequence[Policy], snapshot: Snapshot) -> Profile:
    """Combine a user with its policies in their order; inactive policies contribute nothing."""
    user = stored.user
    active = [policy for policy in policies if policy.active]
    options: dict[str, str] = {}
    names: dict[str, None] = dict.fromkeys(user.destinations)
    operations = set(user.operations)
    for policy in active:
        options |= policy.options
        names |= dict.fromkeys(policy.destinations)
        operations |= policy.operations
    return Profile(
        user=user,
        destinations=tuple(name for name in names if _is_usable(name, snapshot)),
        operations=frozenset(operations),
        options=options | user.options,
    )


def _is_usable(name: str, snapshot: Snapshot) -> bool:
    entry = snapshot.destinations.get(name)
    return entry is not None and entry.destination.active
