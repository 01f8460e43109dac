"""Two users of different destinations: whatever one asks at any door, he learns and changes nothing
of the other's.

Paths are put together from pieces that lead out of directories in every spelling, from the names of
the other destination, and from numbers of the other's transfers.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncssh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecpds.model.transfer import Transfer
from tests.portalsite import Site, signed, site
from tests.protocol.https_site import basic

CONTENT = b"the content that nobody else may see"
HIDDEN = "unguessable-0b5c.bin"  # its name must not come out either
USERS = {"alice": "NORTH", "bob": "SOUTH"}

PIECES = st.sampled_from(
    [
        "NORTH", "SOUTH", "DATA", "known.txt", "deep", "x", "..", ".", "", "%2e%2e", "%2E%2E%2f",
        "..%2f", "..%5c", "\\..", "..\\NORTH", "%252e%252e", "DataTransferId=1", "1", "2",
        "DataTransferId=2", "@latest", "north", "NORTH ", "NORTH%00", "\u2025", "\uff0e\uff0e",
        "NORTH;x", "NORTH?", "*", "NORTH#",
    ]
)  # fmt: skip
PATHS = st.lists(PIECES, min_size=1, max_size=6).map("/".join).map(lambda text: f"/{text}")
DOORS = (
    "/ecpds/file", "/ecpds/data/file", "/ecpds/data/list", "/ecpds/home/alice", "/ecpds/home/bob",
    "/webdav", "/ecpds/tus/files", "/ecpds/link", "/s3", "/ecpds/data",
)  # fmt: skip
HTTP = st.tuples(
    st.just("http"),
    st.sampled_from(
        ["GET", "HEAD", "PUT", "DELETE", "POST", "PROPFIND", "PROPPATCH", "MKCOL", "MOVE", "COPY",
         "LOCK", "UNLOCK", "OPTIONS", "PATCH"]
    ),
    st.tuples(st.sampled_from(DOORS), PATHS, PATHS),
)  # fmt: skip
S3 = st.tuples(
    st.just("s3"),
    st.sampled_from(["GET", "HEAD", "PUT", "DELETE", "POST", "COPY", "LIST", "BUCKETS"]),
    st.tuples(st.just(""), PATHS, PATHS),
)
FTP = st.tuples(
    st.just("ftp"),
    st.sampled_from(
        ["CWD", "SIZE", "MDTM", "MLST", "DELE", "RMD", "MKD", "XMD5", "HASH", "STAT", "MFMT",
         "RENAME", "RETR", "LIST", "NLST", "MLSD", "STOR", "APPE"]
    ),
    st.tuples(st.just(""), PATHS, PATHS),
)  # fmt: skip
SFTP = st.tuples(
    st.just("sftp"),
    st.sampled_from(
        ["stat", "listdir", "read", "write", "remove", "rename", "posix_rename", "mkdir", "rmdir",
         "realpath", "readlink", "symlink", "link", "statvfs", "utime", "copy"]
    ),
    st.tuples(st.just(""), PATHS, PATHS),
)  # fmt: skip
Act = tuple[str, str, tuple[str, str, str]]
ACTS = st.lists(st.one_of(HTTP, HTTP, S3, FTP, SFTP), min_size=1, max_size=25)


@dataclass
class Attack:
    """One user at work against the other."""

    site: Site
    user: str
    ftp: Any
    sftp: asyncssh.SFTPClient
    seen: list[str] = field(default_factory=list)

    def look(self, found: object) -> None:
        text = found.decode("latin-1") if isinstance(found, bytes) else str(found)
        self.seen.append(text)

    async def act(self, act: Act) -> None:
        door, verb, (base, path, other) = act
        await getattr(self, f"do_{door}")(verb, base, path, other)

    # --- HTTP, written by hand: no client may tidy the address up ----------------------------

    async def raw(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        place = urlsplit(self.site.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        fields = {"Host": place.netloc, "Connection": "close", "Content-Length": str(len(body))}
        lines = [f"{name}: {value}\r\n" for name, value in (fields | dict(headers)).items()]
        head = f"{method} {target} HTTP/1.1\r\n{''.join(lines)}\r\n"
        writer.write(head.encode("utf-8", "replace") + body)
        try:
            async with asyncio.timeout(20):
                self.look(await reader.read())
        finally:
            writer.close()

    async def do_http(self, verb: str, base: str, path: str, other: str) -> None:
        target = _wire(base + path)
        body = b"written by a stranger" if verb in {"PUT", "POST", "PATCH"} else b""
        headers = {
            "Authorization": basic(self.user),
            "Depth": "1",
            "Destination": _wire(f"{self.site.url}{base}{other}"),
            "Tus-Resumable": "1.0.0",
            "Upload-Length": "21",
        }
        if verb == "POST" and base == "/ecpds/data":
            target = "/ecpds/data/links"
            body = f"kind=share&path={_wire(path)}".encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        await self.raw(verb, target, headers, body)

    async def do_s3(self, verb: str, base: str, path: str, other: str) -> None:
        target = "/s3" + _wire(path)
        headers = {"x-amz-copy-source": _wire(other)} if verb == "COPY" else {}
        method = {"COPY": "PUT", "LIST": "GET", "BUCKETS": "GET"}.get(verb, verb)
        if verb == "LIST":
            target += "?list-type=2"
        if verb == "BUCKETS":
            target = "/s3/"
        body = b"stranger" if verb in {"PUT", "POST"} else b""
        url = self.site.url + target
        await self.raw(
            method, target, signed(method, url, user=self.user, body=body, headers=headers), body
        )

    # --- FTP and SFTP --------------------------------------------------------------------------

    async def do_ftp(self, verb: str, base: str, path: str, other: str) -> None:
        ftp = self.ftp
        if verb in {"RETR", "LIST", "NLST", "MLSD", "STOR", "APPE"}:
            reader, writer = await ftp.passive()
            code, text = await ftp(f"{verb} {path}")
            self.look(text)
            if code == 150:
                if verb in {"STOR", "APPE"}:
                    writer.write(b"stranger")
                    writer.write_eof()
                else:
                    self.look(await reader.read())
                self.look((await ftp.reply())[1])
            writer.close()
        elif verb == "RENAME":
            self.look((await ftp(f"RNFR {path}"))[1])
            self.look((await ftp(f"RNTO {other}"))[1])
        else:
            argument = f"20310101000000 {path}" if verb == "MFMT" else path
            self.look((await ftp(f"{verb} {argument}"))[1])

    async def do_sftp(self, verb: str, base: str, path: str, other: str) -> None:
        sftp = self.sftp
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "stat": lambda: sftp.stat(path),
            "listdir": lambda: sftp.listdir(path),
            "read": lambda: self._read(path),
            "write": lambda: self._write(path),
            "remove": lambda: sftp.remove(path),
            "rename": lambda: sftp.rename(path, other),
            "posix_rename": lambda: sftp.posix_rename(path, other),
            "mkdir": lambda: sftp.mkdir(path),
            "rmdir": lambda: sftp.rmdir(path),
            "realpath": lambda: sftp.realpath(path),
            "readlink": lambda: sftp.readlink(path),
            "symlink": lambda: sftp.symlink(path, other),
            "link": lambda: sftp.link(path, other),
            "statvfs": lambda: sftp.statvfs(path),
            "utime": lambda: sftp.utime(path, (1, 1)),
            "copy": lambda: self._copy(path, other),
        }
        try:
            self.look(await calls[verb]())
        except (asyncssh.SFTPError, ValueError) as error:
            self.look(error)

    async def _read(self, path: str) -> bytes:
        async with self.sftp.open(path, "rb") as file:
            found = await file.read()
            return found if isinstance(found, bytes) else found.encode()

    async def _write(self, path: str) -> None:
        async with self.sftp.open(path, "wb") as file:
            await file.write(b"stranger")

    async def _copy(self, path: str, other: str) -> None:
        await self.sftp.copy(path, other, remote_only=True)


def _wire(text: str) -> str:
    """Return an address as it goes over the wire: only what would break the line is coded."""
    return "".join(
        c if 33 <= ord(c) < 127 else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text
    )


async def _user(s: Site, login: str, destination: str) -> None:
    options = {"portal.maxConnections": "0"}
    await s.node.user(login, destinations=(destination,), options=options)
    await s.s3_key(login)


async def _state(s: Site, destination: str) -> list[Transfer]:
    return sorted(await s.transfers(destination), key=lambda one: one.id)


async def _try(attacker: str, acts: list[Act]) -> None:
    victim = "bob" if attacker == "alice" else "alice"
    secret = USERS[victim]
    with tempfile.TemporaryDirectory() as folder:
        async with site(Path(folder)) as s:
            for login, destination in USERS.items():
                await _user(s, login, destination)
            for name in ("known.txt", f"deep/{HIDDEN}"):
                target = f"/ecpds/data/file/{secret}/{name}"
                got = await s.ask("PUT", target, user=victim, body=CONTENT)
                assert got.status == 201
            before = await _state(s, secret)
            async with s.ftp(attacker) as ftp, s.sftp(username=attacker) as sftp:
                attack = Attack(s, attacker, ftp, sftp)
                for act in acts:
                    await attack.act(act)
            assert await _state(s, secret) == before
            for text in attack.seen:
                assert CONTENT.decode() not in text
                assert HIDDEN not in text
            got = await s.ask("GET", f"/ecpds/data/file/{secret}/known.txt", user=victim)
            assert got.body == CONTENT


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(st.sampled_from(sorted(USERS)), ACTS)
def test_nobody_reaches_what_is_somebody_elses(attacker: str, acts: list[Act]) -> None:
    with asyncio.Runner() as runner:
        runner.run(_try(attacker, acts))
