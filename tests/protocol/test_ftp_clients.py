"""The clients that people use: lftp, curl, ncftp, rclone and Python's ftplib."""

from __future__ import annotations

import asyncio
import ftplib
import io
import os
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.programs import find
from tests.protocol.ftprig import Rig, running, until

MIB = 1024 * 1024
NAMES = ["plain", "with space", 'a "quoted" b', "é ü 漢字", ".hidden", "[a] {b}", "50% #1", "+&;'"]
TLS = ["off", "required", "implicit"]


async def _run(*words: object, cwd: Path, code: int = 0, **env: str) -> str:
    process = await asyncio.create_subprocess_exec(
        find(str(words[0])),
        *map(str, words[1:]),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"HOME": str(cwd), "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"], **env},
    )
    try:
        async with asyncio.timeout(30):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        output, _ = await process.communicate()
        pytest.fail(f"{words[0]} hangs: {output.decode()}")
    assert process.returncode == code, output.decode()
    return output.decode()


def _url(rig: Rig, tls: str) -> str:
    return f"{'ftps' if tls == 'implicit' else 'ftp'}://127.0.0.1:{rig.port}"


# ---- lftp


async def _lftp(rig: Rig, tls: str, script: str, cwd: Path, code: int = 0) -> str:
    settings = (
        f"set ssl:ca-file {rig.tls.authority.ca}; set cmd:fail-exit yes; set net:max-retries 1;"
        f"set ftp:ssl-force {'no' if tls == 'off' else 'yes'}; set ftp:ssl-protect-data yes;"
        f"set ftp:ssl-allow {'no' if tls == 'off' else 'yes'}; set net:timeout 10;"
    )
    opening = f"open -u alice,secret {_url(rig, tls)};"
    return await _run("lftp", "--norc", "-c", settings + opening + script, cwd=cwd, code=code)


@pytest.mark.needs("lftp")
@pytest.mark.parametrize("tls", TLS)
async def test_lftp(tmp_path: Path, tls: str) -> None:
    local = tmp_path / "local"
    (local / "up").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (local / "up" / name).write_bytes(os.urandom(1000 * number))
    (local / "up" / "big").write_bytes(os.urandom(3 * MIB))
    async with running(tmp_path, tls=tls) as rig:
        await _lftp(rig, tls, "mirror -R -P 3 up NORTH/up; mirror -P 3 NORTH/up down", local)
        sent = {p.name: p.read_bytes() for p in (local / "up").iterdir()}
        assert {p.name: p.read_bytes() for p in (rig.north / "up").iterdir()} == sent
        assert {p.name: p.read_bytes() for p in (local / "down").iterdir()} == sent
        listing = await _lftp(rig, tls, "cd NORTH/up; cls -1; du big; pwd", local)
        assert set(NAMES) <= set(listing.split("\n"))
        (local / "part").write_bytes(sent["big"][: 2 * MIB + 7])
        await _lftp(rig, tls, "get -c NORTH/up/big -o part", local)  # resume
        assert (local / "part").read_bytes() == sent["big"]
        await _lftp(
            rig,
            tls,
            "mv NORTH/up/plain NORTH/moved; rm -r NORTH/up; mkdir -p NORTH/a/b; rmdir NORTH/a/b;"
            "chmod 600 NORTH/moved",
            local,
        )
        assert sorted(p.name for p in rig.north.iterdir()) == ["a", "moved"]
        assert (await _lftp(rig, tls, "get NORTH/none", local, code=1)).count("550") == 1


# ---- curl


async def _curl(rig: Rig, tls: str, *words: object, cwd: Path, code: int = 0) -> str:
    secure = [] if tls == "off" else ["--cacert", rig.tls.authority.ca, "--ssl-reqd"]
    login = ["--user", "alice:secret", "--max-time", "20"]
    return await _run("curl", "-sS", *secure, *login, *words, cwd=cwd, code=code)


@pytest.mark.needs("curl")
@pytest.mark.parametrize("tls", TLS)
async def test_curl(tmp_path: Path, tls: str) -> None:
    local = tmp_path / "local"
    local.mkdir()
    content = os.urandom(2 * MIB + 1)
    (local / "f").write_bytes(content)
    async with running(tmp_path, tls=tls) as rig:
        url = _url(rig, tls)
        await _curl(rig, tls, "-T", "f", f"{url}/NORTH/sub/a%20b", "--ftp-create-dirs", cwd=local)
        assert (rig.north / "sub" / "a b").read_bytes() == content
        for option in (["--ftp-method", "nocwd"], ["--disable-epsv"], ["--ftp-method", "multicwd"]):
            await _curl(rig, tls, f"{url}/NORTH/sub/a%20b", "-o", "g", *option, cwd=local)
            assert (local / "g").read_bytes() == content
        (local / "g").write_bytes(content[:1000])
        await _curl(rig, tls, "-C", "-", f"{url}/NORTH/sub/a%20b", "-o", "g", cwd=local)
        assert (local / "g").read_bytes() == content
        await _curl(rig, tls, "-r", "100-199", f"{url}/NORTH/sub/a%20b", "-o", "h", cwd=local)
        assert (local / "h").read_bytes() == content[100:200]
        head = await _curl(rig, tls, "-I", f"{url}/NORTH/sub/a%20b", cwd=local)
        assert f"Content-Length: {len(content)}" in head
        assert "Last-Modified: " in head
        listing = await _curl(rig, tls, f"{url}/NORTH/sub/", cwd=local)
        assert listing.startswith("-rw-r--r--")
        assert listing.endswith(" a b\n")
        assert await _curl(rig, tls, "-l", f"{url}/NORTH/sub/", cwd=local) == "a b\n"
        commands = ["-Q", "-RNFR /NORTH/sub/a b", "-Q", "-RNTO /NORTH/c", "-Q", "-RMD /NORTH/sub"]
        await _curl(rig, tls, "-l", f"{url}/", *commands, cwd=local)
        assert [p.name for p in rig.north.iterdir()] == ["c"]
        await _curl(rig, tls, f"{url}/NORTH/none", cwd=local, code=78)
        await _curl(rig, tls, f"{url}/NORTH/c", "--user", "alice:no", cwd=local, code=67)


@pytest.mark.needs("curl")
async def test_curl_resumes_an_upload(tmp_path: Path) -> None:
    content = os.urandom(MIB)
    (tmp_path / "f").write_bytes(content)
    async with running(tmp_path) as rig:
        async with rig.client() as c:
            data = await c.begin("STOR /NORTH/f")
            await data.send(content[:1000], end=False)
            await data.writer.drain()
            data.reset()
            await c.expect(426)
        [((_, path), parked)] = rig.gate.parked.items()
        offset = parked.stat().st_size
        assert path == "/NORTH/f"
        url = f"{_url(rig, 'off')}/NORTH/f"
        await _curl(rig, "off", "-T", "f", "-C", str(offset), url, cwd=tmp_path)
        assert (rig.north / "f").read_bytes() == content


@pytest.mark.needs("curl")
async def test_curl_in_active_mode(tmp_path: Path) -> None:
    async with running(tmp_path, active=True) as rig:
        (rig.north / "f").write_bytes(b"content")
        url = f"{_url(rig, 'off')}/NORTH/f"
        assert await _curl(rig, "off", "-P", "-", url, cwd=tmp_path) == "content"
        assert await _curl(rig, "off", "-P", "-", "--disable-eprt", url, cwd=tmp_path) == "content"


# ---- ncftp


@pytest.mark.needs("ncftpget")
async def test_ncftp(tmp_path: Path) -> None:
    local = tmp_path / "local"
    (local / "tree" / "deep").mkdir(parents=True)
    (local / "tree" / "a b").write_bytes(b"1" * 100_000)
    (local / "tree" / "deep" / "c").write_bytes(b"2")
    async with running(tmp_path) as rig:
        login = ["-u", "alice", "-p", "secret", "-P", rig.port]
        await _run("ncftpput", *login, "-R", "127.0.0.1", "/NORTH", "tree", cwd=local)
        assert (rig.north / "tree" / "a b").read_bytes() == b"1" * 100_000
        assert (rig.north / "tree" / "deep" / "c").read_bytes() == b"2"
        (local / "back").mkdir()
        await _run("ncftpget", *login, "-R", "127.0.0.1", "back", "/NORTH/tree", cwd=local)
        assert (local / "back" / "tree" / "a b").read_bytes() == b"1" * 100_000
        listing = await _run("ncftpls", *login, "ftp://127.0.0.1/NORTH/tree/", cwd=local)
        assert "deep" in listing


# ---- rclone


@pytest.mark.needs("rclone")
@pytest.mark.parametrize("tls", TLS)
async def test_rclone(tmp_path: Path, tls: str) -> None:
    local = tmp_path / "local"
    (local / "up" / "deep").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (local / "up" / name).write_bytes(os.urandom(1000 * number))
    (local / "up" / "deep" / "big").write_bytes(os.urandom(MIB))
    async with running(tmp_path, tls=tls) as rig:
        hidden = (await _run("rclone", "obscure", "secret", cwd=local)).strip()
        config = local / "rclone.conf"
        config.write_text(
            f"[us]\ntype = ftp\nhost = 127.0.0.1\nport = {rig.port}\nuser = alice\n"
            f"pass = {hidden}\nexplicit_tls = {str(tls == 'required').lower()}\n"
            f"tls = {str(tls == 'implicit').lower()}\nno_check_certificate = true\n"
        )
        ours = ["--config", config, "--retries", "1"]
        await _run("rclone", *ours, "copy", "up", "us:NORTH/up", cwd=local)
        await _run("rclone", *ours, "check", "--download", "up", "us:NORTH/up", cwd=local)
        assert "big" in await _run("rclone", *ours, "lsf", "-R", "us:NORTH", cwd=local)
        await _run("rclone", *ours, "moveto", "us:NORTH/up/plain", "us:NORTH/moved", cwd=local)
        await _run("rclone", *ours, "purge", "us:NORTH/up", cwd=local)
        assert [p.name for p in rig.north.iterdir()] == ["moved"]


# ---- ftplib


def _ftplib(port: int, context: ssl.SSLContext | None) -> None:
    content = os.urandom(MIB)
    client: ftplib.FTP
    if context is None:
        client = ftplib.FTP()
        client.connect("127.0.0.1", port, timeout=10)
    else:
        client = secure = ftplib.FTP_TLS(context=context)
        secure.connect("127.0.0.1", port, timeout=10)
        secure.auth()
        secure.prot_p()
    with client:
        client.login("alice", "secret")
        client.cwd("NORTH")
        for name in NAMES:
            assert client.storbinary(f"STOR {name}", io.BytesIO(content)).startswith("226")
            found = io.BytesIO()
            client.retrbinary(f"RETR {name}", found.write, rest=10)
            assert found.getvalue() == content[10:]
            assert client.size(name) == MIB
        assert sorted(client.nlst()) == sorted(NAMES)
        assert sorted(name for name, _ in client.mlsd()) == sorted(NAMES)
        lines: list[str] = []
        client.retrlines("LIST", lines.append)
        assert len(lines) == len(NAMES)
        assert client.mkd('d "x"') == '/NORTH/d "x"'
        client.rmd('d "x"')
        client.rename(NAMES[0], "other")
        client.delete("other")
        client.sendcmd("TYPE A")
        assert client.storlines("STOR lines", io.BytesIO(b"a\nb\n")).startswith("226")
        with pytest.raises(ftplib.error_perm):
            client.delete("other")


@pytest.mark.parametrize("secure", [False, True])
async def test_ftplib(tmp_path: Path, secure: bool) -> None:
    async with running(tmp_path) as rig:
        context = rig.tls.client() if secure else None
        await asyncio.to_thread(_ftplib, rig.port, context)
        assert rig.portal.counts.failed_transfers == 0


async def test_many_clients_at_once(tmp_path: Path) -> None:
    def work(number: int, port: int) -> Callable[[], None]:
        content = os.urandom(700_000 + number)

        def run() -> None:
            with ftplib.FTP() as client:
                client.connect("127.0.0.1", port, timeout=20)
                client.login("alice", "secret")
                for turn in range(5):
                    client.storbinary(f"STOR /NORTH/{number}-{turn}", io.BytesIO(content))
                    found = io.BytesIO()
                    client.retrbinary(f"RETR /NORTH/{number}-{turn}", found.write)
                    assert found.getvalue() == content

        return run

    async with running(tmp_path) as rig, asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(asyncio.to_thread(work(number, rig.port)))


class _Resuming(ftplib.FTP_TLS):
    """Offers the session of the control connection, as strict servers demand and lftp does."""

    resumed = 0

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int]:
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        assert isinstance(self.sock, ssl.SSLSocket)
        secure = self.context.wrap_socket(
            conn, server_hostname=self.host, session=self.sock.session
        )
        self.resumed += bool(secure.session_reused)
        return secure, size or 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_data_connections_resume_the_control_session(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    async with running(tmp_path) as rig:
        context = rig.tls.client()
        context.minimum_version = context.maximum_version = version

        def work() -> int:
            with _Resuming(context=context) as client:
                client.connect("127.0.0.1", rig.port, timeout=10)
                client.auth()
                client.login("alice", "secret")
                client.prot_p()
                for _ in range(5):
                    client.storbinary("STOR /NORTH/x", io.BytesIO(b"abc"))
                    assert client.nlst("/NORTH") == ["/NORTH/x"]
                return client.resumed

        assert await asyncio.to_thread(work) == 10


async def test_a_new_session_for_data_is_refused_when_asked_for(tmp_path: Path) -> None:
    """Whoever takes the data port of somebody else cannot bring his TLS session along."""
    async with running(tmp_path, session_reuse=True) as rig:
        context = rig.tls.client()

        def work(kind: type[ftplib.FTP_TLS]) -> list[str]:
            with kind(context=context) as client:
                client.connect("127.0.0.1", rig.port, timeout=10)
                client.auth()
                client.login("alice", "secret")
                client.prot_p()
                return client.nlst("/NORTH")

        assert await asyncio.to_thread(work, _Resuming) == []
        with pytest.raises((ftplib.Error, OSError)):
            await asyncio.to_thread(work, ftplib.FTP_TLS)


_VICTIM = """
import ftplib, os, signal, sys, time
client = ftplib.FTP_TLS() if sys.argv[2] == "tls" else ftplib.FTP()
client.connect("127.0.0.1", int(sys.argv[1]))
client.login("alice", "secret")
if sys.argv[2] == "tls":
    client.prot_p()
data, _ = client.ntransfercmd("STOR /NORTH/x")
data.sendall(b"x" * int(sys.argv[3]))
time.sleep(float(sys.argv[4]))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("size", [1000, 5_000_000])
@pytest.mark.parametrize(("kind", "after"), [("clear", 0.1), ("tls", 0)])
async def test_a_killed_client_registers_nothing(
    tmp_path: Path, kind: str, after: float, size: int
) -> None:
    async with running(tmp_path) as rig:
        for _ in range(3):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _VICTIM, str(rig.port), kind, str(size), str(after)
            )
            assert await process.wait() == -9
            await until(lambda: rig.portal.connections == 0)
        assert list(rig.north.iterdir()) == []
        assert set(rig.gate.parked) <= {("alice", "/NORTH/x")}
