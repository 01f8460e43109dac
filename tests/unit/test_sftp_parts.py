"""Pins, keys, answers: what of SFTP needs no server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.encryption import GCMEncryption, get_encryption

from ecpds.base.ssh import KeptGcm, kept
from ecpds.model.entry import Kind
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTimeout,
    RemoteTransient,
    Unsupported,
)
from ecpds.modules import sftp_link as wire
from ecpds.modules.sftp import octal
from ecpds.modules.sftp_entries import entry
from ecpds.modules.sftp_link import Attributes, Fields, SftpLink, SftpStatus
from ecpds.modules.sftp_login import SftpOptions, client_keys, normal_pin


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("SHA256:" + "A" * 43, "SHA256:" + "A" * 43),
        (" sha256:" + "A" * 43 + "= ", "SHA256:" + "A" * 43),
        ("MD5:" + "AB:" * 15 + "cd", "MD5:" + "ab" * 15 + "cd"),
        ("ab:" * 15 + "CD", "MD5:" + "ab" * 15 + "cd"),
        ("ab" * 16, "MD5:" + "ab" * 16),
    ],
)
def test_pins_in_their_forms(text: str, normal: str) -> None:
    assert normal_pin(text) == normal


@pytest.mark.parametrize("text", ["", "SHA256:short", "zz:" * 15 + "zz", "ab:cd", "SHA1:abc"])
def test_no_pin_at_all(text: str) -> None:
    with pytest.raises(RemoteConfig, match="fingerPrint"):
        normal_pin(text)


def test_a_key_file_lies_below_a_directory_for_keys(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    keys, other = tmp_path / "keys", tmp_path / "other"
    for folder in (keys, other):
        folder.mkdir()
        key.write_private_key(folder / "key")
    (keys / "link").symlink_to(other / "key")

    def read(name: Path, *places: Path) -> list[Any]:
        options = SftpOptions(private_key_file=str(name))
        return client_keys(options, [str(place) for place in places])

    assert len(read(keys / "key", keys)) == 1
    for name, places in (
        (other / "key", [keys]),
        (keys / "link", [keys]),
        (keys / "key", []),
        (keys / "../other/key", [keys]),
        (keys / "none", [keys]),
        (keys, [keys]),
    ):
        with pytest.raises(RemoteConfig, match="key file"):
            read(name, *places)


def test_a_key_that_cannot_be_read_is_a_matter_of_configuration() -> None:
    from ecpds.model.secret import Secret

    key = asyncssh.generate_private_key("ssh-ed25519")
    locked = key.export_private_key("pkcs8-pem", passphrase="open sesame").decode()
    good = SftpOptions(private_key=Secret(locked), pass_phrase=Secret("open sesame"))
    assert len(client_keys(good, [])) == 1
    assert client_keys(SftpOptions(), []) == []
    for text, phrase in (("no key", ""), (locked, "wrong"), (locked, "")):
        options = SftpOptions(private_key=Secret(text), pass_phrase=Secret(phrase))
        with pytest.raises(RemoteConfig, match="private key") as caught:
            client_keys(options, [])
        assert "open sesame" not in str(caught.value)


def test_modes() -> None:
    assert (octal(""), octal("640"), octal("0755")) == (None, 0o640, 0o755)
    for text in ("rw", "9", "77777", "-1", "0o640"):
        with pytest.raises(RemoteConfig):
            octal(text)


@pytest.mark.parametrize(
    ("code", "phase", "kind"),
    [
        (wire.NO_SUCH_FILE, Phase.DATA, RemoteName),
        (wire.NO_SUCH_FILE, Phase.MKDIR, RemoteName),
        (wire.NO_SUCH_FILE, Phase.VERIFY, RemoteMissing),
        (wire.NO_SUCH_FILE, Phase.LIST, RemoteMissing),
        (wire.PERMISSION_DENIED, Phase.DATA, RemoteName),
        (wire.FAILURE, Phase.DATA, RemoteTransient),
        (wire.NO_SPACE, Phase.DATA, RemoteSpace),
        (wire.QUOTA, Phase.DATA, RemoteSpace),
        (wire.CONNECTION_LOST, Phase.DATA, ConnectionLost),
        (wire.OP_UNSUPPORTED, Phase.DATA, Unsupported),
        (99, Phase.DATA, RemoteTransient),
    ],
)
def test_every_answer_has_its_class(code: int, phase: Phase, kind: type[Exception]) -> None:
    error = wire.failure(SftpStatus(code, "text of the server"), phase, "f")
    assert type(error) is kind
    assert "text of the server" in str(error)


@pytest.mark.parametrize(
    ("mode", "letter", "kind"),
    [
        (0o100644, "", Kind.FILE),
        (0o040755, "-", Kind.DIRECTORY),
        (0o120777, "", Kind.LINK),
        (0o010644, "", Kind.OTHER),
        (None, "d", Kind.DIRECTORY),
        (0o644, "l", Kind.LINK),
        (None, "", Kind.FILE),
    ],
)
def test_kinds_come_from_the_mode_else_from_the_long_name(
    mode: int | None, letter: str, kind: Kind
) -> None:
    assert entry("f", Attributes(mode=mode), letter).kind is kind


def test_attributes_with_everything_in_them() -> None:
    body = bytes.fromhex(
        "8000000f" "0000000000000007" "00000001" "00000002" "000081a4" "00000003" "00000004"
        "00000001" "00000001" "61" "00000001" "62"
    )  # fmt: skip
    told = Fields(body).attributes()
    assert told == Attributes(size=7, owner=1, group=2, mode=0o100644, mtime=4)


def test_names_that_are_no_utf8_survive() -> None:
    name = Fields(wire.string(b"caf\xe9")).text()
    assert wire.path(name) == wire.string(b"caf\xe9")


class Channel:
    """Takes what is written; has no connection for the short way."""

    _conn = None
    _send_state = "open"
    _send_buf = ()
    _send_window = _send_pktsize = 32768

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def link(stall: float = 60) -> tuple[SftpLink, Channel]:
    one, channel = SftpLink(stall=stall), Channel()
    one.connection_made(channel)  # type: ignore[arg-type]  # all that the link uses
    one.session_started()
    return one, channel


def packet(kind: int, number: int, body: bytes) -> bytes:
    inner = bytes([kind]) + number.to_bytes(4, "big") + body
    return len(inner).to_bytes(4, "big") + inner


async def test_answers_may_come_in_pieces_and_in_any_order() -> None:
    one, _ = link()
    first, second = one.ask(wire.STAT, b"a"), one.ask(wire.STAT, b"b")
    stream = packet(wire.ATTRS, 2, b"22") + packet(wire.ATTRS, 1, b"1") + packet(wire.ATTRS, 9, b"")
    for start in range(len(stream)):
        one.data_received(stream[start : start + 1], None)
    assert await first == (wire.ATTRS, b"1")
    assert await second == (wire.ATTRS, b"22")
    one.close()


@pytest.mark.parametrize(
    "stream", [b"\0\0\0\0", b"\xff\xff\xff\xff....", b"Welcome to the server\n"]
)
async def test_what_is_no_sftp_ends_the_session(stream: bytes) -> None:
    one, _ = link()
    future = one.ask(wire.STAT, b"a")
    one.data_received(stream, None)
    with pytest.raises(RemoteTransient, match="no SFTP"):
        await future
    with pytest.raises(RemoteTransient):
        await one.ask(wire.STAT, b"b")


async def test_text_on_standard_error_is_not_taken_for_answers() -> None:
    one, _ = link()
    one.data_received(b"Welcome", asyncssh.EXTENDED_DATA_STDERR)
    assert not one.lost
    one.close()


@pytest.mark.parametrize("body", [b"", b"\0\0\0", b"\0\0\0\7abc", b"\xff\xff\xff\xff"])
def test_answers_that_are_cut_are_errors(body: bytes) -> None:
    with pytest.raises(RemoteTransient, match="malformed"):
        Fields(body).string()


async def test_a_silent_server_is_given_up() -> None:
    one, _ = link(stall=0.01)
    future = one.ask(wire.STAT, b"a")
    with pytest.raises(RemoteTimeout, match="silent"):
        await future


async def test_a_lost_connection_fails_all_that_waits() -> None:
    one, channel = link()
    waiting = [one.ask(wire.STAT, b"a"), one.write(b"h", 0, memoryview(b"x"))]
    one.connection_lost(OSError("reset"))
    for future in waiting:
        with pytest.raises(ConnectionLost, match="reset"):
            await future
    assert one.lost
    one.close()
    assert channel.closed


async def test_a_write_is_one_packet_however_it_is_cut() -> None:
    one, channel = link()
    data = bytes(range(256)) * 1020
    future = one.write(wire.string(b"handle"), 7, memoryview(data))
    assert len(channel.sent) == int.from_bytes(channel.sent[:4], "big") + 4
    assert channel.sent.endswith(data)
    one.data_received(packet(wire.STATUS, 1, b"\0\0\0\0"), None)
    wire.check(await future)
    one.close()


async def test_another_version_is_refused() -> None:
    one, _ = link()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(begin(one))
        await asyncio.sleep(0)
        one.data_received(b"\0\0\0\5\2\0\0\0\6", None)
    assert isinstance(task.result(), RemoteTransient)
    one.close()


async def begin(one: SftpLink) -> RemoteError | None:
    try:
        await one.begin()
    except RemoteError as error:
        return error
    return None


def test_the_kept_cipher_is_the_same_cipher() -> None:
    """What one seals the other opens, packet after packet; a changed byte is seen."""
    key, nonce = bytes(range(16)), bytes(range(12))
    theirs = get_encryption(b"aes128-gcm@openssh.com", key, nonce)
    ours = kept(get_encryption(b"aes128-gcm@openssh.com", key, nonce))
    assert isinstance(theirs, GCMEncryption)
    assert isinstance(ours, KeptGcm)
    opening = kept(get_encryption(b"aes128-gcm@openssh.com", key, nonce))
    assert isinstance(opening, KeptGcm)
    for number in range(3):
        header, body = b"\0\0\0\x20", bytes([number]) * 32
        sealed = b"".join(theirs.encrypt_packet(number, header, body))
        assert b"".join(ours.encrypt_packet(number, header, body)) == sealed
        assert opening.decrypt_header(number, sealed[:16], 4)[1] == header
        cut = (sealed[:16], sealed[16:-16], 4, sealed[-16:])
        assert opening.decrypt_packet(number, *cut) == body
    assert opening.decrypt_packet(3, sealed[:16], sealed[16:-16], 4, b"\0" * 16) is None
    other = get_encryption(b"aes128-ctr", key, bytes(16), b"hmac-sha2-256", bytes(32))
    assert kept(other) is other
    assert kept(None) is None
