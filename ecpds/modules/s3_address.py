"""Where an S3 service, its buckets and its keys are, as addresses.

Spec: AWS "Virtual hosting of buckets", "S3 endpoints"; transfer-modules-protocols.md section 5.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from yarl import URL

from ecpds.model.errors import Phase, RemoteConfig, RemoteName
from ecpds.modules.s3_options import S3Options
from ecpds.modules.s3_sign import encoded
from ecpds.transfer.contract import Target

FIRST_REGION: Final = "us-east-1"
LONGEST_KEY: Final = 1024  # bytes

_AWS_HOST: Final = re.compile(r"(?:^|\.)amazonaws\.com(?:\.cn)?$", re.IGNORECASE)
_AWS_SERVICE: Final = re.compile(
    r"^(?:(?P<bucket>.+)\.)?s3[.-](?:dualstack\.)?(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws"
)
_AWS_REGION: Final = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d{1,2}|aws-global")
_REGION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_DOTLESS: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Place:
    """One request's address: origin, Host header, and the encoded path."""

    origin: str
    host: str
    path: str

    def url(self, query: str) -> URL:
        """Return the whole address, exactly as it is signed."""
        return URL(f"{self.origin}{self.path}{'?' if query else ''}{query}", encoded=True)


class Endpoint:
    """The addresses of one Host."""

    def __init__(self, target: Target, options: S3Options) -> None:
        """Read host and options; raises RemoteConfig for what makes no address."""
        self._options = options
        base = _base(target, options)
        self.is_aws = base is None
        self._base = base or URL("https://amazonaws.com")
        self.first_region = options.region or _told_region(target.host) or FIRST_REGION
        check_region(self.first_region, is_aws=self.is_aws)
        bucket = options.bucket_name
        if bucket and not _BUCKET.fullmatch(bucket):
            raise RemoteConfig(f"{bucket!r} is no name of a bucket", phase=Phase.CONNECT)
        self.bucket = bucket

    def place(self, bucket: str, key: str, region: str) -> Place:
        """Return where a key is; an empty one means the bucket, no bucket the service."""
        origin = self._origin(bucket, region)
        host = origin.partition("://")[2]
        path = f"/{encoded(key, safe='/')}"
        if bucket and not self._is_in_host(bucket) and not self._options.allow_empty_bucket_name:
            path = f"/{encoded(bucket)}{path if key else ''}"
        return Place(origin, host, path)

    def origin(self, region: str) -> URL:
        """Return the origin that most requests go to."""
        return URL(self._origin(self.bucket, region))

    def split(self, directory: str, name: str) -> tuple[str, str]:
        """Return bucket and key of a name; `directory` is where relative names begin.

        Raises RemoteName when there is no bucket in it, or the key is too long.
        """
        path = name if name.startswith("/") or not directory else f"{directory}/{name}"
        path = path.lstrip("/")
        bucket = self.bucket
        if not bucket and not self._options.allow_empty_bucket_name:
            bucket, _, path = path.partition("/")
            path = path.lstrip("/")
            if not _BUCKET.fullmatch(bucket):
                raise RemoteName(f"{bucket!r} is no name of a bucket")
        prefix = self._options.key_prefix.strip("/")
        key = f"{prefix}/{path}" if prefix and path else prefix or path
        if len(key.encode(errors="surrogateescape")) > LONGEST_KEY:
            raise RemoteName(f"the key is longer than {LONGEST_KEY} bytes")
        return bucket, key

    def _is_in_host(self, bucket: str) -> bool:
        style = self._options.path_style
        if style is None:
            return self.is_aws and _DOTLESS.fullmatch(bucket) is not None
        return not style

    def _origin(self, bucket: str, region: str) -> str:
        host = self._aws_host(region) if self.is_aws else self._base.host or ""
        if bucket and self._is_in_host(bucket) and not self._options.allow_empty_bucket_name:
            host = f"{bucket}.{host}"
        if ":" in host:
            host = f"[{host}]"
        port = "" if self._base.is_default_port() else f":{self._base.port}"
        return f"{self._base.scheme}://{host}{port}"

    def _aws_host(self, region: str) -> str:
        dual = ".dualstack" if self._options.dualstack else ""
        if self._options.acceleration:
            return f"s3-accelerate{dual}.amazonaws.com"
        china = ".cn" if region.startswith("cn-") else ""
        return f"s3{dual}.{region}.amazonaws.com{china}"


def check_region(region: str, *, is_aws: bool) -> None:
    """Raise RemoteConfig for a text that cannot be the name of a region."""
    if not (_AWS_REGION if is_aws else _REGION).fullmatch(region):
        raise RemoteConfig(f"{region!r} is no region", phase=Phase.CONNECT, remote_code="region")


def _told_region(host: str) -> str:
    found = _AWS_SERVICE.match(host.lower())
    return found["region"] if found else ""


def _base(target: Target, options: S3Options) -> URL | None:
    """Return scheme, host and port of the service, None for AWS."""
    if options.url:
        return _from_url(options.url)
    host = target.host.strip().strip("[]")
    if not host or _AWS_HOST.search(host):
        return None
    if options.port is None and _is_port_in(host):
        return _from_url(f"{options.scheme}://{host}")
    port = options.port or (443 if options.scheme == "https" else 80)
    try:
        return URL.build(scheme=options.scheme, host=host, port=port)
    except ValueError:
        raise RemoteConfig(f"{target.host!r} is no host name", phase=Phase.CONNECT) from None


def _is_port_in(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return ":" in host
    return False


def _from_url(text: str) -> URL:
    try:
        url = URL(text if "://" in text else f"https://{text}")
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host or url.user or url.path.strip("/"):
        raise RemoteConfig("s3.url is no http[s]://host[:port]", phase=Phase.CONNECT)
    return url.origin()
