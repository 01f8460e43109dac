"""Documents that clients send: read whole, verified, and only then looked at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ecpds.portals.s3 import checksums, xml
from ecpds.portals.s3.call import Call
from ecpds.portals.s3.codes import S3Error

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


async def read_document(call: Call, name: str) -> Element:
    """Return the root of the document in a request; S3Error unless it is what was signed."""
    headers = call.ask.headers
    wanted = dict(checksums.announced(headers))
    md5 = checksums.content_md5(headers)
    raw = await xml.read_all(call.ask.body)
    if md5 is not None:
        wanted["md5"] = md5
    if re.fullmatch(r"[0-9a-f]{64}", call.payload):
        wanted["sha256"] = bytes.fromhex(call.payload)
    elif call.payload.startswith("STREAMING-"):
        raise S3Error("NotImplemented", "Documents do not come in chunks.")
    for algorithm, value in wanted.items():
        one = checksums.make(algorithm)
        one.update(raw)
        if one.digest() == value:
            continue
        if algorithm == "sha256":
            raise S3Error("XAmzContentSHA256Mismatch", "The content is not what was signed.")
        raise S3Error("BadDigest", f"The {algorithm.upper()} you specified did not match.")
    return xml.parse(raw, name)
