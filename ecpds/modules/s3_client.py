"""Requests to an S3 service: signed, sent, tried again where that is safe, their failures named.

The region is learnt from the service: its refusals name the right one.  What is tried again can be
sent twice, because every body comes from content that can be read twice, or is in memory.

Spec: transfer-modules-protocols.md section 5; AWS "REST API", "S3 error responses".
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import aiohttp

from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteTimeout,
    RemoteTransient,
)
from ecpds.model.secret import Secret
from ecpds.modules.http_body import SourceBody
from ecpds.modules.http_client import HttpClient
from ecpds.modules.http_errors import Ask
from ecpds.modules.http_options import HttpOptions
from ecpds.modules.s3_address import Endpoint, check_region
from ecpds.modules.s3_credentials import Credentials
from ecpds.modules.s3_errors import EXPIRED, failure, meaning
from ecpds.modules.s3_options import S3Options
from ecpds.modules.s3_sign import Signer, query_text
from ecpds.modules.s3_xml import read
from ecpds.transfer.contract import Surroundings, Target

TRIES: Final = 4
"""How often one request is sent at most."""

LONGEST_ERROR: Final = 64 * 1024
LONGEST_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of an answer that is read as a whole; a page of 1,000 keys of 1,024 bytes has 7 MiB."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
_MEMORY: Final = "s3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request."""

    method: str
    about: str  # for messages
    bucket: str = ""
    key: str = ""
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None  # a small body
    body: Callable[[], SourceBody] | None = None  # makes a large one, anew for each try
    payload: str = ""  # SHA-256 of the body in hex or UNSIGNED; empty = of `content`
    phase: Phase = Phase.DATA
    limit: timedelta
    stall: float = 0.0
    accepted: tuple[int, ...] = ()  # beside 2xx


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read as a whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class _Again(Exception):
    """The same request is to be sent again at once: something was learnt."""


class S3Client:
    """A session with one S3 service."""

    def __init__(
        self,
        http: HttpClient,
        endpoint: Endpoint,
        target: Target,
        options: S3Options,
        around: Surroundings,
    ) -> None:
        self.endpoint = endpoint
        self._http = http
        self._target = target
        self._options = options
        self._around = around
        self._signer = Signer("s3")
        self._credentials = Credentials(target, options, around)
        self._regions: dict[str, str] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, target: Target, options: S3Options, around: Surroundings
    ) -> AsyncIterator[S3Client]:
        """Give a client; nothing is connected yet."""
        endpoint = Endpoint(target, options)
        origin = endpoint.origin(endpoint.first_region)
        address = target.address if origin.host == target.host else ""
        local = options.listen_address or target.sockets.local_address
        there = replace(
            target,
            host=origin.host or "",
            address=address,
            login="",  # keys sign, and are no answer to a challenge
            password=Secret(""),
            sockets=replace(target.sockets, local_address=local),
        )
        http_options = HttpOptions(
            scheme="https" if origin.scheme == "https" else "http",
            port=origin.port,
            protocol=options.protocol,
            ssl_validation=options.ssl_validation,
            strict=options.strict,
            auth_header=False,
            proxy=options.proxy,
            keep_alive=options.keep_alive,
            max_redirects=0,
        )
        async with HttpClient.open(there, http_options, around) as http:
            yield cls(http, endpoint, target, options, around)

    @property
    def peer(self) -> str:
        """Return the address of the service, once it was asked something."""
        return self._http.peer

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the last connection."""
        return self._http.statistics()

    @property
    def is_secure(self) -> bool:
        """Whether requests go over TLS."""
        return self._http.origin.scheme == "https"

    async def demand(self, call: Call, *, longest: int = LONGEST_ANSWER) -> Answer:
        """Send a request and return its answer, at most `longest` bytes of it."""
        async with self.ask(call) as response:
            content = b"" if call.method == "HEAD" else await _content(response, longest)
            if len(content) > longest:
                raise RemoteTransient(f"{call.about}: the answer is too long", phase=call.phase)
            return Answer(response.status, response.headers, content)

    @asynccontextmanager
    async def ask(self, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give its answer; the status is 2xx or an accepted one."""
        async with AsyncExitStack() as stack:
            yield await self._answer(call, stack)

    async def _answer(self, call: Call, stack: AsyncExitStack) -> aiohttp.ClientResponse:
        learnt = tries = 0
        while True:
            try:
                return await self._tried(call, stack)
            except _Again:
                learnt += 1
                if learnt > 2:
                    raise RemoteConfig(
                        f"{call.about}: the service sends us round in circles", phase=call.phase
                    ) from None
            except RemoteTransient as error:
                tries += 1
                if not self._may_try_again(error, tries):
                    raise
                await asyncio.sleep(_pause(error, tries))

    def _may_try_again(self, error: RemoteTransient, tries: int) -> bool:
        if self._options.no_retries or tries >= TRIES:
            return False
        # the pool tries again to connect; a silent service has had its time
        return not isinstance(error, RemoteTimeout) and error.phase not in (
            Phase.RESOLVE,
            Phase.CONNECT,
            Phase.TLS,
        )

    async def _tried(self, call: Call, stack: AsyncExitStack) -> aiohttp.ClientResponse:
        region = self.region_of(call.bucket)
        ask = await self._signed(call, region)
        async with AsyncExitStack() as trying:
            response = await trying.enter_async_context(self._http.ask(ask))
            if 200 <= response.status < 300 or response.status in call.accepted:
                if ask.body is not None and not ask.body.is_complete:
                    raise ConnectionLost(f"{call.about}: the answer came before all was sent")
                await stack.enter_async_context(trying.pop_all())
                return response
            content = b"" if call.method == "HEAD" else await _content(response, LONGEST_ERROR)
            headers = response.headers
            status = response.status
        raise self._failure(call, Answer(status, headers, content), region)

    async def _signed(self, call: Call, region: str) -> Ask:
        place = self.endpoint.place(call.bucket, call.key, region)
        query = query_text(call.query)
        headers = dict(call.headers)
        keys = await self._credentials.current(region)
        if keys is not None:
            payload = call.payload or hashlib.sha256(call.content or b"").hexdigest()
            headers = self._signer.headers(
                keys,
                region,
                method=call.method,
                host=place.host,
                path=place.path,
                query=query,
                headers=headers,
                payload=payload,
                now=self._around.clock.now(),
            )
        return Ask(
            method=call.method,
            url=place.url(query),
            about=call.about,
            phase=call.phase,
            headers=headers,
            body=call.body() if call.body is not None else None,
            content=call.content,
            limit=call.limit.total_seconds(),
            stall=call.stall,
            follow=False,
        )

    # --- regions ----------------------------------------------------------------------------

    def region_of(self, bucket: str) -> str:
        """Return the region that requests for a bucket are signed for."""
        known = self._regions.get(bucket, "")
        if not known:
            fact = f"region {bucket}"
            is_told = self._options.region and not self._options.cross_region
            memory, host = self._around.memory, self._target.host_name
            known = "" if is_told else memory.recall(_MEMORY, host, fact)
            known = self._regions[bucket] = known or self.endpoint.first_region
        return known

    def _learn(self, call: Call, told: str, region: str) -> None:
        """Use the region that the service named; raises _Again, or nothing when it is no help."""
        if not told or told == region:
            return
        check_region(told, is_aws=self.endpoint.is_aws)
        if self._options.region and not self._options.cross_region:
            raise RemoteConfig(
                f"bucket {call.bucket} is in region {told}, not {region}: see s3.region",
                phase=call.phase,
                remote_code="region",
            )
        self._regions[call.bucket] = told
        fact = f"region {call.bucket}"
        self._around.memory.keep(_MEMORY, self._target.host_name, fact, told, lasting=True)
        raise _Again

    # --- failures ---------------------------------------------------------------------------

    def _failure(self, call: Call, answer: Answer, region: str) -> RemoteError:
        """Return the error for an answer; raises _Again when the same call may work now."""
        fields: Mapping[str, str] = {}
        if answer.content.lstrip()[:1] == b"<":
            fields = _error_fields(answer.content)
        code = fields.get("Code", "")
        told = answer.headers.get("x-amz-bucket-region", "") or fields.get("Region", "")
        if answer.status in (301, 307, 400, 403):
            self._learn(call, told, region)
        if code in EXPIRED and self._credentials.drop():
            raise _Again
        cls = self._class(call, code, answer.status)
        error = failure(
            cls,
            call.about,
            status=answer.status,
            code=code,
            text=fields.get("Message", ""),
            phase=call.phase,
        )
        if after := answer.headers.get("Retry-After", ""):
            error.facts["retry_after"] = after
        return error

    def _class(self, call: Call, code: str, status: int) -> type[RemoteError]:
        if code != "NoSuchBucket":
            return meaning(code, status)
        if self.endpoint.bucket:
            return RemoteConfig
        return RemoteName if call.method in ("PUT", "POST") else RemoteMissing


def _error_fields(content: bytes) -> Mapping[str, str]:
    try:
        return read(content).fields
    except RemoteTransient:
        return {}  # a page of something in between


async def _content(response: aiohttp.ClientResponse, longest: int) -> bytes:
    blocks, length = [], 0
    while length <= longest and (block := await response.content.readany()):
        blocks.append(block)
        length += len(block)
    return b"".join(blocks)


def _pause(error: RemoteTransient, tries: int) -> float:
    """Return the seconds before the next try: doubled each time, at random, as told at least."""
    told = str(error.facts.get("retry_after", ""))
    least = float(told) if told.isascii() and told.isdigit() else 0.0
    most = _FIRST_PAUSE * 2 ** (tries - 1)
    return min(least + random.uniform(most / 2, most), _LONGEST_PAUSE)  # noqa: S311 - no secret
