"""Addresses of the portal: what a request path means, and how paths become links.

Spec: portal.md 3.4 (`/ecpds/…`, host name mapping), interface.md 8 (`portal.https.hosts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import quote


class Kind(Enum):
    """What an address answers with."""

    BOTH = auto()  # a file, or the listing of a directory
    FILE = auto()
    LIST = auto()


@dataclass(frozen=True, slots=True)
class Place:
    """A path of the virtual tree as one address space shows it."""

    kind: Kind
    path: str  # decoded, with a leading slash, as the client wrote it
    files: str  # base of links to files, with a final slash, percent-encoded
    directories: str  # base of links to directories, likewise
    home: str | None = None  # data user whose address it is; None: whoever logs in

    @property
    def names_directory(self) -> bool:
        """Tell whether the address ends as one of a directory."""
        return self.path.endswith("/")


def find(path: str, host: str, hosts: Mapping[str, str]) -> Place | None:
    """Return the place that the decoded `path` names on `host` (without port); None: none.

    `hosts` maps a host name to the path below which its user's tree is shown.
    """
    mapped = hosts.get(host)
    if mapped is not None and not path.startswith("/ecpds/"):
        base = "/" + "/".join(part for part in mapped.split("/") if part)
        base = base.removesuffix("/") + "/"
        if (path + "/").startswith(base):
            rest = path[len(base) :]
            return Place(Kind.BOTH, "/" + rest, quote(base), quote(base), host)
    for prefix, kind in _PREFIXES:
        if (path + "/").startswith(prefix):
            return _below(prefix, kind, path[len(prefix) :])
    return None


_PREFIXES = (
    ("/ecpds/file/", Kind.BOTH),
    ("/ecpds/data/file/", Kind.FILE),
    ("/ecpds/data/list/", Kind.LIST),
    ("/ecpds/home/", Kind.BOTH),
)


def _below(prefix: str, kind: Kind, rest: str) -> Place | None:
    if prefix == "/ecpds/home/":
        user, _, rest = rest.partition("/")
        if not user:
            return None
        base = f"/ecpds/home/{quote(user, safe='')}/"
        return Place(kind, "/" + rest, base, base, user)
    if kind is Kind.BOTH:
        return Place(kind, "/" + rest, prefix, prefix)
    return Place(kind, "/" + rest, "/ecpds/data/file/", "/ecpds/data/list/")


def link(base: str, path: str, *, directory: bool = False) -> str:
    """Return the address of the normal absolute `path` below `base`, percent-encoded."""
    text = base + quote(path.strip("/"), safe="/")
    return text if not directory or text.endswith("/") else text + "/"


def local(address: str) -> str:
    """Return `address` if it leads back into the portal, else its start page.

    What a login form sends the browser on to may not be another site.
    """
    clean = all(33 <= ord(c) < 127 and c != "\\" for c in address)
    return address if clean and address.startswith("/") and address[1:2] != "/" else "/ecpds/file/"
