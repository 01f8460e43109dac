"""Checks of what a client shows: passwords, one-time codes, keys.

Argon2 is slow by design, and HTTP clients send their password with every request; a password that
has just been verified is therefore recognised by a code (keyed BLAKE2b) whose key only this
process knows.
Spec: RFC 6238 (SHA-1, 30 s, 6 digits), RFC 4226; portal.md 1.5.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import struct
from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.clock import Clock
from ecpds.base.passwords import same
from ecpds.base.totp import AROUND, STEP, step_of
from ecpds.model.secret import Secret

REMEMBERED_FOR: Final = timedelta(minutes=1)
MOST_REMEMBERED: Final = 4_096


class Recognised:
    """Passwords verified within the last minute; holds no password and no plain hash of one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = os.urandom(32)
        self._until: OrderedDict[bytes, datetime] = OrderedDict()

    def _mark(self, login: str, stored: str, password: Secret) -> bytes:
        parts = (login.encode(), stored.encode(), password.reveal().encode("utf-8", "replace"))
        text = b"".join(struct.pack(">I", len(part)) + part for part in parts)
        # not `hmac.digest`: it lets go of the interpreter for the shortest text, and waits for it
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    def knows(self, login: str, stored: str, password: Secret) -> bool:
        """Tell whether this password was found right against this very stored hash."""
        until = self._until.get(self._mark(login, stored, password))
        return until is not None and self._clock.now() < until

    def remember(self, login: str, stored: str, password: Secret) -> None:
        """Recognise it for a minute."""
        self._until[self._mark(login, stored, password)] = self._clock.now() + REMEMBERED_FOR
        if len(self._until) > MOST_REMEMBERED:
            self._until.popitem(last=False)


class OneTimeCodes:
    """Accepts each code of each user once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._used: dict[str, int] = {}  # login to the last step accepted

    def last(self, login: str) -> int:
        """Return the step of the code that was accepted last, 0 if none was."""
        return self._used.get(login, 0)

    def accept(self, login: str, secret: Secret, code: Secret, *, after: int = -1) -> bool:
        """Tell whether the code is right and not used before; it is used then.

        `after` is the last step that an earlier process has accepted.
        """
        moment = self._clock.now()
        now = int(moment.timestamp()) // STEP
        found = step_of(secret, code.reveal(), moment)
        if found is None or found <= self._used.get(login, after):
            return False
        self._used = {user: step for user, step in self._used.items() if step >= now - AROUND}
        self._used[login] = found
        return True


def has_key(lines: Iterable[str], wanted: str) -> bool:
    """Tell whether a public key is among authorised-keys lines, options and comments apart."""
    parts = wanted.split()
    if len(parts) < 2:
        return False
    kind, blob = parts[0], parts[1]
    return any(
        kind == first and same(blob, second)
        for line in lines
        for first, second in itertools.pairwise(line.split())
    )


class Changes:
    """When the credentials of a user were last seen to change, for logins behind cookies."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, tuple[bytes, datetime]] = OrderedDict()

    def since(self, login: str, *credentials: str) -> datetime:
        """Return the moment since which these stored credentials are known unchanged."""
        mark = hashlib.sha256("\0".join(credentials).encode()).digest()
        known = self._seen.get(login)
        if known is not None and known[0] == mark:
            return known[1]
        # the first sight in this process: cookies of an earlier process are not known either
        moment = self._clock.now()
        self._seen[login] = (mark, moment)
        self._seen.move_to_end(login)
        if len(self._seen) > 10 * MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return moment
