"""`POST /files`: a form with a file, stored as it comes and queued; or a source to fetch.

201 means: content complete, checksummed and on disk, metadata committed (interface.md 6).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Final

from aiohttp import web

from ecpds.engine.submit import Registered, Submission
from ecpds.model.decode import Where, decode, key_of
from ecpds.model.errors import InputError, InvalidName, NotFound, TooLarge
from ecpds.model.names import nearest
from ecpds.objects.upload import Upload
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import RegisterRequest, SubmissionFields
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.multipart import Multipart, Part

WRITE: Final = "files:write"
MOST: Final = 1024 * 1024  # bytes that one call of `upload.write` takes
KNOWN: Final = tuple(key_of(item) for item in fields(SubmissionFields))


async def post(call: Call) -> web.StreamResponse:
    """Store a file and queue it; a JSON body names a source to fetch later."""
    if call.request.content_type != "multipart/form-data":
        return await _register(call)
    form = Multipart(call.request.headers["Content-Type"], await call.receive())
    texts: dict[str, str] = {}
    upload: Upload | None = None
    name = ""
    try:
        async for part in form.parts():
            if part.filename is None and part.name != "file":
                _take(texts, part, await form.text())
            elif upload is not None:
                raise Refused(400, "malformed", "send one file in one form")
            else:
                name = (part.filename or "").replace("\\", "/").rpartition("/")[2]
                upload = await _receive(call, form, texts)
        if upload is None:
            raise InputError("the form has no file", pointer="file")
        submission = _submission(call, texts, name)
        taken, upload = upload, None  # from here on it belongs to the operation
        registered = await call.services.files.submit(submission, taken)
        return await told(call, registered)
    finally:
        if upload is not None:
            upload.discard()


def _take(texts: dict[str, str], part: Part, text: str) -> None:
    if part.name not in KNOWN:
        near = nearest(part.name, KNOWN)
        hint = f" (did you mean {near!r}?)" if near else ""
        raise InputError(f"unknown field {part.name!r}{hint}", pointer=part.name)
    if part.name in texts:
        raise InputError(f"{part.name} is there twice", pointer=part.name)
    texts[part.name] = text


async def _receive(call: Call, form: Multipart, texts: Mapping[str, str]) -> Upload:
    """Stream the content into a new object; stop at the first byte that is too many."""
    limit = None
    if "destination" in texts:
        check_right(call, texts["destination"])
        entry = call.services.core.snapshot.destination(texts["destination"])
        limit = entry.destination.max_file_size
    length = call.request.content_length
    if limit is not None and length is not None and length > limit + MOST:
        raise _too_large(texts, limit)
    upload = call.services.files.begin(
        length, destination=texts.get("destination", ""), target=texts.get("target", "")
    )
    try:
        async for block in form.blocks():
            if limit is not None and upload.received + len(block) > limit:
                raise _too_large(texts, limit)
            for start in range(0, len(block), MOST):
                upload.write(memoryview(block)[start : start + MOST])
    except BaseException:
        upload.discard()
        raise
    return upload


def _too_large(texts: Mapping[str, str], limit: int) -> TooLarge:
    return TooLarge(f"Destination {texts['destination']} accepts at most {limit} bytes")


def check_right(call: Call, destination: str) -> None:
    """Raise NotFound or Denied unless the caller may put files there."""
    if destination not in call.services.core.snapshot.destinations:
        if call.caller.may_everywhere(WRITE):
            call.services.core.snapshot.destination(destination)  # names the nearest
        raise NotFound(f"Destination {destination} not found")
    call.caller.check(WRITE, destination)


def _submission(call: Call, texts: Mapping[str, str], name: str) -> Submission:
    """Return what the form asks for, without the content."""
    wanted = decode(SubmissionFields, _document(texts), Where())
    if not wanted.destination:
        raise InputError("destination is missing", pointer="destination")
    return wanted_submission(call, wanted, wanted.destination, name)


def wanted_submission(
    call: Call, wanted: SubmissionFields, destination: str, name: str
) -> Submission:
    """Return what is asked for a file of that name, the right to put it there checked."""
    check_right(call, destination)
    target = wanted.target or name
    if target.endswith("/"):
        target += name
    if not target:
        raise InputError("target is missing, and the file has no name", pointer="target")
    _check_normal(target)
    return replace(
        submission_of(call, wanted), destination=destination, target=target,
        original=wanted.original or name,
    )  # fmt: skip


def _check_normal(target: str) -> None:
    """Raise InvalidName for `a//b` (interface.md 8); `.` and `..` are resolved later."""
    if "" in target.removeprefix("/").split("/"):
        raise InvalidName(f"the target {target[:80]!r} has an empty part", pointer="target")


def _document(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a form as a document; empty ones say nothing."""
    found: dict[str, Any] = {key: text for key, text in texts.items() if text != ""}
    if "metadata" in found:
        found["metadata"] = _metadata(found["metadata"])
    return found


def _metadata(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise InputError("metadata is no JSON object", pointer="metadata") from None
    pairs = {}
    for part in text.split(","):
        key, sign, value = part.partition("=")
        if not sign:
            raise InputError(f"metadata: {part!r} is not key=value", pointer="metadata")
        pairs[key.strip()] = value.strip()
    return pairs


def submission_of(call: Call, wanted: SubmissionFields) -> Submission:
    """Return what is asked for as a submission, without its content."""
    return Submission(
        destination=wanted.destination,
        target=wanted.target,
        original=wanted.original,
        metadata=wanted.metadata,
        priority=wanted.priority,
        lifetime=wanted.lifetime,
        delay=wanted.delay,
        at=wanted.at,
        standby=wanted.standby,
        asap=wanted.asap,
        event=wanted.event,
        version=wanted.version,
        identity=wanted.identity,
        group_by=wanted.group,
        on_duplicate=wanted.on_duplicate,
        submitter=call.caller.name,
        submitted_from=call.peer,
        caller="api",
    )


async def _register(call: Call) -> web.StreamResponse:
    wanted = await call.decoded(RegisterRequest)
    names = wanted.destinations or (wanted.destination,)
    documents = await registered(call, wanted, *names)
    if wanted.destinations:
        return answers.as_json({"items": documents, "next_cursor": None}, status=201)
    return _with_location(documents[0])


async def registered(call: Call, wanted: RegisterRequest, *names: str) -> list[shown.Document]:
    """Queue a file that is fetched later, for these destinations; return what became of each."""
    if not all(names):
        raise InputError("destination is missing", pointer="destination")
    if not wanted.source:
        raise InputError("source is missing", pointer="source")
    for name in names:
        check_right(call, name)
        _check_source(call, wanted, name)
    base = submission_of(call, wanted)
    target = wanted.target or wanted.source.rstrip("/").rpartition("/")[2]
    documents = []
    for name in names:
        submission = replace(
            base, destination=name, target=target, source=wanted.source, host=wanted.host,
            size=wanted.size, original=wanted.original or wanted.source,
            is_list=wanted.index, no_retrieval=wanted.no_store,
        )  # fmt: skip
        documents.append(await _told(call, await call.services.files.register(submission)))
    return documents


def _check_source(call: Call, wanted: RegisterRequest, destination: str) -> None:
    """Raise unless there is a host to fetch from that the caller may use."""
    snapshot = call.services.core.snapshot
    name = wanted.host or snapshot.destination(destination).destination.source_host
    if not name:
        raise InputError(
            f"name a host: destination {destination} has no source_host", pointer="host"
        )
    snapshot.host(name)
    if wanted.host:
        users = snapshot.users.get(name, ())
        call.caller.check_any("hosts:read", users, f"Host {name} not found")


def _with_location(document: shown.Document) -> web.StreamResponse:
    status = 200 if document["skipped"] else 201
    location = f"/api/v2/files/{document['data_file']['id']}"
    return answers.as_json(document, status=status, headers={"Location": location})


async def told(call: Call, registered: Registered) -> web.StreamResponse:
    """Answer with the data file and its transfers."""
    return _with_location(await _told(call, registered))


async def _told(call: Call, registered: Registered) -> shown.Document:
    view = await call.services.files.view(registered.file)
    now = call.services.core.clock.now()
    mine = [one for one in view.transfers if one.id in registered.transfers]
    return {
        "data_file": shown.file_view(view),
        "transfers": [shown.transfer(one, now) for one in mine],
        "updated": registered.updated,
        "skipped": registered.skipped,
    }
