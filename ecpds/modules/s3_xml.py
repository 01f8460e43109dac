"""Answers of S3 and STS: flat records out of XML; entities and document types are refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape

from ecpds.model.errors import Phase, RemoteTransient

MAX_DEPTH: Final = 20


@dataclass(slots=True)
class Document:
    """The texts of an answer: those of its records, by kind, and all others."""

    fields: dict[str, str] = field(default_factory=dict)
    records: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    root: str = ""

    def of(self, kind: str) -> list[dict[str, str]]:
        """Return the records of one kind."""
        return [record for name, record in self.records if name == kind]


def read(content: bytes, records: Iterable[str] = ()) -> Document:
    """Read an answer; elements named in `records` become one record each.

    Raises RemoteTransient for what is no XML: proxies answer with pages of their own.
    """
    return _Reader(frozenset(records)).read(content)


class _Reader:
    def __init__(self, records: frozenset[str]) -> None:
        self._records = records
        self._document = Document()
        self._path: list[str] = []
        self._record: dict[str, str] | None = None
        self._texts: list[str] = []

    def read(self, content: bytes) -> Document:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._texts.append
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        try:
            parser.Parse(content, True)
        except expat.ExpatError as error:
            raise RemoteTransient(f"the answer is no XML: {error}", phase=Phase.LIST) from None
        return self._document

    def _start(self, tag: str, _: dict[str, str]) -> None:
        name = tag.rpartition(" ")[2]
        self._document.root = self._document.root or name
        self._path.append(name)
        if len(self._path) > MAX_DEPTH:
            raise RemoteTransient("the answer has too many levels", phase=Phase.LIST)
        self._texts.clear()
        if name in self._records and self._record is None:
            self._record = {}

    def _end(self, _: str) -> None:
        name = self._path.pop()
        text = "".join(self._texts)
        self._texts.clear()
        if self._record is None:
            self._document.fields[name] = text
        elif name in self._records:
            self._document.records.append((name, self._record))
            self._record = None
        else:
            self._record[name] = text


def _refuse(*_: object) -> None:
    raise RemoteTransient("the answer declares entities", phase=Phase.LIST)


def element(name: str, *inner: str) -> str:
    """Return an element around what is XML already."""
    return f"<{name}>{''.join(inner)}</{name}>"


def texts(pairs: Sequence[tuple[str, object]]) -> str:
    """Return elements with plain texts."""
    return "".join(element(name, escape(str(value))) for name, value in pairs)
