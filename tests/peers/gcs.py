"""gcp-storage-emulator, a small server for Google Cloud Storage's JSON API, shared by all tests.

Seen with 2026.7.19: it serves one connection at a time and one request on each (not as started
here), checks no login, crashes on empty objects that come in one request, takes a body that breaks
off for a whole one, says `bytes=0-0` when it has nothing, and never pages a listing.
"""

from __future__ import annotations

import http.client
import json
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from tests.peers import ports
from tests.peers.objects import ObjectsPeer, wait_answering
from tests.peers.peer import Peer
from tests.peers.process import Child
from tests.peers.programs import ProgramMissing, find

MANY_AT_ONCE = """
from http import server
server.HTTPServer = server.ThreadingHTTPServer
from gcp_storage_emulator.server import RequestHandler
RequestHandler.protocol_version = "HTTP/1.1"
RequestHandler.disable_nagle_algorithm = True
from gcp_storage_emulator.__main__ import main
main()
"""


@dataclass(frozen=True, slots=True)
class Service:
    """The running emulator."""

    port: int
    child: Child

    def ask(self, method: str, target: str, content: bytes = b"", kind: str = "") -> bytes:
        """Send one request; return the content of a positive answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = {"Content-Type": kind} if kind else {}
            connection.request(method, target, body=content or None, headers=headers)
            answer = connection.getresponse()
            found = answer.read()
            assert answer.status < 300, (answer.status, target, found)
            return found
        finally:
            connection.close()


RUNNING: list[Service] = []  # the one of `service`


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    """Run the emulator until the block is left."""
    find("gcp-storage-emulator")
    folder.mkdir(parents=True, exist_ok=True)
    with ports.reserved() as block:
        command: list[str | Path] = [
            sys.executable, "-c", MANY_AT_ONCE,
            "start", "--port", str(block[0]), "--host", "127.0.0.1", "-M", "-q",
        ]  # fmt: skip
        child = Child("gcp-storage-emulator", command, folder / "output", cwd=folder)
        found = Service(block[0], child)
        try:
            wait_answering(child, lambda: found.ask("GET", "/"))
            RUNNING.append(found)
            yield found
        finally:
            RUNNING.clear()
            child.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class GcsPeer(ObjectsPeer):
    """A bucket of the emulator, looked at by requests of its own."""

    service: Service
    bucket: str

    def _object(self, name: str) -> str:
        return f"/storage/v1/b/{self.bucket}/o/{quote(name, safe='')}"

    def put(self, name: str, content: bytes, *, mtime: float | None = None) -> Path:
        """Write an object."""
        del mtime
        place = f"/upload/storage/v1/b/{self.bucket}/o"
        if content:
            query = urlencode({"uploadType": "media", "name": name}, quote_via=quote)
            self.service.ask("POST", f"{place}?{query}", content, "application/octet-stream")
            return Path(name)
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=10)
        try:
            query = urlencode({"uploadType": "resumable", "name": name}, quote_via=quote)
            connection.request("POST", f"{place}?{query}")
            answer = connection.getresponse()
            answer.read()
            where = answer.headers["Location"].partition(f":{self.service.port}")[2]
            connection.request("PUT", where, headers={"Content-Range": "bytes */0"})
            assert connection.getresponse().read()
        finally:
            connection.close()
        return Path(name)

    def delete(self, name: str) -> None:
        """Delete one of them."""
        self.service.ask("DELETE", self._object(name))

    def get(self, name: str) -> bytes:
        """Return the content of an object."""
        return self.service.ask("GET", f"{self._object(name)}?alt=media")

    def names(self) -> list[str]:
        """Return the names of all objects."""
        found = json.loads(self.service.ask("GET", f"/storage/v1/b/{self.bucket}/o"))
        return sorted(item["name"] for item in found.get("items") or ())


@asynccontextmanager
async def gcs(folder: Path) -> AsyncIterator[Peer]:
    """Give a new bucket of the running emulator."""
    if not RUNNING:
        raise ProgramMissing("gcp-storage-emulator")
    running, bucket = RUNNING[0], f"b{secrets.token_hex(8)}"
    content = json.dumps({"name": bucket}).encode()
    running.ask("POST", "/storage/v1/b?project=test", content, "application/json")
    yield GcsPeer(
        name="gcs",
        scheme="http",
        port=running.port,
        root=folder,
        log=running.child.output,
        service=running,
        bucket=bucket,
    )
