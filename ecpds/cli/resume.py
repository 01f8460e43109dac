"""`push --resume`: a large file goes on where an earlier try broke off, also of another process.

The name of the upload is made of what the file is and where it goes, so that nothing has to be kept
here between two tries; a file that was changed has another one.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

from ecpds.cli.access import Retry
from ecpds.cli.client import Client, Unreachable
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.upload import BLOCK

CHUNK: Final = 64 * 1024 * 1024  # bytes of one request
PATIENCE: Final = Retry(count=5, delay=2.0)  # when the command line says nothing

Found = dict[str, Any]


class Resumed:
    """One file on its way; knows what was sent of it, by all tries together."""

    def __init__(
        self,
        client: Client,
        content: IO[bytes],
        fields: Found,
        *,
        path: str,
        sha256: bool = False,
        watch: Callable[[int], None] | None = None,
        retry: Retry | None = None,
    ) -> None:
        """`client` must not try again by itself; `fields` are those of the submission."""
        self._client, self._content, self._fields = client, content, fields
        self._watch = watch
        self._retry = retry if retry is not None and retry.count else PATIENCE
        state = os.fstat(content.fileno())
        self.count = state.st_size
        self._name = _name_of(path, state, fields)
        self._key = f"push-{os.urandom(12).hex()}"  # of this try, whose answer may be lost
        self._place = f"/uploads/{self._name}"
        self._adler32 = zlib.adler32(b"")
        self._sha256 = hashlib.sha256() if sha256 else None
        self._read = 0

    @property
    def adler32(self) -> str:
        """Return the checksum of what was read, as the store writes it."""
        return f"{self._adler32:08x}"

    @property
    def sha256(self) -> str | None:
        """Return the SHA-256 of what was read, None when it is not wanted."""
        return None if self._sha256 is None else self._sha256.hexdigest()

    def send(self) -> Found:
        """Send what is missing and submit; return the answer, as that of a push."""
        received = self._again(self._begin)
        while received < self.count:
            received = self._again(lambda: self._append(received))  # noqa: B023 - called at once
        answer: Found = self._again(self._submit)
        return answer

    def _again(self, act: Callable[[], Any]) -> Any:
        """Do it until it works, as often as was asked for; each progress counts anew."""
        left = self._retry.count
        while True:
            try:
                return act()
            except Unreachable:
                if not left:
                    raise
            left -= 1
            time.sleep(self._retry.delay)

    def _begin(self) -> int:
        body = {"destination": self._fields["destination"]}
        found = self._client.call("PUT", self._place, body=body)
        if found["received"] > self.count:  # cannot be of this file
            self._client.call("DELETE", self._place)
            found = self._client.call("PUT", self._place, body=body)
        received: int = found["received"]
        self._pass_to(received)
        return received

    def _pass_to(self, received: int) -> None:
        """Read what the node has already, for the checksums."""
        if received < self._read:
            self._rewind()
        for _ in self._blocks(received - self._read):
            pass

    def _rewind(self) -> None:
        self._content.seek(0)
        if self._watch is not None:
            self._watch(-self._read)
        self._read, self._adler32 = 0, zlib.adler32(b"")
        if self._sha256 is not None:
            self._sha256 = hashlib.sha256()

    def _append(self, offset: int) -> int:
        self._pass_to(offset)
        size = min(CHUNK, self.count - offset)
        try:
            found = self._client.append(self._place, offset, size, self._blocks(size))
        except Unreachable:
            return self._where()
        except CommandError as error:
            if error.reason == "bad-state":  # a try before us that the node holds for alive
                raise Unreachable(error.message, whole=True) from None
            if error.reason != "conflict":
                raise
            return self._where()  # an earlier request came further than we knew
        received: int = found["received"]
        return received

    def _where(self) -> int:
        found = self._again(lambda: self._client.call("GET", self._place))
        received: int = found["received"]
        return received

    def _blocks(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            try:
                block = self._content.read(min(BLOCK, left))
            except OSError as error:
                raise CommandError(f"cannot be read: {error.strerror}", Exit.USAGE) from None
            if not block:
                raise CommandError("it changed while it was read", Exit.UNEXPECTED)
            left -= len(block)
            self._read += len(block)
            self._adler32 = zlib.adler32(block, self._adler32)
            if self._sha256 is not None:
                self._sha256.update(block)
            if self._watch is not None:
                self._watch(len(block))
            yield block

    def _submit(self) -> Found:
        self._pass_to(self.count)
        body = self._fields | {"size": self.count, "adler32": self.adler32}
        if self.sha256 is not None:
            body["sha256"] = self.sha256
        headers = {"Idempotency-Key": self._key}
        place = f"{self._place}/actions/submit"
        answer: Found = self._client.call("POST", place, body=body, headers=headers)
        return answer


def _name_of(path: str, state: os.stat_result, fields: Found) -> str:
    """Return the name of the upload of this file to this place."""
    facts = (
        os.path.realpath(path), state.st_size, state.st_mtime_ns, state.st_ino,
        fields["destination"], fields.get("target"), fields.get("version"),
    )  # fmt: skip
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()[:40]
