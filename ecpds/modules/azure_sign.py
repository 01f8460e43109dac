"""Who asks an Azure storage account: shared key, shared access signature, token, or nobody.

Spec: Microsoft "Authorize with Shared Key", "Service SAS", "Managed identities, get a token".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl

from yarl import URL

from ecpds.model.errors import Phase, RemoteAuth
from ecpds.modules.azure_options import AzureOptions
from ecpds.modules.cloud import Call, ask_json
from ecpds.transfer.contract import Surroundings, Target

VERSION: Final = "2021-12-02"
"""Of the protocol; every Azurite of the last years knows it."""

EARLY: Final = timedelta(minutes=5)
"""How long before its end a signature or token is renewed."""

SIGNED: Final = ("content-encoding", "content-language", "content-length", "content-md5",
                 "content-type", "date", "if-modified-since", "if-match", "if-none-match",
                 "if-unmodified-since", "range")  # fmt: skip

_MEMORY: Final = "azure"


class Signer:
    """Proves requests of one session."""

    def __init__(self, target: Target, options: AzureOptions, around: Surroundings) -> None:
        self._target = target
        self._options = options
        self._around = around
        self.account = target.login
        self._key = _key(target)

    async def __call__(
        self, call: Call, path: str, headers: Mapping[str, str]
    ) -> tuple[Mapping[str, str], tuple[tuple[str, str], ...]]:
        """Return all headers of a request, and further parts of its query."""
        now = self._around.clock.now().astimezone(UTC)
        found = {**headers, "x-ms-version": VERSION, "x-ms-date": _http_time(now)}
        if call.method == "PUT":  # else aiohttp adds one that is not signed
            found.setdefault("Content-Type", "application/octet-stream")
        if self._key:
            found["Authorization"] = self._shared_key(call, path, found)
            return found, ()
        if self._options.managed_client_id:
            found["Authorization"] = f"Bearer {await self._token()}"
            return found, ()
        return found, tuple(parse_qsl(await self._signature(), keep_blank_values=True))

    def _shared_key(self, call: Call, path: str, headers: Mapping[str, str]) -> str:
        text = string_to_sign(self.account, call, path, headers)
        digest = hmac.new(self._key, text.encode(), hashlib.sha256).digest()
        return f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"

    async def _signature(self) -> str:
        """Return a shared access signature, empty for nobody."""
        if self._options.sas_url:
            headers = {}
            if key := self._options.sas_subscription_key.reveal():
                headers["Ocp-Apim-Subscription-Key"] = key
            found = await self._remembered("sas", self._options.sas_url, "azure.sasUrl", headers)
            return found.lstrip("?")
        return self._options.sas_token.reveal().lstrip("?")

    async def _token(self) -> str:
        """Return a token of the managed identity."""
        url = URL(self._options.identity_url).update_query(
            {
                "api-version": "2018-02-01",
                "resource": "https://storage.azure.com/",
                "client_id": self._options.managed_client_id.reveal(),
            }
        )
        return await self._remembered("token", str(url), "azure.identityUrl", {"Metadata": "true"})

    async def _remembered(
        self, what: str, url: str, option: str, headers: Mapping[str, str]
    ) -> str:
        """Return what the address gives, asked for again only shortly before its end."""
        mark = hashlib.sha256(f"{url}{sorted(headers.items())}".encode()).hexdigest()[:16]
        fact, host = f"{what} {mark}", self._target.host_name
        until, _, known = self._around.memory.recall(_MEMORY, host, fact).partition(" ")
        now = self._around.clock.now()
        if known and datetime.fromisoformat(until) > now + EARLY:
            return known
        given = await ask_json(
            self._target, url, option, self._options.http(), self._around, headers=headers
        )
        value = str(given.get("token") or given.get("access_token") or "")
        if not value:
            raise RemoteAuth(f"{option} gives no token", phase=Phase.AUTH)
        end = _end(given, value, now)
        self._around.memory.keep(_MEMORY, host, fact, f"{end.isoformat()} {value}")
        return value


def _end(given: Mapping[str, object], value: str, now: datetime) -> datetime:
    """Return until when a signature (its own `se`) or a token holds; one hour if it is not told."""
    try:
        told = dict(parse_qsl(value.lstrip("?"))).get("se", "")
        if told:
            end = datetime.fromisoformat(told)
            return end if end.tzinfo else end.replace(tzinfo=UTC)
        return now + timedelta(seconds=int(str(given.get("expires_in", 3600))))
    except (ValueError, OverflowError):
        return now + timedelta(hours=1)


def string_to_sign(account: str, call: Call, path: str, headers: Mapping[str, str]) -> str:
    """Return what the shared key signs."""
    known = {name.lower(): value for name, value in headers.items()}
    if call.length:
        known["content-length"] = str(call.length)
    lines = [call.method, *(known.get(name, "") for name in SIGNED)]
    lines += [f"{name}:{known[name].strip()}" for name in sorted(known) if name.startswith("x-ms-")]
    grouped: dict[str, list[str]] = {}
    for name, value in call.query:
        grouped.setdefault(name.lower(), []).append(value)
    parts = [f"\n{name}:{','.join(sorted(grouped[name]))}" for name in sorted(grouped)]
    return "\n".join(lines) + f"\n/{account}{path}{''.join(parts)}"


def _key(target: Target) -> bytes:
    text = target.password.reveal()
    if not (target.login and text):
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()  # no key at all: the service refuses it as it does a wrong one


def _http_time(now: datetime) -> str:
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun",
              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # fmt: skip
    return f"{days[now.weekday()]}, {now:%d} {months[now.month - 1]} {now:%Y %H:%M:%S} GMT"
