"""The SSH transport below the portal: lean as `base.ssh`, and bounded.

asyncssh (2.21 to 2.24) does key exchange, login and channels.  On the way in it copies all input
that waits once more for each packet, on the way out each packet several times: here file data goes
between socket and channel with one copy.  Three things of its clients it keeps without limit: input
during a login, output to a client that does not read, environment variables.

The overridden methods are asyncssh's own, some of them private; the tests of the portal hold each
of them against the installed release.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable
from struct import Struct
from typing import Protocol

import asyncssh
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_KEXINIT, MSG_USERAUTH_REQUEST
from asyncssh.packet import SSHPacket
from asyncssh.public_key import decode_ssh_public_key
from cryptography.exceptions import InvalidTag

from ecpds.base.ssh import KeptGcm, LeanConnection

MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
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
MAX_LOGIN_REQUESTS = 20  # of one connection; a client asks about each of its keys
_MAX_INPUT = 1 << 20  # bytes kept while one message is being dealt with
_MAX_OUTPUT = 1 << 20  # bytes in the socket's buffer before channels have to wait
_SPEAKS_FIRST = b"SSH-2.0-OpenSSH_"
_COOKIE = 16
_GCM_TAG = 16
_DATA_HEADER = Struct(">BBII")  # length of padding, type, channel, length of data
_DATA_HEAD = _DATA_HEADER.size
_BLOCK = 16
_MIN_PADDING = 4


class Owner(Protocol):
    """What a connection tells its visitor, beside what asyncssh itself tells."""

    def congested(self, congested: bool) -> None:
        """Note whether the client fails to read."""

    async def key_proven(self, user: str, key: asyncssh.SSHKey) -> bool:
        """Log in with a key that signed; tell whether that is granted."""

    def halfway(self) -> bool:
        """Tell, once, that a key was accepted and a password is to follow."""


class PortalConnection(LeanConnection, asyncssh.SSHServerConnection):
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
        self._requests = 0
        self._offer_held = False
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
        if isinstance(self._recv_encryption, _Inbound):
            self._inpbuf += data
            self._recv_data()
        else:
            super().data_received(data, datatype)

    def _recv_data(self) -> None:
        if self._auth_complete and self._at_packet():
            self._run_input()
        else:
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

    # --- key exchange ------------------------------------------------------------------------

    def _send_kexinit(self) -> None:
        """Offer our algorithms; to OpenSSH only after it has offered its own.

        A client's own order decides, and OpenSSH's (6.2 to 9.x) has CTR before GCM, which is half
        as fast here.  It speaks first without waiting, so that we can leave CTR out where it has
        GCM too.  Nobody is refused for that, and clients that may wait for us are not waited for.
        """
        if not self._session_id and self._client_version.startswith(_SPEAKS_FIRST):
            self._offer_held = True
            return
        super()._send_kexinit()

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Deal with a packet."""
        if pkttype == MSG_USERAUTH_REQUEST:
            self._count_request()
        elif pkttype == MSG_KEXINIT and self._offer_held:
            self._offer_held = False
            self._prefer_gcm(SSHPacket(packet.get_remaining_payload()))
            super()._send_kexinit()
        return super().process_packet(pkttype, pktid, packet)

    def _prefer_gcm(self, offer: SSHPacket) -> None:
        offer.get_bytes(_COOKIE)
        for _ in range(2):  # exchanges, host keys
            offer.get_namelist()
        theirs = set(offer.get_namelist()) & set(offer.get_namelist())
        gcm = [name for name in self._enc_algs if b"gcm" in name and name in theirs]
        self._enc_algs = gcm or self._enc_algs

    # --- login -------------------------------------------------------------------------------

    def _count_request(self) -> None:
        """Hang up on who tries too often; a request is counted whether it is answered or not."""
        self._requests += 1
        if self._requests > MAX_LOGIN_REQUESTS:
            raise asyncssh.DisconnectError(
                asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures"
            )

    async def reload_config(self) -> None:
        """Do nothing: the options do not depend on the user."""

    async def validate_public_key(
        self, username: str, key_data: bytes, msg: bytes, signature: bytes
    ) -> bool:
        """Check a key; log in only when it has signed, not when the client asks about it."""
        if not await super().validate_public_key(username, key_data, msg, signature):
            return False
        if not msg:
            return True
        return await self._visitor.key_proven(username, decode_ssh_public_key(key_data))

    def send_userauth_failure(self, partial_success: bool) -> None:
        """Refuse; a client whose key was accepted is told so (RFC 4252 5.1)."""
        super().send_userauth_failure(partial_success or self._visitor.halfway())

    # --- speed -------------------------------------------------------------------------------

    def send_data(self, number: int, data: memoryview, most: int) -> bool:
        """Send `data` to channel `number` of the client in packets of at most `most` bytes.

        False, with nothing sent, when this packet is for asyncssh: no AES-GCM, or new keys are due.
        """
        cipher = self._send_encryption
        if not isinstance(cipher, KeptGcm) or not self._kex_complete or self._keys_are_old():
            return False
        packets: list[bytes] = []
        for start in range(0, len(data), most):
            piece = data[start : start + most]
            padding = _padding(_DATA_HEAD + len(piece))
            head = _DATA_HEADER.pack(len(padding), MSG_CHANNEL_DATA, number, len(piece))
            plain = b"".join((head, piece, padding))
            header = len(plain).to_bytes(4, "big")
            packets += cipher.encrypt_packet(self._send_seq, header, plain)
            self._rekey_bytes_sent += len(plain)
            self._send_seq = (self._send_seq + 1) & 0xFFFFFFFF
        self._send(b"".join(packets))
        return True

    def _keys_are_old(self) -> bool:
        return self._rekey_bytes_sent >= self._rekey_bytes or (
            self._rekey_seconds > 0 and time.monotonic() >= self._rekey_time
        )

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """End a key exchange, with a cipher that opens a packet where it lies."""
        super().send_newkeys(k, h)
        if isinstance(self._next_recv_encryption, KeptGcm):
            self._next_recv_encryption = _Inbound(self._next_recv_encryption)

    def _at_packet(self) -> bool:
        """Tell whether the input begins with an AES-GCM packet that can be dealt with now.

        What asyncssh has read of a packet is put back: it is not decrypted before it is whole.
        """
        if not isinstance(self._recv_encryption, _Inbound):
            return False
        if self._recv_handler == self._recv_packet:
            self._inpbuf, self._packet = self._packet + self._inpbuf, b""
            self._recv_handler = self._recv_pkthdr
        return self._transport is not None and self._recv_handler == self._recv_pkthdr

    def _run_input(self) -> None:
        """Deal with all whole packets of the input.

        asyncssh copies the input that waits for each packet; here data packets go to their channel
        with one copy, and asyncssh gets the others one by one.
        """
        waiting, place = self._inpbuf, 0
        self._inpbuf = b""
        try:
            while self._at_packet() and (end := self._packet_end(waiting, place)):
                if not self._take_data(waiting, place, end):
                    self._inpbuf = waiting[place:end]
                    super()._recv_data()
                place = end
        except asyncssh.DisconnectError as error:
            self._send_disconnect(error.code, error.reason, error.lang)
            self._force_close(error)
            return
        rest = waiting[place:]
        if self._transport is None:
            return
        self._inpbuf += rest
        if rest and not self._at_packet():
            super()._recv_data()

    def _packet_end(self, data: bytes, place: int) -> int:
        """Return where the packet at `place` ends, 0 when it is not whole."""
        if len(data) - place < 4:
            return 0
        length = int.from_bytes(data[place : place + 4], "big")
        if length > self._max_recv_pktlen:
            raise asyncssh.ProtocolError("Max packet size exceeded")
        end = place + 4 + length + _GCM_TAG
        return end if end <= len(data) else 0

    def _take_data(self, data: bytes, start: int, end: int) -> bool:
        """Give a data packet to its channel; False, with its text kept, for any other packet."""
        cipher = self._recv_encryption
        if not isinstance(cipher, _Inbound):
            return False
        plain = cipher.open(memoryview(data)[start:end])
        if plain is None:
            raise asyncssh.MACError("MAC verification failed")
        cipher.opened = plain
        if len(plain) < _DATA_HEAD or plain[1] != MSG_CHANNEL_DATA:
            return False
        channel = self._channels.get(int.from_bytes(plain[2:6], "big"))
        count = int.from_bytes(plain[6:_DATA_HEAD], "big")
        if not isinstance(channel, PortalChannel) or len(plain) != _DATA_HEAD + count + plain[0]:
            return False
        cipher.opened = None
        channel.take(plain[_DATA_HEAD : _DATA_HEAD + count])
        self._auth_final = True
        self._recv_seq = (self._recv_seq + 1) & 0xFFFFFFFF
        return True

    def create_server_channel(
        self, encoding: str | None = "", errors: str = "", window: int = 0, max_pktsize: int = 0
    ) -> asyncssh.SSHServerChannel[bytes]:
        """Return a channel for bytes."""
        self._update_recv_pktlen(max_pktsize)
        return PortalChannel(
            self, self._loop, False, False, False, 0, 0, None, "strict", window, max_pktsize
        )


class PortalChannel(asyncssh.SSHServerChannel[bytes]):
    """A channel that keeps no environment and writes no debug text."""

    _conn: PortalConnection

    def take(self, data: bytes) -> None:
        """Take the content of a data packet."""
        if self._recv_state != "open":
            raise asyncssh.ProtocolError("Channel not open for sending")
        if len(data) > self._recv_window:
            raise asyncssh.ProtocolError("Window exceeded")
        self._accept_data(data)

    def send(self, data: bytes) -> None:
        """Send data, without keeping a copy when the client takes all of it now."""
        if (
            self._send_buf
            or self._send_chan is None
            or self._send_state != "open"
            or len(data) > self._send_window
            or not self._conn.send_data(self._send_chan, memoryview(data), self._send_pktsize)
        ):
            self.write(data)
        else:
            self._send_window -= len(data)

    def _flush_send_buf(self) -> None:
        while self._send_buf and self._send_window and self._send_chan is not None:
            content, kind = self._send_buf[0]
            count = min(len(content), self._send_window)
            with memoryview(content) as view, view[:count] as data:
                if kind is not None or not self._conn.send_data(
                    self._send_chan, data, self._send_pktsize
                ):
                    break
            if count == len(content):
                del self._send_buf[0]
            else:
                del content[:count]
            self._send_buf_len -= count
            self._send_window -= count
        super()._flush_send_buf()

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


def _padding(count: int) -> bytes:
    """Return what follows `count` bytes to fill the last cipher block; at least 4 bytes."""
    size = -count % _BLOCK
    return os.urandom(size if size >= _MIN_PADDING else size + _BLOCK)


class _Inbound(KeptGcm):
    """The same cipher for what comes in: a packet is opened where it lies, once."""

    def __init__(self, cipher: KeptGcm) -> None:
        self.opened: bytes | None = None  # the next packet, when it was decrypted already
        self._aead = cipher._aead  # noqa: SLF001 - it goes on as this one
        self._fixed = cipher._fixed  # noqa: SLF001
        self._count = cipher._count  # noqa: SLF001

    def decrypt_packet(
        self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes
    ) -> bytes | None:
        """Check and decrypt; None for a packet that somebody changed."""
        opened, self.opened = self.opened, None
        return opened if opened is not None else self.open(memoryview(first + rest + mac))

    def open(self, packet: memoryview) -> bytes | None:
        """Check and decrypt a whole packet; None when somebody changed it."""
        try:
            return self._aead.decrypt(self._nonce(), packet[4:], packet[:4])
        except InvalidTag:
            return None
