"""Pages from the templates: escaped by default, compiled at the start, strict about what may run.

Besides what its page gives, a template gets `call`, `caller` (None before the login), `csrf`,
`now`, `version` and `node`, and `static("name")` for the address of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined, Template

from ecpds import __version__
from ecpds.model import units
from ecpds.web import display
from ecpds.web.csrf import csrf_of

if TYPE_CHECKING:
    from ecpds.web.call import Call

CSP: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)
NOT_OURS: Final = {"portal", "static", "mail"}  # folders that others render
PLAIN: Final = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>{status}</title>"
    "<h1>{title}</h1><p>{message}</p>"
)


class Renderer:
    """The templates of the dashboard."""

    def __init__(
        self, folder: Path, static: Callable[[str], str], node: str, cache: Path | None = None
    ) -> None:
        """Compile everything, so that a broken template stops the start and not a visitor.

        `cache`: a directory of ours (0700) that keeps what was compiled for the next start.
        """
        if cache is not None:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._environment = Environment(
            bytecode_cache=FileSystemBytecodeCache(str(cache)) if cache is not None else None,
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals |= {"static": static, "version": __version__, "node": node}
        self._environment.globals |= display.GLOBALS
        self._environment.filters |= {**FILTERS, **display.FILTERS}
        self._templates: dict[str, Template] = {}
        for path in sorted(folder.rglob("*.html")):
            name = path.relative_to(folder).as_posix()
            if name.partition("/")[0] not in NOT_OURS:
                self._templates[name] = self._environment.get_template(name)

    def has(self, template: str) -> bool:
        """Tell whether there is such a template."""
        return template in self._templates

    def text(self, call: Call, template: str, **values: Any) -> str:
        """Return a rendered template, a page or a fragment of one."""
        given = {
            "call": call,
            "caller": call.who,
            "csrf": csrf_of(call.who.session) if call.who is not None else "",
            "now": call.services.core.clock.now(),
        }
        return self._templates[template].render(given | values)

    def page(
        self,
        call: Call,
        template: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> web.Response:
        """Answer with a page; it may load only our own files and run no inline script."""
        return web.Response(
            text=self.text(call, template, **values),
            status=status,
            content_type="text/html",
            headers={
                "Cache-Control": "no-store",
                "Content-Security-Policy": CSP,
                **(headers or {}),
            },
        )


def page(call: Call, template: str, **values: Any) -> web.Response:
    """Answer with a page; `status` and `headers` are taken out of `values`."""
    return call.services.renderer.page(call, template, **values)


def _when(value: datetime | None) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if value is not None else ""


def _lasting(value: timedelta | None) -> str:
    return units.format_duration(value) if value is not None else ""


def _size(value: int | None) -> str:
    return units.format_bytes(value) if value is not None and value >= 0 else ""


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "when": _when,
    "lasting": _lasting,
    "size": _size,
}
