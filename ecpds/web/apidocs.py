"""`/api/docs`: the description of the API as a page of our own, made from the route table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from aiohttp import web

from ecpds.web.api.openapi import describe
from ecpds.web.call import Call
from ecpds.web.pages.frame import show
from ecpds.web.rights import SIGNED_IN
from ecpds.web.routes import Route

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter, or one field of a body or answer."""

    name: str
    place: str  # path, query, header; "" for a field
    type: str
    help: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one address."""

    method: str
    path: str
    scope: str
    summary: str
    parameters: Sequence[Field]
    takes: Sequence[Field]
    gives: Sequence[Field]
    gives_page: bool
    statuses: Sequence[tuple[str, str]]


@cache
def groups(routes: tuple[Route, ...]) -> dict[str, list[Operation]]:
    """Return the operations by the first part of their address."""
    document = describe(routes)
    schemas = document["components"]["schemas"]
    found: dict[str, list[Operation]] = {}
    for path, operations in document["paths"].items():
        for method, one in operations.items():
            made = _operation(method.upper(), path, one, schemas)
            found.setdefault(one["tags"][0], []).append(made)
    return dict(sorted(found.items()))


def _operation(method: str, path: str, one: Schema, schemas: Schema) -> Operation:
    body = one.get("requestBody", {}).get("content", {}).get("application/json", {})
    good = next(code for code in sorted(one["responses"]) if code < "300")
    answer = one["responses"][good].get("content", {}).get("application/json", {})
    schema = _resolved(answer.get("schema", {}), schemas)
    items = schema.get("properties", {}).get("items") if "next_cursor" in str(schema) else None
    inner = _resolved(items["items"], schemas) if items else schema
    return Operation(
        method=method,
        path=path,
        scope=one["x-scope"],
        summary=one["summary"],
        parameters=[
            Field(each["name"], each["in"], type_of(each["schema"]), each.get("description", ""))
            for each in one["parameters"]
        ],
        takes=_fields(_resolved(body.get("schema", {}), schemas)),
        gives=_fields(inner),
        gives_page=items is not None,
        statuses=[(code, each["description"]) for code, each in sorted(one["responses"].items())],
    )


def _resolved(schema: Schema, schemas: Schema) -> Schema:
    if schema.get("type") == "array":
        schema = schema["items"]
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Schema = schemas[name] if name else schema
    return found


def _fields(schema: Schema) -> list[Field]:
    return [
        Field(name, "", type_of(one), one.get("description", ""))
        for name, one in schema.get("properties", {}).items()
    ]


def type_of(schema: Schema) -> str:
    """Return what a value looks like, in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2].removesuffix("Answer")
    if "enum" in schema:
        return " | ".join(str(one) for one in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(type_of(one) for one in schema["anyOf"]))
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " | ".join(kind)
    if kind == "array":
        return f"list of {type_of(schema['items'])}"
    return str(schema.get("format", kind))


async def page(call: Call) -> web.StreamResponse:
    """Show the description."""
    return show(call, "pages/apidocs.html", groups=groups(call.services.routes))


ROUTES: Final = (
    Route(method="GET", path="/api/docs", right=SIGNED_IN, handle=page, kind="page",
          summary="The API, described."),
)  # fmt: skip
