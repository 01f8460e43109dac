"""`ecpds sftp-stdio`: what sftp-server is; and OpenSSH's own regression scripts at it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ecpds.cli.main import main
from tests.protocol import openssh_regress

pytestmark = [pytest.mark.peer, pytest.mark.timeout(200)]

NO_LINKS = "the tree has no links"
NO_MODES = "files of the tree have no permission bits of their own"
BACKSLASH = "a backslash in a name is a separator"
ONE_DISK = "removes on the server what the same session has fetched: takes both disks for one"

# Left out: sftp-chroot and sftp-uri, which try sshd's own ChrootDirectory and internal-sftp.
EXPECTED: Mapping[str, Mapping[str, Sequence[str]]] = {
    "sftp": {},
    "sftp-badcmds": {},
    "sftp-batch": {ONE_DISK: ("good commands failed",)},
    "sftp-cmds": {
        NO_LINKS: (
            "missing file after ln",
            "created file is not equal after ln",
            "missing file after ln -s",
        )
    },
    "sftp-glob": {
        BACKSLASH: tuple(
            text
            for name, found in (
                ("slash", "g-sl\\ash"),
                ("slash at EOL", "g-slash\\"),
                ("slash+quote", 'g-qs\\"'),
            )
            for how in ("escaped", "quoted")
            for text in (f"{how} {name} failed", f"{found} missing from {how} {name} results")
        )
    },
    "sftp-perm": {
        NO_MODES: tuple(
            f"postcondition check failed: setstat {how}"
            for how in ("no-readonly", "no white/blacklists", "whitelisted")
        ),
        NO_LINKS: tuple(
            what.format(link=link)
            for link in ("symlink", "hardlink")
            for what in (
                "plain {link} failed",  # of the test of -R
                "plain {link} failed",  # of the test of -p and -P
                "whitelisted {link} failed",
                "postcondition check failed: {link} no-readonly",
                "postcondition check failed: {link} no white/blacklists",
                "postcondition check failed: {link} whitelisted",
            )
        ),
    },
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_a_script_of_openssh_passes(name: str, tmp_path: Path) -> None:
    """What fails is what is listed with its reason, no more and no less."""
    async with openssh_regress.running(tmp_path) as rig:
        failed = await rig.run(name)
    listed = [one for found in EXPECTED[name].values() for one in found]
    assert sorted(failed) == sorted(listed)


async def _first_answer(rig: openssh_regress.Rig, hello: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(rig.door)
    writer.write(hello + b"\n")
    async with asyncio.timeout(10):
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
    return answer


async def test_who_is_refused_is_told_why(tmp_path: Path) -> None:
    """The checks of a login are made, and what is no hello is none."""
    async with openssh_regress.running(tmp_path) as rig:
        assert rig.door.stat().st_mode & 0o777 == 0o600
        unknown = json.dumps({"user": "mallory", "peer": "192.0.2.9"}).encode()
        assert await _first_answer(rig, unknown) == b"Login failed\n"
        assert b"JSON" in await _first_answer(rig, b"SSH-2.0-OpenSSH_9.2")
        other = json.dumps({"user": "alice", "deny": ["format"]}).encode()
        assert await _first_answer(rig, other) == b"there is no SFTP request 'format'\n"
        assert b"unknown key" in await _first_answer(rig, b'{"user": "alice", "root": true}')
        assert await _first_answer(rig, b"x" * 5000) == b"that is no first line\n"
        assert await _first_answer(rig, b'{"user": "alice"}') == b"\n"
    assert not rig.door.exists()


def test_without_a_socket_there_is_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither one of the settings nor one that nobody listens on."""
    config = tmp_path / "ecpds.toml"
    config.touch()
    assert main(["sftp-stdio", "--config", str(config)]) == 2
    assert main(["sftp-stdio", "--socket", str(tmp_path / "none")]) == 8
    errors = capsys.readouterr().err
    assert "portal.sftp.local_socket is not set" in errors
    assert "No such file" in errors
