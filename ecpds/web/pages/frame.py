"""What all pages share: the menu's rights, notices after an action, the way back, the theme."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

from aiohttp import web

from ecpds.model.errors import Denied, EcpdsError, InputError, NotFound, Unauthenticated
from ecpds.web.call import Call
from ecpds.web.render import page

NOTICE: Final = "notice"  # cookie that carries a sentence over a redirect
NOTICE_FOR: Final = 60  # seconds
LONGEST: Final = 600  # characters of a notice
THEME: Final = "theme"
THEMES: Final = ("light", "dark")
YEAR: Final = 365 * 86400
TONES: Final = ("good", "info", "warn", "bad")


@dataclass(frozen=True, slots=True)
class Notice:
    """One sentence about what was just done."""

    tone: str
    text: str


def show(
    call: Call, template: str, *, topics: Iterable[str] = (), status: int = 200, **values: Any
) -> web.Response:
    """Answer with a page; `topics` are what it wants to hear of while it is open."""
    notice = _notice(call.request.cookies)
    answer = page(
        call, template, status=status, topics=tuple(topics), notice=notice, **values
    )  # fmt: skip
    if notice is not None:
        answer.del_cookie(NOTICE, path="/", secure=call.secure, samesite="Strict")
    return answer


def _notice(cookies: Mapping[str, str]) -> Notice | None:
    tone, _, text = cookies.get(NOTICE, "").partition(":")
    if tone not in TONES or not text:
        return None
    return Notice(tone, unquote(text)[:LONGEST])


def back(call: Call, address: str, text: str = "", *, tone: str = "good") -> web.Response:
    """Send the browser to `address` by GET, with a notice to be shown there."""
    answer = web.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
    if text:
        answer.set_cookie(
            NOTICE, f"{tone}:{quote(text[:LONGEST])}", max_age=NOTICE_FOR, path="/",
            secure=call.secure, httponly=True, samesite="Strict",
        )  # fmt: skip
    return answer


def refused(call: Call, address: str, error: EcpdsError) -> web.Response:
    """Tell why an action was not done, on the page where it was asked for.

    Raises the error again when the caller may not even see that page.
    """
    if isinstance(error, (Denied, NotFound, Unauthenticated)):
        raise error
    return back(call, address, error.message, tone="bad")


def own_address(text: str, default: str) -> str:
    """Return an address of our own pages, `default` for everything else."""
    is_path = text.startswith("/") and not text.startswith(("//", "/\\"))
    return text if is_path and text.isprintable() and len(text) < 2000 else default


def segment(name: str) -> str:
    """Return a name as one segment of an address."""
    return quote(name, safe="")


def chosen(text: str, known: Mapping[str, Any], what: str) -> Any:
    """Return the value of a word; InputError names the words that are known."""
    if text not in known:
        raise InputError(f"{what}: {text!r} is none of {', '.join(known)}", pointer=what)
    return known[text]


async def set_theme(call: Call) -> web.Response:
    """Remember the colours that this browser shall use."""
    form = await call.form()
    answer = back(call, own_address(form.get("back", ""), "/"))
    theme = form.get("theme", "")
    if theme in THEMES:
        answer.set_cookie(
            THEME, theme, max_age=YEAR, path="/", secure=call.secure, samesite="Lax"
        )  # fmt: skip
    return answer
