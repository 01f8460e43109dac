"""Paths into JSON documents, and records of files read by them.

    data.products                 a member of a member
    assets.*.href                 of all members, whatever they are called
    links[rel=next].href          of those members of a list whose `rel` is `next`
    files[0].url  files[*].url    of the first, of all

Spec: transfer-modules-protocols.md 3.4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import tzinfo
from functools import lru_cache
from typing import Any, Final

from ecpds.model.errors import Phase, RemoteConfig, RemoteTransient
from ecpds.modules.http_pages import RECORD, Found, plain_text, record_of

STAC: Final = RECORD | {
    "arrayPath": "features",
    "nameField": "id",
    "urlField": "assets.data.href",
    "timeField": "properties.start_datetime",
    "sizeField": "assets.data.file:size",
    "nextField": "links[rel=next].href",
}
MOST_VALUES: Final = 1_000_000
"""Values that one path may lead to."""

_STEP: Final = re.compile(r"\[(\d{1,9}|\*|[\w:-]+=[^\]]*)\]|([^.\[\]]+)")


@lru_cache(maxsize=256)
def steps_of(path: str) -> tuple[str, ...]:
    """Return the steps of a path; raises RemoteConfig for one that is none."""
    left = _STEP.sub("", path).replace(".", "")
    if left:
        raise RemoteConfig(f"http.parserOptions: {path!r} is no path", phase=Phase.LIST)
    return tuple(
        f"[{match[1]}]" if match[1] is not None else match[2] for match in _STEP.finditer(path)
    )


def values_at(value: Any, path: str) -> list[Any]:
    """Return all values that a path leads to, in their order; none is no error."""
    found = [value]
    for step in steps_of(path):
        found = [one for inner in found for one in _below(inner, step)]
        if len(found) > MOST_VALUES:
            raise RemoteTransient(f"more than {MOST_VALUES} values at {path!r}", phase=Phase.LIST)
    return found


def _below(value: Any, step: str) -> Iterator[Any]:
    if step in ("*", "[*]"):
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list):
            yield from value
    elif not step.startswith("["):
        if isinstance(value, dict) and step in value:
            yield value[step]
    elif isinstance(value, list):
        yield from _chosen(value, step[1:-1])


def _chosen(values: list[Any], choice: str) -> Iterator[Any]:
    key, equals, wanted = choice.partition("=")
    if equals:
        yield from (
            one for one in values if isinstance(one, dict) and plain_text(one.get(key)) == wanted
        )
    elif int(choice) < len(values):
        yield values[int(choice)]


def first_at(value: Any, path: str) -> Any:
    """Return the first value that a path leads to, None if there is none."""
    return next(iter(values_at(value, path)), None)


class JsonRecords:
    """Reads a document that lists files; the address of its next page is kept in `following`.

    Without `arrayPath` the list is `items`, or the document itself; nginx's autoindex is understood
    as it is.
    """

    def __init__(self, fields: Mapping[str, str], zone: tzinfo) -> None:
        self.following = ""
        self._fields = fields
        self._zone = zone

    def read(self, text: str) -> list[Found]:
        """Return the records of a document."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RemoteTransient(f"the page is no JSON: {error}", phase=Phase.LIST) from None
        if path := self._fields["nextField"]:
            self.following = plain_text(first_at(document, path))
        found: list[Found] = []
        for one in self._records(document):
            if isinstance(one, dict):
                found += self._found(one)
        return found

    def _records(self, document: Any) -> list[Any]:
        path = self._fields["arrayPath"] or ("items" if isinstance(document, dict) else "")
        found = values_at(document, path)
        if len(found) == 1 and isinstance(found[0], list):
            return found[0]
        if not found or not all(isinstance(one, dict) for one in found):
            raise RemoteConfig(f"the page has no list at {path!r}", phase=Phase.LIST)
        return found

    def _found(self, one: dict[str, Any]) -> Iterator[Found]:
        """Yield a file for each address that the record has."""
        addresses = values_at(one, self._fields["urlField"])
        for address in addresses or [None]:
            yield from record_of(
                lambda path, address=address: (  # type: ignore[misc]  # bound at once
                    address if path == self._fields["urlField"] else first_at(one, path)
                ),
                self._fields,
                self._zone,
            )
