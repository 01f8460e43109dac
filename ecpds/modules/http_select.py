"""Elements of an HTML page that a CSS selector chooses.

Spec: transfer-modules-protocols.md 3.3 (`select`, `attribute`).
"""

from __future__ import annotations

from selectolax.lexbor import LexborHTMLParser, SelectolaxError

from ecpds.model.entry import Kind
from ecpds.model.errors import Phase, RemoteConfig
from ecpds.modules.http_pages import Found


def selected(text: str, select: str, attribute: str) -> list[Found]:
    """Return what the chosen elements tell: an attribute, or their text when it is empty."""
    try:
        nodes = LexborHTMLParser(text).css(select)
    except (SelectolaxError, ValueError) as error:
        raise RemoteConfig(f"http.select: {error}", phase=Phase.LIST) from None
    found = []
    for node in nodes:
        told = (node.attributes.get(attribute) or "") if attribute else node.text()
        reference = told.strip()
        path = reference.partition("?")[0].partition("#")[0]
        if path and reference.partition(":")[0].lower() not in ("mailto", "javascript", "data"):
            kind = Kind.DIRECTORY if path.endswith("/") else Kind.FILE
            found.append(Found(reference=reference, kind=kind))
    return found
