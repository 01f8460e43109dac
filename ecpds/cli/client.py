"""Talks to a running node through its JSON API.

Where the server and the credential come from, first match: `--server`/`--token-file`/`--token`, a
profile, `ECPDS_SERVER`/`ECPDS_TOKEN`, then `endpoints.json` and `admin.token` below the data
directory of `--config` or `./ecpds.toml`.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import tomllib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from ecpds.base.settings import load
from ecpds.cli.codes import CommandError, Exit, of_status
from ecpds.model.errors import ConfigError

BLOCK = 256 * 1024
MOST_ANSWER = 64 * 1024 * 1024  # bytes of one JSON answer


def add_arguments(parser: ArgumentParser) -> None:
    """Add what all client commands take."""
    group = parser.add_argument_group("connection")
    group.add_argument("--server", metavar="URL", help="address of the monitor")
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file that holds the API token"
    )
    group.add_argument(
        "--token", help="API token; other users of this machine see it, prefer --token-file"
    )
    group.add_argument("--profile", metavar="NAME", help="profile in ~/.config/ecpds/NAME.toml")
    group.add_argument("--config", type=Path, metavar="FILE", help="settings of the node")
    group.add_argument("--ca", type=Path, metavar="FILE", help="certificate to trust")
    group.add_argument("--insecure", action="store_true", help="do not verify the certificate")
    group.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for an answer")
    parser.add_argument(
        "--output", choices=("text", "json", "id"), default="text", help="form of the answer"
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the node is and how to prove who asks."""

    server: str
    token: str
    ca: Path | None = None
    insecure: bool = False


def find(args: Namespace) -> Access:
    """Return the access for the arguments; CommandError tells what is missing."""
    server, token = args.server or "", args.token or ""
    if args.token_file:
        token = _read(args.token_file)
    if args.profile:
        profile = _profile(args.profile)
        server, token = server or profile.get("server", ""), token or profile.get("token", "")
    server = server or os.environ.get("ECPDS_SERVER", "")
    token = token or os.environ.get("ECPDS_TOKEN", "")
    ca: Path | None = args.ca
    if not server or not token:
        server, token, ca = _from_data_directory(args, server, token, ca)
    return Access(server=server.rstrip("/"), token=token, ca=ca, insecure=args.insecure)


def _from_data_directory(
    args: Namespace, server: str, token: str, ca: Path | None
) -> tuple[str, str, Path | None]:
    config = args.config or (Path("ecpds.toml") if Path("ecpds.toml").exists() else None)
    if config is None:
        raise CommandError("no server given: use --server, ECPDS_SERVER or --config", Exit.USAGE)
    data_dir = load(config).data_dir
    if not server:
        try:
            endpoints = json.loads((data_dir / "endpoints.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CommandError(f"no node runs with {data_dir}", Exit.UNREACHABLE) from None
        server = endpoints.get("monitor", "")
        own = data_dir / "tls" / "certificate.pem"
        ca = ca or (own if own.exists() else None)
    return server, token or _read(data_dir / "admin.token"), ca


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}", Exit.DENIED) from None


def _profile(name: str) -> dict[str, str]:
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = folder / "ecpds" / f"{name}.toml"
    try:
        return tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(error), file=str(path)) from None


class Client:
    """One connection to the API, opened at the first request."""

    def __init__(self, access: Access, timeout: float) -> None:
        self._access = access
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urlsplit(self._access.server)
            host, port = parts.hostname or "", parts.port
            if parts.scheme == "http":
                made = http.client.HTTPConnection(host, port, timeout=self._timeout)
            else:
                context = self._context()
                made = http.client.HTTPSConnection(
                    host, port, timeout=self._timeout, context=context
                )
            self._connection = made
        return self._connection

    def _context(self) -> ssl.SSLContext:
        if self._access.insecure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        ca = str(self._access.ca) if self._access.ca else None
        return ssl.create_default_context(cafile=ca)

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        given = {"Authorization": f"Bearer {self._access.token}", "Accept": "application/json"}
        connection = self._connect()
        try:
            connection.request(method, path, body=body, headers=given | dict(headers))
            return connection.getresponse()
        except TimeoutError:
            raise CommandError(f"no answer within {self._timeout:g} s", Exit.TIMEOUT) from None
        except (OSError, http.client.HTTPException, socket.gaierror) as error:
            self.close()
            raise CommandError(
                f"{self._access.server} cannot be reached: {error}", Exit.UNREACHABLE
            ) from None

    def call(
        self,
        method: str,
        path: str,
        *,
        json_body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send one request below `/api/v2`; return the decoded answer, None for 204."""
        wanted = {key: value for key, value in (query or {}).items() if value is not None}
        address = "/api/v2" + path + (f"?{urlencode(wanted)}" if wanted else "")
        body = None if json_body is None else json.dumps(json_body).encode()
        given = {"Content-Type": "application/json"} if body is not None else {}
        return _answer(self._send(method, address, body, given | dict(headers or {})))

    def put(self, path: str, value: Mapping[str, Any]) -> Any:
        """Create or replace an object whatever its version."""
        return self.call("PUT", path, json_body=value, headers={"If-Match": "*"})

    def items(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Yield all items of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.call("GET", path, query={"limit": 500, **(query or {}), "cursor": cursor})
            yield from page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def upload(self, path: str, fields: Mapping[str, str], name: str, content: IO[bytes]) -> Any:
        """POST a multipart form with one file, streamed."""
        boundary = f"ecpds{os.urandom(12).hex()}"
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        blocks = _multipart(boundary, fields, name, content)
        return _answer(self._send("POST", "/api/v2" + path, blocks, headers))

    def download(self, path: str, offset: int = 0) -> http.client.HTTPResponse:
        """GET content; the caller reads the response."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self._send("GET", "/api/v2" + path, None, headers | {"Accept": "*/*"})
        if response.status not in {200, 206}:
            _answer(response)
        return response

    def close(self) -> None:
        """Close the connection; may be called twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _multipart(
    boundary: str, fields: Mapping[str, str], name: str, content: IO[bytes]
) -> Iterator[bytes]:
    for key, value in fields.items():
        yield (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        ).encode()
    shown = name.replace("\\", "_").replace('"', "%22").replace("\r", "").replace("\n", "")
    yield (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{shown}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    while block := content.read(BLOCK):
        yield block
    yield f"\r\n--{boundary}--\r\n".encode()


def _answer(response: http.client.HTTPResponse) -> Any:
    data = response.read(MOST_ANSWER)
    try:
        value = json.loads(data) if data else None
    except ValueError:
        value = None
    if response.status < 300:
        return value
    problem = value if isinstance(value, dict) else {}
    code = str(problem.get("code") or problem.get("type", "")).removeprefix("urn:problem:")
    text = problem.get("detail") or problem.get("title") or f"HTTP {response.status}"
    for error in problem.get("errors") or []:
        if error.get("message") and error["message"] not in text:
            text += f"\n  {error.get('pointer', '')}: {error['message']}"
    raise CommandError(text, of_status(response.status, code), code=code, problem=problem)


def segment(name: str) -> str:
    """Return a name as one path segment."""
    return quote(name, safe="")
