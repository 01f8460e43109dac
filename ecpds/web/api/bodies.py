"""Between the documents that callers send and what the decoder takes."""

from __future__ import annotations

from collections.abc import Container

from ecpds.web.errors import Refused
from ecpds.web.shown import Document


def without(document: Document, read_only: Container[str]) -> Document:
    """Return a document without the fields that only answers have, which come back unchanged."""
    return {key: value for key, value in document.items() if key not in read_only}


def named(
    key: str, name: str, document: Document, read_only: Container[str] = frozenset()
) -> Document:
    """Return a document for the object of that name; Refused (422) when it says another."""
    if document.get(key, name) != name:
        raise Refused(422, "invalid-input", "a name cannot be changed", pointer=key)
    return without(document, read_only) | {key: name}


def has(document: Document, key: str) -> bool:
    """Tell whether a document says something of that key; stars say nothing."""
    return key in document and document[key] != "***"
