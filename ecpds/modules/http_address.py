"""Names of files and references to pages as addresses.

A file name means itself, whatever characters it has; a page is named as operators write addresses,
with a query and with what is percent-encoded already.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from yarl import URL

from ecpds.model.errors import Phase, RemoteConfig, RemoteName
from ecpds.modules.http_options import HttpOptions
from ecpds.transfer.contract import Target


def origin_of(target: Target, options: HttpOptions) -> URL:
    """Return scheme, host and port of the configured host."""
    try:
        return URL.build(
            scheme=options.scheme, host=target.host.strip("[]"), port=options.origin_port
        ).origin()
    except ValueError:
        raise RemoteConfig(f"{target.host!r} is no host name", phase=Phase.CONNECT) from None


def is_url(name: str) -> bool:
    """Whether a name is a whole address by itself."""
    return name[:8].lower().startswith(("http://", "https://"))


def parsed(text: str) -> URL:
    """Return an address as it is written; raises RemoteName."""
    try:
        return URL(text).with_fragment(None)
    except ValueError:
        raise RemoteName(f"{text[:200]!r} is no address") from None


def file_url(origin: URL, directory: str, name: str) -> URL:
    """Return the address of a file: a whole one as it is, else the plain name, encoded.

    Plain names mean themselves: `50%20off` is a name with a percent sign.
    """
    if any(c in name for c in "\r\n\0"):
        raise RemoteName(f"{name!r} has a line end or a NUL")
    if is_url(name):
        return parsed(name)
    path = name if name.startswith("/") or not directory else f"{directory.rstrip('/')}/{name}"
    parts = (quote(part, safe="", errors="surrogateescape") for part in path.split("/"))
    return origin.with_path("/" + "/".join(parts).lstrip("/"), encoded=True)


def page_url(origin: URL, directory: str, reference: str) -> URL:
    """Return the address of a page: here a query, and what is encoded already, stay as they are."""
    if any(c in reference for c in "\r\n\0"):
        raise RemoteName(f"{reference!r} has a line end or a NUL")
    if is_url(reference):
        return parsed(reference)
    path, mark, query = reference.partition("?")
    if directory and not path.startswith("/"):
        path = f"{directory.rstrip('/')}/{path}"
    lone = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", path)
    encoded = quote(lone, safe="/%:@!$&'()*+,;=~", errors="surrogateescape")
    query = quote(query, safe="/%:@!$&'()*+,;=~?", errors="surrogateescape")
    text = f"{origin}/{encoded.lstrip('/')}{mark}{query}"
    try:
        return URL(text, encoded=True)
    except ValueError:
        raise RemoteName(f"{reference!r} is no address") from None
