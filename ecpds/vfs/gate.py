"""Where every portal logs its users in: the checks of portal.md 1.4 in their order.

Whatever is wrong with user or credential has the same text and takes the same time for the client;
the event log knows the cause.  A login that fails holds nothing.  The gate also knows all open
sessions, so that an operator or a lost right can end them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.bus import Hint
from ecpds.base.logs import get_logger
from ecpds.base.passwords import token_hash
from ecpds.base.tasks import every
from ecpds.engine.brokerlogins import BROKER_LOGIN
from ecpds.engine.core import Core
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.model.account import Protocol, Service
from ecpds.model.errors import (
    Banned,
    Denied,
    EcpdsError,
    InputError,
    LimitError,
    Stopping,
    Unauthenticated,
)
from ecpds.model.secret import Secret
from ecpds.store import accesskeys, accounts, limits, links, portal, resumables, subscribers
from ecpds.store.limits import Ban
from ecpds.vfs import looking, records
from ecpds.vfs.accesskeys import AccessKeys, OpenKey
from ecpds.vfs.contract import (
    Anonymous,
    Credential,
    Gate,
    KeyAndPassword,
    KeyPair,
    Password,
    ProvenKey,
    Resumed,
    Session,
    Vouched,
)
from ecpds.vfs.credentials import Changes, OneTimeCodes, Recognised, has_key
from ecpds.vfs.defender import BAD_CREDENTIAL, MOST_BANS, UNKNOWN_USER, Defender
from ecpds.vfs.geo import Places
from ecpds.vfs.limits import Connections, Quotas, most_connections
from ecpds.vfs.looks import Looks
from ecpds.vfs.profiles import Facts, Profiles, word_of
from ecpds.vfs.recorder import Recorder
from ecpds.vfs.s3part import Rooms
from ecpds.vfs.s3parts import S3Session
from ecpds.vfs.services import Services, Visitor
from ecpds.vfs.session import PortalSession
from ecpds.vfs.terms import Keeping

log = get_logger(__name__)

NEUTRAL: Final = "Login failed"
FORGET_EVERY: Final = timedelta(hours=1)
LOOK_EVERY: Final = timedelta(seconds=20)  # for accounts whose time is over
FORGOTTEN_AFTER: Final = timedelta(days=7)
LONGEST_NAME: Final = 128
LONGEST_PASSWORD: Final = 1024  # characters; Argon2 would take more, nobody needs it


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """One open session, for the list of operators."""

    number: int
    user: str
    protocol: Protocol
    peer: str
    since: datetime
    used_at: datetime
    uploads: int
    downloads: int


class _Refused(Exception):
    """A check failed: what the event log is told, and what the client sees."""

    def __init__(self, text: str, *, points: int = 0, error: EcpdsError | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.points = points
        self.error = error or Unauthenticated(NEUTRAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """One try to log in."""

    user: str
    credential: Credential
    protocol: Protocol
    peer: str
    key: OpenKey | None = None  # of an S3 client

    @property
    def password(self) -> Secret | None:
        """Return the password, None for other credentials."""
        return self.credential.text if isinstance(self.credential, Password) else None


class PortalGate(Gate):
    """The gate of a node; all listeners share it."""

    def __init__(self, core: Core, engine: Engine) -> None:
        self._core = core
        security = core.settings.security
        self._services = Services(
            core=core,
            engine=engine,
            teller=Teller(node=core.node),
            recorder=Recorder(core.store),
            quotas=Quotas(core.store),
            looks=Looks(core.store, looking.look_named, looking.look_file),
            keeping=Keeping(core.store, core.clock),
        )
        self._profiles = Profiles(core)
        self._defender = Defender(security, core.clock)
        self._connections = Connections()
        self._recognised = Recognised(core.clock)
        self._codes = OneTimeCodes(core.clock)
        self._changes = Changes(core.clock)
        self._places = Places(security.geo_database)
        self._access_keys = AccessKeys(core)
        self._rooms = Rooms()
        self._sessions: dict[int, PortalSession] = {}
        self._count = 0
        self._random = random.Random()  # noqa: S311 - names traces, guards nothing
        self._is_loaded = False
        self._loading = asyncio.Lock()

    # --- life ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Write records in the background and follow changes of accounts, until cancelled."""
        await self._load()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._services.recorder.run(), name="portal-records")
            group.create_task(self._follow(), name="portal-rights")
            over = every("account-ends", LOOK_EVERY, self._end_expired, self._core.clock)
            group.create_task(over, name="portal-account-ends")
            forget = every("registrations", FORGET_EVERY, self._forget, self._core.clock)
            group.create_task(forget, name="portal-registrations")

    async def _end_expired(self) -> None:
        """End the sessions of accounts whose time is over."""
        now = self._core.clock.now()
        for session in list(self._sessions.values()):
            if session.terms is not None and session.terms.is_over(now):
                session.end()

    async def _forget(self) -> None:
        """Drop registrations that were never verified, and resumable uploads that were left."""
        before = self._core.clock.now() - FORGOTTEN_AFTER
        await self._core.store.write(subscribers.forget, before=before)
        await self._core.store.write(resumables.forget, now=self._core.clock.now())
        await self._core.store.write(links.forget, now=self._core.clock.now())

    async def _load(self) -> None:
        if self._is_loaded:
            return
        async with self._loading:
            if self._is_loaded:
                return
            core = self._core
            now = core.clock.now()
            self._defender.load(await core.store.read(limits.bans, now=now, limit=MOST_BANS))
            self._services.parked |= await core.store.read(portal.parked_places)
            await core.threads.run("disk", self._places.open)
            self._is_loaded = True

    async def _follow(self) -> None:
        with self._core.bus.listener() as listener:
            while True:
                hints = await listener.wait_some()
                if any(_is_about_rights(hint) for hint in hints):
                    await self._refresh()

    async def _refresh(self) -> None:
        """Give open sessions the rights of now; end those that may not log in any more."""
        for session in list(self._sessions.values()):
            try:
                facts = await self._profiles.of(session.profile.user.login)
            except InputError:
                facts = None
            is_welcome = facts is not None and facts.may_stay(session.protocol)
            if facts is None or not is_welcome or not await self._is_subscribed(session):
                session.end()
            else:
                session.take(facts)

    async def _is_subscribed(self, session: PortalSession) -> bool:
        """Tell whether the person behind a session may still be here."""
        if session.subscriber is None:
            return True
        found = await self._core.store.read(subscribers.get, session.subscriber)
        return found is not None and found.active and found.changed_at <= session.since

    def drain(self) -> None:
        """Let nobody in any more and ask the portals to hang up."""
        self._services.is_stopping = True
        for session in self._sessions.values():
            session.end()

    async def close(self) -> None:
        """Write what is still to be recorded."""
        await self._services.recorder.flush()

    # --- operators ----------------------------------------------------------------------

    def sessions(self) -> list[SessionInfo]:
        """Return the open sessions, oldest first."""
        return [
            SessionInfo(
                number=number,
                user=one.profile.user.login,
                protocol=one.protocol,
                peer=one.peer,
                since=one.since,
                used_at=one.used_at,
                uploads=one.uploads,
                downloads=one.downloads,
            )
            for number, one in self._sessions.items()
        ]

    def end_session(self, number: int) -> bool:
        """Ask the portal of a session to hang up; tell whether there is such a session."""
        found = self._sessions.get(number)
        if found is None:
            return False
        found.end()
        return True

    async def bans(self) -> list[Ban]:
        """Return the bans that hold."""
        await self._load()
        return self._defender.bans

    async def unban(self, address: str) -> bool:
        """Lift the ban of an address; tell whether there was one."""
        await self._load()
        key = self._defender.lift(address)
        if key is not None:
            await self._core.store.write(limits.drop_ban, key)
        return key is not None

    async def failed_elsewhere(self, peer: str, user: str, *, is_known: bool) -> None:
        """Count a failed login at another door (dashboard, API) against the address."""
        await self._load()
        points = BAD_CREDENTIAL if is_known else UNKNOWN_USER
        await self._count_failure(peer, user, points, "failed logins")

    # --- the door -----------------------------------------------------------------------

    async def check(self, peer: str) -> None:
        """Raise Banned when the address is banned."""
        await self._load()
        if self._defender.ban_of(peer) is not None:
            raise Banned("Address banned")

    async def authorised_keys(self, user: str) -> Sequence[str]:
        """Return the key lines of a user that may log in."""
        if not _is_possible(user):
            return ()
        try:
            facts = await self._profiles.of(user)
        except InputError:
            return ()
        if facts is None or not facts.profile.user.active:
            return ()
        return () if facts.profile.user.service is Service.OPEN else facts.profile.user.ssh_keys

    async def wants_both(self, user: str) -> bool:
        """Tell whether `portal.sshAuth` asks for a key and a password."""
        try:
            facts = await self._profiles.of(user)
        except InputError:
            return False
        return facts is not None and facts.options.ssh_auth == "both"

    def banner(self, user: str | None = None) -> str:
        """Return the text of the node, or `portal.welcome` of a user that has just logged in."""
        if user is None:
            return self._core.settings.portal.banner
        for session in reversed(self._sessions.values()):
            if session.profile.user.login == user:
                return session.options.get("portal.welcome", "")
        return ""

    async def login(
        self, user: str, credential: Credential, *, protocol: Protocol, peer: str
    ) -> Session:
        """Run the checks and return a session."""
        await self._load()
        if self._services.is_stopping:
            raise Stopping("the node is shutting down")
        claim = _Claim(user=user, credential=credential, protocol=protocol, peer=peer)
        metrics = self._core.metrics.logins
        try:
            if isinstance(credential, KeyPair):
                claim = await self._owner(claim, credential)
            session = await self._admitted(claim)
        except _Refused as refused:
            metrics.labels(protocol.value, "denied").inc()
            await self._deny(claim, refused)
            raise refused.error from None
        metrics.labels(protocol.value, "ok").inc()
        return session

    async def _deny(self, claim: _Claim, refused: _Refused) -> None:
        services, now = self._services, self._core.clock.now()
        visitor = Visitor(login=claim.user[:LONGEST_NAME], protocol=claim.protocol, peer=claim.peer)
        log.info(
            "login refused", user=visitor.login, protocol=claim.protocol.value, peer=claim.peer,
            reason=refused.text,
        )  # fmt: skip
        await services.recorder.put(
            records.record_denied, services.teller, visitor, refused.text, now=now
        )
        if not refused.points:
            return
        await self._count_failure(claim.peer, visitor.login, refused.points, refused.text)
        delay = self._defender.delay(visitor.login)
        if delay:
            await self._core.clock.sleep(delay)

    async def _count_failure(self, peer: str, user: str, points: int, reason: str) -> None:
        ban = self._defender.fail(peer, user, points, reason)
        if ban is not None:
            log.warning("address banned", peer=ban.address, until=ban.until_at, reason=reason)
            await self._core.store.write(limits.put_ban, ban)

    # --- the checks ---------------------------------------------------------------------

    async def _owner(self, claim: _Claim, pair: KeyPair) -> _Claim:
        """Return the claim of the user who has that access key."""
        if self._defender.ban_of(claim.peer) is not None:
            raise _Refused("Address banned", error=Banned("Address banned"))
        key = await self._access_keys.find(pair.access_key)
        if key is None:
            raise _Refused("Access key unknown", points=UNKNOWN_USER, error=pair.unknown)
        return replace(claim, user=key.stored.login, key=key)

    async def _admitted(self, claim: _Claim) -> PortalSession:
        if self._defender.ban_of(claim.peer) is not None:
            raise _Refused("Address banned", error=Banned("Address banned"))
        facts = await self._facts(claim)
        is_fresh, subscriber = await self._check_credential(claim, facts)
        if word_of(claim.protocol) in facts.excluded:
            raise _Refused("Protocol not allowed", error=Denied("Protocol not allowed"))
        for quota in facts.quotas:
            await self._services.quotas.load(quota, self._core.clock.now())
        self._check_limits(facts)
        if not facts.profile.destinations:
            raise _Refused("No associated Destinations")
        if facts.rights.is_empty:
            raise _Refused("No associated Permissions")
        # nothing waits between the check of limits and this
        session = self._open(claim, facts, subscriber)
        try:
            await self._remember(session, facts, is_fresh=is_fresh)
            if is_fresh and claim.key is not None:
                name, now = claim.key.stored.access_key, session.since
                await self._core.store.write(accesskeys.used, name, now=now)
        except BaseException:
            await session.close()
            raise
        return session

    async def _facts(self, claim: _Claim) -> Facts:
        """Return what is known of the user; refusals take as long as a wrong password."""
        try:
            facts = await self._profiles.of(claim.user) if _is_possible(claim.user) else None
        except InputError:
            await self._spend(claim)
            raise _Refused("Invalid options") from None
        if facts is None:
            await self._spend(claim)
            raise _Refused("Not found", points=UNKNOWN_USER)
        if facts.geo is not None and not facts.geo.permits(claim.peer, self._places):
            await self._spend(claim)
            raise _Refused("Geolocation restriction")
        if not facts.profile.user.active:
            await self._spend(claim)
            raise _Refused("Disabled")
        if facts.terms is not None:
            refusal = facts.terms.refusal(claim.peer, self._core.clock.now())
            if refusal:
                await self._spend(claim)
                raise _Refused(refusal)
        return facts

    async def _spend(self, claim: _Claim) -> None:
        if claim.password is not None:
            await self._core.passwords.verify(None, claim.password)

    async def _check_credential(self, claim: _Claim, facts: Facts) -> tuple[bool, int | None]:
        """Raise when the credential is wrong; tell whether it was really verified just now.

        The second is the subscriber of a self-service user.
        """
        if claim.key is not None and isinstance(claim.credential, KeyPair):
            return self._check_signature(claim.key, claim.credential), None
        if isinstance(claim.credential, Vouched):
            return False, None
        if claim.protocol is Protocol.SFTP and facts.options.ssh_auth == "both":
            _check_both(claim, facts)
        if facts.profile.user.service is Service.SELF:
            return await self._check_person(claim, facts)
        return await self._check_user(claim, facts), None

    async def _check_user(self, claim: _Claim, facts: Facts) -> bool:
        stored, user = facts.stored, facts.profile.user
        unchanged_since = self._changes.since(
            user.login, stored.password_hash, stored.totp_secret, user.service.value
        )
        if isinstance(claim.credential, Resumed):
            if claim.credential.since < unchanged_since:
                raise _Refused("Credentials changed")
            return False
        if user.service is Service.OPEN:
            if isinstance(claim.credential, ProvenKey):
                raise _Refused("Password authentication failed")
            return False
        if isinstance(claim.credential, (Anonymous, KeyPair, Vouched)):
            raise _Refused("Password authentication failed")
        if isinstance(claim.credential, ProvenKey):
            if not has_key(user.ssh_keys, claim.credential.line):
                raise _Refused("Password authentication failed", points=BAD_CREDENTIAL)
            return True
        return await self._check_password(facts, claim.credential.text)

    def _check_signature(self, key: OpenKey, pair: KeyPair) -> bool:
        try:
            pair.verify(key.secret)
        except Unauthenticated as error:
            raise _Refused("Signature mismatch", points=BAD_CREDENTIAL, error=error) from None
        return key.is_fresh_use(self._core.clock.now())

    async def _check_password(self, facts: Facts, password: Secret) -> bool:
        stored, login = facts.stored, facts.login
        if len(password.reveal()) > LONGEST_PASSWORD:
            raise _Refused("Password authentication failed", points=BAD_CREDENTIAL)
        if stored.totp_secret:
            secret = self._core.vault.open(stored.totp_secret)
            if not self._codes.accept(login, secret, password, after=stored.totp_step):
                raise _Refused("TOTP authentication failed", points=BAD_CREDENTIAL)
            await self._core.store.write(accounts.code_used, login, self._codes.last(login))
            return True
        if not stored.password_hash:
            await self._core.passwords.verify(None, password)
            raise _Refused("Password not set", points=BAD_CREDENTIAL)
        if self._recognised.knows(login, stored.password_hash, password):
            return False
        if not await self._core.passwords.verify(stored.password_hash, password):
            raise _Refused("Password authentication failed", points=BAD_CREDENTIAL)
        self._recognised.remember(login, stored.password_hash, password)
        await self._keep_for_broker(login, stored.password_hash, password)
        return True

    async def _keep_for_broker(self, login: str, stored: str, password: Secret) -> None:
        """Let another broker know a password that has just been found right."""
        logins = self._core.broker_logins
        if logins is not None and await logins.keep(stored, password):
            self._core.bus.tell(BROKER_LOGIN, login)

    async def _check_person(self, claim: _Claim, facts: Facts) -> tuple[bool, int | None]:
        """The password of a self-service user is one of its subscribers' generated ones."""
        credential, login = claim.credential, facts.login
        refused = _Refused("Subscriber password authentication failed", points=BAD_CREDENTIAL)
        if isinstance(credential, Resumed):
            await self._check_unchanged(login, credential)
            return False, credential.subscriber
        if isinstance(credential, ProvenKey):
            if not has_key(facts.profile.user.ssh_keys, credential.line):
                raise refused
            return True, None
        password = claim.password
        if password is None or len(password.reveal()) > LONGEST_PASSWORD:
            raise refused
        hashed = token_hash(password.reveal())
        found = await self._core.store.read(accounts.subscriber, login, hashed)
        if found is None:
            raise refused
        return True, found

    async def _check_unchanged(self, login: str, credential: Resumed) -> None:
        """Raise unless the subscriber behind a cookie may still come in, with the same password."""
        number = credential.subscriber
        found = await self._core.store.read(subscribers.get, number) if number is not None else None
        is_same = found is not None and found.login == login and found.active
        if found is None or not is_same or credential.since < found.changed_at:
            raise _Refused("Credentials changed")

    def _check_limits(self, facts: Facts) -> None:
        now = self._core.clock.now()
        try:
            most = most_connections(facts.options, facts.schedule, now)
            self._connections.check(facts.login, most)
            for quota in facts.quotas:
                self._services.quotas.check(quota, now)
        except LimitError as error:
            raise _Refused(error.message, error=error) from None

    # --- the session --------------------------------------------------------------------

    def _open(self, claim: _Claim, facts: Facts, subscriber: int | None) -> PortalSession:
        options, user = facts.options, facts.profile.user
        triggers = options.trigger_event
        visitor = Visitor(
            login=user.login,
            comment=user.comment,
            country=user.country,
            protocol=claim.protocol,
            peer=claim.peer,
            trace=f"{self._random.getrandbits(64):016x}",
            records_history=triggers and options.record_history,
            records_events=triggers and options.record_events and options.record_splunk,
            last_range_only=options.trigger_last_range,
            rate_in=options.max_rate_in,
            rate_out=options.max_rate_out,
        )
        self._count += 1
        kind = S3Session if claim.protocol is Protocol.S3 else PortalSession
        session = kind(
            self._services, facts, number=self._count, protocol=claim.protocol, peer=claim.peer,
            visitor=visitor, ended=self._ended, subscriber=subscriber,
        )  # fmt: skip
        if isinstance(session, S3Session):
            session.share(self._rooms, claim.key.stored if claim.key is not None else None)
        self._connections.take(user.login)
        self._sessions[session.number] = session
        self._core.metrics.portal_sessions.labels(claim.protocol.value).inc()
        return session

    def _ended(self, session: PortalSession) -> None:
        if self._sessions.pop(session.number, None) is not None:
            self._connections.give_back(session.profile.user.login)
            self._core.metrics.portal_sessions.labels(session.protocol.value).dec()

    async def _remember(self, session: PortalSession, facts: Facts, *, is_fresh: bool) -> None:
        """Store last login and LOG event; requests that repeat a login are not counted anew."""
        if not is_fresh and session.protocol not in records.STAYING:
            return
        await self._core.store.write(
            records.record_login, self._services.teller, session.visitor,
            now=session.since, update=facts.options.update_last_login,
        )  # fmt: skip


def _is_possible(user: str) -> bool:
    return 0 < len(user) <= LONGEST_NAME and user.isprintable()


def _is_about_rights(hint: Hint) -> bool:
    return hint.kind in {"account", "configuration"}


def _check_both(claim: _Claim, facts: Facts) -> None:
    """Raise unless the password, verified next, came after one of the user's keys."""
    given = claim.credential
    if not isinstance(given, KeyAndPassword) or not has_key(
        facts.profile.user.ssh_keys, given.line
    ):
        raise _Refused("Key and password needed", points=BAD_CREDENTIAL)
