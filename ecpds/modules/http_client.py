"""Requests of the HTTP module: addresses, login, redirects, time limits and the meaning of errors.

Redirects are followed here and not by aiohttp: each step is checked like a link, and the login and
the further headers go to the configured origin only.

Spec: transfer-modules-protocols.md 3.1-3.2; RFC 9110; transfer-modules.md section 6.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
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
from ecpds.modules.http_login import MAX_TOKEN, Login
from ecpds.modules.http_options import HttpOptions
from ecpds.modules.trust import shared_context
from ecpds.transfer.contract import Surroundings, Target
from ecpds.transfer.proxies import Proxy, parse_proxy
from ecpds.transfer.sockets import open_socket, statistics

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
        login: Login,
        connect_timeout: float,
    ) -> None:
        self.origin = egress.origin
        self._session = session
        self._egress = egress
        self._options = options
        self._proxy = proxy
        self._login = login
        self._connect_timeout = connect_timeout

    @property
    def peer(self) -> str:
        """Return the address of the server (or proxy), once it was asked something."""
        return self._egress.peer

    @property
    def has_login(self) -> bool:
        """Whether requests carry a login."""
        return self._login.is_given

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the latest connection to the host."""
        return statistics(self._egress.sock) if self._egress.sock is not None else {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, target: Target, options: HttpOptions, around: Surroundings
    ) -> AsyncIterator[HttpClient]:
        """Give a client; nothing is connected yet."""
        chosen = parse_proxy(options.proxy.reveal(), "http.proxy") or target.proxy
        proxy = None if chosen is None else _url_of(chosen)
        origin = origin_of(target, options)
        egress = Egress(target, origin, around, proxy, trusted=_trusted(options))
        login = Login(target, options, around)
        tunnel = chosen if chosen is not None and chosen.is_socks else None
        connector = await _connector(target, options, around, egress, tunnel)
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
            yield cls(session, egress, options, None if tunnel else proxy, login, limit)
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
        seen: set[URL] = set()
        for _ in range(self._options.max_redirects + 1):
            if url in seen and not self._options.circular_redirects:
                raise RemoteConfig(f"{ask.about}: the redirects go in a circle", phase=ask.phase)
            seen.add(url)
            self._egress.check(url)
            response = await self._request(ask, url)
            if self._egress.is_origin(url):
                response = await self._logged_in(ask, url, response)
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

    async def _logged_in(
        self, ask: Ask, url: URL, response: aiohttp.ClientResponse
    ) -> aiohttp.ClientResponse:
        """Answer the challenge of the origin, if that is worth another request."""
        offered = response.headers.getall("WWW-Authenticate", [])
        if not self._login.challenged(response.status, offered):
            if response.status < 400:
                self._login.accepted()
            return response
        if ask.body is not None:
            response.close()
            ask.body.restart()
        else:
            await self._finish(response, ask)
        return await self._request(ask, url)

    async def _fetch(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        """Send a small request of the login itself; its redirects are not followed."""
        limit = self._connect_timeout
        ask = Ask(
            method=method, url=url, about="token", phase=Phase.AUTH, limit=limit, content=body
        )
        self._egress.check(url)
        with translated(ask, url.origin()):
            async with asyncio.timeout(2 * limit):
                response = await self._send(method, url, headers, limit, data=body)
                try:
                    return response.status, await response.content.read(MAX_TOKEN)
                finally:
                    response.close()

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
        headers: dict[str, str] = {}
        if self._egress.is_origin(url):
            headers = await self._login.headers(ask.method, url, self._fetch)
        headers |= ask.headers or {}
        with translated(ask, self.origin):
            if ask.body is not None:
                # the clock for the answer starts when the body is out, and is aiohttp's
                expect = self._options.expect_continue
                try:
                    response = await self._send(
                        ask.method, url, headers, ask.limit, data=ask.body, expect100=expect
                    )
                except BaseException:
                    self._egress.hang_up()
                    raise
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


def _url_of(proxy: Proxy) -> URL:
    """Return a proxy as aiohttp takes it."""
    return URL.build(
        scheme=proxy.scheme,
        user=proxy.login or None,
        password=proxy.password.reveal() or None,
        host=proxy.host,
        port=proxy.port,
    )


def _trusted(options: HttpOptions) -> tuple[URL, ...]:
    """Return the addresses beside the origin that the operator has named."""
    try:
        return (URL(options.token_url).origin(),) if options.token_url else ()
    except ValueError:
        raise RemoteConfig("http.tokenUrl is no address", phase=Phase.CONNECT) from None


class _Tunnel(aiohttp.TCPConnector):
    """Connects through a SOCKS proxy to addresses that we have looked up and may reach."""

    def __init__(self, target: Target, proxy: Proxy, around: Surroundings, **given: Any) -> None:
        super().__init__(**given)
        self._through = (replace(target, proxy=proxy), around)

    async def _wrap_create_connection(
        self, *args: Any, addr_infos: Any, req: Any, timeout: Any, **given: Any
    ) -> Any:
        given.pop("client_error", None)
        target, around = self._through
        where = addr_infos[0][-1]
        there = replace(target, host=str(where[0]), address=str(where[0]))
        sock = await open_socket(there, int(where[1]), around)
        try:
            loop = asyncio.get_running_loop()
            return await loop.create_connection(*args, **given, sock=sock)
        except ssl.CertificateError as error:
            sock.close()
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
        except ssl.SSLError as error:
            sock.close()
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except BaseException:
            sock.close()
            raise


def _may_need_tls(target: Target, options: HttpOptions) -> bool:
    """Whether anything may be reached over TLS; a context costs 30 ms."""
    has_proxy = target.proxy is not None or bool(options.proxy)
    return options.scheme == "https" or options.max_redirects > 0 or has_proxy


async def _context(target: Target, options: HttpOptions, around: Surroundings) -> ssl.SSLContext:
    verify = target.tls.verify and options.ssl_validation
    trust = replace(target.tls, verify=verify)
    return await shared_context(around, trust, minimum=options.least_tls, check_host=options.strict)


async def _connector(
    target: Target,
    options: HttpOptions,
    around: Surroundings,
    egress: Egress,
    tunnel: Proxy | None,
) -> aiohttp.TCPConnector:
    context = await _context(target, options, around) if _may_need_tls(target, options) else False
    tuning = target.sockets

    def make(info: Any) -> socket.socket:
        sock = socket.socket(info[0], info[1], info[2])
        tuning.apply(sock)
        egress.note(str(info[4][0]), sock)
        return sock

    given: dict[str, Any] = {
        "ssl": context,
        "resolver": Resolver(egress),
        "use_dns_cache": False,
        "local_addr": (tuning.local_address, 0) if tuning.local_address else None,
        "socket_factory": make,
        "limit": 0,
        "happy_eyeballs_delay": None,  # one address after the other: the last one is the peer
        "keepalive_timeout": max(options.keep_alive.total_seconds(), 1.0),
    }
    if tunnel is not None:
        return _Tunnel(target, tunnel, around, **given)
    return aiohttp.TCPConnector(**given)
