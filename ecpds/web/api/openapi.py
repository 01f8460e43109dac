"""The OpenAPI 3.1 document, made from the route table and from what bodies decode into."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin

from ecpds import __version__
from ecpds.engine.operations.sitefile import ApiUserSpec, DataUserSpec, PolicySpec, WebUserSpec
from ecpds.model.decode import declared, key_of
from ecpds.model.destination import Alias, Destination
from ecpds.model.destmeta import MetadataField
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.web.api import acquire, host_bench, roles, ruleforms, schemas, uploads
from ecpds.web.api.answerforms import FORMS
from ecpds.web.errors import TITLES
from ecpds.web.rights import OPEN
from ecpds.web.routes import DRY_RUN, UNLIMITED, Query, Route

Schema = dict[str, Any]

BODIES: Final[Mapping[str, type]] = {
    "Destination": Destination,
    "Alias": Alias,
    "Host": Host,
    "Policy": PolicySpec,
    "DataUser": DataUserSpec,
    "WebUser": WebUserSpec,
    "ApiUser": ApiUserSpec,
    "MetadataField": MetadataField,
    "CloneRequest": schemas.CloneRequest,
    "CleanRequest": schemas.CleanRequest,
    "ImportRequest": schemas.ImportRequest,
    "Webhook": schemas.WebhookSpec,
    "MetadataValues": schemas.MetadataValues,
    "Nothing": schemas.Nothing,
    "NewSubscriber": schemas.NewSubscriber,
    "S3KeyRequest": schemas.S3KeyRequest,
    "StopRequest": schemas.StopRequest,
    "HoldRequest": schemas.HoldRequest,
    "HostLink": schemas.HostLink,
    "TransferChange": schemas.TransferChange,
    "PriorityRequest": schemas.PriorityRequest,
    "BulkRequest": schemas.BulkRequest,
    "ProductReport": schemas.ProductReport,
    "RetrievalChange": schemas.RetrievalChange,
    "OptionValue": schemas.OptionValue,
    "TokenRequest": schemas.TokenRequest,
    "RotateRequest": schemas.RotateRequest,
    "CertificateRequest": schemas.CertificateRequest,
    "CertificateImport": schemas.CertificateImport,
    "MailTry": schemas.MailTry,
    "Preview": schemas.Preview,
    "Announcement": schemas.Announcement,
    "Wis2Record": schemas.Wis2Record,
    "Wis2Message": schemas.Wis2Message,
    "Wis2Test": schemas.Wis2Test,
    "IncidentNote": schemas.IncidentNote,
    "IncidentMute": schemas.IncidentMute,
    "Submission": schemas.SubmissionFields,
    "RegisterRequest": schemas.RegisterRequest,
    "RegisterBatch": schemas.RegisterBatch,
    "SiteRequest": schemas.SiteRequest,
    "RulesTest": ruleforms.RulesTest,
    "TextCheck": ruleforms.TextCheck,
    "ScriptTry": ruleforms.ScriptTry,
    "AcquireRequest": acquire.AcquireRequest,
    "ListRequest": acquire.ListRequest,
    "Role": roles.RoleSpec,
    "UploadRequest": uploads.UploadRequest,
    "UploadSubmission": uploads.UploadSubmission,
    "PreviewRequest": host_bench.PreviewRequest,
}
_FORM: Final = re.compile(r"(\[?)(\w+)(\]?)(\??)")
_SIMPLE: Final[Mapping[str, Schema]] = {
    "text": {"type": "string"},
    "int": {"type": "integer"},
    "number": {"type": "number"},
    "flag": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "lasting": {"type": "string", "format": "duration"},
    "object": {"type": "object"},
    "any": {},
}
_QUERIES: Final[Mapping[str, Schema]] = {
    "text": {"type": "string"},
    "time": {"type": "string"},
    "flag": {"type": "boolean", "default": False},
    "list": {"type": "string"},
}
_ALWAYS: Final = (400, 401, 403, 404, 409, 429, 500, 503)
_WRITES: Final = (408, 412, 413, 415, 422)
_REMOTE: Final = (502, 504)
_MATCHED: Final = (412, 428)


@cache
def describe(routes: tuple[Route, ...]) -> Schema:
    """Return the whole document."""
    paths: dict[str, Schema] = {}
    for route in routes:
        if route.kind == "api":
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ecpds",
            "version": __version__,
            "description": "Sizes in bytes, times RFC 3339 UTC, lengths of time ISO 8601.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"basic": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": _components(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
                "session": {"type": "apiKey", "in": "cookie", "name": "ecpds_session"},
            },
        },
    }


def _operation(route: Route) -> Schema:
    operation: Schema = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()} {route.path}",
        "tags": [_tag(route.path)],
        "parameters": [*_path_parameters(route.path), *map(_parameter, route.query)],
        "responses": _responses(route),
    }
    if route.needs_match:
        operation["parameters"].append(_IF_MATCH)
    if route.right == OPEN:
        operation["security"] = []
    operation["x-scope"] = route.right
    if route.body:
        operation["requestBody"] = _body(route)
    return operation


_IF_MATCH: Final = {
    "name": "If-Match", "in": "header", "schema": {"type": "string"}, "required": False,
    "description": "ETag of the version that you have seen, or *; needed when the object exists.",
}  # fmt: skip


def _tag(path: str) -> str:
    parts = path.removeprefix("/api/v2").strip("/").split("/")
    return parts[0] or "api"


def _path_parameters(path: str) -> Iterable[Schema]:
    for name in re.findall(r"{(\w+)}", path):
        kind = "integer" if name in {"transfer", "file", "session"} else "string"
        yield {"name": name, "in": "path", "required": True, "schema": {"type": kind}}


def _parameter(query: Query) -> Schema:
    schema = dict(_QUERIES.get(query.type, {}))
    if query.type == "number":
        schema = {"type": "integer", "minimum": query.low, "maximum": query.high}
    return {"name": query.name, "in": "query", "description": query.help, "schema": schema}


def _body(route: Route) -> Schema:
    if route.body == "bytes":
        binary = {"schema": {"type": "string", "format": "binary"}}
        return {"content": {"application/octet-stream": binary}}
    content: Schema = {"application/json": {"schema": _named(route.body, "")}}
    if route.body_limit == UNLIMITED:
        form = {
            "allOf": [_named(route.body, "")],
            "type": "object",
            "properties": {"file": {"type": "string", "format": "binary"}},
            "required": ["destination", "file"],
        }
        content = {
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": _named("RegisterRequest", "")},
        }
    if route.method == "PATCH":
        content["application/merge-patch+json"] = content["application/json"]
    return {"content": content}


def _responses(route: Route) -> Schema:
    found: Schema = {str(status): _success(route) for status in _successes(route)}
    if route.tried:
        found["200"] = _success(dataclasses.replace(route, answer=route.tried))
    codes = list(_ALWAYS)
    if route.method not in {"GET", "HEAD"}:
        codes += _WRITES
    if route.needs_match:
        codes += _MATCHED
    if route.path.startswith("/api/v2/hosts/") and "/actions/" in route.path:
        codes += _REMOTE
    if route.body_limit == UNLIMITED or route.answer in {"Submitted", "Upload"}:
        codes.append(507)
    if route.answer == "bytes":
        codes.append(416)
    for code in sorted(codes):
        found[str(code)] = {
            "description": TITLES[code],
            "content": {"application/problem+json": {"schema": _reference("Problem")}},
        }
    return found


def _successes(route: Route) -> set[int]:
    """Return the statuses of answers that are no problems."""
    found = {route.status}
    if (route.method == "PUT" and route.needs_match) or route.creates:
        found.add(201)  # it was not there
    if route.status == 201 and (DRY_RUN in route.query or route.answer == "Submitted"):
        found.add(200)  # only tried, or skipped
    if route.answer == "bytes":
        found.add(206)
    return found


def _success(route: Route) -> Schema:
    if not route.answer:
        return {"description": "Done."}
    if route.answer == "bytes":
        binary = {"schema": {"type": "string", "format": "binary"}}
        return {"description": "The content.", "content": {"application/octet-stream": binary}}
    if route.answer == "events":
        stream = {"schema": {"type": "string"}}
        return {"description": "Events, endless.", "content": {"text/event-stream": stream}}
    return {
        "description": route.summary,
        "content": {"application/json": {"schema": _named(route.answer, "Answer")}},
    }


def _named(text: str, suffix: str) -> Schema:
    """Return the schema of `Thing`, `Thing[]` (a list) or `[Thing]` (a page)."""
    if text.startswith("["):
        return {
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": _reference(text[1:-1] + suffix)},
                "next_cursor": {"type": ["string", "null"]},
                "total": {"type": "integer", "description": "With count=true."},
                "total_is_minimum": {"type": "boolean"},
            },
            "required": ["items", "next_cursor"],
        }
    if text.endswith("[]"):
        return {"type": "array", "items": _reference(text[:-2] + suffix)}
    return _reference(text + suffix)


def _reference(name: str) -> Schema:
    if name.endswith("Answer") and name.removesuffix("Answer") not in FORMS:
        name = name.removesuffix("Answer")
    return {"$ref": f"#/components/schemas/{name}"}


def _components() -> Schema:
    found: Schema = {name: schema_of(cls) for name, cls in BODIES.items()}
    for name, (base, fields) in FORMS.items():
        found[name if name == "Problem" else f"{name}Answer"] = _form(base, fields)
    return dict(sorted(found.items()))


def _form(base: str, fields: Mapping[str, str]) -> Schema:
    """Return the schema of an answer: its own fields, and those of a body that it shows again."""
    properties: Schema = {}
    if base:
        properties |= _as_answered(schema_of(BODIES[base])["properties"])
    properties |= {name: _form_of(text) for name, text in fields.items()}
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _as_answered(properties: Schema) -> Schema:
    """Return body properties as answers have them: secrets are there, as stars."""
    return {name: _readable(schema) for name, schema in properties.items()}


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _readable(one) for key, one in value.items() if key != "writeOnly"}
    return [_readable(one) for one in value] if isinstance(value, list) else value


def _form_of(text: str) -> Schema:
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no form")
    one = _SIMPLE[found[2]] if found[2] in _SIMPLE else _reference(found[2] + "Answer")
    schema = {"type": "array", "items": dict(one)} if found[1] else dict(one)
    if found[4] and schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


# --- from dataclasses ----------------------------------------------------------------------------


def schema_of(cls: Any) -> Schema:
    """Return the schema of what decodes into a dataclass."""
    hints = typing.get_type_hints(cls)
    properties = {}
    for item in dataclasses.fields(cls):
        how = declared(item)
        schema = _type(hints[item.name])
        if how.help:
            schema["description"] = how.help
        if schema.get("type") in ("integer", "number"):
            schema |= {
                word: limit
                for word, limit in (("minimum", how.low), ("maximum", how.high))
                if limit is not None
            }
        if how.secret:
            schema["writeOnly"] = True
        properties[key_of(item)] = schema
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _type(hint: Any) -> Schema:
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [_type(one) for one in get_args(hint) if one is not type(None)]
        return {"anyOf": [*kinds, {"type": "null"}]} if type(None) in get_args(hint) else kinds[0]
    if origin is Literal:
        return {"enum": list(get_args(hint))}
    if origin in (tuple, list, frozenset):
        return {"type": "array", "items": _type(get_args(hint)[0])}
    if origin in (dict, Mapping):
        return {"type": "object"}
    return _plain(hint)


def _plain(hint: Any) -> Schema:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    if dataclasses.is_dataclass(hint):
        return schema_of(hint)
    if hint is Secret:
        return {"type": "string", "writeOnly": True}
    kinds: dict[Any, Schema] = {
        str: {"type": "string"},
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        float: {"type": "number"},
        timedelta: {"type": "string", "format": "duration"},
        datetime: {"type": "string", "format": "date-time"},
    }
    if hint in kinds:
        return kinds[hint]
    if getattr(hint, "__supertype__", None) is int:  # sizes and rates: bytes, or text with a unit
        return {"type": ["integer", "string"]}
    return {}
