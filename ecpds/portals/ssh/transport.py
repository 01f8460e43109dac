"""The SSH transport below the portal: asyncssh's server connection, made lean and bounded.

asyncssh (2.21 to 2.24) does key exchange, login and channels.  Four of its habits cost half of the
speed of small files and are changed here: an empty IGNORE packet before each packet (a measure for
CBC ciphers, which we do not offer), a new cipher object for each packet, text for the debug log
made for each packet, and a fresh reading of configuration at each login.  Three left memory
unbounded: input during a login, output to a client that does not read, environment variables.

The overridden methods are asyncssh's own, some of them private; the tests of the portal hold each
of them against the installed version.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import asyncssh
from asyncssh.constants import MSG_IGNORE
from asyncssh.encryption import Encryption, GCMEncryption
from asyncssh.packet import SSHPacket
from asyncssh.public_key import decode_ssh_public_key
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from asyncssh.packet import SSHPacketLogger

# AES-GCM first; ChaCha20 is slower here and left out by many hardening guides.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
EXCHANGES = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp521",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
)
SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp521",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp256",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
MAX_LOGIN_TRIES = 10  # answers of "no" on one connection, queries for keys included
_MAX_INPUT = 1 << 20  # bytes kept while one message is being dealt with
_MAX_OUTPUT = 1 << 20  # bytes in the socket's buffer before channels have to wait
_GCM_TAG = 16


class Owner(Protocol):
    """What a connection tells its visitor, beside what asyncssh itself tells."""

    def congested(self, congested: bool) -> None:
        """Note whether the client fails to read."""

    async def key_proven(self, user: str, key: asyncssh.SSHKey) -> bool:
        """Log in with a key that signed; tell whether that is granted."""


class PortalConnection(asyncssh.SSHServerConnection):
    """One client's connection."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: asyncssh.SSHServerConnectionOptions,
        server: asyncssh.SSHServer,
        owner: Owner,
    ) -> None:
        super().__init__(loop, options)
        self._protocol_factory = lambda: server
        self._visitor = owner
        self._tries = 0
        self._reading_paused = False
        self.active_at = loop.time()  # seconds of the loop's clock; when something last came

    # --- bounds ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        if isinstance(transport, asyncio.WriteTransport):
            transport.set_write_buffer_limits(high=_MAX_OUTPUT)
        super().connection_made(transport)

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Take bytes of the client, and no more while too many of them wait."""
        self.active_at = self._loop.time()
        super().data_received(data, datatype)

    def _recv_data(self) -> None:
        super()._recv_data()
        waiting = len(self._inpbuf) > _MAX_INPUT
        if self._transport is not None and waiting != self._reading_paused:
            self._reading_paused = waiting
            if waiting:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self._visitor.congested(True)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self._visitor.congested(False)

    # --- login -------------------------------------------------------------------------------

    async def reload_config(self) -> None:
        """Do nothing: the options do not depend on the user."""

    def send_userauth_failure(self, partial_success: bool) -> None:
        """Refuse a credential; hang up on who has tried too often."""
        self._tries += 1
        if self._tries > MAX_LOGIN_TRIES:
            raise asyncssh.DisconnectError(
                asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures"
            )
        super().send_userauth_failure(partial_success)

    async def validate_public_key(
        self, username: str, key_data: bytes, msg: bytes, signature: bytes
    ) -> bool:
        """Check a key; log in only when it has signed, not when the client asks about it."""
        if not await super().validate_public_key(username, key_data, msg, signature):
            return False
        if not msg:
            return True
        return await self._visitor.key_proven(username, decode_ssh_public_key(key_data))

    # --- speed -------------------------------------------------------------------------------

    def send_packet(
        self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None
    ) -> None:
        """Send a packet, without an empty one before it."""
        if pkttype != MSG_IGNORE:
            super().send_packet(pkttype, *args, handler=handler)

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """End a key exchange, with a cipher object that lasts as long as the keys."""
        super().send_newkeys(k, h)
        self._send_encryption = _kept(self._send_encryption)
        self._next_recv_encryption = _kept(self._next_recv_encryption)

    def log_sent_packet(
        self, pkttype: int, pktid: int | None, packet: bytes | SSHPacket, note: str = ""
    ) -> None:
        """Write nothing."""

    def log_received_packet(
        self, pkttype: int, pktid: int | None, packet: bytes | SSHPacket, note: str = ""
    ) -> None:
        """Write nothing."""

    def create_server_channel(
        self, encoding: str | None = "", errors: str = "", window: int = 0, max_pktsize: int = 0
    ) -> asyncssh.SSHServerChannel[bytes]:
        """Return a channel for bytes."""
        size = max_pktsize or self._max_pktsize
        self._update_recv_pktlen(size)
        return PortalChannel(
            self, self._loop, False, False, False, 0, 0, None, "strict", self._window, size
        )


class PortalChannel(asyncssh.SSHServerChannel[bytes]):
    """A channel that keeps no environment and writes no debug text."""

    def _process_env_request(self, packet: SSHPacket) -> bool:
        return False

    def log_sent_packet(
        self, pkttype: int, pktid: int | None, packet: bytes | SSHPacket, note: str = ""
    ) -> None:
        """Write nothing."""

    def log_received_packet(
        self, pkttype: int, pktid: int | None, packet: bytes | SSHPacket, note: str = ""
    ) -> None:
        """Write nothing."""


def _kept(encryption: Encryption | None) -> Encryption | None:
    """Return the same cipher with its key schedule kept."""
    if not isinstance(encryption, GCMEncryption):
        return encryption
    cipher = encryption._cipher  # noqa: SLF001 - where key and nonce are
    return _KeptGcm(cipher._key, cipher._iv)  # noqa: SLF001


class _KeptGcm(Encryption):
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

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """Encrypt and sign; the header goes out in clear and is signed too."""
        return header + self._aead.encrypt(self._nonce(), packet, header), b""

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
