"""Logging in to an SSH server: options, host key, identity, errors.

Without a pinned host key nothing is sent: the error names the key that was seen, so that an
operator can compare it and pin it.  No file of the account that runs the daemon is read
(`~/.ssh`), no agent is asked.

Spec: transfer-modules-protocols.md section 2; RFC 4252, RFC 4256.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import asyncssh

from ecpds.base.ssh import CIPHERS, LeanConnection
from ecpds.model.decode import opt
from ecpds.model.errors import (
    ConnectionLost,
    EcpdsError,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemotePin,
    RemoteTimeout,
    RemoteTransient,
)
from ecpds.model.secret import Secret
from ecpds.transfer.contract import Identity, Surroundings, Target
from ecpds.transfer.options import SessionOptions
from ecpds.transfer.sockets import open_socket

LONGEST_KEY_FILE: Final = 64 * 1024
"""Bytes of a private key file that are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SftpOptions(SessionOptions):
    """Options of the `sftp` family."""

    prefix: ClassVar[str] = "sftp"

    port: int = opt(22, "Port of the server.", low=1, high=65535)
    private_key: Secret = opt(Secret(""), "Private key, PEM or OpenSSH text.", key="privateKey")
    private_key_file: str = opt(
        "",
        "File with it, below a directory for keys; wins over privateKey.",
        key="privateKeyFile",
        secret=True,
    )
    pass_phrase: Secret = opt(Secret(""), "Opens the private key.", key="passPhrase")
    preferred_authentications: tuple[str, ...] = opt(
        (), "Order: publickey,password,keyboard-interactive.", key="preferredAuthentications"
    )
    finger_print: tuple[str, ...] = opt(
        (), "Expected host keys: SHA256:… or MD5 hex pairs; none = refuse all.", key="fingerPrint"
    )
    server_host_key: tuple[str, ...] = opt(
        (), "Host key algorithms; empty or default = the safe ones.", key="serverHostKey"
    )
    kex: tuple[str, ...] = opt((), "Key exchange algorithms; empty or default = the safe ones.")
    cipher: tuple[str, ...] = opt((), "Ciphers; empty, none or default = AES-GCM, then AES-CTR.")
    mac: tuple[str, ...] = opt((), "MAC algorithms; empty, none or default = the safe ones.")
    compression: tuple[str, ...] = opt((), "zlib@openssh.com, zlib; empty, none or default = off.")
    client_version: str = opt("", "Identification text; default = our own.", key="clientVersion")
    connect_timeout: timedelta = opt(
        timedelta(seconds=30),
        "Longest wait for connection and login.",
        key="connectTimeOut",
        low=0.001,
    )
    session_timeout: timedelta = opt(
        timedelta(minutes=1),
        "Longest silence of the server when something is asked.",
        key="sessionTimeOut",
        low=0.001,
    )
    server_alive_interval: timedelta = opt(
        timedelta(0), "Pause between keep-alive probes; 0 = none.", key="serverAliveInterval", low=0
    )
    server_alive_count: int = opt(
        3, "Probes without answer before giving up.", key="serverAliveCountMax", low=1, high=100
    )
    chmod: str = opt("", "Permission bits of written files, octal.")
    requests: int = opt(
        64, "Reads or writes under way at a time.", key="bulkRequestNumber", low=1, high=1024
    )
    exec_command: str = opt(
        "",
        "Command at the host after each PUT and GET; $filename, quoted.",
        key="execCmd",
        secret=True,
    )
    exec_code: int = opt(0, "Exit code that it must have.", key="execCode", low=0, high=255)
    list_recursive: bool = opt(
        False, "List all directories below; acquisition.recursive is finer.", key="listRecursive"
    )
    list_threads: int = opt(
        10, "Directories that are read at a time.", key="listMaxThreads", low=1, high=100
    )
    list_waiting: int = opt(
        100, "Accepted from older set-ups: listMaxDirs bounds what waits.", key="listMaxWaiting"
    )
    list_dirs: int = opt(
        50_000, "Most directories of a listing.", key="listMaxDirs", low=1, high=1_000_000
    )
    list_depth: int = opt(20, "Most levels of it.", key="listMaxDepth", low=1, high=100)
    jump_host: str = opt("", "Go through another SSH server: [login@]host[:port].", key="jumpHost")
    jump_finger_print: tuple[str, ...] = opt(
        (), "Its expected host keys; none = refuse all.", key="jumpFingerPrint"
    )
    jump_password: Secret = opt(
        Secret(""), "Password there; empty = that of the host.", key="jumpPassword"
    )
    jump_private_key: Secret = opt(
        Secret(""), "Private key there; empty = that of the host.", key="jumpPrivateKey"
    )
    delete_on_rename: bool = opt(
        False,
        "Delete the final name before the rename; no = only where the server cannot replace it.",
        key="deleteOnRename",
    )
    fsync: bool = opt(False, "Ask the server to write the file to its disk.")
    keep_alive: timedelta = opt(
        timedelta(seconds=30),
        "How long an idle session is kept for the next file; 0 = not.",
        key="keepAlive",
        low=0,
    )


class LeanClient(LeanConnection, asyncssh.SSHClientConnection):
    """asyncssh's client connection with the short way for content."""

    via: LeanClient | None = None  # the connection to the jump host, to be closed after this one


class _Visitor(asyncssh.SSHClient):
    """Answers the questions of one login."""

    def __init__(self, pins: Sequence[str], password: str) -> None:
        self.seen = ""  # fingerprint of the host key
        self.refused = False
        self._pins = {normal_pin(pin) for pin in pins}
        self._password = password
        self._tries = 0

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Compare the host key with the pins."""
        self.seen = key.get_fingerprint()
        found = {normal_pin(self.seen), normal_pin(key.get_fingerprint("md5"))}
        self.refused = not self._pins & found
        return not self.refused

    def kbdint_auth_requested(self) -> str | None:
        """Offer keyboard-interactive once, if there is a password."""
        self._tries += 1
        return "" if self._password and self._tries == 1 else None

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str]:
        """Answer every prompt with the password."""
        return [self._password] * len(prompts)


def normal_pin(text: str) -> str:
    """Return a fingerprint in one form: `SHA256:` and base64 without padding, or `MD5:` and hex.

    Raises RemoteConfig for anything else.
    """
    bare = text.strip()
    scheme, _, value = bare.partition(":")
    if scheme.upper() == "SHA256" and len(value.rstrip("=")) == 43:
        return f"SHA256:{value.rstrip('=')}"
    digits = (value if scheme.upper() == "MD5" else bare).replace(":", "").lower()
    if len(digits) == 32 and all(digit in "0123456789abcdef" for digit in digits):
        return f"MD5:{digits}"
    raise RemoteConfig(
        f"sftp.fingerPrint: {text!r} is neither SHA256:… nor 16 MD5 hex pairs", phase=Phase.TLS
    )


async def log_in(target: Target, options: SftpOptions, around: Surroundings) -> LeanClient:
    """Return a connection that has logged in; its caller closes it.

    Raises RemotePin, RemoteAuth, RemoteConfig, RemoteTimeout or RemoteTransient with the phase.
    """
    password = (options.password or target.password).reveal()
    visitor = _Visitor(options.finger_print, password)
    arguments = await _arguments(target, options, around, visitor, password)
    limit = min(options.connect_timeout, target.timeouts.connect).total_seconds()
    try:
        async with asyncio.timeout(limit):
            with translated_login(visitor):
                construct = asyncssh.SSHClientConnectionOptions.construct
                parsed = await construct(None, config=None, **arguments)
            if options.jump_host:
                return await _jumped(target, options, around, parsed, visitor)
            sock = await open_socket(_from_here(target, options), options.port, around)
            return await _hand_shake(sock, parsed, visitor)
    except TimeoutError:
        raise RemoteTimeout(
            f"no login at {target.host} within {limit:g} s", phase=Phase.AUTH
        ) from None


async def shown_key(target: Target, options: SftpOptions, around: Surroundings) -> Identity:
    """Return the host key that the server shows; hangs up before any login."""
    visitor = _Visitor((), "")
    nobody = replace(options, login="nobody", private_key=Secret(""), private_key_file="")
    arguments = await _arguments(target, nobody, around, visitor, "")
    limit = min(options.connect_timeout, target.timeouts.connect).total_seconds()
    try:
        async with asyncio.timeout(limit):
            construct = asyncssh.SSHClientConnectionOptions.construct
            with translated_login():
                parsed = await construct(None, config=None, **arguments)
            sock = await open_socket(_from_here(target, options), options.port, around)
            await hang_up(await _hand_shake(sock, parsed, visitor), 1.0)
    except TimeoutError:
        raise RemoteTimeout(f"no host key of {target.host} in time", phase=Phase.TLS) from None
    except RemotePin as refused:  # what was meant to happen: no key is believed here
        return Identity(
            kind="host key", fingerprint=refused.remote_text, pin_option="sftp.fingerPrint"
        )
    raise RemotePin("the server shows no host key", phase=Phase.TLS)


async def _jumped(
    target: Target,
    options: SftpOptions,
    around: Surroundings,
    parsed: asyncssh.SSHClientConnectionOptions,
    visitor: _Visitor,
) -> LeanClient:
    """Log in at the jump host first, and at the host through it: end to end, with its own key."""
    login, _, place = options.jump_host.rpartition("@")
    host, _, port = place.partition(":")
    if not host or not (port or "22").isdigit():
        raise RemoteConfig(f"sftp.jumpHost: {place!r} is no host[:port]", phase=Phase.CONNECT)
    there = replace(target, host=host, address="", login=login or options.login or target.login)
    first = replace(
        options,
        jump_host="",
        port=int(port or "22"),
        login="",
        finger_print=options.jump_finger_print,
        password=options.jump_password or options.password,
        private_key=options.jump_private_key or options.private_key,
        private_key_file="" if options.jump_private_key else options.private_key_file,
    )
    jump = await log_in(there, first, around)
    try:
        connection = await _through(jump, target, options, parsed, visitor)
    except BaseException:
        await hang_up(jump, 1.0)
        raise
    connection.via = jump
    return connection


async def _through(
    jump: LeanClient,
    target: Target,
    options: SftpOptions,
    parsed: asyncssh.SSHClientConnectionOptions,
    visitor: _Visitor,
) -> LeanClient:
    loop = asyncio.get_running_loop()
    parsed.waiter = loop.create_future()
    connection: LeanClient | None = None
    try:
        with translated_login(visitor):
            _, session = await jump.create_connection(
                lambda: LeanClient(loop, parsed, wait="auth"),  # type: ignore[arg-type, return-value]  # as asyncssh itself does
                target.address or target.host,
                options.port,
            )
            connection = cast(LeanClient, session)
            await parsed.waiter
    except BaseException:
        if connection is not None:
            await hang_up(connection, 1.0)
        raise
    return connection


def _from_here(target: Target, options: SftpOptions) -> Target:
    """Return the target with the local address that this family names."""
    if not options.listen_address:
        return target
    sockets = replace(target.sockets, local_address=options.listen_address)
    return replace(target, sockets=sockets)


async def _hand_shake(
    sock: socket.socket, options: asyncssh.SSHClientConnectionOptions, visitor: _Visitor
) -> LeanClient:
    loop = asyncio.get_running_loop()
    options.waiter = loop.create_future()
    connection: LeanClient | None = None
    try:
        with translated_login(visitor):
            _, connection = await loop.create_connection(
                lambda: LeanClient(loop, options, wait="auth"), sock=sock
            )
            await options.waiter
    except BaseException:
        if connection is None:
            sock.close()
        else:
            await hang_up(connection, 1.0)
        raise
    else:
        return connection


async def hang_up(connection: asyncssh.SSHClientConnection, limit: float) -> None:
    """Cut a connection without a word and wait at most `limit` seconds until it is gone."""
    connection.abort()
    with suppress(TimeoutError, OSError, asyncssh.Error):
        async with asyncio.timeout(limit):
            await connection.wait_closed()
    if isinstance(connection, LeanClient) and connection.via is not None:
        await hang_up(connection.via, limit)


async def _arguments(
    target: Target,
    options: SftpOptions,
    around: Surroundings,
    visitor: _Visitor,
    password: str,
) -> dict[str, Any]:
    keys = await around.threads.run("auth", client_keys, options, around.key_directories)
    arguments: dict[str, Any] = {
        "host": target.host,
        "port": options.port,
        "username": options.login or target.login,
        "password": password or None,
        "client_keys": keys or None,
        "client_factory": lambda: visitor,
        "known_hosts": ([], [], []),  # nothing is trusted but what the visitor accepts
        "agent_path": None,
        "gss_kex": False,
        "gss_auth": False,
        "host_based_auth": False,
        "x509_trusted_certs": None,
        "login_timeout": 0,  # our own limit covers it
        "keepalive_interval": options.server_alive_interval.total_seconds(),
        "keepalive_count_max": options.server_alive_count,
        "compression_algs": _chosen(options.compression) or ("none",),
        "encryption_algs": _chosen(options.cipher) or CIPHERS,
    }
    for name, chosen in (
        ("kex_algs", options.kex),
        ("mac_algs", options.mac),
        ("server_host_key_algs", options.server_host_key),
        ("preferred_auth", options.preferred_authentications),
    ):
        if wanted := _chosen(chosen):
            arguments[name] = wanted
    if options.client_version and options.client_version != "default":
        arguments["client_version"] = options.client_version
    return arguments


def _chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return an algorithm list, empty when it only says that the library may choose."""
    return () if names in (("none",), ("default",)) else names


def client_keys(options: SftpOptions, directories: Sequence[str]) -> list[asyncssh.SSHKey]:
    """Read the private key of a Host; blocks, and takes long for a key with a pass phrase.

    Raises RemoteConfig when it cannot be read or lies outside `directories`.
    """
    text = options.private_key.reveal()
    if options.private_key_file:
        text = _key_file(options.private_key_file, directories)
    if not text:
        return []
    try:
        return [
            asyncssh.import_private_key(text.strip() + "\n", options.pass_phrase.reveal() or None)
        ]
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise RemoteConfig(f"the private key cannot be used: {error}", phase=Phase.AUTH) from None


def _key_file(name: str, directories: Sequence[str]) -> str:
    where = os.path.realpath(name)
    if not any(Path(where).is_relative_to(os.path.realpath(place)) for place in directories):
        allowed = ", ".join(directories) or "nowhere"
        raise RemoteConfig(f"key file {name!r}: files are read below {allowed}", phase=Phase.AUTH)
    try:
        with Path(where).open("rb") as content:
            return content.read(LONGEST_KEY_FILE).decode("ascii", "replace")
    except OSError as error:
        raise RemoteConfig(f"key file {name!r}: {error.strerror}", phase=Phase.AUTH) from None


@contextmanager
def translated_login(visitor: _Visitor | None = None) -> Iterator[None]:
    """Turn what asyncssh raises before and during the login into our errors."""
    try:
        yield
    except (asyncssh.Error, OSError, ValueError) as error:
        raise _login_error(error, visitor) from error


def _login_error(error: Exception, visitor: _Visitor | None) -> EcpdsError:
    text = str(error) or type(error).__name__
    if visitor is not None and visitor.refused:
        return RemotePin(
            f"the host key {visitor.seen} is not the pinned one: compare it, then set"
            " sftp.fingerPrint",
            phase=Phase.TLS,
            remote_text=visitor.seen,
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return RemoteAuth(
            f"the server refused the login: {text}", phase=Phase.AUTH, remote_text=text
        )
    if isinstance(error, asyncssh.KeyExchangeFailed | asyncssh.HostKeyNotVerifiable):
        return RemoteConfig(f"no agreement with the server: {text}", phase=Phase.TLS)
    if isinstance(error, asyncssh.DisconnectError):
        return RemoteTransient(f"the server hung up: {text}", phase=Phase.AUTH, remote_text=text)
    if isinstance(error, OSError):
        return ConnectionLost(f"the connection broke: {text}", phase=Phase.AUTH)
    return RemoteConfig(f"the options cannot be used: {text}", phase=Phase.CONNECT)
