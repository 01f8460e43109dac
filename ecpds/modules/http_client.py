"""Requests of the HTTP module: addresses, login, redirects, time limits and the meaning of errors.

Redirects are followed here and not by aiohttp: each step is checked like a link, and the login and
the further headers go to the configured origin only.

Spec: transfer-modules-protocols.md 3.1-3.2; RFC 9110; transfer-modules.md section 6.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import aiohttp
from yarl import URL

from ecpds.model.errors import (
    Phase,
    RemoteConfig,
    RemoteError,
    RemoteTransient,
    SourceBroke,
    Unsupported,
)
from ecpds.modules.http_address import origin_of
from ecpds.modules.http_egress import Egress, Resolver
from ecpds.modules.http_errors import Ask, refusal, translated
from ecpds.modules.http_options import HttpOptions
from ecpds.modules.trust import client_context
from ecpds.transfer.contract import Surroundings, Target

READ_BUFFER: Final = 1024 * 1024
"""Bytes of a download that may wait for the sink."""

MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer that is of no interest; a longer one costs the connection."""

_MOVED: Final = frozenset({301, 302, 303})
_MOVED_AS_IT_IS: Final = frozenset({307, 308})


class HttpClient:
    """A session with one origin."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        egress: Egress,
        options: HttpOptions,
        proxy: URL | None,
        own_headers: Mapping[str, str],
        connect_timeout: float,
    ) -> None:
        self.origin = egress.origin
        self._session = session
        self._egress = egress
        self._options = options
        self._proxy = proxy
        self._own_headers = own_headers
        self._connect_timeout = connect_timeout

    @property
    def peer(self) -> str:
        """Return the address of the server (or proxy), once it was asked something."""
        return self._egress.peer

    @property
    def has_login(self) -> bool:
        """Whether requests carry a login."""
        return any(name.lower() == "authorization" for name in self._own_headers)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, target: Target, options: HttpOptions, around: Surroundings
    ) -> AsyncIterator[HttpClient]:
        """Give a client; nothing is connected yet."""
        proxy = _proxy_of(options)
        origin = origin_of(target, options)
        egress = Egress(target, origin, around, proxy)
        own_headers = _own_headers(target, options)
        connector = await _connector(target, options, around, egress)
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
            trust_env=False,
            headers={"User-Agent": "ecpds", "Accept": "*/*", "Accept-Encoding": "identity"},
        )
        try:
            limit = target.timeouts.connect.total_seconds()
            yield cls(session, egress, options, proxy, own_headers, limit)
        finally:
            await session.close()

    @asynccontextmanager
    async def ask(self, ask: Ask) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, follow redirects, and give the answer, whatever its status.

        Leaving the block gives the connection back if the answer was read to its end.
        """
        response = await self._answer(ask)
        try:
            with translated(ask, self.origin):
                yield response
        except BaseException:
            response.close()
            raise
        finally:
            if not response.closed:
                await self._finish(response, ask)

    async def demand(self, ask: Ask) -> aiohttp.ClientResponse:
        """Send a request; return the answer without its body if the status is 2xx, raise else."""
        async with self.ask(ask) as response:
            if not 200 <= response.status < 300:
                raise refusal(response, ask)
            return response

    async def _answer(self, ask: Ask) -> aiohttp.ClientResponse:
        url = ask.url
        for _ in range(self._options.max_redirects + 1):
            self._egress.check(url)
            response = await self._request(ask, url)
            where = response.headers.get("Location", "")
            if not where or not _may_follow(ask, response.status):
                return response
            if ask.body is not None:
                response.close()  # it may still be on its way
            else:
                await self._finish(response, ask)
            url = self._next(ask, response, where)
        raise RemoteConfig(
            f"{ask.about}: more than {self._options.max_redirects} redirects", phase=ask.phase
        )

    def _next(self, ask: Ask, response: aiohttp.ClientResponse, where: str) -> URL:
        try:
            url = response.url.join(URL(where)).with_fragment(None)
        except ValueError:
            raise RemoteTransient(f"{ask.about}: bad redirect", phase=ask.phase) from None
        if ask.body is not None:
            try:
                ask.body.restart()
            except (Unsupported, SourceBroke):
                raise RemoteConfig(
                    f"the server sends uploads on to {url.origin()}, and this content can be sent"
                    " once only: see http.expectContinue",
                    phase=ask.phase,
                ) from None
        return url

    async def _request(self, ask: Ask, url: URL) -> aiohttp.ClientResponse:
        headers = dict(self._own_headers) if self._egress.is_origin(url) else {}
        headers |= ask.headers or {}
        with translated(ask, self.origin):
            if ask.body is not None:
                # the clock for the answer starts when the body is out, and is aiohttp's
                expect = self._options.expect_continue
                response = await self._send(
                    ask.method, url, headers, ask.limit, data=ask.body, expect100=expect
                )
            else:
                async with asyncio.timeout(self._connect_timeout + ask.limit):
                    response = await self._send(
                        ask.method, url, headers, ask.stall or ask.limit, data=ask.content
                    )
        return response

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], read: float, **kwargs: Any
    ) -> aiohttp.ClientResponse:
        times = aiohttp.ClientTimeout(sock_connect=self._connect_timeout, sock_read=read)
        return await self._session.request(
            method,
            url,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy,
            timeout=times,
            **kwargs,
        )

    async def _finish(self, response: aiohttp.ClientResponse, ask: Ask) -> None:
        """Read what is left of a short answer, so that the connection can be used again."""
        left = MAX_ANSWER
        try:
            with translated(ask, self.origin):
                while left > 0 and (block := await response.content.readany()):
                    left -= len(block)
        except RemoteError:
            left = 0
        if left > 0:
            response.release()
        else:
            response.close()


def _may_follow(ask: Ask, status: int) -> bool:
    """Whether the same request may be sent where a redirect leads (RFC 9110, 15.4)."""
    if not ask.follow:
        return False
    if status in _MOVED:
        return ask.method in ("GET", "HEAD", "OPTIONS")
    return status in _MOVED_AS_IT_IS


def _own_headers(target: Target, options: HttpOptions) -> Mapping[str, str]:
    headers = dict(options.header_lines())
    login = options.login or target.login
    if login and options.auth_header:
        password = (options.password or target.password).reveal()
        token = base64.b64encode(f"{login}:{password}".encode()).decode()
        headers.setdefault("Authorization", f"Basic {token}")
    return headers


def _proxy_of(options: HttpOptions) -> URL | None:
    text = options.proxy.reveal().strip()
    if not text:
        return None
    if re.fullmatch(r"\w+=[^,]*(,\w+=[^,]*)*", text):  # older form: host=,protocol=,port=
        given = dict(part.split("=", 1) for part in text.split(","))
        scheme, port = given.get("protocol", "http"), given.get("port", "8080")
        text = f"{scheme}://{given.get('host', '')}:{port}"
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme != "http" or not url.host:
        raise RemoteConfig("http.proxy is no http://host:port", phase=Phase.CONNECT)
    return url


async def _connector(
    target: Target, options: HttpOptions, around: Surroundings, egress: Egress
) -> aiohttp.TCPConnector:
    verify = target.tls.verify and options.ssl_validation
    trust = replace(target.tls, verify=verify)
    context = await around.threads.run("disk", client_context, trust, minimum=options.protocol)
    if not options.strict:
        context.check_hostname = False
    tuning = target.sockets

    def make(info: Any) -> socket.socket:
        sock = socket.socket(info[0], info[1], info[2])
        tuning.apply(sock)
        egress.note(str(info[4][0]))
        return sock

    return aiohttp.TCPConnector(
        ssl=context,
        resolver=Resolver(egress),
        use_dns_cache=False,
        local_addr=(tuning.local_address, 0) if tuning.local_address else None,
        socket_factory=make,
        limit=0,
        happy_eyeballs_delay=None,  # one address after the other: the last one is the peer
        keepalive_timeout=max(options.keep_alive.total_seconds(), 1.0),
    )
