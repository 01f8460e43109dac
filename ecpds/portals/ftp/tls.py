"""The server side of TLS without a socket: ciphertext in, ciphertext out.

Control and data connections do their own socket calls, for three reasons: nothing that came in
clear text can survive AUTH TLS in a buffer; the end of an upload by close_notify is told from a
cut connection; and our own close_notify goes out at the moment that the client waits for it.

Spec: RFC 4217 (FTP over TLS), RFC 8446 section 6.1 (closure alerts).
"""

from __future__ import annotations

import ssl
from typing import Final

from ecpds.model.errors import ConnectionLost, Phase

MORE: Final = -1
"""Answer of `read_into` when the next record is not complete."""


class TlsLayer:
    """One TLS session of one connection; only one thread at a time may use it."""

    def __init__(self, context: ssl.SSLContext, *, tickets: bool = True) -> None:
        """Begin; without `tickets` the client gets none of TLS 1.3 after the handshake.

        A client that uploads and never reads (rclone and everything in Go) closes its socket with
        our tickets unread: its kernel answers that with a reset and throws the file's last
        bytes away.  The tickets of the control connection are good for all data connections.
        """
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        usual = context.num_tickets
        try:
            if not tickets:
                context.num_tickets = 0  # copied when the session object is made, a line below
            self._object = context.wrap_bio(self._in, self._out, server_side=True)
        finally:
            context.num_tickets = usual
        self.established = False

    def feed(self, data: bytes | memoryview) -> None:
        """Take ciphertext that came from the client."""
        self._in.write(data)

    def take(self) -> bytes:
        """Return the ciphertext that has to go to the client now; empty when there is none."""
        return self._out.read() if self._out.pending else b""

    def handshake(self) -> bool:
        """Go on with the handshake; return whether it is complete.

        Raises:
            ConnectionLost: client and we do not agree; `take` has the alert for the client.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise ConnectionLost(f"TLS handshake failed: {error.reason}", phase=Phase.TLS) from None
        self.established = True
        return True

    @property
    def is_resumed(self) -> bool:
        """Whether the client went on with a session that it had here before."""
        return bool(self._object.session_reused)

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt `data`; `take` has the records afterwards."""
        if data:
            self._object.write(data)

    def read_into(self, view: memoryview) -> int:
        """Fill `view` with clear text; return the count, 0 at close_notify, else `MORE`.

        Raises:
            ConnectionLost: a record is damaged.
        """
        done = 0
        while done < len(view):
            try:
                # a memoryview is a writable buffer, the type stub knows only bytearray
                count = self._object.read(len(view) - done, view[done:])
            except ssl.SSLWantReadError:
                return done or MORE
            except ssl.SSLZeroReturnError:
                return done
            except ssl.SSLError as error:
                raise ConnectionLost(f"TLS failed: {error.reason}", phase=Phase.DATA) from None
            if not count:
                return done
            done += count  # type: ignore[operator]
        return done

    def end(self) -> None:
        """Say close_notify; `take` has it afterwards."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            return  # the client's own close_notify has not come yet: nobody waits for it
