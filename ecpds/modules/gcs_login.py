"""Who asks Google Cloud Storage: a service account, the machine itself, or nobody.

Spec: Google "Using OAuth 2.0 for server to server applications"; RFC 7523.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from ecpds.model.errors import Phase, RemoteAuth, RemoteConfig
from ecpds.modules.cloud import Call, ask_json
from ecpds.modules.gcs_options import GcsOptions
from ecpds.transfer.contract import Surroundings, Target

SCOPE: Final = "https://www.googleapis.com/auth/devstorage.full_control"
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFE: Final = timedelta(hours=1)
EARLY: Final = timedelta(minutes=1)
"""How long before its end a token is renewed."""

_MEMORY: Final = "gcs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A service account with its key."""

    email: str
    key: str
    key_id: str
    token_url: str

    @classmethod
    def of(cls, target: Target, options: GcsOptions) -> Account:
        """Return the account that the options of a host name; RemoteConfig."""
        given: dict[str, Any] = {}
        if text := options.credentials.reveal():
            try:
                given = json.loads(text)
                given["private_key"], given["client_email"]
            except (ValueError, KeyError, TypeError):
                raise RemoteConfig(
                    "gcs.credentials is no key file of a service account", phase=Phase.AUTH
                ) from None
        own_id = target.password.reveal() or options.private_key_id.reveal()
        found = cls(
            email=str(given.get("client_email") or options.client_email),
            key=str(given.get("private_key") or options.private_key.reveal()),
            key_id=str(given.get("private_key_id") or own_id),
            token_url=options.token_url,
        )
        if not found.email or not found.key:
            raise RemoteConfig(
                "no service account: set gcs.credentials, or gcs.clientEmail and gcs.privateKey,"
                " or gcs.anonymous = yes",
                phase=Phase.AUTH,
            )
        return found

    def assertion(self, now: datetime) -> str:
        """Return the signed request for a token (JWT, RS256); takes a millisecond or two."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa

        try:
            key = serialization.load_pem_private_key(self.key.strip().encode() + b"\n", None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise RemoteConfig(
                f"the private key cannot be used: {error}", phase=Phase.AUTH
            ) from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise RemoteConfig("the private key is no RSA key", phase=Phase.AUTH)
        issued = int(now.timestamp())
        head = {"alg": "RS256", "typ": "JWT", "kid": self.key_id}
        claims = {
            "iss": self.email, "scope": SCOPE, "aud": self.token_url, "iat": issued,
            "exp": issued + int(LIFE.total_seconds()),
        }  # fmt: skip
        text = ".".join(_part(json.dumps(one).encode()) for one in (head, claims))
        signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_part(signature)}"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


class Login:
    """Proves requests of one session."""

    def __init__(self, target: Target, options: GcsOptions, around: Surroundings) -> None:
        self._target = target
        self._options = options
        self._around = around
        self._account: Account | None = None
        if not options.anonymous and not options.metadata_url:
            self._account = Account.of(target, options)

    async def __call__(
        self, call: Call, path: str, headers: Mapping[str, str]
    ) -> tuple[Mapping[str, str], tuple[tuple[str, str], ...]]:
        """Return all headers of a request."""
        if self._options.anonymous:
            return headers, ()
        return {**headers, "Authorization": f"Bearer {await self._token()}"}, ()

    @property
    def _fact(self) -> str:
        who = self._account or self._options.metadata_url
        return f"token {hashlib.sha256(repr(who).encode()).hexdigest()[:16]}"

    async def _token(self) -> str:
        """Return a token, asked for again only shortly before its end."""
        host, now = self._target.host_name, self._around.clock.now().astimezone(UTC)
        until, _, known = self._around.memory.recall(_MEMORY, host, self._fact).partition(" ")
        if known and datetime.fromisoformat(until) > now + EARLY:
            return known
        given = await self._given(now)
        token = given.get("access_token")
        if not isinstance(token, str) or not token:
            raise RemoteAuth("no access_token was given", phase=Phase.AUTH)
        try:
            end = now + timedelta(seconds=min(int(given.get("expires_in", 3600)), 86400))
        except (TypeError, ValueError):
            end = now + LIFE
        self._around.memory.keep(_MEMORY, host, self._fact, f"{end.isoformat()} {token}")
        return token

    def forget(self) -> None:
        """Take no token a second time that was refused."""
        self._around.memory.keep(_MEMORY, self._target.host_name, self._fact, "")

    async def _given(self, now: datetime) -> Mapping[str, Any]:
        http, around = self._options.http(), self._around
        if self._account is None:
            return await ask_json(
                self._target, self._options.metadata_url, "gcs.metadataUrl", http, around,
                headers={"Metadata-Flavor": "Google"},
            )  # fmt: skip
        assertion = await around.threads.run("auth", self._account.assertion, now)
        form = urlencode({"grant_type": GRANT, "assertion": assertion}).encode()
        return await ask_json(
            self._target, self._options.token_url, "gcs.tokenUrl", http, around, method="POST",
            headers={"Content-Type": "application/x-www-form-urlencoded"}, content=form,
        )  # fmt: skip
