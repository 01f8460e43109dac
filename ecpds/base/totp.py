"""One-time codes of an authenticator.  Spec: RFC 6238 (SHA-1, 30 s, 6 digits), RFC 4226."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
import struct
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from ecpds.base.passwords import same
from ecpds.model.secret import Secret

STEP: Final = 30  # seconds of one code
AROUND: Final = 1  # codes before and after the present one that are accepted
CODE: Final = re.compile(r"[0-9]{6}", re.ASCII)


def code_of(secret: Secret, step: int) -> str:
    """Return the six digits of one step; ValueError when the secret is no Base32."""
    text = secret.reveal().replace(" ", "").upper()
    try:
        key = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error as error:
        raise ValueError("the TOTP secret is not Base32") from error
    digest = hmac.digest(key, struct.pack(">Q", step), "sha1")
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


def step_of(secret: Secret, code: str, now: datetime) -> int | None:
    """Return the step whose code that is, None when it is none of now; all are compared."""
    text = code.strip()
    if CODE.fullmatch(text) is None:
        return None
    present = int(now.timestamp()) // STEP
    found = None
    for step in range(present - AROUND, present + AROUND + 1):
        try:
            if same(code_of(secret, step), text):
                found = step
        except ValueError:
            return None
    return found


def new_secret() -> str:
    """Return 160 random bits as Base32, what RFC 4226 recommends."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def address_of(secret: str, account: str, issuer: str) -> str:
    """Return the `otpauth:` address that authenticators read."""
    label = quote(f"{issuer}:{account}", safe="")
    return f"otpauth://totp/{label}?{urlencode({'secret': secret, 'issuer': issuer})}"
