"""OpenSSH's sftp regression scripts at a portal.

The scripts use the same paths on both sides and look at the result on the disk.  So their folder is
a directory of the portal too: before each sftp command what changed on the disk is put into the
tree, after it what changed in the tree is put on the disk.  Between the two is `ecpds sftp-stdio`
and the node with all that belongs to it.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ecpds.base.settings import SftpSettings
from ecpds.portals.ssh.server import SshPortal
from ecpds.vfs.contract import Session
from tests.node import small_node
from tests.peers.programs import peers_folder

ROOT = Path(__file__).parents[2]
PATIENCE = 180.0  # seconds; a script takes a few, of a machine that has time

_SERVER = """\
import socket, sys
from ecpds.cli.main import main
def ask(word):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect({mirror!r})
        sock.sendall(word)
        assert sock.recv(1)
ask(b"<")
code = main(["sftp-stdio", "--socket", {door!r}, "--user", "alice", *sys.argv[1:]])
ask(b">")
sys.exit(code)
"""

# What test-exec.sh is to the scripts; that one makes keys and starts sshd first.
_FRAME = """\
OBJ={obj}; DATA=$OBJ/data; DATANAME=data; COPY=$OBJ/copy; SFTP=sftp; SFTPSERVER={server}
TEST_SHELL=sh; SRC={scripts}; EXEEXT=
verbose() {{ :; }}
fail() {{ printf 'FAIL: %s\\n' "$*"; }}
fatal() {{ fail "$*"; exit 1; }}
config_defined() {{ return 1; }}
. {scripts}/{name}.sh
echo END
"""


@dataclass
class Mirror:
    """One folder of the disk and the same one of a portal."""

    session: Session
    folder: Path
    disk: dict[str, tuple[int, int]] = field(default_factory=dict)  # path: time, size
    tree: dict[str, str] = field(default_factory=dict)  # path: tag

    async def into_tree(self) -> None:
        """Put what changed on the disk into the tree."""
        there = {str(path): path for path in sorted(self.folder.rglob("*")) if _fits(path)}
        for gone in sorted(self.tree.keys() - there.keys(), reverse=True):
            await self._remove(gone)
        for name, path in there.items():
            state = path.stat()
            if path.is_dir():
                if name not in self.tree:
                    await self.session.mkdir(name)
                    self.tree[name] = ""
            elif self.disk.get(name) != (state.st_mtime_ns, state.st_size):
                content = path.read_bytes()
                async with await self.session.open_write(name) as writer:
                    writer.write(content, 0)
                    stored = await writer.commit(size=len(content))
                self.tree[name] = stored.etag
                self._note(path)

    async def _remove(self, name: str) -> None:
        if self.tree.pop(name):
            await self.session.delete(name)
        else:
            await self.session.rmdir(name)

    async def onto_disk(self) -> None:
        """Put what changed in the tree on the disk."""
        found = dict([one async for one in self._walk(str(self.folder))])
        for gone in sorted(self.tree.keys() - found.keys(), reverse=True):
            path = Path(gone)
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        for name, tag in found.items():
            path = Path(name)
            if not tag:
                path.mkdir(exist_ok=True)
            elif self.tree.get(name) != tag:
                async with await self.session.open_read(name) as reader:
                    path.write_bytes(reader.read(0, reader.size))
                self._note(path)
        self.tree = found

    async def _walk(self, name: str) -> AsyncIterator[tuple[str, str]]:
        async for node in self.session.list(name):
            yield node.path, node.etag or ""
            if node.kind == "directory":
                async for one in self._walk(node.path):
                    yield one

    def _note(self, path: Path) -> None:
        state = path.stat()
        self.disk[str(path)] = state.st_mtime_ns, state.st_size

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what one line of the server's wrapper asks for."""
        act = self.into_tree if await reader.read(1) == b"<" else self.onto_disk
        await act()
        writer.write(b".")
        await writer.drain()
        writer.close()


def _fits(path: Path) -> bool:
    """Tell whether the portal has such a name; a link is not followed."""
    return "\\" not in str(path) and not path.is_symlink()


@dataclass
class Rig:
    """A portal that runs the scripts."""

    folder: Path
    door: Path

    async def run(self, name: str) -> list[str]:
        """Run a script; return the failures that it tells."""
        here = self.folder
        scripts = peers_folder() / "usr/lib/openssh/regress"
        frame = _FRAME.format(obj=here / "o", server=here / "server", scripts=scripts, name=name)
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", frame, cwd=self.folder, env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            out, errors = await process.communicate()
        lines = out.decode(errors="replace").splitlines()
        assert lines[-1:] == ["END"], errors.decode(errors="replace")
        return [line.removeprefix("FAIL: ") for line in lines if line.startswith("FAIL: ")]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Rig]:
    """Run a node whose tree has the folder `o` below `folder`, with the scripts' data in it."""
    here = folder / "o"
    here.mkdir()
    (here / "data").write_bytes(os.urandom(6001))
    door, mirror_path, server = folder / "s", folder / "m", folder / "server"
    program = _SERVER.format(mirror=str(mirror_path), door=str(door))
    words = " ".join(map(shlex.quote, (sys.executable, "-S", "-c", program)))
    server.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {words} "$@"\n')
    server.chmod(0o755)
    async with small_node(folder / "data") as node:
        await node.destination(here.parts[1])
        await node.user("alice", destinations=(here.parts[1],))
        core = node.core
        settings = SftpSettings(listen="", local_socket=str(door))
        portal = SshPortal(node.gate, settings, folder / "k", core.threads, core.clock, "m1")
        await portal.start()
        async with await node.login("alice") as session:
            for parent in reversed([here, *here.parents][:-2]):
                await session.mkdir(str(parent))
            mirror = Mirror(session, here)
            async with await asyncio.start_unix_server(mirror.serve, mirror_path):
                try:
                    yield Rig(folder, door)
                finally:
                    await portal.close()
