"""asyncssh's connection, made lean: what both our SSH server and our SSH client change in it.

asyncssh (2.21 to 2.24) sends an empty IGNORE packet before each packet (a measure for CBC
ciphers, which we do not offer by default), makes a new cipher object and a text for the debug log
for each packet, and copies each packet five times.  The overridden methods are asyncssh's own,
some of them private; the tests of module and portal hold each of them against the installed
version.

Spec: RFC 4253 section 6, RFC 5647 section 7.
"""

from __future__ import annotations

import os
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING

import asyncssh.connection
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_IGNORE
from asyncssh.encryption import Encryption, GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from asyncssh.packet import SSHPacket, SSHPacketLogger

# AES-GCM first; ChaCha20 is slower here and left out by many hardening guides.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")

PIECE = 36 * 1024
"""Bytes handed to the parser at a time: a packet of 32 KiB with what surrounds it."""

_TYPE = bytes([MSG_CHANNEL_DATA])
_DATA = Struct(">II")


def send_data(channel: asyncssh.SSHClientChannel[bytes], data: bytes | memoryview) -> None:
    """Send bytes on a channel; those that the window allows at once are not copied into a queue.

    Raises OSError when the channel is closing.
    """
    size = len(data)
    connection = channel._conn  # noqa: SLF001 - asyncssh's own way copies four times
    is_free = channel._send_state == "open" and not channel._send_buf  # noqa: SLF001
    room = min(channel._send_window, channel._send_pktsize)  # noqa: SLF001
    if connection is None or not is_free or size > room:
        channel.write(data)  # copied into a bytearray
        return
    channel._send_window -= size  # noqa: SLF001
    head = _DATA.pack(channel._send_chan or 0, size)  # noqa: SLF001
    connection.send_packet(MSG_CHANNEL_DATA, head, data, handler=channel)  # type: ignore[arg-type]  # joined


class LeanConnection(asyncssh.connection.SSHConnection):
    """Mix-in before asyncssh's client or server connection."""

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Take bytes in pieces of about one packet: asyncssh moves what is left after each."""
        if len(data) <= PIECE:
            super().data_received(data, datatype)
            return
        view = memoryview(data)
        for start in range(0, len(data), PIECE):
            if self._transport is None:  # a piece before ended the connection
                return
            super().data_received(view[start : start + PIECE], datatype)  # type: ignore[arg-type]  # appended to bytes

    def send_packet(
        self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None
    ) -> None:
        """Send a packet, without an empty one before it; content by the short way."""
        if pkttype == MSG_IGNORE:
            return
        encryption = self._send_encryption
        if (
            pkttype == MSG_CHANNEL_DATA
            and type(encryption) is KeptGcm
            and self._kex_complete
            and self._compressor is None
            and self._rekey_bytes_sent < self._rekey_bytes
        ):
            self._send_data(encryption, args)
            return
        super().send_packet(pkttype, *args, handler=handler)

    def _send_data(self, encryption: KeptGcm, args: tuple[bytes, ...]) -> None:
        length = 1 + sum(map(len, args))
        padding = -(1 + length) % 16  # the length field is not encrypted by GCM
        if padding < 4:
            padding += 16
        packet = b"".join((bytes([padding]), _TYPE, *args, os.urandom(padding)))
        size = len(packet)
        header = size.to_bytes(4, "big")
        if self._transport is not None:
            with suppress(ConnectionError):  # connection_lost tells it
                self._transport.writelines((header, encryption.sealed(header, packet)))
        self._send_seq = (self._send_seq + 1) & 0xFFFFFFFF
        self._rekey_bytes_sent += size

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """End a key exchange, with cipher objects that last as long as the keys."""
        super().send_newkeys(k, h)
        self._send_encryption = kept(self._send_encryption)
        self._next_recv_encryption = kept(self._next_recv_encryption)

    def log_sent_packet(
        self, pkttype: int, pktid: int | None, packet: bytes | SSHPacket, note: str = ""
    ) -> None:
        """Write nothing."""

    def log_received_packet(
        self, pkttype: int, pktid: int | None, packet: bytes | SSHPacket, note: str = ""
    ) -> None:
        """Write nothing."""


def kept(encryption: Encryption | None) -> Encryption | None:
    """Return the same cipher with its key schedule kept."""
    if not isinstance(encryption, GCMEncryption):
        return encryption
    cipher = encryption._cipher  # noqa: SLF001 - where key and nonce are
    return KeptGcm(cipher._key, cipher._iv)  # noqa: SLF001


class KeptGcm(Encryption):
    """AES-GCM of RFC 5647 with one cipher object for all packets of one direction."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._aead = AESGCM(key)
        self._fixed = nonce[:4]
        self._count = int.from_bytes(nonce[4:], "big")

    def _nonce(self) -> bytes:
        """Return the nonce of this packet; each is used once."""
        count = self._count
        self._count = (count + 1) & 0xFFFFFFFFFFFFFFFF
        return self._fixed + count.to_bytes(8, "big")

    def sealed(self, header: bytes, packet: bytes) -> bytes:
        """Return cipher text and signature; the header, signed too, goes out in clear."""
        return self._aead.encrypt(self._nonce(), packet, header)

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """Encrypt and sign; the header goes out in clear and is signed too."""
        return header + self.sealed(header, packet), b""

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """Return the clear header."""
        return first_block, first_block[:header_len]

    def decrypt_packet(
        self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes
    ) -> bytes | None:
        """Check and decrypt; None for a packet that somebody changed."""
        data = b"".join((first[header_len:], rest, mac))
        try:
            return self._aead.decrypt(self._nonce(), data, first[:header_len])
        except InvalidTag:
            return None
