"""Host keys: made at the first start, kept, private, and never half."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest

from ecpds.model.errors import ConfigError
from ecpds.portals.ssh import keys
from tests.protocol.sshrig import permissions, running
from tests.waiting import until


def test_the_quick_keys_are_made_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "ssh"
    made = keys.load(folder)
    assert set(made) == {"ssh_host_ed25519_key", "ssh_host_ecdsa_key"}
    assert permissions(folder) == 0o700
    for name, key in made.items():
        assert permissions(folder / name) == 0o600
        public = asyncssh.read_public_key(str(folder / f"{name}.pub"))
        assert public.public_data == key.public_data
    again = keys.load(folder)
    assert {n: k.public_data for n, k in again.items()} == {
        n: k.public_data for n, k in made.items()
    }
    assert len(list(folder.iterdir())) == 4


def test_the_slow_key_is_loaded_when_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "RSA_BITS", 2048)
    keys.load(tmp_path)
    made = keys.make(tmp_path, keys.SLOW)
    assert keys.load(tmp_path)[keys.SLOW].public_data == made.public_data
    assert permissions(tmp_path / keys.SLOW) == 0o600


def test_a_file_that_is_no_key_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "ssh_host_ed25519_key").write_text("nonsense")
    with pytest.raises(ConfigError, match="ssh_host_ed25519_key"):
        keys.load(tmp_path)


def test_a_key_that_cannot_be_written_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        keys.make(tmp_path, "ssh_host_ed25519_key")
    assert not (tmp_path / "ssh_host_ed25519_key").exists()
    assert list(tmp_path.iterdir()) == []


async def _offered(port: int) -> str:
    key = await asyncssh.get_server_host_key(
        "127.0.0.1", port, config=None, server_host_key_algs=["rsa-sha2-256"]
    )
    assert key is not None
    return key.get_fingerprint()


async def test_the_portal_serves_before_the_slow_key_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "RSA_BITS", 2048)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    make = keys.make

    def slow(folder: Path, name: str) -> asyncssh.SSHKey:
        if name == keys.SLOW:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)
        return make(folder, name)

    monkeypatch.setattr(keys, "make", slow)
    async with running(tmp_path, slow_key=False) as rig:
        async with rig.connect():
            pass
        with pytest.raises(asyncssh.KeyExchangeFailed):
            await _offered(rig.port)
        gate.set()
        await until(lambda: (tmp_path / "ssh" / f"{keys.SLOW}.pub").exists())
        await until(lambda: len(rig.portal._keys) == 3)
        made = asyncssh.read_public_key(str(tmp_path / "ssh" / f"{keys.SLOW}.pub"))
        assert await _offered(rig.port) == made.get_fingerprint()


async def test_closing_does_not_wait_for_the_slow_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "RSA_BITS", 2048)
    async with asyncio.timeout(20), running(tmp_path, slow_key=False):
        pass
