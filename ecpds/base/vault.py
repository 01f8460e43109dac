"""Encrypts secrets at rest with `keys/master.key` (AES-256-GCM)."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ecpds.model.errors import StoreError
from ecpds.model.secret import Secret

PREFIX = "sealed:v1:"
KEY_BYTES = 32


class Vault:
    """Seals and opens texts."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def create(cls, path: Path) -> Vault:
        """Make a new key file, mode 0600, durable before it is used."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = os.urandom(KEY_BYTES)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(descriptor)
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> Vault:
        """Read the key file; StoreError when it is missing or damaged."""
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            raise StoreError(
                f"{path} is missing: the secrets in the store cannot be read without it; "
                "restore the key file from a backup"
            ) from None
        if len(key) != KEY_BYTES:
            raise StoreError(f"{path} is damaged: {len(key)} bytes instead of {KEY_BYTES}")
        return cls(key)

    def seal(self, secret: Secret) -> str:
        """Return the text to store; an empty secret stays empty."""
        if not secret:
            return ""
        nonce = os.urandom(12)
        sealed = self._cipher.encrypt(nonce, secret.reveal().encode(), PREFIX.encode())
        return PREFIX + base64.b64encode(nonce + sealed).decode()

    def open(self, text: str) -> Secret:
        """Return the secret of a stored text."""
        if not text.startswith(PREFIX):
            return Secret(text)
        data = base64.b64decode(text[len(PREFIX) :])
        try:
            return Secret(self._cipher.decrypt(data[:12], data[12:], PREFIX.encode()).decode())
        except InvalidTag:
            raise StoreError("a stored secret does not fit keys/master.key") from None
