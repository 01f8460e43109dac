"""All pages of the reference, by file name."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from docs.reference.commands import commands
from docs.reference.text import code, first_line, page, table, told
from ecpds.base.metrics import Metrics
from ecpds.base.settings import Settings
from ecpds.cli.codes import EXITS, CommandError
from ecpds.model import events
from ecpds.model.decode import declared, hints_of, key_of
from ecpds.model.errors import EcpdsError, RemoteError
from ecpds.model.eventschema import schema
from ecpds.model.options import option_text, type_name
from ecpds.modules import BUILTIN
from ecpds.node import make_catalogue
from ecpds.transfer.registry import Registry
from ecpds.web.api.table import ROUTES
from ecpds.web.apiv1.table import ROUTES as V1_ROUTES
from ecpds.web.errors import status_of

EVENTS = {
    "PRS": "A notification about a step of a product; with `ErrorMessage` when it was ignored.",
    "RET": "A file was fetched from a source host, or that failed.",
    "UPH": "A file was delivered to a host.",
    "INH": "A data user's upload, download or deletion has ended; a program has submitted a file.",
    "ERR": "An attempt to deliver has failed.",
    "CPY": "A file was copied to a backup or proxy host, or that failed.",
    "DEA": "A login was refused, or an act after it.",
}


SCHEMA = "../../config/events.schema.json"
"""Shipped with the program, so beside what else a site copies."""


def schema_text() -> str:
    """Return the JSON Schema of events."""
    return json.dumps(schema(), indent=1) + "\n"


def pages() -> dict[str, str]:
    """Return the text of each page; the same for the same code, wherever it is made."""
    found = {
        "settings.md": settings(),
        "options.md": options(),
        "cli.md": commands(),
        "api.md": api(),
        "events.md": event_lines(),
        "errors.md": errors(),
        "metrics.md": metrics(),
    }
    titles = {name: text.partition("\n")[0].removeprefix("# ") for name, text in found.items()}
    lines = "\n".join(f"- [{title}]({name})" for name, title in titles.items())
    return {"README.md": page("Reference", [lines]), **found, SCHEMA: schema_text()}


# --- settings ------------------------------------------------------------------------------------


def settings() -> str:
    """Return the page of `ecpds.toml`."""
    parts = [
        told("settings"),
        *_tables(Settings, ""),
    ]
    return page("Settings", parts)


def _tables(cls: Any, path: str) -> Iterator[str]:
    hints = hints_of(cls)
    inner: list[tuple[str, Any, str]] = []
    rows = []
    for item in dataclasses.fields(cls):
        hint, key = hints[item.name], key_of(item)
        place = f"{path}.{key}" if path else key
        many = [one for one in getattr(hint, "__args__", ()) if dataclasses.is_dataclass(one)]
        if dataclasses.is_dataclass(hint):
            inner.append((f"[{place}]", hint, place))
        elif many:
            inner.append((f"[[{place}]]", many[0], place))
        else:
            rows.append(_setting(item, hint))
    if rows:
        yield table(("Key", "Type", "Default", "Meaning"), rows)
    for title, below, place in inner:
        yield f"## {title}"
        yield from _tables(below, place)


def _setting(item: dataclasses.Field[Any], hint: Any) -> tuple[str, str, str, str]:
    how = declared(item)
    default = code(option_text(hint, item.default))
    if item.default is dataclasses.MISSING:
        default = "host name" if hint is str else ""
    notes = [how.help, _limits(hint, how.low, how.high), "" if how.reload else "*restart*"]
    return code(key_of(item)), type_name(hint), default, " ".join(filter(None, notes))


def _limits(hint: Any, low: float | None, high: float | None) -> str:
    unit = " s" if hint is timedelta else ""
    least, most = (f"{limit:.10g}{unit}" if limit else "" for limit in (low, high))
    if most:
        return f"{least or 0} to {most}."
    return f"At least {least}." if least else ""


# --- options -------------------------------------------------------------------------------------


def options() -> str:
    """Return the page of the options of hosts, destinations, policies and users."""
    catalogue = make_catalogue(Registry(BUILTIN, installed=False))
    families = defaultdict(list)
    for one in catalogue.entries():
        families[one.key.partition(".")[0]].append(one)
    parts = [told("options")]
    for family, entries in families.items():
        rows = [
            (
                code(one.key),
                one.type if not one.secret or one.type == "secret" else f"{one.type}, secret",
                code(one.default),
                ", ".join(sorted(one.scopes)),
                one.help,
            )
            for one in entries
        ]
        parts += [f"## {family}", table(("Key", "Type", "Default", "For", "Meaning"), rows)]
    return page("Options", parts)


# --- events --------------------------------------------------------------------------------------


def event_lines() -> str:
    """Return the page of the event lines."""
    parts = [told("events")]
    for name, fields in events.FIELDS.items():
        rows = [(code(field), code(place)) for field, place in fields]
        parts += [f"## {name}", EVENTS[name], table(("Field", "In the JSON record"), rows)]
    return page("Events", parts)


# --- errors --------------------------------------------------------------------------------------


def errors() -> str:
    """Return the page of the error tree."""
    rows = [_error(cls, depth) for cls, depth in _tree(EcpdsError, 0)]
    parts = [
        told("errors"),
        table(("Code", "Again", "HTTP", "Exit", "Kind", "Meaning"), rows),
    ]
    return page("Errors", parts)


def _tree(cls: type[EcpdsError], depth: int) -> Iterator[tuple[type[EcpdsError], int]]:
    yield cls, depth
    for below in cls.__subclasses__():
        if below.__module__ == EcpdsError.__module__:
            yield from _tree(below, depth + 1)


def _error(cls: type[EcpdsError], depth: int) -> tuple[str, ...]:
    mro = cls.__mro__
    return (
        f"{'· ' * depth}{code(cls.code)}",
        "yes" if cls.retryable else "",
        str(status_of(cls("")) if cls is not CommandError else ""),
        str(int(next(EXITS[one] for one in mro if one in EXITS))),
        cls.kind if issubclass(cls, RemoteError) else "",
        first_line(cls.__doc__),
    )


# --- metrics -------------------------------------------------------------------------------------


def metrics() -> str:
    """Return the page of the metrics."""
    rows = []
    for one in vars(Metrics()).values():
        if isinstance(one, MetricWrapperBase):
            (found,) = one.describe()
            labels = ", ".join(map(code, one._labelnames))  # noqa: SLF001 - no other way
            suffix = "_total" if found.type == "counter" else ""
            rows.append((code(found.name + suffix), found.type, labels, found.documentation))
    parts = [
        told("metrics"),
        table(("Name", "Type", "Labels", "Meaning"), sorted(rows)),
    ]
    return page("Metrics", parts)


# --- JSON API ------------------------------------------------------------------------------------


def api() -> str:
    """Return the page of the JSON API."""
    groups: Mapping[str, list[tuple[str, ...]]] = defaultdict(list)
    for route in ROUTES:
        area = route.path.removeprefix("/api/v2").strip("/").split("/")[0] or "api"
        query = ", ".join(code(one.name) for one in route.query)
        row = (code(f"{route.method} {route.path}"), code(route.right), query, route.summary)
        groups[area].append(row)
    parts = [told("api")]
    for area in sorted(groups):
        titles = ("Request", "Scope", "Query", "Does")
        parts += [f"## {area}", table(titles, groups[area])]
    rows = [
        (code(f"{one.method} {one.path}"), ", ".join(map(code, one.services)), code(one.right),
         ", ".join(code(query.name) for query in one.query), one.summary)
        for one in V1_ROUTES
    ]  # fmt: skip
    parts += ["## v1", table(("Request", "Services", "Scope", "Query", "Does"), rows)]
    return page("JSON API", parts)
