"""Files by HTTP: GET with ranges and conditions, HEAD, PUT, POST, DELETE.

An upload is registered only when its body is complete; whatever is wrong with it is told before the
first byte if it can be known then, so that a client that waits with `Expect` sends nothing in vain.
Spec: RFC 9110, RFC 9530 (digests), RFC 1864 (Content-MD5), RFC 7578; portal.md 3.4.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta

from ecpds.base.clock import Clock
from ecpds.model import headerrules
from ecpds.model.account import Permission
from ecpds.model.errors import (
    Exists,
    InputError,
    InvalidName,
    IsDirectory,
    NotFound,
    PreconditionFailed,
    RuleError,
)
from ecpds.portals.https import conditions, head, ranges
from ecpds.portals.https.conditions import Verdict
from ecpds.portals.https.exchange import Answer, FileBody, Refused, Slice
from ecpds.portals.https.fields import FILE_POLICY, Types, disposition, security, with_charset
from ecpds.portals.https.form import Multipart, read_urlencoded
from ecpds.portals.https.head import http_date
from ecpds.portals.https.visit import Visit
from ecpds.vfs.contract import Node, Reader, Writer

FORM_FILES = 100  # files of one upload form: all are registered together, at its end
_REGISTRIES = 200  # parsed header rules that are kept
_DIGEST = re.compile(r"([a-z0-9*_.-]+)\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;.*)?", re.IGNORECASE)
_DIGESTS = {"sha-256": ("sha256", 32), "sha-512": ("sha512", 64), "md5": ("md5", 16)}
_CONDITIONS = frozenset({*conditions.FIELDS, "range"})
_DESCRIPTIONS = 1000  # of files that are kept ready


class Files:
    """Answers requests for files."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._types = Types()
        self._registries: dict[str, Sequence[headerrules.Rule]] = {}
        self._described: dict[tuple[object, ...], str] = {}

    # --- reading -------------------------------------------------------------------------

    async def get(self, visit: Visit) -> None:
        """Send the file; raise IsDirectory for a directory."""
        early = await self._early(visit)
        if early is not None:
            await visit.send(early)
            return
        async with await visit.session.open_read(visit.path) as reader:
            await visit.send(self._content(visit, reader))

    async def head(self, visit: Visit) -> None:
        """Send what GET would say about the whole file."""
        node = await visit.session.stat(visit.path)
        if node.is_directory:
            raise IsDirectory(f"{node.path} is a directory")
        verdict = _verdict(visit, node)
        if verdict is not Verdict.GO:
            await visit.send(self._unsent(visit, node, verdict))
            return
        await visit.send(Answer(headers=self.describe(visit, node), length=node.size))

    def describe(self, visit: Visit, node: Node) -> dict[str, str]:
        """Return the fields that describe the file."""
        kind = self._types.of(node.name)
        fields = security(secure=visit.ask.secure, policy=FILE_POLICY)
        fields |= {"Content-Type": with_charset(kind), "Cache-Control": "no-cache"}
        given = self._registered(visit, node.path)
        for name in [n for n in fields if n.lower() in {g.lower() for g in given}]:
            del fields[name]
        fields |= given
        kind = next((v for n, v in given.items() if n.lower() == "content-type"), kind)
        accept = visit.ask.headers.get("accept", "")
        fields |= {
            "Accept-Ranges": "bytes",
            "Content-Disposition": disposition(node.name, kind, accept),
            "ETag": node.etag,
        }
        if _is_rclone(visit):
            del fields["Content-Disposition"]
        if node.mtime is not None:
            fields["Last-Modified"] = http_date(node.mtime)
        return fields

    def _description(self, visit: Visit, node: Node) -> str:
        """Return the fields that describe the file as they are sent; the last ones are kept."""
        ask = visit.ask
        rules = visit.option("headerRegistry")
        accept = ask.headers.get("accept", "")
        key = (node.etag, node.mtime, node.path, ask.secure, accept, rules, _is_rclone(visit))
        found = self._described.get(key)
        if found is None:
            if len(self._described) >= _DESCRIPTIONS:
                self._described.clear()
            found = self._described[key] = head.lines(self.describe(visit, node))
        return found

    def _registered(self, visit: Visit, path: str) -> Mapping[str, str]:
        text = visit.option("headerRegistry")
        if not text:
            return {}
        if text not in self._registries:
            while len(self._registries) >= _REGISTRIES:
                del self._registries[next(iter(self._registries))]
            try:
                self._registries[text] = headerrules.parse(text)
            except RuleError:  # saved by an importer; new texts are checked when they are saved
                self._registries[text] = ()
        return headerrules.apply(self._registries[text], path)

    async def _early(self, visit: Visit) -> Answer | None:
        """Return the answer that needs no content, so that no download is recorded for it."""
        if visit.ask.headers.keys().isdisjoint(_CONDITIONS):
            return None
        if not visit.session.may(Permission.GET, visit.path):
            return None  # opening it says so
        node = await visit.session.stat(visit.path)
        if node.is_directory:
            raise IsDirectory(f"{node.path} is a directory")
        verdict = _verdict(visit, node)
        if verdict is not Verdict.GO:
            return self._unsent(visit, node, verdict)
        if _wanted(visit, node, node.size) == []:
            text = f"the range is outside of the {node.size} bytes"
            raise Refused(416, text, Content_Range=f"bytes */{node.size}", Accept_Ranges="bytes")
        return None

    def _unsent(self, visit: Visit, node: Node, verdict: Verdict) -> Answer:
        if verdict is Verdict.FAILED:
            raise PreconditionFailed("the file is not the version that the request names")
        fields = self.describe(visit, node)
        kept = ("ETag", "Last-Modified", "Cache-Control", "Content-Security-Policy")
        return Answer(status=304, headers={name: fields[name] for name in kept if name in fields})

    def _content(self, visit: Visit, reader: Reader) -> Answer:
        node, size = reader.node, reader.size
        parts = _wanted(visit, node, size)
        if not parts:  # also when the file shrank after the early look
            whole = FileBody(reader, (Slice(0, size),), visit.look)
            return Answer(lines=self._description(visit, node), body=whole)
        fields = self.describe(visit, node)
        if len(parts) == 1:
            fields["Content-Range"] = ranges.content_range(parts[0], size)
            return Answer(status=206, headers=fields, body=FileBody(reader, parts, visit.look))
        boundary = secrets.token_hex(16)
        pieces = ranges.multipart(
            parts, size, content_type=fields["Content-Type"], boundary=boundary
        )
        fields["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
        return Answer(status=206, headers=fields, body=FileBody(reader, pieces, visit.look))

    # --- writing -------------------------------------------------------------------------

    async def put(self, visit: Visit) -> None:
        """Store the body under the name: 201 for a new file, 204 for a new version."""
        node, is_new = await self._store(visit)
        fields = security(secure=visit.ask.secure, policy=FILE_POLICY)
        fields |= {"ETag": node.etag, "Location": visit.file_link(node.path)}
        if node.mtime is not None:
            fields["Last-Modified"] = http_date(node.mtime)
        if not is_new:
            await visit.send(Answer(status=204, headers=fields))
            return
        fields["Content-Type"] = "text/plain; charset=utf-8"
        await visit.send(Answer(status=201, headers=fields, body=_receipt(node)))

    async def post(self, visit: Visit) -> None:
        """Store a body or an upload form, or do what a form of our pages asks for."""
        kind = visit.ask.headers.get("content-type", "").partition(";")[0].strip().lower()
        if "action" in visit.query:
            await self._act(visit, visit.query["action"])
        elif kind == "multipart/form-data":
            await self._form(visit)
        elif kind == "application/x-www-form-urlencoded":
            # what curl says of `--data`: storing an urlencoded text is hardly ever meant
            raise Refused(415, "send files as application/octet-stream or multipart/form-data")
        else:
            node, _ = await self._store(visit)
            await self._stored(visit, [node])

    async def delete(self, visit: Visit) -> None:
        """Delete the file, or the directory if it is empty."""
        await self._remove(visit)
        fields = security(secure=visit.ask.secure, policy=FILE_POLICY)
        await visit.send(Answer(status=204, headers=fields))

    async def _store(self, visit: Visit) -> tuple[Node, bool]:
        ask = visit.ask
        if visit.place.names_directory:
            raise InvalidName("a file name does not end with a slash")
        if not ask.body.announced:
            raise Refused(411, "an upload says how long it is, or comes in chunks")
        _check_fields(ask.headers)
        digests = read_digests(ask.headers)
        present = None
        if any(name in ask.headers for name in conditions.FIELDS):
            present = await _present(visit)
        exclusive, if_match = _write_conditions(ask.headers, present)
        try:
            async with await visit.session.open_write(
                visit.path, size=ask.body.length, exclusive=exclusive, if_match=if_match
            ) as writer:
                await self._pour(visit, writer)
                node = await writer.commit(size=ask.body.length, digests=digests)
        except Exists:
            if not exclusive:
                raise
            raise PreconditionFailed("the file is there already") from None
        return node, not writer.replaces

    async def _pour(self, visit: Visit, writer: Writer) -> None:
        """Write the body to the file, straight from the socket unless a rate is to be kept."""

        def take(block: bytes | memoryview) -> None:
            visit.look()
            writer.write(block)

        body = visit.ask.body
        if writer.rate is None:
            await body.pour(take)
            return
        while block := await body.read():
            take(block)
            await self._pause(writer)

    async def _pause(self, writer: Writer) -> None:
        seconds = writer.pause()
        if seconds > 0:
            await self._clock.sleep(timedelta(seconds=seconds))

    async def _form(self, visit: Visit) -> None:
        """Store the files of an upload form; one broken file or an early end stores none."""
        form = Multipart(visit.ask.headers["content-type"], visit.ask.body)
        base = visit.path.rstrip("/")
        async with AsyncExitStack() as stack:
            writers: list[Writer] = []
            async for part in form.parts():
                if part.name != "file" or not part.filename:
                    continue
                if len(writers) == FORM_FILES:
                    raise InputError(f"a form may have at most {FORM_FILES} files")
                path = f"{base}/{part.filename}"
                writer = await visit.session.open_write(path)
                await stack.enter_async_context(writer)
                async for block in form.content():
                    visit.look()
                    writer.write(block)
                    await self._pause(writer)
                writers.append(writer)
            nodes = [await writer.commit() for writer in writers]
        if not nodes:
            raise InputError("the form has no file in its field `file`", pointer="file")
        await self._stored(visit, nodes)

    async def _stored(self, visit: Visit, nodes: Sequence[Node]) -> None:
        if visit.ask.from_browser and not visit.ask.headers.get("x-requested-with"):
            await self._back(visit, nodes[0].path.rpartition("/")[0], "uploaded")
            return
        fields = security(secure=visit.ask.secure, policy=FILE_POLICY)
        fields["Content-Type"] = "text/plain; charset=utf-8"
        if len(nodes) == 1:
            fields["ETag"] = nodes[0].etag
        await visit.send(Answer(headers=fields, body=b"".join(map(_receipt, nodes))))

    async def _act(self, visit: Visit, action: str) -> None:
        """Do what the forms of the details page ask for."""
        form = await read_urlencoded(visit.ask.body)
        path = visit.session.absolute(visit.path)
        parent = path.rpartition("/")[0] or "/"
        if action == "delete":
            await self._remove(visit)
            await self._back(visit, parent, "deleted")
        elif action == "rename":
            name = form.get("to", "")
            if not name:
                raise InputError("the new name is missing", pointer="to")
            await visit.session.rename(path, visit.session.absolute(name, base=parent))
            await self._back(visit, parent, "renamed")
        else:
            raise InputError("action is delete or rename", pointer="action")

    async def _back(self, visit: Visit, directory: str, done: str) -> None:
        fields = security(secure=visit.ask.secure, policy=FILE_POLICY)
        fields["Location"] = f"{visit.directory_link(directory)}?done={done}"
        await visit.send(Answer(status=303, headers=fields))

    async def _remove(self, visit: Visit) -> None:
        if any(name in visit.ask.headers for name in conditions.FIELDS):
            _write_conditions(visit.ask.headers, await _present(visit))
        if visit.place.names_directory:
            await visit.session.rmdir(visit.path)
            return
        try:
            await visit.session.delete(visit.path)
        except IsDirectory:
            await visit.session.rmdir(visit.path)


def _is_rclone(visit: Visit) -> bool:
    """Tell whether rclone asks: 1.75 takes the file name of Content-Disposition for the whole path.

    It then drops every file below the first directory (test_https_clients.py).
    """
    return visit.ask.headers.get("user-agent", "").startswith("rclone/")


def _verdict(visit: Visit, node: Node) -> Verdict:
    return conditions.judge(visit.ask.headers, etag=node.etag, mtime=node.mtime, reading=True)


def _wanted(visit: Visit, node: Node, size: int) -> list[Slice] | None:
    """Return the parts that the request wants; None: the whole file."""
    headers = visit.ask.headers
    if "range" not in headers or not conditions.range_holds(
        headers, etag=node.etag, mtime=node.mtime
    ):
        return None
    return ranges.parse(headers["range"], size, most=visit.number("maxRangesAllowed", 100))


async def _present(visit: Visit) -> Node | None:
    try:
        return await visit.session.stat(visit.path)
    except NotFound:
        return None


def _write_conditions(
    headers: Mapping[str, str], present: Node | None
) -> tuple[bool, Sequence[str]]:
    """Check what can be checked now; return what the session must check when it opens the file."""
    etag = present.etag or '""' if present else ""
    mtime = present.mtime if present else None
    if conditions.judge(headers, etag=etag, mtime=mtime, reading=False) is not Verdict.GO:
        raise PreconditionFailed("the file is not the version that the request names")
    exclusive = headers.get("if-none-match", "").strip() == "*"
    return exclusive, conditions.strong(headers.get("if-match", ""))


def _check_fields(headers: Mapping[str, str]) -> None:
    if "content-range" in headers:
        raise InputError("partial uploads by Content-Range are not accepted")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refused(415, "content codings are not accepted in uploads")


def read_digests(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the digests that the client announces, algorithm to hex.

    Algorithms that we do not know are passed over, as RFC 9530 allows.  Raises InputError for a
    field that cannot be read: to pass it over would be to skip the check.
    """
    found: dict[str, str] = {}
    if "content-md5" in headers:
        found["md5"] = _hex(headers["content-md5"].strip(), 16)
    for name in ("repr-digest", "content-digest"):
        for member in filter(None, map(str.strip, headers.get(name, "").split(","))):
            one = _DIGEST.fullmatch(member)
            if one is None:
                raise InputError(f"the field {name} cannot be read")
            known = _DIGESTS.get(one[1].lower())
            if known:
                found[known[0]] = _hex(one[2], known[1])
    return found


def _hex(text: str, length: int) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != length:
        raise InputError("a digest of the request cannot be read")
    return raw.hex()


def _receipt(node: Node) -> bytes:
    return f"Upload complete (id: {node.transfer_id}, ETag: {node.etag})\n".encode()
