"""A bucket of an S3 service as a peer, looked at with botocore's signer and the standard library.

Nothing of it is ours, so that what our module has written is read by somebody else.
"""

from __future__ import annotations

import http.client
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote_plus, urlencode

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.peers.peer import Peer

REGION = "us-east-1"
_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class Refused(Exception):
    """The service did not do what a test asked it directly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running S3 service on 127.0.0.1."""

    name: str
    port: int
    login: str
    password: str
    region: str = REGION

    def ask(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        told: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send one signed request; return status and body, and put headers into `told`."""
        told = {} if told is None else told
        place = quote(path, safe="/~") + (f"?{urlencode(query)}" if query else "")
        request = AWSRequest(
            method=method,
            url=f"http://127.0.0.1:{self.port}{place}",
            data=content,
            headers=dict(headers or {}),
        )
        S3SigV4Auth(Credentials(self.login, self.password), "s3", self.region).add_auth(request)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, place, body=content, headers=dict(request.headers))
            answer = connection.getresponse()
            told.update({name.lower(): value for name, value in answer.getheaders()})
            return answer.status, answer.read()
        finally:
            connection.close()

    def demand(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        query: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send one signed request; return the body. Raises Refused."""
        status, body = self.ask(method, path, content=content, query=query)
        if status >= 300:
            raise Refused(f"{method} {path}: {status} {body[:300]!r}")
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketPeer(Peer):
    """One bucket; directories are keys that end with a slash."""

    service: Service
    bucket: str

    def at(self, host: str, port: int) -> BucketPeer:
        """Return the same bucket as seen at another address."""
        return replace(self, host=host, port=port)

    def _path(self, name: str) -> str:
        return f"/{self.bucket}/{name}"

    def put(self, name: str, content: bytes, *, mtime: float | None = None) -> Path:
        """Write an object; its time is the service's own."""
        self.service.demand("PUT", self._path(name), content=content)
        return Path(name)

    def fill(self, directory: str, count: int) -> None:
        """Write empty objects named 000000, 000001, …"""
        names = [f"{directory}/{number:06d}" for number in range(count)]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda name: self.put(name, b""), names))

    def mkdir(self, name: str) -> Path:
        """Write the key that stands for a directory."""
        if name.strip("./"):
            self.service.demand("PUT", self._path(name.rstrip("/") + "/"))
        return Path(name)

    def has_directory(self, name: str) -> bool:
        """Tell whether anything is below that name."""
        return bool(self._keys(f"{name.rstrip('/')}/"))

    def remove(self, name: str) -> None:
        """Remove an object, or all below a directory."""
        for key in [name, *self._keys(f"{name}/")]:
            self.service.demand("DELETE", self._path(key))

    def get(self, name: str) -> bytes:
        """Return the content of an object."""
        return self.service.demand("GET", self._path(name))

    def names(self) -> list[str]:
        """Return all keys, sorted."""
        return sorted(key for key in self._keys("") if not key.endswith("/"))

    def uploads(self) -> list[str]:
        """Return the keys of uploads that are not complete."""
        found = ET.fromstring(self.service.demand("GET", f"/{self.bucket}", query={"uploads": ""}))
        return [each.text or "" for each in found.iter() if each.tag.endswith("}Key")]

    def _keys(self, prefix: str) -> list[str]:
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
        keys: list[str] = []
        while True:
            page = ET.fromstring(self.service.demand("GET", f"/{self.bucket}", query=query))
            space = page.tag.partition("ListBucketResult")[0]
            keys += [unquote_plus(one.text or "") for one in page.iter(f"{space}Key")]
            token = page.findtext(f"{space}NextContinuationToken")
            if not token:
                return keys
            query["continuation-token"] = token


def peer_of(service: Service, bucket: str, folder: Path) -> BucketPeer:
    """Create a bucket and return it as a peer."""
    service.demand("PUT", f"/{bucket}")
    return BucketPeer(
        name=service.name,
        scheme="http",
        port=service.port,
        root=folder,
        login=service.login,
        password=service.password,
        service=service,
        bucket=bucket,
    )
