"""A small blocking FTP client, so that the server and not the client is measured.

Plain sockets: RETR receives into one buffer, STOR uses sendfile. One EPSV a file, as real clients
do; SIZE, MDTM and the like are left out because clients differ in them.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.errors import MeasurementFailed

BUFFER = 1 << 20
WAIT = 60.0
"""Longest silence of a server, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FtpSite:
    """An FTP server on 127.0.0.1 and the folder to use on it, without a final slash."""

    port: int
    login: str
    password: str
    folder: str


class FtpSession:
    """A logged-in control connection."""

    def __init__(self, site: FtpSite) -> None:
        self._site = site
        self._buffer = memoryview(bytearray(BUFFER))
        self._socket = socket.create_connection(("127.0.0.1", site.port), timeout=WAIT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = self._socket.makefile("rb")
        try:
            self._reply("220")
            self.command(f"USER {site.login}", "331")
            self.command(f"PASS {site.password}", "230")
            self.command("TYPE I", "200")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if error is None:
            self.command("QUIT", "221")
        self._socket.close()

    def command(self, line: str, *wanted: str) -> str:
        """Send a command and return its final reply, which must begin with one of `wanted`."""
        self._socket.sendall(f"{line}\r\n".encode())
        return self._reply(*wanted)

    def retrieve(self, name: str) -> int:
        """Fetch a file to memory and return its bytes."""
        data = self._data()
        with data:
            self.command(f"RETR {self._site.folder}/{name}", "150", "125")
            received = 0
            while count := data.recv_into(self._buffer):
                received += count
        self._reply("226", "250")
        return received

    def store(self, name: str, source: Path) -> int:
        """Send a file and return its bytes; the server's 226 has been read."""
        data = self._data()
        with data, source.open("rb") as file:
            self.command(f"STOR {self._site.folder}/{name}", "150", "125")
            sent = data.sendfile(file)
        self._reply("226", "250")
        return sent

    def remove(self, name: str) -> None:
        """Delete a file; a missing one is no failure."""
        self.command(f"DELE {self._site.folder}/{name}", "250", "550")

    def _data(self) -> socket.socket:
        reply = self.command("EPSV", "229")
        found = re.search(r"\(\|\|\|(\d+)\|\)", reply)
        if found is None:
            raise MeasurementFailed(f"no port in {reply!r}")
        data = socket.create_connection(("127.0.0.1", int(found[1])), timeout=WAIT)
        data.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return data

    def _reply(self, *wanted: str) -> str:
        line = self._line()
        if line[3:4] == "-":
            end = line[:3] + " "
            while not (line := self._line()).startswith(end):
                pass
        if not line.startswith(wanted):
            raise MeasurementFailed(f"ftp server: {line}")
        return line

    def _line(self) -> str:
        line = self._replies.readline(4096)
        if not line:
            raise MeasurementFailed("ftp server closed the control connection")
        return line.decode("utf-8", "replace").rstrip("\r\n")


def retrieve(site: FtpSite, names: Sequence[str], *, size: int) -> float:
    """Fetch files in one session, each of `size` bytes; return the seconds, login included."""
    began = time.monotonic()
    with _session(site) as session:
        for name in names:
            received = session.retrieve(name)
            if received != size:
                raise MeasurementFailed(f"{name}: {received} bytes instead of {size}")
    return time.monotonic() - began


def store(site: FtpSite, files: Mapping[str, Path]) -> float:
    """Send files in one session; return the seconds, login included."""
    sizes = {path: os.stat(path).st_size for path in files.values()}
    began = time.monotonic()
    with _session(site) as session:
        for name, path in files.items():
            sent = session.store(name, path)
            if sent != sizes[path]:
                raise MeasurementFailed(f"{name}: {sent} bytes instead of {sizes[path]}")
    return time.monotonic() - began


def remove(site: FtpSite, names: Sequence[str]) -> None:
    """Delete files after a round; not measured."""
    with _session(site) as session:
        for name in names:
            session.remove(name)


def _session(site: FtpSite) -> FtpSession:
    try:
        return FtpSession(site)
    except OSError as error:
        raise MeasurementFailed(f"ftp server on port {site.port}: {error}") from error
