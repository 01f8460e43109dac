"""What a test knows about a running server, and the account under which it serves."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A system account that serves files; `password` is empty where only keys log in."""

    name: str
    uid: int
    gid: int
    password: str

    def own(self, path: Path) -> None:
        """Make the account the owner of `path`."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def open(self, folder: Path) -> None:
        """Create `folder`, give it to the account and let the account reach it from the root."""
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.own(folder)
        reach(folder)


def own_account() -> Account:
    """Return the account that runs the tests."""
    me = pwd.getpwuid(os.geteuid())
    return Account(name=me.pw_name, uid=me.pw_uid, gid=me.pw_gid, password="")


def reach(folder: Path) -> None:
    """Let other accounts pass through `folder` and our own folders above it."""
    top = Path(tempfile.gettempdir()).resolve()
    for part in (folder.resolve(), *folder.resolve().parents):
        state = part.stat()
        if state.st_uid == os.geteuid() and part != top and state.st_mode & 0o011 != 0o011:
            if not part.is_relative_to(top):
                raise RuntimeError(f"{part} must let other accounts pass (chmod o+x)")
            part.chmod(state.st_mode & 0o7777 | 0o011)


def _no_log() -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One running server.

    `root` is the served directory on the disk, `directory` the same one as the remote side names
    it ("/" under a chroot). `tls` is "" (plain), "explicit" (AUTH TLS) or "implicit" (from the
    first byte; https). `log` returns what the server wrote so far.  A server that keeps its content
    elsewhere than in plain files has a subclass that overrides the methods behind `at`.
    """

    name: str
    scheme: str
    port: int
    root: Path
    account: Account = field(default_factory=own_account)
    host: str = "127.0.0.1"
    login: str = ""
    password: str = ""
    directory: str = "/"
    tls: str = ""
    key: Path | None = None  # private key that logs in, OpenSSH format, no pass phrase
    host_key: str = ""  # fingerprint, "SHA256:..."
    known_hosts: Path | None = None
    ca: Path | None = None  # PEM of the authority that signed the server's certificate
    passive_ports: range | None = None
    roots: tuple[Path, ...] = ()  # further directories that the node may use
    log: Callable[[], str] = _no_log

    @property
    def url(self) -> str:
        """The address without credentials and path."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def remote(self, name: str) -> str:
        """Return the absolute remote path of `name` below the root."""
        return f"{self.directory.rstrip('/')}/{name}"

    def url_of(self, name: str) -> str:
        """Return the percent-encoded address of `name` below the root, without credentials."""
        path = quote(self.remote(name))
        if self.scheme in ("ftp", "ftps") and self.directory != "/":
            path = "/%2F" + path[1:]  # paths of FTP addresses start where the login starts
        return self.url + path

    def at(self, host: str, port: int) -> Peer:
        """Return the same peer as seen at another address (a proxy's)."""
        return replace(self, host=host, port=port)

    def put(self, name: str, content: bytes, *, mtime: float | None = None) -> Path:
        """Write a file below the root, owned by the serving account like its new directories.

        `mtime` in seconds since the epoch.
        """
        path = self.root / name
        self.mkdir(str(path.parent.relative_to(self.root)))
        path.write_bytes(content)
        self.account.own(path)
        if mtime is not None:
            os.utime(path, (mtime, mtime))
        return path

    def fill(self, directory: str, count: int) -> None:
        """Write `count` empty files named 000000, 000001, … in a directory below the root."""
        folder = self.mkdir(directory)
        for number in range(count):
            (folder / f"{number:06d}").touch()

    def mkdir(self, name: str) -> Path:
        """Create a directory below the root, and those above it, owned by the serving account."""
        path = self.root
        for part in Path(name).parts:
            path /= part
            if not path.is_dir():
                path.mkdir()
                self.account.own(path)
        return path

    def has_directory(self, name: str) -> bool:
        """Tell whether there is a directory of that name below the root."""
        return (self.root / name).is_dir()

    def remove(self, name: str) -> None:
        """Remove a file, or a directory with all that is in it, below the root."""
        path = self.root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    def get(self, name: str) -> bytes:
        """Return the content of a file below the root, read from the disk."""
        return (self.root / name).read_bytes()

    def names(self) -> list[str]:
        """Return the relative paths of all files below the root, sorted."""
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())
