"""Metadata of a destination: a form made from the fields that the site defines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.destinations import KEEP
from ecpds.model.destmeta import OBJECTS, MetadataField
from ecpds.model.errors import Denied, EcpdsError, InputError
from ecpds.web.call import Call
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.destination_form import READ, WRITE
from ecpds.web.pages.destination_tabs import seen, show_tab
from ecpds.web.pages.frame import back, segment

INPUTS: Final = {"url": "url", "email": "email", "phone": "tel"}
SPARE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One field of the form with its texts."""

    field: MetadataField
    label: str
    kind: str  # line, area or secret
    input: str
    texts: tuple[str, ...]
    error: str = ""

    @property
    def key(self) -> str:
        """Return the name that the form sends."""
        return f"{self.field.category}/{self.field.name}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {text}" for key, text in value.items())
    return "" if value is None else str(value)


def value_of(field: MetadataField, text: str) -> Any:
    """Return what stands in a box: lines of `key: text` are an object where one may be."""
    lines = text.replace("\r\n", "\n").strip().split("\n")
    if field.type in OBJECTS and all(": " in line for line in lines):
        return {key.strip(): rest.strip() for key, _, rest in
                (line.partition(": ") for line in lines)}  # fmt: skip
    return "\n".join(lines)


async def _boxes(call: Call, name: str, typed: Mapping[str, Sequence[str]] | None,
                 errors: Mapping[str, str]) -> list[Box]:  # fmt: skip
    stored = await call.services.metadata.values(name)
    found = []
    for field in await call.services.metadata.fields():
        values = stored.get(field.category, {})
        if field.name not in values:
            continue
        value = values[field.name]
        texts = [_text(one) for one in (value if isinstance(value, list) else [value])]
        key = f"{field.category}/{field.name}"
        if typed is not None:
            texts = list(typed.get(key, ()))
        texts = [text for text in texts if text]
        if field.is_list:
            texts += [""] * SPARE
            if field.max_occurrences > 0:
                texts = texts[: field.max_occurrences]
        kind = "area" if field.type == "textarea" or field.type in OBJECTS else "line"
        found.append(
            Box(
                field=field,
                label=field.label or field.name,
                kind="secret" if field.type == "password" else kind,
                input=INPUTS.get(field.type, "text"),
                texts=tuple(texts or [""]),
                error=errors.get(f"{field.category}.{field.name}", ""),
            )
        )
    return found


async def form(
    call: Call, typed: Mapping[str, Sequence[str]] | None = None, problem: EcpdsError | None = None
) -> web.Response:
    """The fields with what stands in them."""
    view = await seen(call)
    errors = {}
    if isinstance(problem, InputError):
        errors[problem.pointer] = problem.message
    boxes = await _boxes(call, view.destination.name, typed, errors)
    groups: dict[str, list[Box]] = {}
    for box in boxes:
        groups.setdefault(box.field.category or "General", []).append(box)
    return show_tab(
        call, "metadata", view, groups=groups, problem=problem.message if problem else "",
        may_define=call.caller.may_everywhere("system:admin"),
        status=422 if problem else 200,
    )  # fmt: skip


async def save(call: Call) -> web.Response:
    """Store the values; those of fields that the form does not have stay away."""
    view = await seen(call, WRITE)
    name = view.destination.name
    typed: dict[str, list[str]] = {}
    for key, text in await call.form_pairs():
        typed.setdefault(key, []).append(text)
    given: dict[str, dict[str, Any]] = {}
    for box in await _boxes(call, name, None, {}):
        texts = [text for text in typed.get(box.key, []) if text.strip()]
        if box.kind == "secret" and not texts and any(box.texts):
            texts = [KEEP]
        values = [value_of(box.field, text) for text in texts]
        inner = given.setdefault(box.field.category, {})
        inner[box.field.name] = values if box.field.is_list else values[0] if values else None
    try:
        await call.services.metadata.set_values(name, given, call.caller.actor)
    except Denied:
        raise
    except EcpdsError as error:
        return await form(call, typed, error)
    return back(call, f"/destinations/{segment(name)}/metadata", "The metadata was stored.")


ROUTES: Final = (
    get("/destinations/{name}/metadata", READ, form, "Its metadata."),
    post("/destinations/{name}/metadata", WRITE, save, "Change its metadata."),
)
