"""Addresses outside of pages and API: health, metrics, files, live rows, login and logout."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from typing import Final

from aiohttp import web

from ecpds.base.logs import get_logger
from ecpds.model.errors import Denied, EcpdsError, Unauthenticated
from ecpds.store import site
from ecpds.web import login
from ecpds.web.api import answers
from ecpds.web.call import Call
from ecpds.web.live import Stream, encode
from ecpds.web.login import Logins
from ecpds.web.rights import OPEN, SIGNED_IN
from ecpds.web.routes import FORM_LIMIT, Route
from ecpds.web.topics import parse_topics

log = get_logger(__name__)

KEEP_ALIVE: Final = 15.0  # seconds
PATIENCE: Final = 30.0  # seconds for a reader to take what there is
RETRY: Final = "retry: 3000\n"  # milliseconds


async def healthz(call: Call) -> web.StreamResponse:
    """Tell that the loop answers."""
    del call
    return web.Response(text="ok\n")


async def readyz(call: Call) -> web.StreamResponse:
    """Tell whether everything works; what does not, only to those who are known."""
    checks = call.services.ready()
    checks["store"] = await _store_answers(call)
    fine = all(check["ok"] for check in checks.values())
    document: dict[str, object] = {"ready": fine}
    if call.who is not None or _is_local(call):
        document["checks"] = checks
    else:
        document["checks"] = {name: {"ok": check["ok"]} for name, check in checks.items()}
    return answers.as_json(document, status=200 if fine else 503)


def _is_local(call: Call) -> bool:
    return ip_address(call.peer).is_loopback


async def _store_answers(call: Call) -> dict[str, object]:
    begun = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(1.0):
            await call.services.core.store.read(site.meta, "administrator")
    except (EcpdsError, TimeoutError) as error:
        return {"ok": False, "reason": str(error) or "no answer within 1 s"}
    taken = asyncio.get_running_loop().time() - begun
    return {"ok": True, "ms": round(taken * 1000, 2)}


async def metrics(call: Call) -> web.StreamResponse:
    """Answer in the Prometheus text form, to allowed networks and `stats:read`."""
    allowed = call.services.core.settings.monitor.metrics_allow
    address = ip_address(call.peer)
    if not any(address in ip_network(network, strict=False) for network in allowed):
        if call.who is None:
            raise Unauthenticated("a token is needed from your network")
        if not call.who.may("stats:read"):
            raise Denied(f"{call.who.name} has no stats:read")
    await call.services.figures.refresh()
    return web.Response(
        body=call.services.core.metrics.text(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


async def static(call: Call) -> web.StreamResponse:
    """Answer with a style sheet, script or picture."""
    return call.services.statics.answer(call.request, call.name("file"))


async def live(call: Call, logins: Logins) -> web.StreamResponse:
    """Stream what changes on the objects that the page shows."""
    topics = parse_topics(call.text("topics"))
    answer = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
    )

    def drop() -> None:
        if call.request.transport is not None:
            call.request.transport.abort()

    def is_gone() -> bool:
        return call.request.transport is None or call.request.transport.is_closing()

    with call.services.live.stream(call.caller, topics, drop, is_gone) as stream:
        await answer.prepare(call.request)
        last = call.request.headers.get("Last-Event-ID") or call.text("last")
        first = "" if last else f"id: {call.services.live.number}\n"
        stream.put(f"{RETRY}{first}\n".encode())
        call.services.live.catch_up(stream, last)
        try:
            await _pump(call, answer, stream, logins)
        except (ConnectionError, TimeoutError):
            drop()
    return answer


async def _pump(call: Call, answer: web.StreamResponse, stream: Stream, logins: Logins) -> None:
    """Send what comes; every 15 s look whether the session still is."""
    while True:
        await _woken(stream)
        data = stream.take()
        if stream.closed:
            return
        if not data:
            who = await logins.again(stream.caller)
            if who is None:
                number = call.services.live.number
                await answer.write(encode("bye", {"reason": "session ended"}, number))
                return
            stream.caller = who
            data = b": keep-alive\n\n"
        async with asyncio.timeout(PATIENCE):
            await answer.write(data)


async def _woken(stream: Stream) -> None:
    try:
        async with asyncio.timeout(KEEP_ALIVE):
            await stream.woken.wait()
    except TimeoutError:
        return


def routes(logins: Logins) -> tuple[Route, ...]:
    """Return the routes; some need to know how people log in."""
    return (
        Route(method="GET", path="/healthz", right=OPEN, handle=healthz, kind="plain"),
        Route(method="GET", path="/readyz", right=OPEN, handle=readyz, kind="plain"),
        Route(method="GET", path="/metrics", right=OPEN, handle=metrics, kind="plain"),
        Route(method="GET", path="/static/{file:.+}", right=OPEN, handle=static, kind="plain"),
        Route(method="GET", path="/live", right=SIGNED_IN, handle=lambda call: live(call, logins),
              kind="plain"),
        Route(method="GET", path="/login", right=OPEN, kind="page", handle=login.get_login,
              summary="The login form."),
        Route(method="POST", path="/login", right=OPEN, kind="page", body_limit=FORM_LIMIT,
              handle=lambda call: login.post_login(call, logins)),
        Route(method="POST", path="/logout", right=OPEN, kind="page", body_limit=FORM_LIMIT,
              handle=lambda call: login.post_logout(call, logins)),
    )  # fmt: skip
