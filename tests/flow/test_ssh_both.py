"""SSH logins that need a key and a password (`portal.sshAuth`; RFC 4252 5.1)."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest

from ecpds.store import history
from tests.peers.clients import run
from tests.portalsite import Site, site

BOTH = {"portal.sshAuth": "both"}


async def _is_welcome(s: Site, **credentials: object) -> bool:
    given = {"username": "alice", "password": None, **credentials}
    given |= {"known_hosts": None, "config": None, "agent_path": None}
    given.setdefault("client_keys", None)
    try:
        async with asyncssh.connect("127.0.0.1", s.sftp_port, **given) as connection:  # noqa: SIM117
            async with connection.start_sftp_client() as client:
                return "NORTH" in [str(name) for name in await client.listdir("/DATA")]
    except asyncssh.PermissionDenied:
        return False


async def test_a_key_and_a_password(tmp_path: Path) -> None:
    key, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    lines = (key.export_public_key().decode().strip(),)
    async with site(tmp_path, user={"ssh_keys": lines, "options": BOTH}) as s:
        assert await _is_welcome(s, client_keys=[key], password="secret")
        assert not await _is_welcome(s, client_keys=[key])
        assert not await _is_welcome(s, password="secret")
        assert not await _is_welcome(s, client_keys=[key], password="wrong")
        assert not await _is_welcome(s, client_keys=[other], password="secret")
        assert (await s.ask("GET", "/ecpds/data/list/NORTH")).status == 200  # other doors: as ever
        async with s.ftp() as ftp:
            assert (await ftp("NOOP"))[0] == 200
        await s.node.gate.close()
        told = await s.node.store.read(history.events, limit=100, kind="DEA")
        reasons = {str(event["message"]) for _, event in told if "message" in event}
        assert not reasons or any("Key and password needed" in one for one in reasons), reasons


async def test_a_key_of_one_user_is_none_of_another(tmp_path: Path) -> None:
    """The first half holds for the user who proved it."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    line = key.export_public_key().decode().strip()
    async with site(tmp_path, user={"ssh_keys": (line,)}) as s:
        await s.node.user("bob", destinations=("NORTH",), options=BOTH)
        assert not await _is_welcome(s, username="bob", client_keys=[key], password="secret")
        assert await _is_welcome(s, client_keys=[key])


@pytest.mark.peer
@pytest.mark.needs("sshpass", "sftp")
async def test_openssh_goes_on_after_the_key(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    lines = (key.export_public_key().decode().strip(),)
    words = ("sftp", "-i", tmp_path / "key", "-o", "StrictHostKeyChecking=no", "-o",
             "UserKnownHostsFile=/dev/null", "-o", "BatchMode=no", "-o", "LogLevel=VERBOSE",
             "-o", "IdentitiesOnly=yes")  # fmt: skip
    async with site(tmp_path, user={"ssh_keys": lines, "options": BOTH}) as s:
        port = ("-P", str(s.sftp_port), "-b", "-", "alice@127.0.0.1")
        got = await run("sshpass", "-p", "secret", *words, *port, data=b"ls /DATA\n")
        assert "/DATA/NORTH" in got.ok().text
        assert b"partial success" in got.err
        got = await run("sshpass", "-p", "wrong", *words, *port, data=b"ls /DATA\n")
        assert got.code != 0
