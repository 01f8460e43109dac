"""Options of the `ftp` family.

Left out on purpose, because they need one vendor's server or privileges: `lowPort`, `dataAlive`,
`parallelStreams`, `passive = shared`.

Spec: transfer-modules-protocols.md 1.1-1.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

from ecpds.model.decode import opt
from ecpds.model.names import ByteCount
from ecpds.transfer.options import SessionOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class FtpOptions(SessionOptions):
    """How an FTP server is spoken to."""

    prefix: ClassVar[str] = "ftp"

    connection_type: Literal["FTP", "FTPES", "FTPS"] = opt(
        "FTP", "FTP: plain; FTPES: AUTH TLS; FTPS: TLS from the first byte.", key="connectionType"
    )
    protocol: str = opt("TLS", "Least TLS version: TLS (1.2), TLSv1.2 or TLSv1.3.")
    port: int | None = opt(None, "Control port; empty = 21, FTPS 990.", low=1, high=65535)
    passive: Literal["yes", "no"] = opt("yes", "yes: we open data connections; no: the server.")
    extended: Literal["auto", "yes", "no"] = opt(
        "auto", "EPSV and EPRT; auto: PASV and PORT where the server does not know them."
    )
    trust_address: bool = opt(
        False,
        "Connect to the address in the PASV answer instead of the server's own.",
        key="trustPassiveAddress",
    )
    comm_timeout: timedelta | None = opt(
        None, "Longest wait for a reply; empty = ectrans.sizeTimeOut.", key="commTimeOut", low=0.001
    )
    data_timeout: timedelta | None = opt(
        None,
        "Longest wait for data; empty = ectrans.streamTimeout.",
        key="dataTimeOut",
        low=0.001,
    )
    port_timeout: timedelta | None = opt(
        None,
        "Longest wait for the data connection; empty = ectrans.connectTimeOut.",
        key="portTimeOut",
        low=0.001,
    )
    no_password: bool = opt(False, "Do not send PASS.", key="nopassword")
    use_nlst: bool = opt(False, "List by NLST: names only.", key="usenlist")
    ask_each: bool = opt(True, "After NLST ask for size and time of every name.", key="ftpLike")
    list_options: str = opt("", "Sent before the path of LIST, for example -a.", key="listOptions")
    encoding: str = opt("utf-8", "Character encoding of names.")
    delete_on_rename: bool = opt(
        False,
        "Delete the final name before the rename; no = only when the server does not replace it.",
        key="deleteOnRename",
    )
    ignore_delete: bool = opt(
        True,
        "no: delete the written name and an old checksum file before a PUT.",
        key="ignoreDelete",
    )
    use_append: bool = opt(
        False, "Go on with a partial file by APPE instead of REST and STOR.", key="useAppend"
    )
    send_buffer: ByteCount | None = opt(
        None, "Send buffer of the sockets.", key="sendBuffSize", low=1024, high=2**30
    )
    receive_buffer: ByteCount | None = opt(
        None, "Receive buffer of the sockets.", key="receiveBuffSize", low=1024, high=2**30
    )
    post_connect: str = opt("", "Commands after login, separated by ;.", key="postConnectCmd")
    pre_close: str = opt("", "Commands before QUIT.", key="preCloseCmd")
    pre_get: str = opt("", "Commands before a GET; $filename.", key="preGetCmd")
    post_get: str = opt("", "Commands after a GET; $filename.", key="postGetCmd")
    pre_put: str = opt("", "Commands before a PUT; $filename as written.", key="prePutCmd")
    post_put: str = opt(
        "",
        "Commands after a PUT, before size check and rename; $filename as written.",
        key="postPutCmd",
    )
    noop: str = opt("NOOP", "Command that keeps a connection alive.", key="setNoop")
    keep_control_alive: bool = opt(
        False,
        "Send that command every 30 s while data flows.",
        key="keepControlConnectionAlive",
    )
    retry_check: bool = opt(
        False,
        "All data sent, but no final reply in time: log in again and compare the size.",
        key="retryAfterTimeoutOnCheck",
    )

    @property
    def control_port(self) -> int:
        """Return the port to connect to."""
        return self.port or (990 if self.connection_type == "FTPS" else 21)
