"""Sending one object: in one request, or in parts when it is large or of unknown size."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Final, cast
from urllib.parse import urlencode

from ecpds.model.errors import Phase, RemoteMissing, SourceBroke
from ecpds.modules.http_body import SourceBody
from ecpds.modules.s3_body import IN_LOOP, Bytes, Digests, Slice, digests_of, digests_of_slice
from ecpds.modules.s3_client import Call, S3Client
from ecpds.modules.s3_options import S3Options
from ecpds.modules.s3_sign import UNSIGNED
from ecpds.modules.s3_upload import Manner, Sending, Upload, Uploads, part_size_for
from ecpds.transfer.contract import ByteSource, Surroundings, Target

NOT_THERE: Final = {"If-None-Match": "*"}


class Putter:
    """Sends objects for one session."""

    def __init__(
        self, client: S3Client, target: Target, options: S3Options, around: Surroundings
    ) -> None:
        self.uploads = Uploads(client, target, around)
        self._client = client
        self._target = target
        self._options = options
        self._around = around
        sums = options.request_checksums
        self._with_crc = sums == "WHEN_SUPPORTED" or (sums == "auto" and client.endpoint.is_aws)
        self._signed = options.sign_payload == "yes" or (
            options.sign_payload == "auto" and not client.is_secure
        )
        self._kept = dict(options.object_headers())
        if tags := options.tag_pairs():
            self._kept["x-amz-tagging"] = urlencode(tags)

    def headers(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of a new object; `digests` are kept as its metadata."""
        return self._kept | {f"x-amz-meta-{name}": digests[name] for name in sorted(digests)}

    # --- one request ------------------------------------------------------------------------

    async def whole(
        self, bucket: str, key: str, source: ByteSource, headers: Mapping[str, str]
    ) -> bool | None:
        """Send content that may go in one request; None when it has to go in parts.

        Tells whether the service has compared a digest of it.
        """
        if source.descriptor is None or source.size < 0:
            return None
        if source.size >= self._options.multipart_size:
            return None
        if source.size <= IN_LOOP:
            content = b"".join([block async for block in source])
            if len(content) != source.size:
                raise SourceBroke(f"the content has {len(content)} instead of {source.size} bytes")
            return await self._small(bucket, key, content, headers)
        digests = await self._digests(source)
        threads = self._around.threads
        return await self._large(
            bucket,
            key,
            lambda: Slice(source, source.offset, source.size, threads),
            digests,
            headers,
        )

    async def _digests(self, source: ByteSource) -> Digests:
        if not (self._signed or self._with_crc):
            return Digests(payload=UNSIGNED, crc32c="")
        return await self._around.threads.run(
            "digest",
            digests_of_slice,
            source.descriptor or 0,
            source.offset,
            source.size,
            signed=self._signed,
            with_crc=self._with_crc,
        )

    def _call(self, bucket: str, key: str) -> Call:
        return Call(
            method="PUT",
            about=f"{key!r}",
            bucket=bucket,
            key=key,
            limit=self._target.timeouts.command,
        )

    async def _small(
        self, bucket: str, key: str, content: bytes, headers: Mapping[str, str]
    ) -> bool:
        digests = digests_of(content, signed=self._signed, with_crc=self._with_crc)
        if digests.payload == UNSIGNED and not digests.crc32c:
            md5 = hashlib.md5(content, usedforsecurity=False).digest()
            headers = {**headers, "Content-MD5": b64encode(md5).decode()}
        call = replace(
            self._call(bucket, key),
            content=content,
            payload=digests.payload,
            headers={**headers, **digests.headers(), **self._condition()},
        )
        await self._client.demand(call)
        return True

    async def _large(
        self,
        bucket: str,
        key: str,
        make: Callable[[], ByteSource],
        digests: Digests,
        headers: Mapping[str, str],
    ) -> bool:
        stall = self._target.timeouts.stall.total_seconds()
        call = replace(
            self._call(bucket, key),
            body=lambda: SourceBody(make(), stall=stall),
            payload=digests.payload,
            headers={**headers, **digests.headers(), **self._condition()},
        )
        await self._client.demand(call)
        return digests.payload != UNSIGNED or bool(digests.crc32c)

    def _condition(self) -> Mapping[str, str]:
        return {} if self._options.overwrite else NOT_THERE

    # --- parts ------------------------------------------------------------------------------

    async def begin(self, bucket: str, key: str, total: int, headers: Mapping[str, str]) -> Upload:
        """Open an upload for `total` bytes, -1 unknown; drops old broken ones of that key."""
        if self._options.stale_uploads:
            await self.uploads.drop_stale(bucket, key, self._options.stale_uploads)
        size = part_size_for(total, self._options.part_size)
        upload = Upload(bucket=bucket, key=key, id="", part_size=size, has_checksums=self._with_crc)
        await self.uploads.begin(upload, headers)
        return upload

    def sending(self, upload: Upload, on_reached: Callable[[int], None]) -> Sending:
        """Return what sends the parts of an upload."""
        manner = Manner(
            threads=self._options.upload_threads,
            ahead=self._options.queue_capacity,
            signed=self._signed,
            stall=self._target.timeouts.stall.total_seconds(),
        )
        return Sending(self.uploads, self._client, upload, manner, self._around, on_reached)

    async def complete(self, upload: Upload, total: int) -> None:
        """Make the object appear; an answer that got lost is looked for."""
        try:
            await self.uploads.complete(upload, self._condition())
        except RemoteMissing:
            # the request may have been sent again after it had succeeded
            if not await self._is_complete(upload, total):
                raise

    async def _is_complete(self, upload: Upload, total: int) -> bool:
        call = Call(
            method="HEAD",
            about=f"{upload.key!r}",
            bucket=upload.bucket,
            key=upload.key,
            phase=Phase.VERIFY,
            limit=self._target.timeouts.command,
        )
        headers = (await self._client.demand(call)).headers
        tag = headers.get("ETag", "").strip('"')
        return headers.get("Content-Length") == str(total) and tag == tag_of_parts(upload)

    # --- content that comes in order --------------------------------------------------------

    async def head_of(self, source: ByteSource) -> tuple[bytes, AsyncGenerator[bytes, None] | None]:
        """Return the beginning of content; all of it with None, or what goes on behind it."""
        blocks = cast("AsyncGenerator[bytes, None]", aiter(source))
        head = bytearray()
        try:
            async for block in blocks:
                head += block
                if len(head) > self._options.part_size:
                    return b"", _chained(bytes(head), blocks)
        except BaseException:
            await blocks.aclose()
            raise
        return bytes(head), None

    async def collected(
        self, bucket: str, key: str, content: bytes, headers: Mapping[str, str]
    ) -> bool:
        """Send content that was collected in memory."""
        if len(content) <= IN_LOOP:
            return await self._small(bucket, key, content, headers)
        digests = await self._around.threads.run(
            "digest", digests_of, content, signed=self._signed, with_crc=self._with_crc
        )
        return await self._large(bucket, key, lambda: Bytes(content), digests, headers)


async def _chained(head: bytes, blocks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(blocks):
        yield head
        async for block in blocks:
            yield block


def tag_of_parts(upload: Upload) -> str:
    """Return the tag that a service gives to an object of these parts, if it does as AWS does."""
    try:
        digests = [bytes.fromhex(part.etag.strip('"')) for _, part in sorted(upload.parts.items())]
    except ValueError:
        return ""
    md5 = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
    return f"{md5}-{len(digests)}"
