"""Who we are to a web server: Basic, Digest, and tokens that are fetched and renewed.

What is sent goes to the configured origin only.  A token lives in memory until shortly before it
expires; one that the server refuses is renewed once.

Spec: transfer-modules-protocols.md 3.2; RFC 7617 (Basic), 7616 (Digest), 6749 section 4.3-4.4.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from yarl import URL

from ecpds.model.errors import Phase, RemoteAuth, RemoteConfig
from ecpds.modules.http_options import HttpOptions
from ecpds.modules.http_paths import first_at
from ecpds.transfer.contract import Surroundings, Target

MAX_TOKEN: Final = 64 * 1024
"""Bytes of an answer with a token."""

_MEMORY: Final = "http"
_PART: Final = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_HASHES: Final = {"md5": "md5", "sha-256": "sha256", "sha-512-256": "sha512_256"}

Fetch = Callable[[str, URL, Mapping[str, str], bytes], Awaitable[tuple[int, bytes]]]
"""Sends a small request (method, address, headers, body); gives status and body."""


def basic(login: str, password: str) -> str:
    """Return the value of a Basic header."""
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


class Digest:
    """Answers to the challenges of one server."""

    def __init__(self, login: str, password: str) -> None:
        self._login = login
        self._password = password
        self._challenge: dict[str, str] = {}
        self._count = 0

    def take(self, challenges: Sequence[str]) -> bool:
        """Take the best challenge; tell whether there is one that can be answered anew."""
        best: dict[str, str] = {}
        for text in challenges:
            scheme, _, rest = text.strip().partition(" ")
            if scheme.lower() != "digest":
                continue
            found = {
                match[1].lower(): match[3] or re.sub(r"\\(.)", r"\1", match[2] or "")
                for match in _PART.finditer(rest)
            }
            algorithm = found.get("algorithm", "MD5").lower().removesuffix("-sess")
            if algorithm in _HASHES and (not best or algorithm != "md5"):
                best = found
        if not best:
            return False
        is_new = best.get("nonce") != self._challenge.get("nonce")
        is_stale = best.get("stale", "").lower() == "true"
        self._challenge, self._count = best, 0
        return is_new or is_stale

    def header(self, method: str, url: URL) -> str:
        """Return the answer for one request, empty before any challenge."""
        given = self._challenge
        if not given:
            return ""
        self._count += 1
        name = given.get("algorithm", "MD5")
        count, client = f"{self._count:08x}", secrets.token_hex(8)
        path = url.raw_path_qs
        realm, nonce = given.get("realm", ""), given.get("nonce", "")
        first = self._hash(name, f"{self._login}:{realm}:{self._password}")
        if name.lower().endswith("-sess"):
            first = self._hash(name, f"{first}:{nonce}:{client}")
        second = self._hash(name, f"{method}:{path}")
        offered = {one.strip() for one in given.get("qop", "").split(",")}
        middle = f"{nonce}:{count}:{client}:auth" if "auth" in offered else nonce
        parts = {
            "username": f'"{_escaped(self._login)}"',
            "realm": f'"{_escaped(realm)}"',
            "nonce": f'"{nonce}"',
            "uri": f'"{path}"',
            "response": f'"{self._hash(name, f"{first}:{middle}:{second}")}"',
            "algorithm": name,
        }
        if "auth" in offered:
            parts |= {"qop": "auth", "nc": count, "cnonce": f'"{client}"'}
        if "opaque" in given:
            parts["opaque"] = f'"{given["opaque"]}"'
        return "Digest " + ", ".join(f"{key}={value}" for key, value in parts.items())

    @staticmethod
    def _hash(name: str, text: str) -> str:
        algorithm = _HASHES[name.lower().removesuffix("-sess")]
        return hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


class Login:
    """What identifies us to one origin."""

    def __init__(self, target: Target, options: HttpOptions, around: Surroundings) -> None:
        self._options = options
        self._around = around
        self._host = target.host_name
        self._login = options.login or target.login
        self._password = (options.password or target.password).reveal()
        self._own = dict(options.header_lines())
        self._has_own = any(name.lower() == "authorization" for name in self._own)
        self._digest = Digest(self._login, self._password)
        self._sends_basic = bool(self._login) and options.auth_header
        self._renewed = False

    @property
    def is_given(self) -> bool:
        """Whether requests carry a login."""
        return bool(self._login) or self._has_own or bool(self._options.token_url)

    async def headers(self, method: str, url: URL, fetch: Fetch) -> dict[str, str]:
        """Return the headers of a request to the origin."""
        found = dict(self._own)
        if self._options.token_url:
            found[self._options.token_header] = await self._token(fetch)
        elif not self._has_own and self._login:
            if answer := self._digest.header(method, url):
                found["Authorization"] = answer
            elif self._sends_basic:
                found["Authorization"] = basic(self._login, self._password)
        return found

    def challenged(self, status: int, offered: Sequence[str]) -> bool:
        """Take the refusal of a request; tell whether it is worth another try.

        `offered`: the values of its WWW-Authenticate headers.
        """
        if status != 401 or self._has_own:
            return False
        if self._options.token_url:
            again, self._renewed = not self._renewed, True
            self._around.memory.keep(_MEMORY, self._host, self._fact, "")
            return again
        if not self._login or not (self._options.auth_header or self._options.credentials):
            return False
        if self._digest.take(offered):
            return True
        is_basic = any(one.strip().lower().startswith("basic") for one in offered)
        if not is_basic or self._sends_basic:
            return False
        self._sends_basic = True
        return True

    def accepted(self) -> None:
        """Note that the origin took the last request."""
        self._renewed = False

    # --- tokens -----------------------------------------------------------------------------

    @property
    def _fact(self) -> str:
        return f"token {self._options.token_url} {self._options.oauth_client}"

    async def _token(self, fetch: Fetch) -> str:
        known = self._around.memory.recall(_MEMORY, self._host, self._fact)
        value, _, expiry = known.partition("\n")
        now = self._around.clock.now()
        ahead = timedelta(seconds=self._options.token_lookahead)
        if value and expiry and datetime.fromisoformat(expiry) - ahead > now:
            return value
        return await self._fetched(fetch, now)

    async def _fetched(self, fetch: Fetch, now: datetime) -> str:
        options = self._options
        headers = {"Accept": "application/json"}
        form: dict[str, str] = {"grant_type": options.oauth_grant}
        if options.oauth_scope:
            form["scope"] = options.oauth_scope
        if options.oauth_grant == "password":
            form |= {"username": self._login, "password": self._password}
        client, secret = options.oauth_client, options.oauth_secret.reveal()
        if options.oauth_client_auth == "basic" and client:
            headers["Authorization"] = basic(quote(client, safe=""), quote(secret, safe=""))
        elif client:
            form |= {"client_id": client, "client_secret": secret}
        kind, body = "application/x-www-form-urlencoded", _form(form)
        if options.oauth_body == "json":
            kind, body = "application/json", json.dumps(form).encode()
        headers["Content-Type"] = kind
        status, answer = await fetch("POST", URL(options.token_url), headers, body)
        return self._read(status, answer, now)

    def _read(self, status: int, answer: bytes, now: datetime) -> str:
        if not 200 <= status < 300:
            kind = RemoteAuth if status in (400, 401, 403) else RemoteConfig
            raise kind(
                f"no token from {URL(self._options.token_url).origin()}: {status}",
                phase=Phase.AUTH,
                remote_code=str(status),
            )
        try:
            document = json.loads(answer)
        except (ValueError, RecursionError):
            raise RemoteConfig("the answer with the token is no JSON", phase=Phase.AUTH) from None
        token = first_at(document, self._options.token_path)
        if not isinstance(token, str) or not token or any(c in token for c in "\r\n"):
            raise RemoteConfig(
                f"no token at {self._options.token_path!r} of the answer", phase=Phase.AUTH
            )
        value = self._options.token_prefix + token
        expiry = _expiry(first_at(document, self._options.token_expiry), now)
        if expiry is not None:
            kept = f"{value}\n{expiry.isoformat()}"
            self._around.memory.keep(_MEMORY, self._host, self._fact, kept)
        return value


def _form(fields: Mapping[str, str]) -> bytes:
    return "&".join(f"{key}={quote(value, safe='')}" for key, value in fields.items()).encode()


def _expiry(told: object, now: datetime) -> datetime | None:
    """Return when a token ends: seconds from now, or milliseconds since 1970; None: at once."""
    if isinstance(told, str) and told.isascii() and told.isdigit():
        told = int(told)
    if not isinstance(told, int | float) or isinstance(told, bool) or told <= 0:
        return None
    try:
        if told > 10**11:
            return datetime.fromtimestamp(told / 1000, UTC)
        return now + timedelta(seconds=told)
    except (OverflowError, ValueError, OSError):
        return None
