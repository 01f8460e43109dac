"""Who may log in at a Mosquitto beside us, and what they get there: its password and ACL file.

Mosquitto knows neither one-time codes nor rules about addresses; users who have such are left out
rather than let in without.  The files follow changes of accounts; after each change the broker is
told by SIGHUP, at which it also hangs up on those who may not log in any more.
Spec: mosquitto.conf(5), mosquitto_passwd(1); notifications.md 6.2.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from ecpds.base.bus import Listener
from ecpds.base.logs import get_logger
from ecpds.base.passwords import token_hash
from ecpds.engine.brokerlogins import BROKER_LOGIN
from ecpds.engine.core import Core
from ecpds.model.account import Protocol, Service
from ecpds.model.errors import BadState
from ecpds.model.mqtttopics import permitted_filters
from ecpds.model.secret import Secret
from ecpds.vfs.profiles import Facts, Profiles

log = get_logger(__name__)

PASSWORDS: Final = "passwords"
ACCESS: Final = "acl"
HEAD: Final = "# written by ecpds; changes are lost\n"
LOOK_EVERY: Final = 60.0  # seconds: accounts end without a hint
_HINTS: Final = frozenset({"account", "configuration", BROKER_LOGIN})


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A user with rights on topics who cannot log in there."""

    login: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerTexts:
    """The two files, and who is in them."""

    passwords: str
    access: str
    users: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


class BrokerFiles:
    """Makes the files and keeps them as they should be."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._profiles = Profiles(core)
        self._publisher: tuple[str, str] | None = None  # login and form, made once

    async def texts(self) -> BrokerTexts:
        """Return the files as they should be now; BadState when there is no other broker."""
        logins = self._core.broker_logins
        if logins is None:
            raise BadState("mqtt.driver is embedded: there is no other broker", status="embedded")
        forms = await logins.everything()
        publisher, form = await self._own()
        passwords = [f"{publisher}:{form}"] if publisher else []
        access = _section(publisher, ["topic readwrite #"]) if publisher else []
        users, left_out, known = [], [], set()
        now = self._core.clock.now()
        for facts in await self._profiles.everyone():
            of = token_hash(facts.stored.password_hash)
            known.add(of)
            filters = permitted_filters(facts.options.mqtt_permission)
            if not filters or not facts.may_stay(Protocol.MQTTS) or _is_over(facts, now):
                continue
            reason = _obstacle(facts, publisher) or ("" if of in forms else NO_FORM)
            if reason:
                left_out.append(LeftOut(login=facts.login, reason=reason))
                continue
            users.append(facts.login)
            passwords.append(f"{facts.login}:{forms[of]}")
            access += _section(facts.login, [f"topic read {one}" for one in _lines(filters)])
        await logins.purge(known)
        return BrokerTexts(
            passwords="".join(f"{line}\n" for line in passwords),
            access=HEAD + "\n".join(access) + "\n",
            users=tuple(users),
            left_out=tuple(left_out),
        )

    async def _own(self) -> tuple[str, str]:
        """Return login and form of the node itself, empty when it needs no login."""
        logins = self._core.broker_logins
        if self._publisher is None:
            parts = urlsplit(self._core.settings.mqtt.url.reveal())
            login, password = unquote(parts.username or ""), Secret(unquote(parts.password or ""))
            has_login = logins is not None and login and password
            form = await logins.form(password) if logins is not None and has_login else ""
            self._publisher = (login if has_login else "", form)
        return self._publisher

    async def run(self) -> None:
        """Write the files now and after each change, until cancelled."""
        folder = Path(self._core.settings.mqtt.mosquitto_files)
        with self._core.bus.listener() as hints:
            await self._follow(folder)
            while True:
                if await self._is_due(hints):
                    await self._follow(folder)

    @staticmethod
    async def _is_due(hints: Listener) -> bool:
        """Wait for hints; tell whether the files may have to change."""
        try:
            async with asyncio.timeout(LOOK_EVERY):
                return any(hint.kind in _HINTS for hint in await hints.wait_some())
        except TimeoutError:
            return True

    async def _follow(self, folder: Path) -> None:
        texts = await self.texts()
        try:
            has_changed = await self._core.threads.run("disk", write_files, folder, texts)
        except OSError as error:
            log.error("files of the broker not written", path=str(folder), reason=str(error))  # noqa: TRY400
            return
        for one in texts.left_out:
            log.info("user left out of the broker's files", user=one.login, reason=one.reason)
        if has_changed:
            log.info("files of the broker written", users=len(texts.users))
            pid_file = self._core.settings.mqtt.mosquitto_pid
            if pid_file:
                await self._core.threads.run("disk", reload, Path(pid_file))


def _is_over(facts: Facts, now: datetime) -> bool:
    return facts.terms is not None and facts.terms.is_over(now)


NO_FORM: Final = "the password was set before there was another broker: log in once at a portal"


def _obstacle(facts: Facts, publisher: str) -> str:
    """Return why a user cannot be let in by Mosquitto, empty when nothing is in the way."""
    user = facts.profile.user
    if user.service is not Service.STANDARD:
        return f"{user.service.value} users have no password of their own"
    if facts.stored.totp_secret:
        return "one-time codes cannot be checked there"
    if facts.geo is not None or (facts.terms is not None and facts.terms.networks):
        return "rules about addresses cannot be checked there"
    if not facts.stored.password_hash:
        return "there is no password"
    if set(user.login) & set(":#+/") or not user.login.isprintable() or user.login == publisher:
        return "the name cannot be used there"
    return ""


def _section(login: str, lines: list[str]) -> list[str]:
    return ["", f"user {login}", *lines]


def _lines(filters: Iterable[str]) -> list[str]:
    return [one for one in filters if one.isprintable()]


def write_files(folder: Path, texts: BrokerTexts) -> bool:
    """Write both files where they differ, readable by the group of the directory; tell so."""
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    changed = [_write(folder / ACCESS, texts.access), _write(folder / PASSWORDS, texts.passwords)]
    return any(changed)


def _write(path: Path, text: str) -> bool:
    with suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8") == text:
            return False
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        with suppress(PermissionError):
            os.fchown(descriptor, -1, path.parent.stat().st_gid)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    return True


def reload(pid_file: Path) -> bool:
    """Let the broker read its files again; tell whether it could be told."""
    try:
        number = int(pid_file.read_text(encoding="ascii"))
        if number > 1:
            os.kill(number, signal.SIGHUP)
            return True
    except (OSError, ValueError) as error:
        log.warning("the broker was not told", path=str(pid_file), reason=str(error))
    return False
