"""Azurite, Microsoft's emulator of Azure Storage: one process for all tests, a container for each.

Seen with Azurite 3.37: starts in one to three seconds, so that tests share it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as Xml

from ecpds.base.clock import SystemClock
from tests.peers import ports
from tests.peers.objects import ObjectsPeer, wait_answering
from tests.peers.peer import Peer
from tests.peers.process import Child
from tests.peers.programs import ProgramMissing, find

ACCOUNT = "ecpdstest"
KEY = base64.b64encode(b"the key of an account that exists only here, " + bytes(19)).decode()


@dataclass(frozen=True, slots=True)
class Service:
    """The running emulator."""

    port: int
    child: Child

    def ask(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        content: bytes = b"",
        **headers: str,
    ) -> tuple[int, bytes]:
        """Send one request by the shared key; return status and content."""
        full = f"/{ACCOUNT}{quote(path)}"
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given |= {
            "x-ms-version": "2021-12-02",
            "x-ms-date": format_datetime(SystemClock().now(), usegmt=True),
        }
        length = str(len(content)) if content else ""
        lines = [method, "", "", length, "", "", "", "", "", "", "", ""]
        lines += [f"{name}:{given[name]}" for name in sorted(given) if name.startswith("x-ms-")]
        tail = "".join(f"\n{name}:{value}" for name, value in sorted((query or {}).items()))
        text = "\n".join(lines) + f"\n/{ACCOUNT}{full}{tail}"
        digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
        given["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            target = full + (f"?{urlencode(query, quote_via=quote)}" if query else "")
            connection.request(method, target, body=content or None, headers=given)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


RUNNING: list[Service] = []  # the one of `service`


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    """Run the emulator until the block is left."""
    program = find("azurite-blob")
    folder.mkdir(parents=True, exist_ok=True)
    with ports.reserved() as block:
        command: list[str | Path] = [
            program, "--blobHost", "127.0.0.1", "--blobPort", str(block[0]), "--location", folder,
            "--silent", "--skipApiVersionCheck", "--disableTelemetry",
        ]  # fmt: skip
        child = Child(
            "azurite", command, folder / "output", env={"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
        )
        found = Service(block[0], child)
        try:
            wait_answering(child, lambda: found.ask("GET", "/", {"comp": "list"}))
            RUNNING.append(found)
            yield found
        finally:
            RUNNING.clear()
            child.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class AzuritePeer(ObjectsPeer):
    """A container of the emulator, looked at by requests of its own."""

    service: Service
    container: str

    def _ask(self, method: str, name: str, **more: object) -> bytes:
        status, content = self.service.ask(method, f"/{self.container}/{name}", **more)  # type: ignore[arg-type]
        assert status < 300, (status, content)
        return content

    def put(self, name: str, content: bytes, *, mtime: float | None = None) -> Path:
        """Write a blob."""
        del mtime
        self._ask("PUT", name, content=content, x_ms_blob_type="BlockBlob")
        return Path(name)

    def delete(self, name: str) -> None:
        """Delete one of them."""
        self._ask("DELETE", name)

    def get(self, name: str) -> bytes:
        """Return the content of a blob."""
        return self._ask("GET", name)

    def names(self) -> list[str]:
        """Return the names of all committed blobs."""
        query = {"restype": "container", "comp": "list"}
        _, content = self.service.ask("GET", f"/{self.container}", query)
        found = Xml.fromstring(content.removeprefix(b"\xef\xbb\xbf"))
        return sorted(one.text or "" for one in found.iterfind("Blobs/Blob/Name"))


@asynccontextmanager
async def azurite(folder: Path) -> AsyncIterator[Peer]:
    """Give a new container of the running emulator; login and password are account and key."""
    if not RUNNING:
        raise ProgramMissing("azurite-blob")
    running = RUNNING[0]
    container = f"c{secrets.token_hex(8)}"
    status, content = running.ask("PUT", f"/{container}", {"restype": "container"})
    assert status == 201, content
    yield AzuritePeer(
        name="azurite",
        scheme="http",
        port=running.port,
        root=folder,
        login=ACCOUNT,
        password=KEY,
        log=running.child.output,
        service=running,
        container=container,
    )


def account_url(peer: Peer) -> str:
    """Return the endpoint of the account."""
    return f"{peer.url}/{ACCOUNT}"
