"""What we change of asyncssh's transport: each change is still one, and is safe.

A release of asyncssh that renames or restructures what is overridden must fail here, not in a
transfer.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_IGNORE, MSG_KEXINIT
from asyncssh.encryption import GCMEncryption
from asyncssh.packet import SSHPacket

from ecpds.base import ssh
from ecpds.portals.ssh import server, sftp, transport, wire
from ecpds.portals.ssh.transport import PortalChannel, PortalConnection
from ecpds.vfs.contract import Node
from tests.peers import clients
from tests.protocol.diskgate import DiskSession
from tests.protocol.sshrig import Rig, running, text
from tests.waiting import until

MIB = 1 << 20


def _overridden(own: type, base: type) -> list[str]:
    return [
        name
        for name, value in vars(own).items()
        if inspect.isfunction(value) and hasattr(base, name) and name != "__init__"
    ]


@pytest.mark.parametrize(
    ("own", "base", "count"),
    [
        (PortalConnection, asyncssh.SSHServerConnection, 12),
        (PortalChannel, asyncssh.SSHServerChannel, 4),
    ],
)
def test_what_is_overridden_is_there_with_the_same_parameters(
    own: type, base: type, count: int
) -> None:
    names = _overridden(own, base)
    assert len(names) == count, names
    for name in names:
        ours = list(inspect.signature(getattr(own, name)).parameters)
        theirs = list(inspect.signature(getattr(base, name)).parameters)
        assert [word.strip("_") for word in ours] == [word.strip("_") for word in theirs], name


def test_what_is_used_is_there(tmp_path: Path) -> None:
    """The attributes of asyncssh that the fast ways read and write."""
    connection = inspect.getsource(asyncssh.connection.SSHConnection)
    for name in (
        "_inpbuf",
        "_packet",
        "_recv_handler",
        "_recv_pkthdr",
        "_recv_packet",
        "_recv_encryption",
        "_next_recv_encryption",
        "_send_encryption",
        "_recv_seq",
        "_send_seq",
        "_max_recv_pktlen",
        "_auth_complete",
        "_auth_final",
        "_kex_complete",
        "_rekey_bytes_sent",
        "_rekey_bytes",
        "_rekey_seconds",
        "_rekey_time",
        "_session_id",
        "_client_version",
        "_enc_algs",
        "_channels",
        "_transport",
        "_protocol_factory",
    ):
        assert f"self.{name}" in connection, name
    channel = inspect.getsource(asyncssh.channel.SSHChannel)
    for name in (
        "_send_buf",
        "_send_buf_len",
        "_send_window",
        "_send_pktsize",
        "_send_chan",
        "_recv_state",
        "_recv_window",
        "_accept_data",
    ):
        assert f"self.{name}" in channel, name


# --- the cipher


def _pair(kind: str) -> tuple[Any, Any]:
    key, nonce = os.urandom(16 if "128" in kind else 32), os.urandom(12)
    theirs = GCMEncryption.new(kind, key, nonce)
    kept = ssh.kept(GCMEncryption.new(kind, key, nonce))
    assert isinstance(kept, ssh.KeptGcm)
    ours = transport._Inbound(kept)
    return ours, theirs


@pytest.mark.parametrize("kind", ["aes128-gcm", "aes256-gcm"])
def test_the_kept_cipher_says_the_same_as_asyncsshs(kind: str) -> None:
    ours, theirs = _pair(kind)
    for number in range(5):
        header, packet = (32).to_bytes(4, "big"), os.urandom(32)
        assert b"".join(ours.encrypt_packet(number, header, packet)) == b"".join(
            theirs.encrypt_packet(number, header, packet)
        )


@pytest.mark.parametrize("kind", ["aes128-gcm", "aes256-gcm"])
def test_the_kept_cipher_reads_what_asyncssh_says(kind: str) -> None:
    ours, theirs = _pair(kind)
    for number in range(5):
        packet = os.urandom(48)
        header = len(packet).to_bytes(4, "big")
        sealed, mac = theirs.encrypt_packet(number, header, packet)
        first, rest = sealed[:16], sealed[16:]
        assert ours.decrypt_packet(number, first, rest, 4, mac) == packet


def test_a_changed_packet_is_found() -> None:
    ours, theirs = _pair("aes128-gcm")
    sealed, mac = theirs.encrypt_packet(0, (16).to_bytes(4, "big"), os.urandom(16))
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    assert ours.decrypt_packet(0, changed[:16], changed[16:], 4, mac) is None


def test_no_nonce_comes_twice_at_the_turn_of_the_counter() -> None:
    cipher = ssh.KeptGcm(os.urandom(16), b"\x01\x02\x03\x04" + b"\xff" * 8)
    assert [cipher._nonce() for _ in range(3)] == [
        b"\x01\x02\x03\x04" + b"\xff" * 8,
        b"\x01\x02\x03\x04" + b"\x00" * 8,
        b"\x01\x02\x03\x04" + b"\x00" * 7 + b"\x01",
    ]


@pytest.mark.parametrize("count", range(40))
def test_padding_fills_the_last_block(count: int) -> None:
    """The length byte counts as one of the `count` bytes (RFC 5647 section 7.2)."""
    padding = transport._padding(count)
    assert (count + len(padding)) % 16 == 0
    assert 4 <= len(padding) < 20


async def test_a_packet_that_somebody_changed_ends_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        client.connection._transport.write(b"\x00\x00\x00\x20" + b"x" * 48)
        await client.connection.wait_closed()
        await until(lambda: not rig.gate.sessions)
        assert handle


@pytest.mark.parametrize("length", [0, 1, 15, 0x7FFFFFFF])
async def test_a_packet_of_an_impossible_length_ends_the_connection(
    tmp_path: Path, length: int
) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        client.connection._transport.write(length.to_bytes(4, "big") + b"x" * 64)
        await client.connection.wait_closed()
        await until(lambda: not rig.portal.connections)


async def test_an_honest_empty_packet_is_no_crash(tmp_path: Path) -> None:
    """A client with the keys may seal nothing, or too little for a type."""
    for plain in (b"", b"\x04", b"\x04\x5e" + b"\x00" * 4, b"\xff\x5e" + b"\x00" * 30):
        folder = tmp_path / f"plain-{plain.hex()}"
        folder.mkdir()
        async with running(folder) as rig, rig.wire() as client:
            connection = client.connection
            header = len(plain).to_bytes(4, "big")
            sealed, mac = connection._send_encryption.encrypt_packet(0, header, plain)
            connection._transport.write(sealed + mac)
            await connection.wait_closed()
            await until(lambda: not rig.portal.connections)


# --- what is sent


async def test_no_empty_packets_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    process = asyncssh.SSHClientConnection.process_packet

    def noted(self: Any, kind: int, number: int, packet: SSHPacket) -> Any:
        seen.append(kind)
        return process(self, kind, number, packet)

    monkeypatch.setattr(asyncssh.SSHClientConnection, "process_packet", noted)
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/f", b"1")
        assert seen
        assert MSG_IGNORE not in seen


# --- key exchange


async def _cipher(rig: Rig, **options: Any) -> tuple[str, str]:
    async with rig.connect(**options) as connection:
        return (
            connection.get_extra_info("send_cipher"),
            connection.get_extra_info("recv_cipher"),
        )


async def test_ciphers(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        gcm = "aes128-gcm@openssh.com"
        chosen = await _cipher(rig, encryption_algs=["aes256-ctr", gcm])
        assert chosen == ("aes256-ctr", "aes256-ctr")  # the client's own order decides
        for version in ("OpenSSH_9.2p1", "OpenSSH_6.7"):  # but for OpenSSH's
            chosen = await _cipher(rig, encryption_algs=["aes256-ctr", gcm], client_version=version)
            assert chosen == (gcm, gcm)
        chosen = await _cipher(rig, encryption_algs=["aes256-ctr"], client_version="OpenSSH_9.2p1")
        assert chosen == ("aes256-ctr", "aes256-ctr")
        with pytest.raises(asyncssh.KeyExchangeFailed):
            await _cipher(rig, encryption_algs=["chacha20-poly1305@openssh.com"])
        with pytest.raises(asyncssh.KeyExchangeFailed):
            await _cipher(rig, encryption_algs=["aes128-cbc"])


async def test_the_offer_has_strict_exchange_and_nothing_weak(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"SSH-2.0-probe\r\n")
        assert await reader.readline() == b"SSH-2.0-ecpds\r\n"
        length = int.from_bytes(await reader.readexactly(4), "big")
        packet = SSHPacket((await reader.readexactly(length))[1:])
        assert packet.get_byte() == MSG_KEXINIT
        packet.get_bytes(16)
        lists = [packet.get_namelist() for _ in range(8)]
        writer.close()
        await writer.wait_closed()
    assert b"kex-strict-s-v00@openssh.com" in lists[0]
    assert lists[2][0] == b"aes128-gcm@openssh.com"
    assert lists[6] == lists[7] == [b"none"]
    weak = (b"sha1", b"md5", b"cbc", b"arcfour", b"ssh-rsa", b"ssh-dss", b"chacha")
    names = [name for one in lists for name in one]
    assert not [name for name in names for word in weak if word in name]


@pytest.mark.needs("sftp")
@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp521", "rsa-sha2-512"])
async def test_each_host_key_serves(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path, nist_curves="nistp" in kind) as rig:
        if kind.startswith("rsa"):
            public = asyncssh.read_private_key(
                str(tmp_path / "ssh" / "ssh_host_rsa_key")
            ).export_public_key()
            rig.known_hosts.write_text(f"[127.0.0.1]:{rig.port} {public.decode()}")
        options = [*clients.ssh_options(rig.peer), "-o", f"HostKeyAlgorithms={kind}"]
        outcome = await clients.run("sftp", *options, "-b", "-", "127.0.0.1", data=b"ls\n")
        outcome.ok()


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-ctr"])
async def test_new_keys_in_the_middle_of_a_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cipher: str
) -> None:
    """Either side asks for new keys again and again; no byte is lost, changed or doubled."""
    monkeypatch.setattr(server, "_REKEY_BYTES", 2 * MIB)
    content = os.urandom(20 * MIB)
    (tmp_path / "local").write_bytes(content)
    exchanges = 0
    newkeys = PortalConnection.send_newkeys

    def counted(self: PortalConnection, k: bytes, h: bytes) -> None:
        nonlocal exchanges
        exchanges += 1
        newkeys(self, k, h)

    monkeypatch.setattr(PortalConnection, "send_newkeys", counted)
    async with running(tmp_path) as rig:
        options = {"encryption_algs": [cipher], "rekey_bytes": 3 * MIB}
        async with rig.connect(**options) as connection, connection.start_sftp_client() as client:
            await client.put(str(tmp_path / "local"), "/NORTH/f")
            assert (rig.north / "f").read_bytes() == content
            await client.get("/NORTH/f", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content
    assert exchanges > 10


@pytest.mark.needs("sftp")
async def test_openssh_asks_for_new_keys(tmp_path: Path) -> None:
    content = os.urandom(20 * MIB)
    (tmp_path / "local").write_bytes(content)
    async with running(tmp_path) as rig:
        options = [*clients.ssh_options(rig.peer), "-o", "RekeyLimit=1M"]
        commands = f"put {tmp_path}/local /NORTH/f\nget /NORTH/f {tmp_path}/back\n"
        batch = commands.encode()
        (await clients.run("sftp", *options, "-b", "-", "127.0.0.1", data=batch)).ok()
    assert (tmp_path / "back").read_bytes() == content


# --- bounds


class _Transport(asyncio.Transport):
    """Notes whether reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True
        self.sent = b""

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        pass


class _Owner:
    def congested(self, congested: bool) -> None:
        pass

    async def key_proven(self, user: str, key: asyncssh.SSHKey) -> bool:
        return False

    def halfway(self) -> bool:
        return False


async def test_input_waits_in_the_socket_while_one_message_is_dealt_with() -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    options = asyncssh.SSHServerConnectionOptions(server_host_keys=[key], login_timeout=0)
    connection = PortalConnection(
        asyncio.get_running_loop(), options, asyncssh.SSHServer(), _Owner()
    )
    line = _Transport()
    connection.connection_made(line)
    connection._recv_handler = lambda: False  # asyncssh's own way to say: not now
    for _ in range(3):
        connection.data_received(b"x" * (MIB // 2))
    assert not line.reading
    connection._inpbuf = b""
    connection._recv_data()
    assert line.reading
    connection.abort()
    await connection.wait_closed()


async def test_a_window_is_not_overrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = asyncio.Event()

    async def slow(self: DiskSession, path: str) -> Node:
        await waiting.wait()
        return self.gate.node(path)

    monkeypatch.setattr(DiskSession, "stat", slow)
    async with running(tmp_path) as rig, rig.wire() as client:
        for _ in range(sftp.MAX_JOBS):
            client.ask(wire.STAT, text("/NORTH"))
        channel = client.writer.channel
        channel._send_window = 1 << 30  # a client that does not count
        for _ in range(200):
            channel.write(b"x" * 32000)
        await client.connection.wait_closed()
        waiting.set()
        await until(lambda: not rig.gate.sessions)
