"""Another ecpds node near the users, used through its own API as the one that sends.

A proxy host is a Host of role `proxy`: `host` is the address of the other node's monitor, the
password is an API token there with `files:write` and `transfers:write`.  The destination (of the
same name, or `proxy.destination`) is configured there too; content waits there in standby and is
sent when we release it.  Spec: schedulers.md section 5.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Final

import aiohttp

from ecpds.base.threads import Threads
from ecpds.engine.core import HostEntry
from ecpds.model.decode import opt
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemotePin,
    RemoteTimeout,
    RemoteTransient,
)
from ecpds.model.options import OptionFamily
from ecpds.transfer.contract import TlsTrust
from ecpds.transfer.meter import Meter

BLOCK: Final = 256 * 1024
LONGEST: Final = 1024 * 1024  # bytes of an answer that is read
FIRST_LOOK, LAST_LOOK = 0.1, 2.0  # seconds between two looks at a transfer over there
UNDER_WAY: Final = frozenset({"queued", "transferring", "arriving"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions(OptionFamily):
    """Options of the `proxy` family of a proxy host."""

    prefix: ClassVar[str] = "proxy"
    scopes: ClassVar[frozenset[str]] = frozenset({"host"})

    modulo: int = opt(3, "Every n-th attempt goes directly; 1: all do.", low=1)
    timeout: timedelta = opt(timedelta(seconds=10), "Longest wait for an answer.", low=0.1)
    destination: str = opt("", "Name of the destination there; empty: the same.")


class Unreachable(RemoteTransient):
    """The proxy does not answer: what it should have sent goes directly."""

    code = "proxy-unreachable"


def tls_of(trust: TlsTrust) -> ssl.SSLContext | aiohttp.Fingerprint:
    """Return what a connection believes; a pin replaces the chain check.  Blocks: reads files."""
    if trust.pin:
        plain = trust.pin.lower().removeprefix("sha256:").replace(":", "")
        try:
            return aiohttp.Fingerprint(bytes.fromhex(plain))
        except ValueError as error:
            raise RemoteConfig(f"tlsPin: {error}", phase=Phase.TLS) from None
    context = ssl.create_default_context()
    try:
        if "-----BEGIN" in trust.ca:
            context.load_verify_locations(cadata=trust.ca)
        elif trust.ca:
            context.load_verify_locations(cafile=trust.ca)
    except (OSError, ssl.SSLError) as error:
        raise RemoteConfig(f"tlsCa cannot be read: {error}", phase=Phase.TLS) from None
    if not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class ProxyLink:
    """A session with one proxy."""

    def __init__(self, session: aiohttp.ClientSession, base: str, options: ProxyOptions) -> None:
        self._session, self._base, self.options = session, base, options

    async def store(self, descriptor: int, size: int, fields: dict[str, str]) -> int:
        """Store content in standby; return the number of its transfer there.

        A copy with the same `version` that is there already is not sent again.
        """
        form = aiohttp.FormData(quote_fields=False)
        given = {"standby": "yes", "on_duplicate": "skip"} | fields
        for name, value in given.items():
            form.add_field(name, value)
        form.add_field("file", _blocks(descriptor, size), filename="content")
        found = await self.call("POST", "/files", data=form, timeout=None)
        stored = found["data_file"]["size"]
        if stored != size:
            raise RemoteTransient(f"the proxy has stored {stored} bytes instead of {size}")
        return int(found["transfers"][0]["id"])

    async def send(self, number: int, meter: Meter) -> dict[str, Any]:
        """Have a stored copy sent; return the transfer when it is done there.

        Raises RemoteError with the other node's reason; the copy is in standby again then.
        """
        one: dict[str, Any] = await self.call("GET", f"/transfers/{number}")
        if one["status"] != "done":
            if one["status"] in {"failed", "stopped", "interrupted", "requeued"}:
                await self.call("POST", f"/transfers/{number}/actions/hold", json={})
            if one["status"] not in UNDER_WAY:
                await self.call("POST", f"/transfers/{number}/actions/release", json={})
            one = await self._ended(number, meter)
        if one["status"] == "done":
            return one
        reason = one.get("reason") or {}
        text = reason.get("text") or f"the transfer there is {one['status']}"
        if one["status"] == "requeued":  # it may not be tried again without us
            await self.call("POST", f"/transfers/{number}/actions/hold", json={})
        raise RemoteTransient(f"through the proxy: {text}", remote_code=reason.get("code") or "")

    async def _ended(self, number: int, meter: Meter) -> dict[str, Any]:
        pause = FIRST_LOOK
        while True:
            await asyncio.sleep(pause)
            meter.add(0)  # raises when somebody stopped the transfer here
            one: dict[str, Any] = await self.call("GET", f"/transfers/{number}")
            if one["status"] not in UNDER_WAY or one["deleted"]:
                return one
            pause = min(pause * 2, LAST_LOOK)

    async def drop(self, number: int) -> None:
        """Delete a copy; one that is gone is fine."""
        try:
            await self.call("POST", f"/transfers/{number}/actions/delete", json={})
        except RemoteMissing:
            return

    async def call(
        self, method: str, path: str, *, timeout: float | None = 0.0, **body: Any
    ) -> Any:
        """Send one request; return the JSON of its answer."""
        limit = self.options.timeout.total_seconds() if timeout == 0.0 else timeout
        times = aiohttp.ClientTimeout(
            total=limit, sock_connect=self.options.timeout.total_seconds(), sock_read=300
        )
        address = f"{self._base}/api/v2{path}"
        try:
            async with self._session.request(method, address, timeout=times, **body) as answer:
                return _checked(answer.status, _json(await _read(answer.content)))
        except aiohttp.ServerFingerprintMismatch:
            raise RemotePin("the proxy shows another certificate", phase=Phase.TLS) from None
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"the proxy cannot be reached: {error}") from error
        except TimeoutError:
            raise RemoteTimeout("the proxy does not answer") from None
        except aiohttp.ClientError as error:
            raise ConnectionLost(f"the proxy: {error}") from error


async def _read(content: aiohttp.StreamReader) -> bytes:
    found = bytearray()
    while block := await content.readany():
        found += block
        if len(found) > LONGEST:
            raise RemoteTransient(f"the proxy answers with more than {LONGEST} bytes")
    return bytes(found)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        raise RemoteTransient("the proxy answers no JSON") from None


def _checked(status: int, found: Any) -> Any:
    if status < 300:
        return found
    text = found.get("detail") if isinstance(found, dict) else ""
    message = f"the proxy refuses: {text or status}"
    kinds: dict[int, type[RemoteError]] = {401: RemoteAuth, 403: RemoteAuth, 404: RemoteMissing}
    raise kinds.get(status, RemoteTransient)(message, remote_code=str(status))


async def _blocks(descriptor: int, size: int) -> AsyncIterator[bytes]:
    offset = 0
    while offset < size:
        block = os.pread(descriptor, min(BLOCK, size - offset), offset)
        if not block:
            return
        offset += len(block)
        yield block
        await asyncio.sleep(0)


@asynccontextmanager
async def linked(host: HostEntry, threads: Threads) -> AsyncIterator[ProxyLink]:
    """Open a session with a proxy host for the time of the block."""
    if host.access is None:
        raise RemoteConfig(host.problem)
    options = ProxyOptions.read(host.host.options)
    base = host.host.host.rstrip("/")
    if "://" not in base:
        base = f"https://{base}"
    believed = await threads.run("disk", tls_of, host.access.target.tls)
    connector = aiohttp.TCPConnector(ssl=believed, limit=0)
    headers = {"Authorization": f"Bearer {host.host.password.reveal()}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield ProxyLink(session, base, options)
