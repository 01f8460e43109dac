"""The SFTP clients that people use: OpenSSH's sftp and scp, lftp, rclone, asyncssh."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import asyncssh
import pytest

from tests.peers import clients
from tests.peers.clients import Outcome
from tests.portalsite import site
from tests.protocol.sshrig import Rig, running
from tests.waiting import until

MIB = 1 << 20
NAMES = ["plain", "with space", 'a "quoted" b', "é ü 漢字", ".hidden", "[a] {b}", "50% #1", "+&;'"]


def _tree(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder`."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _sample(folder: Path) -> dict[str, bytes]:
    """Make files with odd names and sizes; return them."""
    (folder / "deep" / "er").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(os.urandom(1000 * number))
    (folder / "deep" / "er" / "one").write_bytes(b"1")
    (folder / "big").write_bytes(os.urandom(3 * MIB + 17))
    return _tree(folder)


def _quoted(name: str) -> str:
    """Return a name as sftp's batch language wants it."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- OpenSSH


@pytest.mark.needs("sftp")
async def test_openssh_sftp(tmp_path: Path) -> None:
    local = tmp_path / "local"
    sent = _sample(local)
    async with running(tmp_path) as rig:
        (await clients.sftp(rig.peer, f"put -pr {local} /NORTH/up")).ok()
        assert _tree(rig.north / "up") == sent
        assert rig.gate.source_times
        (await clients.sftp(rig.peer, f"get -pr /NORTH/up {tmp_path}/down")).ok()
        assert _tree(tmp_path / "down") == sent
        (tmp_path / "part").write_bytes(sent["big"][: 2 * MIB + 5])
        session = await clients.sftp(
            rig.peer,
            "cd NORTH/up",
            "ls -la",
            f"reget big {tmp_path}/part",
            "mkdir new",
            "rename big new/big",
            "cp new/big new/copy",
            "chmod 600 new/copy",
            "ls -l new/copy",
            "rm new/big",
            "-rmdir new",
            "-ln -s new/copy link",
            "-get absent",
            *(f"rm {_quoted(name)}" for name in ("with space", 'a "quoted" b', "é ü 漢字")),
            "pwd",
        )
        session.ok()
        assert (tmp_path / "part").read_bytes() == sent["big"]
        assert "Remote working directory: /NORTH/up" in session.text
        assert "-rw-r--r--" in session.text
        assert b"remote rmdir" in session.err
        assert (rig.north / "up/new/copy").read_bytes() == sent["big"]
        assert not (rig.north / "up/with space").exists()
    assert rig.gate.sessions == []


@pytest.mark.needs("sftp")
async def test_openssh_sftp_many_files(tmp_path: Path) -> None:
    """More than one answer to a listing, and a session that opens and closes all the time."""
    local = tmp_path / "local"
    local.mkdir()
    for number in range(300):
        (local / f"product_{number:04}_{'x' * 100}.grib2").write_bytes(os.urandom(number))
    async with running(tmp_path) as rig:
        (await clients.sftp(rig.peer, f"put -r {local} /NORTH/up")).ok()
        assert _tree(rig.north / "up") == _tree(local)
        (await clients.sftp(rig.peer, f"get -r /NORTH/up {tmp_path}/down")).ok()
        assert _tree(tmp_path / "down") == _tree(local)
        listed = (await clients.sftp(rig.peer, "ls -1 /NORTH/up")).ok()
        assert listed.text.count(".grib2") == 300


@pytest.mark.needs("sftp", "sshpass")
async def test_openssh_sftp_by_password(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        options = [*clients.ssh_by_password(rig.peer), "-b", "-", "127.0.0.1"]
        for password, code in (("secret", 0), ("wrong", 255)):
            outcome = await clients.run(
                "sshpass", "-p", password, "sftp", "-oBatchMode=no", *options, data=b"pwd\n"
            )
            assert outcome.code == code, outcome


@pytest.mark.needs("sftp")
async def test_an_interrupted_openssh_upload_shows_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.gate.max_file_size = 64 * MIB
        (tmp_path / "big").write_bytes(bytes(40 * MIB))
        options = [*clients.ssh_options(rig.peer), "-l", "20000"]  # kilobits a second
        process = await asyncio.create_subprocess_exec(
            "sftp",
            *options,
            "-b",
            "-",
            "127.0.0.1",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdin is not None
        process.stdin.write(f"put {tmp_path}/big /NORTH/big\n".encode())
        process.stdin.close()
        spool = rig.gate.spool
        await until(lambda: any(path.stat().st_size for path in spool.iterdir()))
        process.kill()
        await process.wait()
        await until(lambda: not rig.gate.sessions)
        assert list(rig.north.iterdir()) == []
        assert len(rig.gate.parked) == 1


@pytest.mark.needs("sftp")
async def test_a_quota_is_told_to_openssh(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.gate.quota = 1000
        (tmp_path / "big").write_bytes(bytes(2000))
        outcome = await clients.sftp(rig.peer, f"put {tmp_path}/big /NORTH/big")
        assert outcome.code == 1
        assert b"quota" in outcome.err.lower() or b"Failure" in outcome.err
        assert list(rig.north.iterdir()) == []


async def _scp(rig: Rig, *words: str | Path) -> Outcome:
    return await clients.run("scp", *clients.ssh_options(rig.peer), *words)


@pytest.mark.needs("scp")
@pytest.mark.parametrize("mode", ["-s", "-O"])
async def test_openssh_scp_in_both_protocols(tmp_path: Path, mode: str) -> None:
    local = tmp_path / "local"
    sent = _sample(local)
    os.utime(local / "big", (1_900_000_000, 1_900_000_000))
    host = "127.0.0.1"
    async with running(tmp_path) as rig:
        (await _scp(rig, mode, "-p", local / "big", f"{host}:/NORTH/big")).ok()
        assert (rig.north / "big").read_bytes() == sent["big"]
        assert rig.gate.source_times["/NORTH/big"].timestamp() == 1_900_000_000
        (await _scp(rig, mode, f"{host}:NORTH/big", tmp_path / "back")).ok()
        assert (tmp_path / "back").read_bytes() == sent["big"]
        (await _scp(rig, mode, "-r", local, f"{host}:/NORTH/up")).ok()
        assert _tree(rig.north / "up") == sent
        (await _scp(rig, mode, "-rp", f"{host}:/NORTH/up", tmp_path / "down")).ok()
        assert _tree(tmp_path / "down") == sent
        (tmp_path / "many").mkdir()
        (await _scp(rig, mode, f"{host}:/NORTH/up/*i*", tmp_path / "many")).ok()
        assert {"plain", "with space", "big"} <= set(os.listdir(tmp_path / "many"))
        assert "50% #1" not in os.listdir(tmp_path / "many")
        several = [local / "plain", local / "big"]
        (await _scp(rig, mode, *several, f"{host}:/NORTH/up/deep")).ok()
        assert (rig.north / "up/deep/big").read_bytes() == sent["big"]


@pytest.mark.needs("scp")
@pytest.mark.parametrize("mode", ["-s", "-O"])
async def test_openssh_scp_failures_are_failures(tmp_path: Path, mode: str) -> None:
    host = "127.0.0.1"
    (tmp_path / "f").write_bytes(bytes(2000))
    async with running(tmp_path) as rig:
        (rig.north / "d").mkdir()
        assert (await _scp(rig, mode, f"{host}:/NORTH/no", tmp_path / "x")).code == 1
        assert (await _scp(rig, mode, f"{host}:/NORTH/*no", tmp_path / "x")).code == 1
        assert (await _scp(rig, mode, f"{host}:/NORTH/d", tmp_path / "x")).code == 1
        assert (await _scp(rig, mode, tmp_path / "f", f"{host}:/NOWHERE/f")).code == 1
        rig.gate.quota = 1000
        outcome = await _scp(rig, mode, tmp_path / "f", f"{host}:/NORTH/f")
        assert outcome.code == 1
        assert not (rig.north / "f").exists()
    assert rig.gate.uploads == []


# --- lftp


async def _lftp(rig: Rig, script: str, cwd: Path) -> str:
    program = " ".join(["ssh", "-a", "-x", *clients.ssh_options(rig.peer)])
    settings = (
        f'set sftp:connect-program "{program}"; set cmd:fail-exit yes; set net:max-retries 1;'
        f"set net:timeout 20; open -u alice,secret sftp://127.0.0.1:{rig.port};"
    )
    home = {"LFTP_HOME": "/nonexistent", "HOME": "/nonexistent"}
    outcome = await clients.run("lftp", "--norc", "-c", settings + script, cwd=cwd, env=home)
    return outcome.ok().text


@pytest.mark.needs("lftp", "ssh")
async def test_lftp(tmp_path: Path) -> None:
    local = tmp_path / "local"
    (tmp_path / "work").mkdir()
    sent = _sample(local)
    async with running(tmp_path) as rig:
        await _lftp(rig, f"mirror -R -P 3 {local} NORTH/up; mirror -P 3 NORTH/up down", tmp_path)
        assert _tree(rig.north / "up") == sent
        assert _tree(tmp_path / "down") == sent
        listing = await _lftp(rig, "cd NORTH/up; cls -1 -a; pwd", tmp_path)
        assert set(NAMES) <= set(listing.split("\n"))
        (tmp_path / "part").write_bytes(sent["big"][: 2 * MIB + 7])
        await _lftp(rig, "get -c NORTH/up/big -o part", tmp_path)
        assert (tmp_path / "part").read_bytes() == sent["big"]
        await _lftp(rig, "pget -n 3 NORTH/up/big -o segments", tmp_path)
        assert (tmp_path / "segments").read_bytes() == sent["big"]
        await _lftp(
            rig,
            f"cd NORTH; mkdir -p x/y; put {local}/big -o x/y/b; mv x/y/b x/c; rm x/c;"
            "rmdir x/y; rm -r up; rmdir x",
            tmp_path,
        )
        assert list(rig.north.iterdir()) == []


# --- rclone


async def _rclone(rig: Rig, *words: str | Path, cwd: Path) -> Outcome:
    settings = {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_HUB_TYPE": "sftp",
        "RCLONE_CONFIG_HUB_HOST": "127.0.0.1",
        "RCLONE_CONFIG_HUB_PORT": str(rig.port),
        "RCLONE_CONFIG_HUB_USER": "alice",
        "RCLONE_CONFIG_HUB_KEY_FILE": str(rig.key),
        "RCLONE_CONFIG_HUB_KNOWN_HOSTS_FILE": str(rig.known_hosts),
        "RCLONE_CONFIG_HUB_SHELL_TYPE": "none",
        "RCLONE_RETRIES": "1",
        "HOME": str(cwd),
    }
    return await clients.run("rclone", *words, cwd=cwd, env=settings)


@pytest.mark.needs("rclone")
async def test_rclone(tmp_path: Path) -> None:
    local = tmp_path / "local"
    sent = _sample(local)
    async with running(tmp_path) as rig:
        (await _rclone(rig, "copy", local, "hub:NORTH/up", cwd=tmp_path)).ok()
        assert _tree(rig.north / "up") == sent
        (await _rclone(rig, "copy", "hub:NORTH/up", "down", cwd=tmp_path)).ok()
        assert _tree(tmp_path / "down") == sent
        (await _rclone(rig, "check", "--download", local, "hub:NORTH/up", cwd=tmp_path)).ok()
        listed = (await _rclone(rig, "lsf", "hub:NORTH/up", cwd=tmp_path)).ok()
        assert set(NAMES) | {"big", "deep/"} == set(listed.text.split("\n")) - {""}
        for words in (
            ("moveto", "hub:NORTH/up/big", "hub:NORTH/up/deep/huge"),
            ("mkdir", "hub:NORTH/fresh"),
            ("deletefile", "hub:NORTH/up/plain"),
        ):
            (await _rclone(rig, *words, cwd=tmp_path)).ok()
        assert (rig.north / "up/deep/huge").read_bytes() == sent["big"]
        assert not (rig.north / "up/plain").exists()
        assert (rig.north / "fresh").is_dir()
        (await _rclone(rig, "purge", "hub:NORTH/up", cwd=tmp_path)).ok()
        assert not (rig.north / "up").exists()


# --- asyncssh


async def test_asyncssh(tmp_path: Path) -> None:
    local = tmp_path / "local"
    sent = _sample(local)
    async with (
        running(tmp_path) as rig,
        rig.connect() as connection,
        connection.start_sftp_client() as client,
    ):
        await client.put(str(local), "/NORTH/up", recurse=True, preserve=True)
        assert _tree(rig.north / "up") == sent
        await client.get("/NORTH/up", str(tmp_path / "down"), recurse=True)
        assert _tree(tmp_path / "down") == sent
        assert await client.realpath(".") == "/"
        assert sorted(await client.listdir("/")) == ["NORTH", "SOUTH"]
        assert await client.glob("/NORTH/up/*big*") == ["/NORTH/up/big"]
        await client.copy("/NORTH/up/big", "/NORTH/copy", remote_only=True)
        assert (rig.north / "copy").read_bytes() == sent["big"]
        await client.posix_rename("/NORTH/copy", "/NORTH/up/plain")
        assert (rig.north / "up/plain").read_bytes() == sent["big"]
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await client.stat("/NORTH/no")
        with pytest.raises(asyncssh.SFTPOpUnsupported):
            await client.symlink("/NORTH/up", "/NORTH/link")
        with pytest.raises(asyncssh.SFTPOpUnsupported):
            await client.open("/NORTH/up/big", "r+b")
        async with client.open("/NORTH/exclusive", "xb") as file:
            await file.write(b"1")
        with pytest.raises(asyncssh.SFTPFailure):
            await client.open("/NORTH/exclusive", "xb")
        await client.rmtree("/NORTH/up")
        assert not (rig.north / "up").exists()


async def test_asyncssh_many_at_once(tmp_path: Path) -> None:
    content = {f"/NORTH/{number}": os.urandom(number * 999) for number in range(60)}
    async with running(tmp_path) as rig, rig.connect() as connection:
        async with connection.start_sftp_client() as client:

            async def put(path: str) -> None:
                async with client.open(path, "wb") as file:
                    await file.write(content[path])

            async def get(path: str) -> None:
                async with client.open(path, "rb") as file:
                    assert await file.read() == content[path]

            for act in (put, get):
                async with asyncio.TaskGroup() as group:
                    for path in content:
                        group.create_task(act(path))
        assert len(rig.gate.downloads) == 60
        assert {found.error for found in rig.gate.downloads} == {None}


# --- restic


@pytest.mark.needs("restic", "sshpass")
async def test_restic_backs_up_and_restores(tmp_path: Path) -> None:
    """A repository with locks, packs and pruning, in the real tree."""
    sent = _sample(tmp_path / "up")
    async with site(tmp_path) as hub:
        command = (
            "sshpass -p secret ssh -q -a -x -o StrictHostKeyChecking=no -o "
            f"UserKnownHostsFile=/dev/null -p {hub.sftp_port} alice@127.0.0.1 -s sftp"
        )
        known = {
            "RESTIC_PASSWORD": "x",
            "RESTIC_REPOSITORY": "sftp:alice@127.0.0.1:/NORTH/repo",
            "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
            "HOME": str(tmp_path),
        }

        async def restic(*words: str) -> None:
            how = ("-q", "-o", f"sftp.command={command}")
            (await clients.run("restic", *how, *words, env=known, cwd=tmp_path)).ok()

        await restic("init")
        await restic("backup", "up")
        (tmp_path / "up" / "plain").write_bytes(b"changed")
        await restic("backup", "up")
        await restic("forget", "--keep-last", "1", "--prune")
        await restic("check", "--read-data")
        await restic("restore", "latest", "--target", "down")
        assert _tree(tmp_path / "down" / "up") == sent | {"plain": b"changed"}
