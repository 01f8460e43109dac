"""Uploads in parts.  Spec: portal.md 3.6, Ex 18; Amazon S3 API Reference, CompleteMultipartUpload.

A part is acknowledged when it is on the disk, the object when it is registered.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ecpds.base.clock import Clock
from ecpds.base.threads import Threads
from ecpds.model.errors import InputError, NotFound, PreconditionFailed
from ecpds.portals.s3 import attributes, checksums, xml
from ecpds.portals.s3.attributes import with_checksums
from ecpds.portals.s3.buckets import owner
from ecpds.portals.s3.call import Call
from ecpds.portals.s3.checksums import ALGORITHMS, FIELD, Sums, encoded
from ecpds.portals.s3.codes import S3Error
from ecpds.portals.s3.documents import read_document
from ecpds.portals.s3.payload import Intake, promise
from ecpds.portals.s3.writing import (
    failed_condition,
    judge_source,
    source_path,
    write_conditions,
)
from ecpds.portals.s3.xml import group, maybe, tag
from ecpds.vfs.contract import Node
from ecpds.vfs.s3contract import Attributes, Ending, PartInfo, UploadInfo

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MOST_PARTS = 10_000
SMALLEST = 5 * 1024 * 1024  # bytes of every part but the last
LARGEST = 5 * 1024**4  # bytes of an object
PAGE = 1_000
_CYCLIC = {"crc32": "CRC32-ISO-HDLC", "crc32c": "CRC32-ISCSI", "crc64nvme": "CRC64-NVME"}
_SPAN = re.compile(r"bytes=(\d{1,15})-(\d{1,15})", re.ASCII)


def no_upload() -> S3Error:
    """Return the error for an upload that is not there for this user."""
    return S3Error(
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may "
        "have been aborted or completed.",
    )


class Multipart:
    """Answers requests about uploads in parts."""

    def __init__(self, threads: Threads, clock: Clock) -> None:
        self._threads = threads
        self._intake = Intake(threads, clock)

    # --- begin and end -------------------------------------------------------------------

    async def create(self, call: Call) -> None:
        """CreateMultipartUpload."""
        path = call.path(new=True)
        if path.endswith("/"):
            raise S3Error("InvalidArgument", "A key that ends with a slash holds no content.")
        kept = attributes.read(call.ask.headers)
        algorithm = checksums.wanted_algorithm(call.ask.headers, "x-amz-checksum-algorithm")
        kind = call.header("x-amz-checksum-type").upper()
        is_whole = _is_whole(algorithm, kind)
        await call.ask.body.read()
        number = await call.session.begin_upload(path, kept, checksum=algorithm, whole=is_whole)
        if algorithm:
            call.fields["x-amz-checksum-algorithm"] = algorithm.upper()
            call.fields["x-amz-checksum-type"] = "FULL_OBJECT" if is_whole else "COMPOSITE"
        await call.document(
            "InitiateMultipartUploadResult",
            tag("Bucket", call.address.bucket),
            tag("Key", call.key),
            tag("UploadId", number),
        )

    async def abort(self, call: Call) -> None:
        """AbortMultipartUpload."""
        upload = await self._open(call)
        try:
            await call.session.abort(upload)
        except NotFound:
            raise no_upload() from None
        await call.done(204)

    async def _find(self, call: Call) -> UploadInfo:
        try:
            return await call.session.upload(call.path(), call.query.get("uploadId", ""))
        except NotFound:
            raise no_upload() from None
        except S3Error as error:
            if error.name == "NoSuchKey":
                raise no_upload() from None
            raise

    async def _open(self, call: Call) -> UploadInfo:
        """Return an upload that is not complete."""
        upload = await self._find(call)
        if upload.etag:
            raise no_upload()
        return upload

    # --- parts ---------------------------------------------------------------------------

    async def put_part(self, call: Call) -> None:
        """UploadPart or UploadPartCopy."""
        number = _part_number(call)
        if "x-amz-copy-source" in call.ask.headers:
            await self._copy_part(call, number)
            return
        given = promise(call.ask, call.payload)
        upload = await self._open(call)
        more = _also(upload, given.trailer, given.sums)
        try:
            part = await call.session.write_part(upload, number, given.size)
            async with part:
                taken = await self._intake.take(
                    call.ask.body, given, call.signatures, part,
                    look=call.look, offset=part.offset, more=more,
                )  # fmt: skip
                sums = taken.checksums(*more)
                stored = await part.finish(md5=taken.md5, checksums=sums)
        except NotFound:
            raise no_upload() from None
        fields = {"ETag": f'"{stored.md5}"'}
        fields |= {FIELD + name: text for name, text in stored.checksums.items()}
        await call.done(fields=fields)

    async def _copy_part(self, call: Call, number: int) -> None:
        upload = await self._open(call)
        headers = call.ask.headers

        def span(node: Node) -> tuple[int, int]:
            judge_source(headers, node)
            return _span(call.header("x-amz-copy-source-range"), node.size)

        source = source_path(call)
        more = _also(upload, "", {})
        part = await call.session.copy_part(upload, number, source, span)
        async with part:
            names = ["md5", *more]
            sums = Sums(names, part.descriptor, part.offset, None, self._threads)
            digests = await sums.of(part.received)
            kept = {name: encoded(digests[name]) for name in more}
            try:
                stored = await part.finish(md5=digests["md5"].hex(), checksums=kept)
            except NotFound:
                raise no_upload() from None
        await call.document(
            "CopyPartResult",
            tag("LastModified", xml.moment(stored.stored_at)),
            tag("ETag", f'"{stored.md5}"'),
            *(tag(f"Checksum{name.upper()}", text) for name, text in kept.items()),
        )

    async def list_parts(self, call: Call) -> None:
        """ListParts."""
        upload = await self._open(call)
        limit = call.count("max-parts", PAGE, PAGE)
        after = call.count("part-number-marker", 0, MOST_PARTS)
        parts = await call.session.parts(upload, after=after, limit=limit + 1)
        shown = parts[:limit]
        is_cut = len(parts) > limit
        await call.document(
            "ListPartsResult",
            tag("Bucket", call.address.bucket),
            tag("Key", call.key),
            tag("UploadId", upload.id),
            owner(call, "Initiator"),
            owner(call),
            tag("StorageClass", "STANDARD"),
            tag("PartNumberMarker", after),
            maybe("NextPartNumberMarker", shown[-1].number if shown else ""),
            tag("MaxParts", limit),
            tag("IsTruncated", "true" if is_cut else "false"),
            maybe("ChecksumAlgorithm", upload.checksum.upper()),
            *(_part_line(part) for part in shown),
        )

    async def list_uploads(self, call: Call) -> None:
        """ListMultipartUploads: those of this user."""
        query = call.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        marker, number = query.get("key-marker", ""), query.get("upload-id-marker", "")
        limit = call.count("max-uploads", PAGE, PAGE)
        behind = (marker, number if number else "\x7f")  # all of that key, or those behind
        found = await call.session.uploads_of(call.bucket, prefix, behind, limit + 1)
        lines, last = _upload_lines(call, found[:limit], prefix, delimiter)
        is_cut = len(found) > limit
        await call.document(
            "ListMultipartUploadsResult",
            tag("Bucket", call.address.bucket),
            tag("KeyMarker", marker),
            tag("UploadIdMarker", number),
            *((tag("NextKeyMarker", last.path), tag("NextUploadIdMarker", last.id))
              if is_cut and last is not None else ()),
            tag("Prefix", prefix),
            maybe("Delimiter", delimiter),
            tag("MaxUploads", limit),
            tag("IsTruncated", "true" if is_cut else "false"),
            *lines,
        )  # fmt: skip

    # --- completion ----------------------------------------------------------------------

    async def complete(self, call: Call) -> None:
        """CompleteMultipartUpload."""
        upload = await self._find(call)
        root = await read_document(call, "CompleteMultipartUpload")
        named = _named_parts(root)
        etag = f"{_joined(named)}-{len(named)}"
        if upload.etag:
            await self._again(call, upload, etag)
            return
        known = {part.number: part for part in await call.session.parts(upload)}
        chosen = [_chosen(one, known) for one in named]
        _check_sizes(call, chosen)
        sums = _object_sums(call, upload, chosen)
        path = call.path(new=True)
        exclusive, if_match = write_conditions(call.ask.headers)
        kept = with_checksums(upload.attributes, sums)
        ending = Ending(
            parts=chosen,
            etag=etag,
            attributes=_with_parts(kept, chosen),
            exclusive=exclusive,
            if_match=if_match,
        )
        try:
            await call.session.complete(upload, ending)
        except NotFound:
            raise no_upload() from None
        except PreconditionFailed as error:
            raise await failed_condition(call, path, error) from None
        except InputError as error:
            raise S3Error("InvalidPart", error.message) from None
        await self._told(call, etag, sums)

    async def _again(self, call: Call, upload: UploadInfo, etag: str) -> None:
        """Answer a repetition whose first answer was lost, as long as the object is there."""
        node, kept = await call.session.find(call.path())
        if upload.etag != etag or node.etag != f'"{etag}"':
            raise no_upload()
        await self._told(call, etag, kept.checksums)

    async def _told(self, call: Call, etag: str, sums: Mapping[str, str]) -> None:
        bucket, key = call.address.bucket, call.key
        scheme = "https" if call.ask.secure else "http"
        await call.document(
            "CompleteMultipartUploadResult",
            tag("Location", f"{scheme}://{call.ask.host}{call.ask.raw_path}"),
            tag("Bucket", bucket),
            tag("Key", key),
            tag("ETag", f'"{etag}"'),
            *(tag(f"Checksum{name.upper()}", text) for name, text in sums.items()),
        )


# --- reading what is asked -------------------------------------------------------------------


def _is_whole(algorithm: str, kind: str) -> bool:
    if kind not in ("", "FULL_OBJECT", "COMPOSITE") or (kind and not algorithm):
        raise S3Error("InvalidRequest", "The checksum type does not fit the algorithm.")
    if kind == "FULL_OBJECT" and algorithm not in _CYCLIC:
        raise S3Error("InvalidRequest", "The FULL_OBJECT checksum type is for CRCs only.")
    if kind == "COMPOSITE" and algorithm == "crc64nvme":
        raise S3Error("InvalidRequest", "The COMPOSITE checksum type is not for crc64nvme.")
    return kind == "FULL_OBJECT" or algorithm == "crc64nvme"


def _part_number(call: Call) -> int:
    number = call.count("partNumber", 0, MOST_PARTS + 1)
    if not 1 <= number <= MOST_PARTS:
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {MOST_PARTS}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=call.query.get("partNumber", "")[:100],
        )
    return number


def _also(upload: UploadInfo, trailer: str, sums: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the algorithm of the upload when the part does not bring its value itself."""
    name = upload.checksum
    return (name,) if name and name != trailer and name not in sums else ()


def _span(text: str, size: int) -> tuple[int, int]:
    if not text:
        return 0, size
    found = _SPAN.fullmatch(text)
    if found is None or int(found[2]) < int(found[1]):
        raise S3Error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last",
            ArgumentName="x-amz-copy-source-range",
        )
    first, last = int(found[1]), int(found[2])
    if last >= size:
        raise S3Error("InvalidRange", f"Range specified is not valid for source of size {size}")
    return first, last - first + 1


def _named_parts(root: Element) -> list[tuple[int, str, dict[str, str]]]:
    """Return number, ETag and checksums of the parts that a client names, in its order."""
    named: list[tuple[int, str, dict[str, str]]] = []
    for one in root:
        if one.tag != "Part":
            continue
        text, etag = xml.text_of(one, "PartNumber"), xml.text_of(one, "ETag")
        if not re.fullmatch(r"\d{1,5}", text.strip()) or not etag:
            raise xml.malformed()
        sums = {name: found for name in ALGORITHMS
                if (found := xml.text_of(one, f"Checksum{name.upper()}"))}  # fmt: skip
        named.append((int(text), etag.strip().strip('"').lower(), sums))
    if not 0 < len(named) <= MOST_PARTS:
        raise xml.malformed()
    if any(before[0] >= after[0] for before, after in itertools.pairwise(named)):
        raise S3Error(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
        )
    return named


def _joined(named: Sequence[tuple[int, str, Mapping[str, str]]]) -> str:
    """Return the MD5 of the MD5s of the parts."""
    try:
        raw = b"".join(bytes.fromhex(etag) for _, etag, _ in named)
    except ValueError:
        raise _invalid_part() from None
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def _invalid_part() -> S3Error:
    return S3Error(
        "InvalidPart",
        "One or more of the specified parts could not be found. The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag.",
    )


def _chosen(named: tuple[int, str, Mapping[str, str]], known: Mapping[int, PartInfo]) -> PartInfo:
    number, etag, sums = named
    part = known.get(number)
    if part is None or part.md5 != etag:
        raise _invalid_part()
    if any(part.checksums.get(name, text) != text for name, text in sums.items()):
        raise _invalid_part()
    return part


def _check_sizes(call: Call, parts: Sequence[PartInfo]) -> None:
    for part in parts[:-1]:
        if part.size < SMALLEST:
            raise S3Error(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                ProposedSize=str(part.size),
                MinSizeAllowed=str(SMALLEST),
                PartNumber=str(part.number),
                ETag=part.md5,
            )
    size = sum(part.size for part in parts)
    if size > LARGEST:
        raise S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
    told = call.header("x-amz-mp-object-size")
    if told and told != str(size):
        raise S3Error("InvalidRequest", "The object size does not match the sizes of the parts.")


# --- checksums of the whole ------------------------------------------------------------------


def _object_sums(call: Call, upload: UploadInfo, parts: Sequence[PartInfo]) -> dict[str, str]:
    """Return the checksum of the object; S3Error when the client announces another."""
    name = upload.checksum
    given = checksums.announced(call.ask.headers)
    if not name or any(name not in part.checksums for part in parts):
        return {}
    raw = [base64.b64decode(part.checksums[name]) for part in parts]
    if upload.whole:
        text = encoded(_combined(name, raw, [part.size for part in parts]))
        if name in given and encoded(given[name]) != text:
            raise S3Error("BadDigest", f"The {name.upper()} you specified did not match.")
        return {name: text}
    one = checksums.make(name)
    one.update(b"".join(raw))
    return {name: f"{encoded(one.digest())}-{len(raw)}"}


def _combined(name: str, sums: Sequence[bytes], sizes: Sequence[int]) -> bytes:
    """Return the cyclic sum of a whole from those of its parts."""
    model = checksums.model(_CYCLIC[name])
    value = int.from_bytes(sums[0], "big")
    for raw, size in zip(sums[1:], sizes[1:], strict=True):
        value = model.combine(value, int.from_bytes(raw, "big"), size)
    return int(value).to_bytes(len(sums[0]), "big")


def _with_parts(kept: Attributes, parts: Sequence[PartInfo]) -> Attributes:
    lengths = [(len(list(run)), size) for size, run in itertools.groupby(p.size for p in parts)]
    return Attributes(
        fields=kept.fields,
        metadata=kept.metadata,
        tags=kept.tags,
        checksums=kept.checksums,
        parts=lengths,
    )


# --- lines -----------------------------------------------------------------------------------


def _part_line(part: PartInfo) -> str:
    return group(
        "Part",
        tag("PartNumber", part.number),
        tag("LastModified", xml.moment(part.stored_at)),
        tag("ETag", f'"{part.md5}"'),
        tag("Size", part.size),
        *(tag(f"Checksum{name.upper()}", text) for name, text in part.checksums.items()),
    )


def _upload_lines(
    call: Call, found: Sequence[UploadInfo], prefix: str, delimiter: str
) -> tuple[list[str], UploadInfo | None]:
    lines: list[str] = []
    prefixes: dict[str, None] = {}
    for one in found:
        place = one.path.find(delimiter, len(prefix)) if delimiter else -1
        if place >= 0:
            prefixes[one.path[: place + len(delimiter)]] = None
            continue
        lines.append(
            group(
                "Upload",
                tag("Key", one.path),
                tag("UploadId", one.id),
                owner(call, "Initiator"),
                owner(call),
                tag("StorageClass", "STANDARD"),
                tag("Initiated", xml.moment(one.created_at)),
                maybe("ChecksumAlgorithm", one.checksum.upper()),
            )
        )
    lines += [group("CommonPrefixes", tag("Prefix", name)) for name in prefixes]
    return lines, found[-1] if found else None
