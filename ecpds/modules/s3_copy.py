"""Copies made by the service itself: no byte of the content passes here.

Spec: AWS CopyObject, UploadPartCopy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from ecpds.model.errors import EcpdsError
from ecpds.modules.s3_client import Answer, Call, S3Client
from ecpds.modules.s3_errors import failure, meaning
from ecpds.modules.s3_put import Putter
from ecpds.modules.s3_sign import encoded
from ecpds.modules.s3_upload import Part, Upload
from ecpds.modules.s3_xml import Document, read

LARGEST: Final = 5 << 30
"""Bytes that one request copies at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """What is copied."""

    bucket: str
    key: str
    size: int
    tag: str

    def headers(self) -> dict[str, str]:
        """Return the headers that name it, and this version of it."""
        source = f"/{encoded(self.bucket)}/{encoded(self.key, safe='/')}"
        return {"x-amz-copy-source": source, "x-amz-copy-source-if-match": self.tag}


class Copier:
    """Copies objects in one session."""

    def __init__(
        self, client: S3Client, putter: Putter, limit: timedelta, *, largest: int = LARGEST
    ) -> None:
        self._client = client
        self._putter = putter
        self._limit = limit
        self._largest = largest

    async def copy(
        self, original: Original, bucket: str, key: str, kept: Mapping[str, str]
    ) -> None:
        """Make a copy, in parts when one request is not enough; `kept`: headers of new objects."""
        if original.size > self._largest:
            await self._in_parts(original, bucket, key, kept)
            return
        call = Call(
            method="PUT",
            about=f"copy to {key!r}",
            bucket=bucket,
            key=key,
            headers=original.headers(),
            limit=self._limit,
        )
        _checked(call, await self._client.demand(call))

    async def _in_parts(
        self, original: Original, bucket: str, key: str, kept: Mapping[str, str]
    ) -> None:
        upload = Upload(bucket=bucket, key=key, id="", part_size=self._largest)
        await self._putter.uploads.begin(upload, kept)
        try:
            for number, start in enumerate(range(0, original.size, self._largest), 1):
                await self._part(original, upload, number, start)
            await self._putter.complete(upload, original.size)
        except EcpdsError:
            await self._putter.uploads.abort(upload)
            raise

    async def _part(self, original: Original, upload: Upload, number: int, start: int) -> None:
        stop = min(start + self._largest, original.size)
        call = replace(
            self._putter.uploads.call(upload, "PUT", (("partNumber", str(number)),)),
            headers={
                **original.headers(),
                "x-amz-copy-source-range": f"bytes={start}-{stop - 1}",
            },
            limit=self._limit,
        )
        document = _checked(call, await self._client.demand(call))
        upload.parts[number] = Part(etag=document.fields.get("ETag", ""), size=stop - start)


def _checked(call: Call, answer: Answer) -> Document:
    """Return the answer; the service may say 200 first and what went wrong later."""
    document = read(answer.content)
    if document.root != "Error":
        return document
    code = document.fields.get("Code", "")
    text = document.fields.get("Message", "")
    raise failure(
        meaning(code, 500), call.about, status=200, code=code, text=text, phase=call.phase
    )
