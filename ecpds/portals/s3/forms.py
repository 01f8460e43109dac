"""Uploads by HTML form: the policy says what may be uploaded, its signature who says so.

Spec: Amazon S3 API Reference, Browser-Based Uploads Using POST.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from ecpds.base.clock import Clock
from ecpds.base.threads import Threads
from ecpds.model.errors import InputError
from ecpds.portals.https.exchange import Answer, Body, Refused
from ecpds.portals.https.form import Multipart
from ecpds.portals.s3 import attributes, xml
from ecpds.portals.s3.attributes import with_checksums
from ecpds.portals.s3.call import Call
from ecpds.portals.s3.checksums import Sums
from ecpds.portals.s3.codes import S3Error
from ecpds.portals.s3.payload import LARGEST
from ecpds.portals.s3.signature import ALGORITHM, Signer, read_moment, read_scope
from ecpds.portals.s3.xml import tag
from ecpds.vfs.contract import KeyPair
from ecpds.vfs.s3contract import ObjectWish

MOST_FIELDS = 50
LONGEST_FIELD = 20 * 1024  # bytes
MOST_FIELD_BYTES = 64 * 1024  # bytes of all fields before the file
MOST_CONDITIONS = 100
_FREE = frozenset({"file", "policy", "x-amz-signature", "signature", "awsaccesskeyid"})


@dataclass(slots=True)
class Form:
    """The fields before the file, and the file that comes next."""

    parts: Multipart
    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""

    def get(self, name: str) -> str:
        """Return a field, empty if it is missing."""
        return self.fields.get(name, "")


async def open_form(content_type: str, body: Body) -> Form:
    """Read the fields of a form up to its file; S3Error when it has none."""
    form = Form(_multipart(content_type, body))
    try:
        await _read_fields(form)
    except Refused:
        raise
    except InputError as error:
        if isinstance(error, S3Error):
            raise
        raise S3Error("MalformedPOSTRequest", error.message) from None
    return form


async def _read_fields(form: Form) -> None:
    """Read the fields up to the file."""
    total = 0
    async with aclosing(form.parts.parts()) as parts:
        async for part in parts:
            name = part.name.lower()
            if name == "file":
                form.filename = part.filename or ""
                return
            text = await _text(form.parts)
            total += len(text)
            if len(form.fields) >= MOST_FIELDS or total > MOST_FIELD_BYTES:
                raise S3Error("MalformedPOSTRequest", "The form has too many fields.")
            form.fields.setdefault(name, text)
    raise S3Error("InvalidArgument", "POST requires exactly one file upload per request.")


def _multipart(content_type: str, body: Body) -> Multipart:
    try:
        return Multipart(content_type, body)
    except InputError as error:
        raise S3Error("MalformedPOSTRequest", error.message) from None


async def _text(parts: Multipart) -> str:
    raw = b""
    async for block in parts.content():
        raw += block
        if len(raw) > LONGEST_FIELD:
            raise S3Error("MalformedPOSTRequest", "A field of the form is too long.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise S3Error("MalformedPOSTRequest", "A field of the form is not UTF-8.") from None


async def _pass_over(body: Body) -> None:
    """Read what stands behind the file: fields that count no more."""
    passed = 0
    while (block := await body.read()) and passed <= MOST_FIELD_BYTES:
        passed += len(block)


# --- who says so -----------------------------------------------------------------------------


def key_pair(form: Form, signer: Signer) -> KeyPair | None:
    """Return the access key that signed the policy, None for a form without one."""
    if not form.get("policy"):
        if form.get("x-amz-signature"):
            raise S3Error("InvalidArgument", "The form has a signature and no policy.")
        return None
    if form.get("x-amz-algorithm") != ALGORITHM:
        raise S3Error("InvalidRequest", f"Please use {ALGORITHM}.")
    access_key, scope = read_scope(form.get("x-amz-credential"), "InvalidArgument")
    if read_moment(form.get("x-amz-date")) is None:
        raise S3Error("InvalidArgument", "x-amz-date is missing or cannot be read.")
    return signer.policy(access_key, scope, form.get("policy"), form.get("x-amz-signature"))


# --- what may be uploaded --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long the file may be."""

    low: int = 0
    high: int = LARGEST


def check_policy(form: Form, bucket: str, now: datetime) -> Bounds:
    """Return the bounds of the file; S3Error unless the form is what the policy says."""
    document = _document(form.get("policy"))
    expires = _time(document.get("expiration"))
    if expires is None:
        raise _bad_policy("Invalid 'expiration' value.")
    if expires <= now:
        raise S3Error("AccessDenied", "Invalid according to Policy: Policy expired.")
    conditions = document.get("conditions")
    if not isinstance(conditions, list) or len(conditions) > MOST_CONDITIONS:
        raise _bad_policy("Policy missing conditions.")
    return _check_rules(form, bucket, [rule for one in conditions for rule in _rules(one)])


def _check_rules(form: Form, bucket: str, rules: list[Rule]) -> Bounds:
    given = {**form.fields, "bucket": bucket}
    bounds, named = Bounds(), set(_FREE)
    for rule in rules:
        if rule[0] == "content-length-range":
            bounds = _bounds(rule)
        else:
            named.add(_check_rule(rule, given))
    for name in form.fields:
        if name not in named and not name.startswith("x-ignore-"):
            raise S3Error(
                "AccessDenied",
                f"Invalid according to Policy: Extra input fields: {name[:100]}",
            )
    return bounds


def _bad_policy(text: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {text}")


def _document(text: str) -> dict[str, object]:
    try:
        found = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise _bad_policy("Invalid JSON.") from None
    if not isinstance(found, dict):
        raise _bad_policy("Invalid JSON.")
    return found


def _time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


Rule = tuple[str, object, object]


def _rules(one: object) -> list[Rule]:
    if isinstance(one, dict):
        return [("eq", f"${name}", value) for name, value in one.items()]
    if isinstance(one, list) and len(one) == 3 and isinstance(one[0], str):
        return [(one[0].lower(), one[1], one[2])]
    raise _bad_policy("Invalid condition.")


def _bounds(rule: Rule) -> Bounds:
    _, low, high = rule
    try:
        found = Bounds(int(str(low)), int(str(high)))
    except ValueError:
        raise _bad_policy("Invalid content-length-range.") from None
    if not 0 <= found.low <= found.high:
        raise _bad_policy("Invalid content-length-range.")
    return found


def _check_rule(rule: Rule, given: Mapping[str, str]) -> str:
    """Return the field that a rule is about; S3Error when the form does not keep to it."""
    kind, field_name, wanted = rule
    if not isinstance(field_name, str) or not isinstance(wanted, str):
        raise _bad_policy("Invalid condition.")
    if not field_name.startswith("$") or kind not in ("eq", "starts-with"):
        raise _bad_policy("Invalid condition.")
    name = field_name[1:].lower()
    found = given.get(name, "")
    holds = found == wanted if kind == "eq" else found.startswith(wanted)
    if not holds:
        raise S3Error(
            "AccessDenied",
            f"Invalid according to Policy: Policy Condition failed: {kind} {field_name[:100]}",
        )
    return name


# --- the upload ------------------------------------------------------------------------------


class Forms:
    """Stores the file of a form."""

    def __init__(self, threads: Threads, clock: Clock) -> None:
        self._threads = threads
        self._clock = clock

    async def store(self, call: Call, form: Form) -> None:
        """Store the file and answer as the form wants."""
        bucket = call.address.bucket
        bounds = Bounds()
        if form.get("policy"):
            bounds = check_policy(form, bucket, self._clock.now())
        key = form.get("key").replace("${filename}", form.filename)
        if not key:
            raise S3Error("InvalidArgument", "Bucket POST must contain a field named 'key'.")
        call.address = type(call.address)(bucket=bucket, key=key, prefix=call.address.prefix)
        path = call.path(new=True)
        if path.endswith("/"):
            raise S3Error("InvalidArgument", "A key that ends with a slash holds no content.")
        if any(not text.isprintable() for name, text in form.fields.items() if name != "policy"):
            raise S3Error("InvalidArgument", "A field of the form has control characters.")
        wish = ObjectWish(attributes=attributes.read(form.fields))
        upload = await call.session.write_object(path, wish)
        async with upload.writer as writer:
            sums = Sums(("md5",), writer.descriptor, 0, None, self._threads)
            size = 0
            async for block in form.parts.content():
                call.look()
                size += len(block)
                if size > bounds.high:
                    raise S3Error("EntityTooLarge", "The file exceeds the maximum allowed size")
                writer.write(block)
            await _pass_over(call.ask.body)
            if size < bounds.low:
                raise S3Error("EntityTooSmall", "The file is smaller than the minimum allowed")
            md5 = (await sums.of(size))["md5"].hex()
            upload.attributes = with_checksums(wish.attributes, {})
            node = await upload.commit(size, md5, {"md5": md5})
        await self._told(call, form, node.etag)

    async def _told(self, call: Call, form: Form, etag: str) -> None:
        key, bucket = call.address.key, call.address.bucket
        base = call.ask.raw_path.rstrip("/")
        scheme = "https" if call.ask.secure else "http"
        location = f"{scheme}://{call.ask.host}{base}/{quote(key)}"
        fields = {"ETag": etag, "Location": location}
        target = form.get("success_action_redirect") or form.get("redirect")
        if target and urlsplit(target).scheme in ("http", "https") and target.isascii():
            query = f"bucket={quote(bucket)}&key={quote(key, safe='')}&etag={quote(etag, safe='')}"
            mark = "&" if "?" in target else "?"
            await call.done(303, {"ETag": etag, "Location": f"{target}{mark}{query}"})
            return
        status = form.get("success_action_status")
        if status != "201":
            await call.done(200 if status == "200" else 204, fields)
            return
        body = xml.document(
            "PostResponse",
            tag("Location", location), tag("Bucket", bucket), tag("Key", key), tag("ETag", etag),
        )  # fmt: skip
        fields["Content-Type"] = xml.TYPE
        await call.send(Answer(status=201, headers=fields, body=body))
