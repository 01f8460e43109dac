"""Style sheets, scripts and pictures: read once at the start, named with a hash of their content.

What is asked for with the right hash may be kept for ever; the plain name is asked for again each
time.  Nothing is read from the disk while serving.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from ecpds.model.errors import ConfigError, NotFound

MOST: Final = 16 * 1024 * 1024  # bytes of all files together
WORTH: Final = 1024  # bytes from which compression pays
_TEXTS: Final = {".css", ".js", ".svg", ".json", ".txt", ".map", ".md"}
FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Static:
    """One file."""

    body: bytes
    packed: bytes | None  # gzip, when that is smaller
    type: str
    version: str


class Statics:
    """All files below `templates/static`."""

    def __init__(self, folder: Path) -> None:
        """Read them; ConfigError when they are more than 16 MiB."""
        self._files: dict[str, Static] = {}
        total = 0
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if not path.is_file() or path.name.startswith("."):
                continue
            body = path.read_bytes()
            total += len(body)
            if total > MOST:
                raise ConfigError(f"{folder} holds more than {MOST} bytes")
            self._files[path.relative_to(folder).as_posix()] = _read(path, body)

    def url(self, name: str) -> str:
        """Return the address of a file with its hash; NotFound for a name that is not there."""
        return f"/static/{name}?v={self._one(name).version}"

    def _one(self, name: str) -> Static:
        found = self._files.get(name)
        if found is None:
            raise NotFound(f"there is no file {name}")
        return found

    def answer(self, request: web.Request, name: str) -> web.Response:
        """Return the file, or 304 when the caller has it; NotFound."""
        found = self._one(name)
        etag = f'"{found.version}"'
        asked = request.query.get("v")
        headers = {
            "ETag": etag,
            "Cache-Control": FOR_EVER if asked == found.version else "no-cache",
            "Vary": "Accept-Encoding",
        }
        if etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        body = found.body
        if found.packed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            body = found.packed
            headers["Content-Encoding"] = "gzip"
        headers["Content-Type"] = found.type
        return web.Response(body=body, headers=headers)


def _read(path: Path, body: bytes) -> Static:
    packed = gzip.compress(body, 9, mtime=0) if path.suffix in _TEXTS else None
    if packed is not None and (len(body) < WORTH or len(packed) >= len(body)):
        packed = None
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if kind.startswith("text/") or path.suffix == ".js":
        kind = f"{'text/javascript' if path.suffix == '.js' else kind}; charset=utf-8"
    return Static(body, packed, kind, hashlib.sha256(body).hexdigest()[:16])
