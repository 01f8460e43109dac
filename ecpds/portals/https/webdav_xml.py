"""Bodies of WebDAV: reading what clients send within limits, writing multi-status answers.

Document types are refused, so that no entity is ever expanded; depth and count of elements are
limited while the text is parsed.  Spec: RFC 4918 sections 8.2, 13, 14, 17; RFC 4331 (quota).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from ecpds.model.errors import InputError, TooLarge
from ecpds.portals.https.exchange import Body

LONGEST: Final = 64 * 1024  # bytes of a body
MOST_ELEMENTS: Final = 1_000
DEEPEST: Final = 32
XML: Final = '<?xml version="1.0" encoding="utf-8"?>\n'
DAV: Final = "{DAV:}"
_BAD = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Limited(TreeBuilder):
    """Builds a tree of bounded size."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = self._count = 0

    def start(self, tag: str, attrs: dict[str, str]) -> Element:
        """Open an element."""
        self._depth += 1
        self._count += 1
        if self._depth > DEEPEST or self._count > MOST_ELEMENTS:
            raise InputError("the XML has too many elements")
        return super().start(tag, attrs)

    def end(self, tag: str) -> Element:
        """Close an element."""
        self._depth -= 1
        return super().end(tag)


async def read_xml(body: Body) -> Element | None:
    """Return the root of the body, None if there is none; raise InputError or TooLarge."""
    raw = bytearray()
    while block := await body.read():
        raw += block
        if len(raw) > LONGEST:
            raise TooLarge(f"this body may have {LONGEST} bytes")
    if not raw:
        return None
    parser = DefusedXMLParser(target=_Limited(), forbid_dtd=True)
    try:
        parser.feed(bytes(raw))
        root = parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise InputError("the body is not well-formed XML") from None
    return root if isinstance(root, Element) else None


def escape(text: str) -> str:
    """Return a text for element content and attributes; what XML cannot hold becomes `?`."""
    text = _BAD.sub("?", text)
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(plain, entity)
    return text


def split(name: str) -> tuple[str, str]:
    """Return namespace and local part of `{namespace}local`."""
    if not name.startswith("{"):
        return "", name
    namespace, _, local = name[1:].partition("}")
    return namespace, local


def element(name: str, content: str = "") -> str:
    """Return an element; `content` is XML already."""
    namespace, local = split(name)
    if namespace == "DAV:":
        tag, declared = f"D:{local}", ""
    elif namespace:
        tag, declared = f"x:{local}", f' xmlns:x="{escape(namespace)}"'
    else:
        tag, declared = local, ""
    return f"<{tag}{declared}>{content}</{tag}>" if content else f"<{tag}{declared}/>"


def text_of(one: Element) -> str:
    """Return an element as XML that can stand anywhere."""
    tail, one.tail = one.tail, None
    try:
        return tostring(one, encoding="unicode")
    finally:
        one.tail = tail


# --- requests --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PropFind:
    """Which properties are wanted."""

    names: tuple[str, ...] = ()  # asked for by name
    everything: bool = False  # allprop, and `names` besides
    only_names: bool = False


def read_propfind(root: Element | None) -> PropFind:
    """Return what a PROPFIND asks for; no body asks for everything."""
    if root is None:
        return PropFind(everything=True)
    if root.tag != f"{DAV}propfind":
        raise InputError("the body of PROPFIND is a propfind element")
    parts = {one.tag: one for one in root}
    if f"{DAV}propname" in parts:
        return PropFind(only_names=True)
    if f"{DAV}allprop" in parts:
        more = parts.get(f"{DAV}include")
        names = tuple(one.tag for one in more) if more is not None else ()
        return PropFind(everything=True, names=names)
    if f"{DAV}prop" not in parts:
        raise InputError("propfind needs prop, allprop or propname")
    return PropFind(names=tuple(dict.fromkeys(one.tag for one in parts[f"{DAV}prop"])))


def read_proppatch(root: Element | None) -> list[tuple[str, Element | None]]:
    """Return what is set (with its element) or removed (None), in the client's order."""
    if root is None or root.tag != f"{DAV}propertyupdate":
        raise InputError("the body of PROPPATCH is a propertyupdate element")
    found: list[tuple[str, Element | None]] = []
    for part in root:
        sets = part.tag == f"{DAV}set"
        if not sets and part.tag != f"{DAV}remove":
            continue
        for prop in part.iterfind(f"{DAV}prop"):
            found += [(one.tag, one if sets else None) for one in prop]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class LockInfo:
    """What a LOCK asks for."""

    is_shared: bool
    owner: str  # XML, empty for none


def read_lockinfo(root: Element) -> LockInfo:
    """Return what a LOCK asks for; raise InputError."""
    if root.tag != f"{DAV}lockinfo":
        raise InputError("the body of LOCK is a lockinfo element")
    scope = root.find(f"{DAV}lockscope")
    kind = root.find(f"{DAV}locktype")
    if scope is None or kind is None or kind.find(f"{DAV}write") is None:
        raise InputError("locks are exclusive or shared write locks")
    is_shared = scope.find(f"{DAV}shared") is not None
    if not is_shared and scope.find(f"{DAV}exclusive") is None:
        raise InputError("locks are exclusive or shared write locks")
    owner = root.find(f"{DAV}owner")
    text = text_of(owner) if owner is not None else ""
    if len(text) > 2048:
        raise InputError("the owner of a lock has at most 2048 characters")
    return LockInfo(is_shared=is_shared, owner=text)


# --- answers ---------------------------------------------------------------------------------

HEAD: Final = XML + '<D:multistatus xmlns:D="DAV:">\n'
TAIL: Final = "</D:multistatus>\n"
_PHRASES: Final[Mapping[int, str]] = {
    200: "OK", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 423: "Locked",
    424: "Failed Dependency", 507: "Insufficient Storage",
}  # fmt: skip


def status_line(status: int) -> str:
    """Return the status element."""
    return f"<D:status>HTTP/1.1 {status} {_PHRASES.get(status, 'Failed')}</D:status>"


def response(href: str, groups: Iterable[tuple[int, Sequence[str]]]) -> str:
    """Return the properties of one resource, grouped by status."""
    parts = [
        f"<D:propstat><D:prop>{''.join(props)}</D:prop>{status_line(status)}</D:propstat>"
        for status, props in groups
        if props
    ]
    if not parts:  # a resource without any of what was asked for is still there
        parts = [f"<D:propstat><D:prop/>{status_line(200)}</D:propstat>"]
    return f"<D:response><D:href>{escape(href)}</D:href>{''.join(parts)}</D:response>\n"


def failure(href: str, status: int) -> str:
    """Return the failure of one resource."""
    return f"<D:response><D:href>{escape(href)}</D:href>{status_line(status)}</D:response>\n"


def error(condition: str) -> bytes:
    """Return the body that names a precondition of RFC 4918 section 16."""
    return f'{XML}<D:error xmlns:D="DAV:"><D:{condition}/></D:error>\n'.encode()
