"""One request of an S3 client: what a handler needs, in one value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ecpds.model.errors import InvalidName, NotFound, Stopping
from ecpds.portals.https.exchange import Answer, Ask, Reply
from ecpds.portals.s3 import xml
from ecpds.portals.s3.codes import S3Error
from ecpds.portals.s3.signature import UNSIGNED, Signatures
from ecpds.vfs.s3contract import ObjectSession

LONGEST_KEY = 1024  # bytes
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a request names; empty: nothing."""

    bucket: str = ""
    key: str = ""
    prefix: str = ""  # of the path, that is ours and no bucket


@dataclass(slots=True, kw_only=True)
class Call:
    """A request in the session of its user."""

    ask: Ask
    query: Mapping[str, str]
    address: Address
    session: ObjectSession
    reply: Reply
    number: str  # of the request
    signatures: Signatures
    payload: str = UNSIGNED
    is_signed: bool = True
    region: str = "us-east-1"
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def bucket(self) -> str:
        """Return the path of the bucket; NoSuchBucket."""
        return bucket_path(self.session, self.address.bucket)

    @property
    def key(self) -> str:
        """Return the key."""
        return self.address.key

    def path(self, *, new: bool = False) -> str:
        """Return the path of the key; `new`: of one that is to be written."""
        return key_path(self.session, self.bucket, self.key, new=new)

    def header(self, name: str) -> str:
        """Return a field, empty if it is missing."""
        return self.ask.headers.get(name, "")

    def count(self, name: str, default: int, most: int) -> int:
        """Return a number of the query; S3Error when it is none."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not re.fullmatch(r"\d{1,10}", text) or int(text) > 2**31 - 1:
            raise S3Error(
                "InvalidArgument",
                f"Provided {name} not an integer or within integer range",
                ArgumentName=name,
                ArgumentValue=text[:100],
            )
        return min(int(text), most)

    def look(self) -> None:
        """Count as activity; raise Stopping when the session was ended."""
        if self.session.closing and not self.reply.draining:
            raise Stopping("the session was ended")
        self.session.touch()

    async def send(self, answer: Answer) -> None:
        """Send an answer."""
        answer.headers.setdefault("x-amz-request-id", self.number)
        for name, value in self.fields.items():
            answer.headers.setdefault(name, value)
        await self.reply.send(answer)

    async def done(self, status: int = 200, fields: Mapping[str, str] | None = None) -> None:
        """Send an answer without content."""
        await self.send(Answer(status=status, headers=dict(fields or {})))

    async def document(self, name: str, *parts: str, status: int = 200) -> None:
        """Send a document."""
        await self.send(
            Answer(
                status=status,
                headers={"Content-Type": xml.TYPE},
                body=xml.document(name, *parts),
            )
        )


def bucket_path(session: ObjectSession, name: str) -> str:
    """Return the path of a bucket; S3Error for one that the user does not have."""
    try:
        return session.bucket_path(name)
    except NotFound:
        if not _BUCKET.fullmatch(name):
            raise S3Error(
                "InvalidBucketName", "The specified bucket is not valid.", BucketName=name[:255]
            ) from None
        raise S3Error("NoSuchBucket", BucketName=name) from None


def key_path(session: ObjectSession, bucket: str, key: str, *, new: bool = False) -> str:
    """Return the path of a key.

    A key that would be stored under another name (`a//b`, `..`, control characters) can neither be
    written (InvalidArgument) nor be there (NoSuchKey).
    """
    if len(key.encode("utf-8", "surrogatepass")) > LONGEST_KEY:
        raise S3Error("KeyTooLongError", "Your key is too long", MaxSizeAllowed=str(LONGEST_KEY))
    path = bucket + key
    try:
        normal = session.absolute(path)
    except (InvalidName, NotFound):
        normal = ""
    if normal == path or (key.endswith("/") and len(key) > 1 and f"{normal}/" == path):
        return path
    if new:
        raise S3Error("InvalidArgument", "The key has a form in which nothing can be stored.")
    raise S3Error("NoSuchKey", Key=key)
