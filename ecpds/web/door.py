"""What every request passes: address, caller, right, rate, origin; and how every error goes out.

Handlers see only calls that are allowed.  This is the request boundary: whatever goes wrong inside
becomes problem+json, a page or a line of text, and is logged once.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address, ip_network
from time import monotonic
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from ecpds.base.logs import get_logger, log_context
from ecpds.model.errors import Denied, EcpdsError, Unauthenticated
from ecpds.web import cors
from ecpds.web.apiv1 import envelope
from ecpds.web.call import Call
from ecpds.web.csrf import FIELD, HEADER, SAFE, check_csrf, check_origin
from ecpds.web.errors import Refused, problem
from ecpds.web.listener import WebListener, canonical
from ecpds.web.login import Logins, to_login
from ecpds.web.rates import Rates
from ecpds.web.render import CSP, PLAIN
from ecpds.web.repeats import Repeats
from ecpds.web.rights import OPEN, Caller
from ecpds.web.routes import Kind, Route
from ecpds.web.services import Services

log = get_logger(__name__)

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
API_CSP: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"
NOBODY: Final = "0.0.0.0"  # noqa: S104 - an address that no network allows, nothing is bound
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ID = web.RequestKey("request_id", str)
_ROUTE = web.RequestKey("route", Route)
_CALL = web.RequestKey("call", Call)


class Peers:
    """The address and scheme of a client, also behind a proxy that we trust."""

    def __init__(self, trusted: Iterable[str], *, tls: bool) -> None:
        self._trusted = [ip_network(text, strict=False) for text in trusted]
        self._tls = tls

    def _is_trusted(self, peer: str) -> bool:
        address = ip_address(peer)
        return any(address in network for network in self._trusted)

    def of(self, request: web.Request) -> tuple[str, bool, bool]:
        """Return address, whether it came over TLS, and whether a proxy told so."""
        peer = canonical(request.remote or NOBODY)
        if not self._trusted or not self._is_trusted(peer):
            return peer, self._tls, False
        secure = self._tls or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
        hops = request.headers.get("X-Forwarded-For", "").split(",")
        for hop in reversed([hop.strip() for hop in hops if hop.strip()]):
            try:
                peer = canonical(hop)
            except ValueError:
                break
            if not self._is_trusted(peer):
                return peer, secure, True
        return peer, secure, False


class Door:
    """Leads requests to the handlers of the route table."""

    def __init__(
        self,
        services: Services,
        logins: Logins,
        peers: Peers,
        check: Callable[[str], Awaitable[None]],
        rates: Rates,
    ) -> None:
        """`check` raises Banned for an address that failed too often."""
        self._services = services
        self._logins = logins
        self._peers = peers
        self._check = check
        self._rates = rates
        self._repeats = Repeats()
        self.listener: WebListener | None = None

    def handler(self, route: Route) -> Next:
        """Return what aiohttp calls for a route."""

        async def serve(request: web.Request) -> web.StreamResponse:
            request[_ROUTE] = route
            return await self._serve(request, route)

        return serve

    async def _serve(self, request: web.Request, route: Route) -> web.StreamResponse:
        peer, secure, forwarded = self._peers.of(request)
        if forwarded:
            await self._check(peer)
        who = await self._who(request, route, peer)
        if route.right != OPEN and who is None:
            if route.kind == "page" and request.method in SAFE:
                return to_login(request.path_qs)
            raise Unauthenticated("a token or a login is needed")
        call = Call(
            request, self._services, route, who=who, peer=peer, secure=secure,
            request_id=request[_ID],
        )  # fmt: skip
        request[_CALL] = call
        await self._allow(call, who)
        with log_context(request=call.request_id):
            return await self._repeats.once(call, route.handle)

    async def _who(self, request: web.Request, route: Route, peer: str) -> Caller | None:
        if route.kind == "v1":
            return None if route.right == OPEN else await self._logins.of_v1(request, peer)
        if route.right != OPEN or route.kind == "page" or "Authorization" in request.headers:
            return await self._logins.who(request, peer, api=route.kind != "page")
        return None

    async def _allow(self, call: Call, who: Caller | None) -> None:
        """Raise unless right, rate and origin are fine."""
        route = call.route
        if who is not None:
            if not who.may_call(route.services):
                raise Denied("User not authorized")
            if not who.may(route.right):
                raise Denied(f"{who.name} has no {route.right}")
            self._slow_down(who)
        if call.request.method in SAFE:
            return
        if route.kind == "page" or (who is not None and who.session):
            check_origin(call.request)
        if who is not None and who.session:
            given = call.request.headers.get(HEADER, "")
            if not given and route.kind == "page":
                given = (await call.form()).get(FIELD, "")
            check_csrf(who.session, given)

    def _slow_down(self, who: Caller) -> None:
        name = f"token {who.token.id}" if who.token is not None else f"user {who.name}"
        wait = self._rates.take(name)
        if wait:
            raise Refused(429, "rate", "too many requests", retry_after=wait)

    # --- the boundary -----------------------------------------------------------------------

    def boundary(self) -> Middleware:
        """Return the middleware around everything."""

        @web.middleware
        async def guard(request: web.Request, handler: Next) -> web.StreamResponse:
            return await self._guard(request, handler)

        return guard

    async def _guard(self, request: web.Request, handler: Next) -> web.StreamResponse:
        given = request.headers.get("X-Request-Id", "")
        request[_ID] = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        begun = monotonic()
        if self.listener is not None:
            self.listener.begins(request)
        try:
            answer = await self._answered(request, handler)
            if "Expect" in request.headers:
                await _end_unless_asked(request, answer)
        finally:
            if self.listener is not None:
                self.listener.ends(request)
        log.debug(
            "request", method=request.method, path=request.path, status=answer.status,
            seconds=round(monotonic() - begun, 4), request=request[_ID],
        )  # fmt: skip
        return answer

    async def _answered(self, request: web.Request, handler: Next) -> web.StreamResponse:
        asked = cors.preflight(request, self._services.core.settings.api.cors_allow_origin)
        if asked is not None:
            return asked
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                return error
            await self._know(request)
            return self._refusal(request, _of_aiohttp(error))
        except (EcpdsError, Refused) as error:
            return self._refusal(request, error)
        except ConnectionError:
            raise  # nobody is there to answer
        except Exception as error:  # noqa: BLE001 - the request boundary
            log.error(  # noqa: TRY400 - the trace is in `exc`
                "request failed", exc=error, method=request.method, path=request.path,
                request=request[_ID],
            )  # fmt: skip
            return self._refusal(
                request, Refused(500, "internal", "something went wrong on our side")
            )

    async def _know(self, request: web.Request) -> None:
        """Find out who asks for an address that is not there, so that the error page is a page."""
        if _kind(request) != "page" or request.get(_CALL) is not None:
            return
        peer, secure, _ = self._peers.of(request)
        who = await self._logins.who(request, peer, api=False)
        request[_CALL] = Call(
            request, self._services, NOWHERE, who=who, peer=peer, secure=secure,
            request_id=request[_ID],
        )  # fmt: skip

    def _refusal(self, request: web.Request, error: EcpdsError | Refused) -> web.StreamResponse:
        status, document, headers = problem(error, request[_ID])
        if status >= 500:
            log.warning("refused", status=status, reason=error.message, request=request[_ID])
        kind = _kind(request)
        if kind == "v1":
            http_errors = self._services.core.settings.api.v1.http_errors
            return envelope.refusal(error, request[_ID], http_errors=http_errors)
        if kind == "api":
            body = json.dumps(document, ensure_ascii=False)
            return web.Response(
                text=body, status=status, content_type="application/problem+json", headers=headers
            )
        headers.pop("WWW-Authenticate", None)
        if kind == "plain":
            return web.Response(text=f"{error.message}\n", status=status, headers=headers)
        return self._error_page(request, status, str(document["title"]), error.message, headers)

    def _error_page(
        self, request: web.Request, status: int, title: str, message: str, headers: dict[str, str]
    ) -> web.Response:
        call, renderer = request.get(_CALL), self._services.renderer
        if call is not None and renderer.has("error.html"):
            return renderer.page(
                call, "error.html", status=status, headers=headers, title=title, message=message
            )
        text = PLAIN.format(status=status, title=title, message=_escaped(message))
        return web.Response(text=text, status=status, content_type="text/html", headers=headers)

    async def dress(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Add the headers that every answer has, before its head goes out."""
        allowed = self._services.core.settings.api.cors_allow_origin
        if allowed:
            answer.headers.update(cors.fields(request, allowed))
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        answer.headers.setdefault("X-Request-Id", request.get(_ID, ""))
        is_page = answer.content_type == "text/html"
        answer.headers.setdefault("Content-Security-Policy", CSP if is_page else API_CSP)
        answer.headers.setdefault("Cache-Control", "no-store")
        answer.headers["Server"] = "ecpds"


async def _end_unless_asked(request: web.Request, answer: web.StreamResponse) -> None:
    """Hang up on a client whose body was never asked for: it may not send it any more."""
    call = request.get(_CALL)
    if call is not None and call.was_asked:
        return
    answer.force_close()
    await answer.prepare(request)
    await answer.write_eof()
    request.protocol.force_close()


async def _nowhere(call: Call) -> web.StreamResponse:
    raise Refused(404, "not-found", f"there is no {call.request.path}")


NOWHERE: Final = Route(method="GET", path="/", right=OPEN, handle=_nowhere, kind="page")


def _kind(request: web.Request) -> Kind:
    route: Route | None = request.get(_ROUTE)
    if route is not None:
        return route.kind
    if request.path.startswith(envelope.BASE):
        return "v1"
    return "api" if request.path.startswith("/api") else "page"


def _of_aiohttp(error: web.HTTPException) -> Refused:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Refused(405, "method", f"only {allowed} here", allow=allowed)
    texts = {404: ("not-found", "there is no such address"), 413: ("too-large", "too large")}
    code, message = texts.get(error.status, ("http", error.reason or ""))
    return Refused(error.status, code, message)


def _escaped(text: str) -> str:
    for sign, escape in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, escape)
    return text
