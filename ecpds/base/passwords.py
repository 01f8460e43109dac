"""Argon2id hashes, in constant time also for unknown users; random passwords and tokens.

Mosquitto checks no Argon2 before 2.1: its form of a password is made beside ours, for sites that
publish through it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from ecpds.base.threads import Threads
from ecpds.model.secret import Secret

# OWASP password storage cheat sheet: Argon2id, 19 MiB, 2 passes, 1 lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)
_SALT: Final = 12  # bytes, as mosquitto_passwd makes them
# Of a random text nobody knows: compared with when there is no such user.
_NOBODY = _HASHER.hash(secrets.token_hex(16))


class Passwords:
    """Hashes and verifies in the `auth` pool: one check takes some 30 ms of a processor."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def hash(self, password: Secret) -> str:
        """Return the Argon2id text to store."""
        return await self._threads.run("auth", _HASHER.hash, password.reveal())

    async def verify(self, stored: str | None, password: Secret) -> bool:
        """Compare; None (no such user) takes the same time and is False."""
        return await self._threads.run("auth", verify_now, stored, password)


def verify_now(stored: str | None, password: Secret) -> bool:
    """Compare on this thread."""
    try:
        fits = _HASHER.verify(stored or _NOBODY, password.reveal())
    except (VerificationError, InvalidHashError):
        return False
    return fits and bool(stored)


def hash_now(password: Secret) -> str:
    """Return the Argon2id text on this thread."""
    return _HASHER.hash(password.reveal())


def mosquitto_form(password: Secret, rounds: int) -> str:
    """Return a password as `password_file` of Mosquitto 2 has it: PBKDF2 with SHA-512, `$7$`.

    A hundred thousand rounds take some 100 ms of a processor, here and at each login there.
    """
    salt = secrets.token_bytes(_SALT)
    key = hashlib.pbkdf2_hmac("sha512", password.reveal().encode(), salt, rounds)
    texts = (base64.b64encode(one).decode() for one in (salt, key))
    return "$".join(["", "7", str(rounds), *texts])


def random_password() -> str:
    """Return 20 characters that can be read aloud."""
    alphabet = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "".join(secrets.choice(alphabet) for _ in range(20))


def random_token(prefix: str) -> str:
    """Return a bearer secret of 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """Return what is stored of a random token; fast is fine, it has full entropy."""
    return hashlib.sha256(token.encode()).hexdigest()


def same(left: str, right: str) -> bool:
    """Compare two texts in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())
