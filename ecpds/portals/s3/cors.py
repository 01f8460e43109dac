"""What a browser wants to know before a page of another site may use S3.

A page signs its requests, or shows an address that was signed: cookies and passwords of the
browser count for nothing here, so that methods that write may be granted too.
Spec: portal.md 3.6; Fetch standard, CORS protocol.
"""

from __future__ import annotations

import re
from typing import Final

from ecpds.portals.https.exchange import Answer, Ask
from ecpds.portals.https.fields import granted_origin

ALLOWED: Final = "Access-Control-Allow-Origin"
METHODS: Final = "GET, HEAD, PUT, POST, DELETE"
SHOWN: Final = (
    "ETag, Content-Range, Content-Length, Accept-Ranges, Last-Modified, x-amz-request-id, "
    "x-amz-version-id, x-amz-checksum-crc32, x-amz-checksum-crc32c, x-amz-checksum-crc64nvme, "
    "x-amz-checksum-sha1, x-amz-checksum-sha256, x-amz-mp-parts-count, x-amz-meta-mtime"
)
_NAMES: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
LONGEST: Final = 2048  # characters of the fields that a page wants to send


def fields(ask: Ask, allowed: str) -> dict[str, str]:
    """Return the fields of an answer; `allowed` is `*` or a list of origins."""
    granted = granted_origin(ask, allowed)
    return granted | {"Access-Control-Expose-Headers": SHOWN} if ALLOWED in granted else granted


def preflight(ask: Ask, allowed: str) -> Answer:
    """Answer a preflight."""
    granted = granted_origin(ask, allowed)
    if ALLOWED in granted:
        granted |= {"Access-Control-Allow-Methods": METHODS, "Access-Control-Max-Age": "86400"}
        wanted = ask.headers.get("access-control-request-headers", "")
        if len(wanted) <= LONGEST and _NAMES.fullmatch(wanted):
            granted["Access-Control-Allow-Headers"] = wanted
    return Answer(status=204, headers={"Allow": METHODS + ", OPTIONS"} | granted)
