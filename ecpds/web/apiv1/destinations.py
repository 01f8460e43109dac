"""`destination/…`: lists, types, countries, metadata."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Final

from aiohttp import web

from ecpds.engine.exporting import TYPES, scopes, type_number
from ecpds.engine.operations.destinations import DestinationView
from ecpds.model.countries import COUNTRIES
from ecpds.model.errors import InputError
from ecpds.web import shown
from ecpds.web.apiv1.envelope import BASE, success
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import Query, Route
from ecpds.web.shown import Document

READ: Final = "destinations:read"
WRITE: Final = "destinations:write"
ALL: Final = BASE + "/destination"


def document(view: DestinationView) -> Document:
    """Return one destination as v1 shows it."""
    one = view.destination
    return {
        "name": one.name,
        "comment": one.comment,
        "countryIso": one.country or None,
        "active": one.active,
        "statusCode": view.state.state.value,
        "backup": one.backup,
        "monitor": one.monitor,
        "acquisition": one.acquisition,
        "userMail": one.user_mail,
        "filterName": one.filter_name,
        "type": type_number(one.type),
    }


async def chosen(call: Call) -> list[DestinationView]:
    """Return the destinations of the caller's scope that `iso`, `id` and `type` ask for."""
    iso, kind, globs = call.text("iso").lower(), call.text("type"), await _globs(call)
    return [
        view
        for view in await call.services.destinations.views()
        if call.caller.may_on(READ, view.destination.name)
        and iso in ("", view.destination.country.lower())
        and (not kind or type_number(kind) == type_number(view.destination.type))
        and (globs is None or any(fnmatchcase(view.destination.name, one) for one in globs))
    ]


async def _globs(call: Call) -> list[str] | None:
    name = call.text("id")
    if not name:
        return None
    stored = await call.services.accounts.web_user(name)
    return scopes(stored.user.grants) if stored.user.active else []


async def index(call: Call) -> web.StreamResponse:
    """List destinations."""
    return success(destinationList=[document(view) for view in await chosen(call)])


async def get(call: Call) -> web.StreamResponse:
    """Return one destination."""
    name = call.name("name")
    call.caller.check(READ, name)
    return success(destination=document(await call.services.destinations.view(name)))


async def types(call: Call) -> web.StreamResponse:
    """List the types: those of the original, and what is in use."""
    labels: dict[int | str, str] = {}
    labels.update((number, label) for number, label in TYPES.items())
    for entry in call.services.core.snapshot.destinations.values():
        if call.caller.may_on(READ, entry.name):
            labels.setdefault(type_number(entry.destination.type), entry.destination.type)
    return success(typeList=[{str(key): label} for key, label in labels.items()])


async def countries(call: Call) -> web.StreamResponse:
    """List the countries."""
    del call
    return success(countryList=[{"iso": iso, "name": name} for iso, name in COUNTRIES.items()])


async def fields(call: Call) -> web.StreamResponse:
    """List the active definitions of metadata fields."""
    found = [
        {
            "id": field.id, "name": field.name, "label": field.label, "type": field.type,
            "category": field.category, "active": field.active, "tooltip": field.tooltip,
            "maxOccurrences": field.max_occurrences, "position": field.position,
            "destinationTypes": list(field.destination_types),
        }
        for field in await call.services.metadata.fields()
        if field.active
    ]  # fmt: skip
    return success(fields=found)


async def metadata(call: Call) -> web.StreamResponse:
    """Return what stands in a destination's fields."""
    name = call.name("name")
    call.caller.check(READ, name)
    secrets = call.caller.may_everywhere("secrets:read")
    found = await call.services.metadata.values(name, secrets=secrets)
    now = call.services.core.clock.now()
    return success(destination=name, exportedAt=shown.moment(now), metadata=found)


async def put_metadata(call: Call) -> web.StreamResponse:
    """Replace what stands in a destination's fields; unknown fields are passed over."""
    name = call.name("name")
    call.caller.check(WRITE, name)
    given: Any = (await call.document()).get("metadata")
    if not isinstance(given, dict):
        raise Refused(412, "parameter", "metadata: an object is wanted")
    try:
        count = await call.services.metadata.set_values(
            name, given, call.caller.actor, skip_unknown=True
        )
    except InputError as error:
        raise Refused(412, "parameter", error.message) from None
    return success(count=count)


_FILTERS: Final = (
    Query(name="iso", help="Only destinations of that country."),
    Query(name="id", help="Only destinations that this web user may see."),
    Query(name="type", help="Only destinations of that type."),
)
FILTERS: Final = _FILTERS
_FIELDS: Final = "getDestinationMetaFields"

ROUTES: Final = (
    Route(method="GET", path=ALL + "/list", right=READ, services=("destinationList",), kind="v1",
          handle=index, query=_FILTERS, summary="Destinations."),
    Route(method="GET", path=ALL + "/type/list", right=READ, kind="v1", handle=types,
          summary="Types of destinations."),
    Route(method="GET", path=ALL + "/country/list", right=READ,
          services=("destinationCountryList",), kind="v1", handle=countries,
          summary="Countries."),
    Route(method="GET", path=ALL + "/metadata/fields", right=READ, services=(_FIELDS,), kind="v1",
          handle=fields, summary="Metadata fields."),
    Route(method="GET", path=ALL + "/{name}", right=READ, kind="v1", handle=get,
          summary="One destination."),
    Route(method="GET", path=ALL + "/{name}/metadata", right=READ, kind="v1", handle=metadata,
          services=("getDestinationMetaValuesByDestination", _FIELDS),
          summary="Metadata of a destination."),
    Route(method="PUT", path=ALL + "/{name}/metadata", right=WRITE, kind="v1",
          handle=put_metadata, services=("setDestinationMetaValues", _FIELDS),
          summary="Replace the metadata of a destination."),
)  # fmt: skip
