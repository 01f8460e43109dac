"""Metadata of destinations: the fields that a site defines, and what stands in them."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from ecpds.model.decode import Where, decode
from ecpds.model.destmeta import MetadataField
from ecpds.model.errors import InputError, NotFound
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.bodies import named, without
from ecpds.web.api.schemas import MetadataValues
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, FIELDS, LISTED, Query, Route
from ecpds.web.shown import Document

READ: Final = "destinations:read"
WRITE: Final = "destinations:write"
DEFINE: Final = "system:admin"
ALL: Final = "/api/v2/metadata/fields"
ONE: Final = ALL + "/{field}"
VALUES: Final = "/api/v2/destinations/{destination}/metadata"
READ_ONLY: Final = frozenset({"id"})
CASCADE: Final = Query(name="cascade", help="Delete its values too.", type="flag")


def _shown(field: MetadataField) -> Document:
    document: Document = shown.plain(field)
    return document


def tag(field: MetadataField) -> str:
    """Return the entity tag of a definition."""
    return shown.etag_of(_shown(field))


async def index(call: Call) -> web.StreamResponse:
    """List all definitions by name."""
    found = await call.services.metadata.fields()
    return answers.named(call, {one.name: _shown(one) for one in found})


async def get(call: Call) -> web.StreamResponse:
    """Return one definition."""
    field = await call.services.metadata.field(call.name("field"))
    return answers.one(call, _shown(field), tag(field))


async def create(call: Call) -> web.StreamResponse:
    """Define a field."""
    document = without(await call.document(), READ_ONLY)
    return await _store(call, decode(MetadataField, document, Where()), None)


async def put(call: Call) -> web.StreamResponse:
    """Define a field, or define it anew."""
    name = call.name("field")
    document = named("name", name, await call.document(), READ_ONLY)
    try:
        old = await call.services.metadata.field(name)
    except NotFound:
        old = None
    return await _store(call, decode(MetadataField, document, Where()), old)


async def patch(call: Call) -> web.StreamResponse:
    """Change some keys of a definition."""
    old = await call.services.metadata.field(call.name("field"))
    change = named("name", old.name, await call.document(), READ_ONLY)
    document = answers.merged(without(_shown(old), READ_ONLY), change)
    return await _store(call, decode(MetadataField, document, Where()), old)


async def _store(call: Call, new: MetadataField, old: MetadataField | None) -> web.StreamResponse:
    call.caller.check_everywhere(DEFINE)
    if old is not None and not call.must_be_new:
        call.check_match(tag(old))
    dry_run = call.flag("dry_run")
    instead_of = None if call.must_be_new else old
    await call.services.metadata.put_field(
        new, call.caller.actor, instead_of=instead_of, dry_run=dry_run
    )
    if dry_run:
        return answers.tried(call, _shown(new))
    stored = await call.services.metadata.field(new.name)
    return answers.one(
        call,
        _shown(stored),
        tag(stored),
        status=200 if old is not None else 201,
        location=f"{ALL}/{new.name}" if old is None else "",
    )


async def delete(call: Call) -> web.StreamResponse:
    """Delete a definition; with values only when asked to cascade."""
    call.caller.check_everywhere(DEFINE)
    field = await call.services.metadata.field(call.name("field"))
    call.check_match(tag(field))
    if not call.flag("dry_run"):
        await call.services.metadata.delete_field(
            field.name, call.caller.actor, cascade=call.flag("cascade")
        )
    return answers.nothing()


# --- values --------------------------------------------------------------------------------------


async def _values(call: Call, right: str) -> tuple[str, Document]:
    name = call.name("destination")
    call.caller.check(right, name)
    return name, await call.services.metadata.values(name)


async def values(call: Call) -> web.StreamResponse:
    """Return what a destination's fields say: category to field to value."""
    name, found = await _values(call, READ)
    return answers.one(call, {"destination": name, "metadata": found}, shown.etag_of(found))


async def put_values(call: Call) -> web.StreamResponse:
    """Replace the values of a destination."""
    name, old = await _values(call, WRITE)
    asked = await call.decoded(MetadataValues)
    return await _write(call, name, old, asked.metadata)


async def patch_values(call: Call) -> web.StreamResponse:
    """Change some values of a destination; null empties a field."""
    name, old = await _values(call, WRITE)
    asked = await call.decoded(MetadataValues)
    for category, inner in asked.metadata.items():
        if not isinstance(inner, dict):
            raise InputError(f"{category}: an object of fields is wanted", pointer=category)
    merged: dict[str, Any] = {category: dict(inner) for category, inner in old.items()}
    for category, inner in asked.metadata.items():
        merged.setdefault(category, {}).update(inner)
    return await _write(call, name, old, merged)


async def _write(call: Call, name: str, old: Document, given: dict[str, Any]) -> web.StreamResponse:
    call.check_match(shown.etag_of(old))
    dry_run = call.flag("dry_run")
    await call.services.metadata.set_values(name, given, call.caller.actor, dry_run=dry_run)
    if dry_run:
        return answers.tried(call, {"destination": name, "metadata": given})
    found = await call.services.metadata.values(name)
    return answers.one(call, {"destination": name, "metadata": found}, shown.etag_of(found))


ROUTES: Final = (
    Route(method="GET", path=ALL, right=READ, handle=index, query=LISTED, answer="[MetadataField]",
          summary="Definitions of metadata fields by name."),
    Route(method="POST", path=ALL, right=DEFINE, handle=create, query=(DRY_RUN, FIELDS),
          body="MetadataField", answer="MetadataField", status=201,
          summary="Define a metadata field."),
    Route(method="GET", path=ONE, right=READ, handle=get, query=(FIELDS,), answer="MetadataField",
          summary="Definition of one metadata field."),
    Route(method="PUT", path=ONE, right=DEFINE, handle=put, needs_match=True,
          query=(DRY_RUN, FIELDS), body="MetadataField", answer="MetadataField",
          summary="Define a metadata field, or define it anew."),
    Route(method="PATCH", path=ONE, right=DEFINE, handle=patch, needs_match=True,
          query=(DRY_RUN, FIELDS), body="MetadataField", answer="MetadataField",
          summary="Change the definition of a metadata field."),
    Route(method="DELETE", path=ONE, right=DEFINE, handle=delete, needs_match=True,
          query=(CASCADE, DRY_RUN), summary="Delete a metadata field.", status=204),
    Route(method="GET", path=VALUES, right=READ, handle=values, query=(FIELDS,),
          answer="DestinationMetadata", summary="Metadata of a destination."),
    Route(method="PUT", path=VALUES, right=WRITE, handle=put_values, needs_match=True,
          query=(DRY_RUN, FIELDS), body="MetadataValues", answer="DestinationMetadata",
          summary="Replace the metadata of a destination."),
    Route(method="PATCH", path=VALUES, right=WRITE, handle=patch_values, needs_match=True,
          query=(DRY_RUN, FIELDS), body="MetadataValues", answer="DestinationMetadata",
          summary="Change some metadata of a destination; null empties a field."),
)  # fmt: skip
