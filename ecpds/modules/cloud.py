"""Requests to object stores that speak REST: one session, errors by code, small answers as a whole.

Used by `genericAzure` and `genericGcs`; the TLS, address and proxy side is the HTTP module's.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, quote

import aiohttp
from yarl import URL

from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteTimeout,
    RemoteTransient,
)
from ecpds.modules.http_body import SourceBody
from ecpds.modules.http_client import HttpClient
from ecpds.modules.http_errors import Ask
from ecpds.modules.http_options import HttpOptions
from ecpds.transfer.contract import Surroundings, Target

TRIES: Final = 4
"""Times that one request is sent at most."""

LONGEST_ANSWER: Final = 16 * 1024 * 1024
LONGEST_ERROR: Final = 64 * 1024
"""Bytes of an answer that is read as a whole."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
_EARLY: Final = (Phase.RESOLVE, Phase.CONNECT, Phase.TLS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request."""

    method: str
    about: str  # for messages
    path: str  # percent-encoded, below the endpoint
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None  # a small body
    body: Callable[[], SourceBody] | None = None  # makes a large one, anew for each try
    length: int = 0  # of the body
    phase: Phase = Phase.DATA
    limit: timedelta
    stall: float = 0.0  # seconds; 0 = as `limit`
    accepted: tuple[int, ...] = ()  # beside 2xx
    once: bool = False  # not sent again by itself


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read as a whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Signs(Protocol):
    """Gives requests the proof of who sends them."""

    async def __call__(
        self, call: Call, path: str, headers: Mapping[str, str]
    ) -> tuple[Mapping[str, str], tuple[tuple[str, str], ...]]:
        """Return all headers, and further parts of the query; `path` is that of the address."""
        ...


class CloudClient:
    """A session with one service."""

    def __init__(
        self,
        http: HttpClient,
        base: URL,
        signs: Signs,
        meaning: Callable[[Answer, Call], RemoteError],
        tries: int,
    ) -> None:
        self._tries = tries
        self._http = http
        self._base = base
        self._signs = signs
        self._meaning = meaning

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        target: Target,
        base: URL,
        options: HttpOptions,
        around: Surroundings,
        signs: Signs,
        meaning: Callable[[Answer, Call], RemoteError],
        *,
        tries: int = TRIES,
    ) -> AsyncIterator[CloudClient]:
        """Give a session with the service at `base`; nothing is connected yet.

        `meaning` makes the error of an answer that is none of the wanted ones; `tries`: how often
        one request is sent at most.
        """
        async with HttpClient.open(at(target, base), options, around) as http:
            yield cls(http, base, signs, meaning, tries)

    @property
    def peer(self) -> str:
        """Return the address of the service, once it was asked something."""
        return self._http.peer

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the last connection."""
        return self._http.statistics()

    def below(self, path: str) -> str:
        """Return a path of the service as one below the endpoint."""
        return path.removeprefix(self._base.raw_path.rstrip("/"))

    async def demand(self, call: Call, *, longest: int = LONGEST_ANSWER) -> Answer:
        """Send a request and return its answer, at most `longest` bytes of it."""
        async with self.ask(call) as response:
            return await read(call, response, longest)

    @asynccontextmanager
    async def ask(self, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give its answer; the status is 2xx or an accepted one."""
        async with AsyncExitStack() as stack:
            yield await self._answer(call, stack)

    async def _answer(self, call: Call, stack: AsyncExitStack) -> aiohttp.ClientResponse:
        tries = 0
        while True:
            try:
                return await self._tried(call, stack)
            except RemoteTransient as error:
                tries += 1
                if tries >= self._tries or call.once or not _may_help(error):
                    raise
            await asyncio.sleep(_pause(tries))

    async def _tried(self, call: Call, stack: AsyncExitStack) -> aiohttp.ClientResponse:
        path = self._base.raw_path.rstrip("/") + call.path
        headers, more = await self._signs(call, path, call.headers)
        query = "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}"
            for name, value in (*call.query, *more)
        )
        text = f"{self._http.origin}{path}" + (f"?{query}" if query else "")
        ask = Ask(
            method=call.method,
            url=URL(text, encoded=True),
            about=call.about,
            phase=call.phase,
            headers=headers,
            body=call.body() if call.body is not None else None,
            content=call.content,
            limit=call.limit.total_seconds(),
            stall=call.stall,
            follow=False,
        )
        async with AsyncExitStack() as trying:
            response = await trying.enter_async_context(self._http.ask(ask))
            if 200 <= response.status < 300 or response.status in call.accepted:
                if ask.body is not None and not ask.body.is_complete:
                    raise ConnectionLost(f"{call.about}: the answer came before all was sent")
                await stack.enter_async_context(trying.pop_all())
                return response
            answer = await read(call, response, LONGEST_ERROR, cut=True)
        raise self._meaning(answer, call)


def at(target: Target, base: URL) -> Target:
    """Return a target for sessions with the service at `base`."""
    host = base.host or ""
    return replace(target, host=host, address=target.address if host == target.host else "")


def endpoint(text: str, *, option: str) -> URL:
    """Return the address that an option names; raises RemoteConfig."""
    try:
        url = URL(text.strip(), encoded=True)
        good = url.scheme in ("http", "https") and bool(url.host) and url.user is None
    except ValueError:
        good = False
    if not good:
        raise RemoteConfig(f"{option} is no http(s) address without a login", phase=Phase.CONNECT)
    return url


async def nobody(
    call: Call, path: str, headers: Mapping[str, str]
) -> tuple[Mapping[str, str], tuple[tuple[str, str], ...]]:
    """Prove nothing."""
    return headers, ()


def plain_error(answer: Answer, call: Call) -> RemoteError:
    """Return the error of an answer by its status only."""
    cls = RemoteTransient if answer.status >= 500 or answer.status == 429 else RemoteAuth
    return cls(f"{call.about}: {answer.status}", phase=call.phase, remote_code=str(answer.status))


async def ask_json(
    target: Target,
    url: str,
    option: str,
    http: HttpOptions,
    around: Surroundings,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> Mapping[str, Any]:
    """Return the JSON object that the address in an option gives (tokens, signatures)."""
    place = endpoint(url, option=option)
    call = Call(
        method=method,
        about=option,
        path="",
        query=tuple(parse_qsl(place.raw_query_string, keep_blank_values=True)),
        headers=headers or {},
        content=content,
        phase=Phase.AUTH,
        limit=target.timeouts.command,
    )
    http = replace(http, scheme="https" if place.scheme == "https" else "http", port=place.port)
    base = place.with_query(None)
    async with CloudClient.open(target, base, http, around, nobody, plain_error) as client:
        answer = await client.demand(call, longest=LONGEST_ERROR)
    try:
        found = json.loads(answer.content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RemoteConfig(f"{option}: the answer is no JSON object", phase=Phase.AUTH)
    return found


async def read(
    call: Call, response: aiohttp.ClientResponse, longest: int, *, cut: bool = False
) -> Answer:
    """Return an answer with its content; more than `longest` bytes is an error, or is cut."""
    blocks, length = [], 0
    if call.method != "HEAD":
        while length <= longest and (block := await response.content.readany()):
            blocks.append(block)
            length += len(block)
    if length > longest and not cut:
        raise RemoteTransient(f"{call.about}: the answer is too long", phase=call.phase)
    return Answer(response.status, response.headers, b"".join(blocks)[:longest])


def _may_help(error: RemoteTransient) -> bool:
    # the pool tries again to connect; a silent service has had its time
    return not isinstance(error, RemoteTimeout) and error.phase not in _EARLY


def _pause(tries: int) -> float:
    most = min(_FIRST_PAUSE * 2 ** (tries - 1), _LONGEST_PAUSE)
    return random.uniform(most / 2, most)  # noqa: S311 - no secret
