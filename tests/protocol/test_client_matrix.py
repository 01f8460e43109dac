"""Each cell of docs/clients.md with the program itself, and Ex 21, 22 and 24 with such programs."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ecpds.base.settings import S3Settings
from ecpds.model.account import Permission, Service
from ecpds.model.errors import NotFound
from ecpds.portals.s3.portal import S3Portal
from tests.clientmatrix import CLIENTS, NOT_HERE, OPERATIONS, PAGE, Client, page
from tests.peers.clients import Outcome, run
from tests.portalsite import S3_SECRET, Site, site

pytestmark = pytest.mark.peer
CONTENT = os.urandom(20_000)
PROGRAMS = sorted({one.needs or one.command[0] for one in CLIENTS if one.command} - {"python"})


@dataclass(frozen=True, slots=True)
class Desk:
    """A portal and what every client needs to reach it."""

    site: Site
    folder: Path
    facts: Mapping[str, str]
    env: Mapping[str, str]

    async def run(self, *words: str, data: str = "") -> Outcome:
        """Run a program."""
        filled = [self.filled(word) for word in words]
        return await run(
            filled[0], *filled[1:], data=self.filled(data).encode(), env=self.env, cwd=self.folder
        )

    def filled(self, word: str, **more: str) -> str:
        """Return a word of the table with what it names."""
        for name, value in {**self.facts, **more}.items():
            word = word.replace("{" + name + "}", value)
        return word


def environment(s: Site, folder: Path, s3: str, hidden: str) -> dict[str, str]:
    """Return settings of rclone, the aws cli and boto3; write those of s3cmd and cadaver."""
    (folder / ".netrc").write_text("machine 127.0.0.1 login alice password secret\n")
    (folder / ".netrc").chmod(0o600)
    host = s3.removeprefix("http://")
    (folder / "s3cfg").write_text(
        f"[default]\naccess_key=KEYalice\nsecret_key={S3_SECRET}\nhost_base={host}\n"
        f"host_bucket={host}\nuse_https=False\nbucket_location=us-east-1\n"
    )
    found = {
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": "KEYalice",
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONWARNINGS": "ignore",  # s3cmd 2.4 still imports imp
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_RETRIES": "1",
    }
    login = {"user": "alice", "pass": hidden}
    there = {"host": "127.0.0.1", **login}
    remotes = {
        "ftps": {"type": "ftp", "port": str(s.ftp_port), "explicit_tls": "true",
                 "no_check_certificate": "true", **there},
        "sftp": {"type": "sftp", "port": str(s.sftp_port), "shell_type": "none", **there},
        "webdav": {"type": "webdav", "url": f"{s.url}/webdav/", "vendor": "other", **login},
        "https": {"type": "http",
                  "url": s.url.replace("//", "//alice:secret@") + "/ecpds/file/"},
        "s3": {"type": "s3", "provider": "Other", "endpoint": s3,
               "access_key_id": "KEYalice", "secret_access_key": S3_SECRET},
    }  # fmt: skip
    for remote, options in remotes.items():
        for name, value in options.items():
            found[f"RCLONE_CONFIG_HUB{remote.upper()}_{name.upper()}"] = value
    return found


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    """Run a portal with all doors; alice has a key pair and may do everything."""
    async with site(folder / "node") as s:
        core = s.node.core
        settings = S3Settings(listen="127.0.0.1:0", tls=False)
        portal = S3Portal(s.node.gate, settings, None, core.threads, core.clock)
        [(_, port)] = await portal.start()
        try:
            await s.s3_key("alice")
            s3 = f"http://127.0.0.1:{port}"
            hidden = (await run("rclone", "obscure", "secret")).ok().text.strip()
            said = await run(
                "psftp", "-batch", "-P", str(s.sftp_port), "-pw", "secret", "alice@127.0.0.1"
            )
            text = (said.out + said.err).decode()
            key = next(word.rstrip(".") for word in text.split() if word.startswith("SHA256:"))
            facts = {"ftp": str(s.ftp_port), "sftp": str(s.sftp_port), "url": s.url, "s3": s3,
                     "host_key": key}  # fmt: skip
            home = folder / "home"
            home.mkdir()
            yield Desk(s, home, facts, environment(s, home, s3, hidden))
        finally:
            await portal.close()


# --- the table


def _words(client: Client, operation: str, d: Desk) -> tuple[list[str], str]:
    """Return command and standard input of one cell."""
    act = client.acts[operation]
    door = client.door.lower()
    move = "mv" if client.name.startswith("PuTTY") else "rename"
    parts = (act,) if isinstance(act, str) else act
    parts = tuple(d.filled(one, n=client.key, door=door, mv=move) for one in parts)
    words: list[str] = []
    for word in client.command:
        if word == "{act}":
            words += parts
        else:
            words.append(d.filled(word, act=parts[0]))
    return words, client.script.replace("{act}", parts[0])


async def _is_there(d: Desk, client: Client, name: str) -> bool:
    mark = "-" if client.door == "WebDAV" and client.name != "rclone" else "/"
    async with await d.site.node.login("alice") as session:
        try:
            await session.stat(f"/NORTH/{client.key}{mark}{name}")
        except NotFound:
            return False
    return True


async def _try(d: Desk, client: Client, operation: str) -> str:
    """Run one cell; return what is wrong, empty for nothing."""
    folder = d.folder / client.key
    words, script = _words(client, operation, d)
    got = await run(words[0], *words[1:], data=script.encode(), env=d.env, cwd=folder)
    told = f"exit {got.code}: {(got.out + got.err).decode(errors='replace')[-400:]}"
    if operation == "get":
        back = folder / "back"
        return "" if back.is_file() and back.read_bytes() == CONTENT else told
    if operation == "list":
        return "" if "f" in got.text.replace("/", " ").replace("-", " ").split() or (
            "f</" in got.text or "/f'" in got.text
        ) else told  # fmt: skip
    name = {"put": "f", "rename": "g", "mkdir": "d", "rmdir": "d", "delete": "g"}[operation]
    wanted = operation in ("put", "rename", "mkdir")
    return "" if await _is_there(d, client, name) is wanted else told


async def _client(d: Desk, client: Client) -> dict[str, str]:
    """Try the operations of a client one after the other; return those that failed."""
    folder = d.folder / client.key
    folder.mkdir()
    for name in (".netrc", "s3cfg"):
        shutil.copy(d.folder / name, folder / name)
    (folder / "up").write_bytes(CONTENT)
    if client.acts["put"] == NOT_HERE:
        async with (
            await d.site.node.login("alice") as session,
            await session.open_write(f"/NORTH/{client.key}/f") as writer,
        ):
            writer.write(CONTENT)
            await writer.commit()
    wrong = {}
    for operation in OPERATIONS:
        act = client.acts[operation]
        if not (isinstance(act, str) and act.startswith("(")):
            told = await _try(d, client, operation)
            if told:
                wrong[f"{client.name} {client.door} {operation}"] = told
    return wrong


@pytest.mark.needs(*PROGRAMS)
async def test_every_cell(tmp_path: Path) -> None:
    """All clients side by side, each in a directory of its own."""
    turns = asyncio.Semaphore(4)
    async with desk(tmp_path) as d:

        async def one(client: Client) -> dict[str, str]:
            async with turns:
                return await _client(d, client)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(client)) for client in CLIENTS if client.command]
    wrong = {name: told for task in tasks for name, told in task.result().items()}
    assert not wrong, "\n".join(f"{name}: {told}" for name, told in wrong.items())


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text("utf-8") == page(), "run python -m tests.clientmatrix"
    root = PAGE.parents[1]
    for client in CLIENTS:
        if client.proof:
            file, _, function = client.proof.partition("::")
            assert f"def {function}(" in (root / file).read_text("utf-8")


# --- worked examples with such programs

_CURL = ("curl", "-sS", "--fail", "-u", "alice:secret")
_LFTP = "set ssl:verify-certificate no; set net:max-retries 1; open -u {user} -p {ftp} 127.0.0.1; "
_SSH = ("sshpass", "-p", "secret", "sftp", "-q", "-o", "StrictHostKeyChecking=no", "-o",
        "UserKnownHostsFile=/dev/null", "-o", "BatchMode=no", "-o", "LogLevel=ERROR", "-P",
        "{sftp}", "-b", "-", "alice@127.0.0.1")  # fmt: skip
_AWS = ("aws", "--endpoint-url", "{s3}")


async def _fails(d: Desk, *words: str, text: str = "", data: str = "") -> None:
    got = await d.run(*words, data=data)
    said = (got.out + got.err).decode(errors="replace")
    assert got.code != 0, said
    assert text in said, said


@pytest.mark.needs("lftp", "curl", "sshpass", "aws", "rclone", "psftp")
async def test_example_21_with_programs(tmp_path: Path) -> None:
    """portal.md Ex 21: `get,size,mtime` only; nobody lists, everybody reads what he knows."""
    async with desk(tmp_path) as d:
        async with (
            await d.site.node.login("alice") as session,
            await session.open_write("/NORTH/known") as writer,
        ):
            writer.write(CONTENT)
            await writer.commit()
        some = frozenset({Permission.GET, Permission.SIZE, Permission.MTIME})
        await d.site.node.user("alice", destinations=("NORTH",), operations=some)
        lftp = _LFTP.replace("{user}", "alice,secret")
        await _fails(d, "lftp", "-c", lftp + "cls -1 /NORTH/", text="550")
        await _fails(d, *_SSH, data="ls /DATA/NORTH\n")
        await _fails(d, *_CURL, "{url}/ecpds/data/list/NORTH", text="403")
        depth = ("-X", "PROPFIND", "-H", "Depth: 1")
        await _fails(d, *_CURL, *depth, "{url}/webdav/NORTH/", text="403")
        await _fails(d, *_AWS, "s3", "ls", "s3://NORTH/", text="AccessDenied")
        for words, script in (
            (("lftp", "-c", lftp + "get /NORTH/known -o back"), ""),
            (_SSH, "get /DATA/NORTH/known back\n"),
            ((*_CURL, "-o", "back", "{url}/ecpds/data/file/NORTH/known"), ""),
            ((*_CURL, "-o", "back", "{url}/webdav/NORTH/known"), ""),
            ((*_AWS, "s3api", "get-object", "--bucket", "NORTH", "--key", "known", "back"), ""),
        ):
            (await d.run(*words, data=script)).ok()
            assert (d.folder / "back").read_bytes() == CONTENT
            (d.folder / "back").unlink()


@pytest.mark.needs("curl", "sshpass", "aws", "rclone", "psftp")
async def test_example_22_with_programs(tmp_path: Path) -> None:
    """portal.md Ex 22: written by SFTP, seen at once by S3 and HTTPS, removed by WebDAV."""
    async with desk(tmp_path) as d:
        (d.folder / "up").write_bytes(CONTENT)
        (await d.run(*_SSH, data="put up /DATA/NORTH/a/1\n")).ok()
        words = ("s3api", "list-objects-v2", "--bucket", "NORTH", "--prefix", "a/", "--query")
        line = "Contents[].[Key,Size,ETag]"
        listed = (await d.run(*_AWS, *words, line, "--output", "text")).ok().text.split()
        assert listed[:2] == ["a/1", str(len(CONTENT))]
        head = (await d.run(*_CURL, "-I", "{url}/ecpds/data/file/NORTH/a/1")).ok().text
        assert f"ETag: {listed[2]}" in head
        assert f"Content-Length: {len(CONTENT)}" in head
        remote = "ftp://127.0.0.1:{ftp}/NORTH/a/1"
        size = (await d.run(*_CURL, "--ssl-reqd", "-k", "-I", remote)).ok().text
        assert f"Content-Length: {len(CONTENT)}" in size
        (await d.run(*_CURL, "-X", "DELETE", "{url}/webdav/NORTH/a/1")).ok()
        await _fails(d, *_CURL, "--ssl-reqd", "-k", "-I", remote)
        assert (await d.run("rclone", "lsf", "-R", "--files-only", "hubs3:NORTH")).ok().text == ""


@pytest.mark.needs("curl", "lftp", "aws", "rclone", "psftp")
async def test_example_24_with_programs(tmp_path: Path) -> None:
    """portal.md Ex 24: an open-access user: no credentials, any password, never a write."""
    async with desk(tmp_path) as d:
        (d.folder / "up").write_bytes(CONTENT)
        (await d.run(*_CURL, "-T", "up", "{url}/ecpds/data/file/NORTH/a")).ok()
        await d.site.node.user(
            "pub", destinations=("NORTH",), service=Service.OPEN, password=None,
            operations=frozenset({Permission.DIR, Permission.GET}),
        )  # fmt: skip
        curl = ("curl", "-sS", "--fail")
        plain = ("-H", "Accept: text/plain")
        assert (await d.run(*curl, *plain, "{url}/ecpds/home/pub/")).ok().text == "NORTH/\n"
        assert (await d.run(*curl, "{url}/ecpds/home/pub/NORTH/a")).ok().out == CONTENT
        unsigned = (*_AWS, "--no-sign-request", "s3")
        assert "NORTH/" in (await d.run(*unsigned, "ls", "s3://pub/")).ok().text
        (await d.run(*unsigned, "cp", "s3://pub/NORTH/a", "back")).ok()
        assert (d.folder / "back").read_bytes() == CONTENT
        lftp = _LFTP.replace("{user}", "pub,whatever")
        assert (await d.run("lftp", "-c", lftp + "cls -1 /NORTH/")).ok().text == "/NORTH/a\n"
        await _fails(d, "lftp", "-c", lftp + "put up -o /NORTH/b", text="550")
        await _fails(d, *unsigned, "cp", "up", "s3://pub/NORTH/b", text="AccessDenied")
        mine = (*curl, "-u", "pub:whatever", "-T", "up")
        await _fails(d, *mine, "{url}/ecpds/data/file/NORTH/b", text="403")
        await _fails(d, *mine, "{url}/webdav/NORTH/b", text="403")
