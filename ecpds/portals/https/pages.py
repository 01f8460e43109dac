"""Templates and static files of the portal's pages, and what a site may change about them.

Everything that comes from users or names goes through autoescape; the branding texts too, so that
an option of a data user can never become markup.  All files are read once, at the start.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from ecpds.model.errors import EcpdsError, InputError, Unauthenticated
from ecpds.model.units import parse_bool
from ecpds.portals.https import answers
from ecpds.portals.https.exchange import Answer, Ask
from ecpds.portals.https.fields import PAGE_POLICY, security
from ecpds.portals.https.listings import stamp

START = "/ecpds/file/"
_ASSETS = {
    "portal.css": "text/css; charset=utf-8",
    "portal.js": "text/javascript; charset=utf-8",
    "portal.svg": "image/svg+xml",
}
_ACCENT = re.compile(r"accent-([0-9a-f]{6})\.css")
_HEX = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_COLOURS = {
    "black": "000000",
    "blue": "1f5fbf",
    "brown": "7a4a24",
    "cyan": "0b7a8a",
    "gray": "5f6b76",
    "green": "1f7a3d",
    "grey": "5f6b76",
    "maroon": "800000",
    "navy": "1b2f6b",
    "olive": "6b6b00",
    "orange": "c25e00",
    "purple": "6b2f8f",
    "red": "b3261e",
    "teal": "0f766e",
    "white": "ffffff",
    "yellow": "e0b400",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """The texts and the colour that `portal.*` options give to the pages."""

    title: str
    tab: str
    accent: str = ""  # six hex digits
    footer: str = ""
    warning: str = ""
    msg_top: str = ""
    msg_down: str = ""
    welcome: str = ""
    login_button: bool = True
    access_guide: bool = True


def brand(options: Mapping[str, str]) -> Brand:
    """Return the branding of a user's pages."""

    def text(name: str) -> str:
        return options.get(f"portal.{name}", "").strip()

    title = text("title") or "Data portal"
    return Brand(
        title=title,
        tab=text("tab") or title,
        accent=_accent(text("color")),
        footer=text("footer"),
        warning=text("warning"),
        msg_top=text("msgTop"),
        msg_down=text("msgDown"),
        welcome=text("welcome"),
        login_button=is_on(options, "loginButton", default=True),
        access_guide=is_on(options, "accessGuide", default=True),
    )


def is_on(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Return the switch `portal.<name>`; a text that is none counts as not set."""
    try:
        return parse_bool(options.get(f"portal.{name}", ""))
    except InputError:
        return default


def _accent(text: str) -> str:
    digits = _COLOURS.get(text.lower(), text)
    if not _HEX.fullmatch(digits):
        return ""
    digits = digits.removeprefix("#").lower()
    return digits if len(digits) == 6 else "".join(2 * digit for digit in digits)


def _accent_sheet(digits: str) -> bytes:
    """Return the style sheet of a colour; its text is black or white, whichever can be read."""
    red, green, blue = (int(digits[place : place + 2], 16) for place in (0, 2, 4))
    bright = 299 * red + 587 * green + 114 * blue > 150_000
    ink = "111111" if bright else "ffffff"
    return f":root{{--accent:#{digits};--on-accent:#{ink}}}\n".encode()


def lines(text: str) -> Markup:
    """Return a text of several lines, escaped."""
    return Markup("<br>").join(escape(line) for line in text.replace("\\n", "\n").splitlines())


class Pages:
    """Renders pages and serves the files that they need."""

    def __init__(self, templates: Path, node: str, cache: Path | None = None) -> None:
        """Read what is below `templates`; `node` names the machine at the foot of each page.

        `cache`: a directory of ours (0700) that keeps what was compiled for the next start.
        """
        if cache is not None:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.node = node
        self._assets = {
            name: (kind, (templates / "static" / name).read_bytes())
            for name, kind in _ASSETS.items()
        }
        self._environment = jinja2.Environment(
            bytecode_cache=jinja2.FileSystemBytecodeCache(str(cache)) if cache else None,
            loader=jinja2.FileSystemLoader(templates / "portal"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        marked = {
            name: f"/ecpds/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"
            for name, (_, content) in self._assets.items()
        }
        self._environment.globals |= {"static": marked, "lines": lines, "stamp": stamp}
        for name in ("list", "details", "login", "error", "register", "reset", "request", "link"):
            self._environment.get_template(f"{name}.html")  # compiled now, not in the loop

    def page(
        self,
        ask: Ask,
        name: str,
        *,
        options: Mapping[str, str],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: object,
    ) -> Answer:
        """Render a template into an answer."""
        looks = brand(options)
        text = self._environment.get_template(f"{name}.html").render(
            brand=looks, start=START, node=self.node, status=status, **values
        )
        fields = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-cache"}
        fields |= security(secure=ask.secure, policy=PAGE_POLICY)
        fields |= headers or {}
        return Answer(status=status, headers=fields, body=text.encode("utf-8", "replace"))

    def redirect(self, ask: Ask, address: str) -> Answer:
        """Return the answer that sends the client on to `address`, by GET."""
        fields = security(secure=ask.secure, policy=PAGE_POLICY)
        fields |= {"Location": address, "Cache-Control": "no-store"}
        return Answer(status=303 if ask.method == "POST" else 302, headers=fields)

    def error(
        self, ask: Ask, error: EcpdsError, options: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the answer that tells an error, in the form that fits the client."""
        status, text = answers.status_of(error), answers.text_of(error)
        headers = answers.fields_of(error, ask)
        if answers.wants_page(ask):
            return self.page(
                ask,
                "error",
                options=options or {},
                status=status,
                headers=headers,
                text=text,
                reason=answers.reason(status),
                login=isinstance(error, Unauthenticated),
            )
        kind, content = answers.plain(ask, status, text, error.code)
        fields = security(secure=ask.secure, policy=PAGE_POLICY) | {"Content-Type": kind}
        return Answer(status=status, headers=fields | headers, body=content)

    def asset(self, ask: Ask, name: str) -> Answer | None:
        """Return a static file, None if there is none of that name."""
        found = self._assets.get(name)
        accent = _ACCENT.fullmatch(name)
        if accent:
            found = (_ASSETS["portal.css"], _accent_sheet(accent[1]))
        if found is None:
            return None
        kind, content = found
        fields = security(secure=ask.secure, policy=PAGE_POLICY)
        fields |= {"Content-Type": kind, "Cache-Control": "public, max-age=31536000, immutable"}
        return Answer(headers=fields, body=content)
