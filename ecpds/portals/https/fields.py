"""Fields that describe a file or protect a page: type, disposition, security, CORS."""

from __future__ import annotations

import mimetypes
import unicodedata
from collections.abc import Mapping
from urllib.parse import quote

from ecpds.portals.https import negotiate
from ecpds.portals.https.exchange import Ask

OCTETS = "application/octet-stream"
_OWN_TYPES = {
    ".bufr": "application/x-bufr",
    ".grb": "application/x-grib",
    ".grb2": "application/x-grib",
    ".grib": "application/x-grib",
    ".grib2": "application/x-grib",
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".md": "text/markdown",
    ".nc": "application/x-netcdf",
    ".parquet": "application/vnd.apache.parquet",
    ".webp": "image/webp",
    ".xml": "application/xml",
    ".zarr": OCTETS,
}
_COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "zstd": "application/zstd",
}

# Without 'unsafe-inline': a name that slips through as markup still does nothing.
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'self'; base-uri 'none'"
)
# Files are hostile: shown in a browser they get an origin of their own, and no script.
FILE_POLICY = "sandbox; default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"


class Types:
    """Content types by file name, the same on every machine: its own tables are not read."""

    def __init__(self) -> None:
        self._known = mimetypes.MimeTypes(filenames=())
        for suffix, kind in _OWN_TYPES.items():
            self._known.add_type(kind, suffix)

    def of(self, name: str) -> str:
        """Return the type of a file called `name`; of a compressed file that of the compression."""
        if not name.rpartition(".")[0]:
            return OCTETS
        # guess_type reads URLs; a name is none, so only its last suffixes are shown to it
        kind, encoding = self._known.guess_type("x." + ".".join(name.split(".")[1:][-2:]))
        if encoding:
            return _COMPRESSED.get(encoding, OCTETS)
        return kind or OCTETS


def with_charset(kind: str) -> str:
    """Return the type with its charset: texts are taken for UTF-8."""
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def disposition(name: str, kind: str, accept: str) -> str:
    """Return Content-Disposition: inline for images and types that the client asks for by name."""
    bare = kind.partition(";")[0].strip().lower()
    inline = bare.startswith("image/") or negotiate.names(accept, bare)
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = "".join(c for c in plain if c.isprintable() and c not in '"\\%') or "file"
    text = f'{"inline" if inline else "attachment"}; filename="{plain}"'
    return text if plain == name else f"{text}; filename*=UTF-8''{quote(name, safe='')}"


def security(*, secure: bool, policy: str) -> dict[str, str]:
    """Return the fields that every answer has."""
    fields = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "SAMEORIGIN",
        "Content-Security-Policy": policy,
        "Referrer-Policy": "same-origin",
    }
    if secure:
        fields["Strict-Transport-Security"] = "max-age=31536000"
    return fields


def cross_origin(ask: Ask, allowed: str) -> dict[str, str]:
    """Return the CORS fields: `allowed` is `*` or origins separated by commas or spaces."""
    granted = granted_origin(ask, allowed)
    if "Access-Control-Allow-Origin" not in granted:
        return granted
    return granted | {
        "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
        "Access-Control-Allow-Headers": "Range, Content-Type, Authorization",
        "Access-Control-Expose-Headers": (
            "Content-Range, Content-Length, Accept-Ranges, ETag, Last-Modified"
        ),
    }


def granted_origin(ask: Ask, allowed: str) -> dict[str, str]:
    """Return the CORS fields about who asks, none for what is no request of another site."""
    origin = ask.headers.get("origin", "")
    if not origin or not allowed.strip():
        return {}
    listed = allowed.replace(",", " ").split()
    if "*" in listed:
        return {"Access-Control-Allow-Origin": "*"}
    if origin in listed:
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
    return {"Vary": "Origin"}


def from_elsewhere(headers: Mapping[str, str], host: str) -> bool:
    """Tell whether a browser sent this request for a page of another site.

    Basic credentials go along with forged forms, so an unsafe request from there is refused.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2].lower() != host.lower()
