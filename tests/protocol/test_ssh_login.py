"""Who comes in: passwords, keys, bans, limits, texts; and what a connection cannot do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.packet import Boolean, String

from ecpds.model.account import Permission, Protocol
from ecpds.model.errors import QuotaExceeded, Stopping
from ecpds.portals.ssh import server, sftp, transport, wire
from ecpds.vfs.contract import Credential, ProvenKey, Session
from tests.peers import clients
from tests.peers.openssh import make_key
from tests.protocol.diskgate import ALL, Account, DiskGate, DiskSession
from tests.protocol.sshrig import Rig, Wire, running, soon, text
from tests.waiting import until


class Client(asyncssh.SSHClient):
    """Notes the banners."""

    def __init__(self) -> None:
        self.banners: list[str] = []

    def auth_banner_received(self, msg: str, lang: str) -> None:
        """Note a text."""
        self.banners.append(msg)


async def _refused(rig: Rig, **options: object) -> Exception:
    """Return how a login failed."""
    with pytest.raises((asyncssh.Error, OSError)) as found:
        async with rig.connect(**options):
            pass
    return found.value


# --- credentials


async def test_a_password_logs_in(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        async with rig.connect():
            [session] = rig.gate.sessions
            assert (session.peer, session.protocol) == ("127.0.0.1", Protocol.SFTP)
        await until(lambda: not rig.gate.sessions)
        assert rig.gate.logins == [("alice", True)]


async def test_a_wrong_password_and_an_unknown_user_look_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        wrong = await _refused(rig, password="wrong")
        unknown = await _refused(rig, username="nobody")
        assert type(wrong) is type(unknown) is asyncssh.PermissionDenied
        assert str(wrong).replace("alice", "nobody") == str(unknown)
        assert rig.gate.sessions == []


async def test_a_key_logs_in_once_and_only_after_it_signed(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        async with rig.connect(password=None, client_keys=[str(rig.key)]):
            assert rig.gate.logins == [("alice", True)]
        assert rig.gate.logins == [("alice", True)]


async def test_the_gate_gets_the_key_that_was_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Credential] = []
    login = DiskGate.login

    async def noted(
        self: DiskGate, user: str, credential: Credential, *, protocol: Protocol, peer: str
    ) -> Session:
        seen.append(credential)
        return await login(self, user, credential, protocol=protocol, peer=peer)

    monkeypatch.setattr(DiskGate, "login", noted)
    async with running(tmp_path) as rig, rig.connect(password=None, client_keys=[str(rig.key)]):
        [credential] = seen
        assert isinstance(credential, ProvenKey)
        public = rig.key.with_name("client.pub").read_text().split()[:2]
        assert credential.line.split()[:2] == public


async def test_a_key_that_is_not_the_users_never_reaches_the_gate(tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    async with running(tmp_path) as rig:
        for user in ("alice", "nobody"):
            failure = await _refused(
                rig, username=user, password=None, client_keys=[str(tmp_path / "other")]
            )
            assert isinstance(failure, asyncssh.PermissionDenied)
        assert rig.gate.logins == []


async def test_a_stolen_public_key_does_not_log_in(tmp_path: Path) -> None:
    """A client that knows the public half is asked to sign, and signs with another key."""
    make_key(tmp_path / "other")

    class Liar(asyncssh.SSHKeyPair):
        def __init__(self, shown: asyncssh.SSHKey, used: asyncssh.SSHKey) -> None:
            algorithm = shown.algorithm
            super().__init__(
                algorithm, algorithm, (algorithm,), (algorithm,), shown.public_data, b""
            )
            self._used = used

        def sign(self, data: bytes) -> bytes:
            return self._used.sign(data, self.sig_algorithm)

    async with running(tmp_path) as rig:
        pair = Liar(
            asyncssh.read_public_key(f"{rig.key}.pub"),
            asyncssh.read_private_key(str(tmp_path / "other")),
        )
        failure = await _refused(rig, password=None, client_keys=[pair])
        assert isinstance(failure, asyncssh.PermissionDenied)
        assert rig.gate.logins == []


@pytest.mark.parametrize("kind", ["ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521", "ssh-rsa"])
async def test_other_kinds_of_keys(tmp_path: Path, kind: str) -> None:
    key = asyncssh.generate_private_key(kind)
    lines = ("# no key", "nonsense", f'from="10.*" {_line(key)}', f"no-pty {_line(key)} alice")
    async with running(tmp_path, accounts={"alice": Account(ssh_keys=lines)}) as rig:
        # The gate of the tests compares the first two words, the portal reads options too.
        rig.gate.accounts["alice"].ssh_keys = (*lines, _line(key))
        async with rig.connect(password=None, client_keys=[key]):
            assert len(rig.gate.sessions) == 1


async def test_a_key_is_bound_to_the_addresses_of_its_line(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    account = Account(ssh_keys=(f'from="10.*" {_line(key)}',))
    async with running(tmp_path, accounts={"alice": account}) as rig:
        failure = await _refused(rig, password=None, client_keys=[key])
        assert isinstance(failure, asyncssh.PermissionDenied)


def _line(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()


async def test_only_passwords_and_keys_are_offered(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        offered = await asyncssh.get_server_auth_methods(
            "127.0.0.1", rig.port, username="alice", config=None
        )
        assert sorted(offered) == ["password", "publickey"]


async def test_tries_are_counted(tmp_path: Path) -> None:
    class Guesser(asyncssh.SSHClient):
        tries = 0

        def password_auth_requested(self) -> str:
            self.tries += 1
            return f"guess {self.tries}"

    async with running(tmp_path) as rig:
        failure = await _refused(rig, password=None, client_factory=Guesser)
        assert isinstance(failure, asyncssh.DisconnectError)
        assert "Too many authentication failures" in str(failure)
        assert 1 < len(rig.gate.logins) < transport.MAX_LOGIN_REQUESTS


async def test_requests_sent_ahead_are_counted_too(tmp_path: Path) -> None:
    """Each new request ends the one before it unanswered; that is no way around the limit."""

    class Guesser(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            self._conn = conn

        def password_auth_requested(self) -> str:
            for number in range(50):
                self._conn.send_userauth_packet(
                    50,
                    *map(String, ("alice", "ssh-connection", "password")),
                    Boolean(False),
                    String(f"guess {number}"),
                )
            return "guess"

    async with running(tmp_path) as rig:
        failure = await _refused(rig, password=None, client_factory=Guesser)
        assert "Too many authentication failures" in str(failure)
        assert len(rig.gate.logins) < transport.MAX_LOGIN_REQUESTS


async def test_a_client_that_leaves_during_its_login_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, goes_on = asyncio.Event(), asyncio.Event()
    login = DiskGate.login

    async def slow(self: DiskGate, *args: Any, **kwargs: Any) -> Session:
        session = await login(self, *args, **kwargs)
        asked.set()
        try:
            await goes_on.wait()
        except asyncio.CancelledError:
            if decided:
                return session  # it was decided already when the client left
            await session.close()
            raise
        return session

    monkeypatch.setattr(DiskGate, "login", slow)
    decided = False
    async with running(tmp_path) as rig:
        for decided in (False, True):  # noqa: B007 - `slow` looks at it
            asked.clear()
            async with asyncio.TaskGroup() as group:
                trying = group.create_task(_refused(rig))
                await asked.wait()
                trying.cancel()
            await until(lambda: not rig.portal.connections and not rig.gate.sessions)


# --- texts


async def test_the_banner_comes_before_the_login_and_the_welcome_after(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.gate.greeting = "Only for members.\nAll is logged."
        rig.gate.welcome = "Welcome"
        connection, client = await asyncssh.create_connection(
            Client,
            "127.0.0.1",
            rig.port,
            username="alice",
            password="secret",
            client_keys=None,
            known_hosts=str(rig.known_hosts),
            config=None,
        )
        async with connection:
            assert isinstance(client, Client)
            assert client.banners == ["Only for members.\r\nAll is logged.\r\n", "Welcome\r\n"]
        seen: list[Client] = []

        def kept() -> Client:
            seen.append(Client())
            return seen[-1]

        await _refused(rig, password="wrong", client_factory=kept)
        assert seen[0].banners == ["Only for members.\r\nAll is logged.\r\n"]


@pytest.mark.needs("sftp")
async def test_openssh_shows_both_texts(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.gate.welcome = "Welcome alice"
        outcome = (await clients.sftp(rig.peer, "pwd")).ok()
        assert b"ecpds test" in outcome.err
        assert b"Welcome alice" in outcome.err


# --- who is turned away


async def test_a_banned_address_hears_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.gate.banned.add("127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_ban_during_the_connection_ends_it(tmp_path: Path) -> None:
    class Slow(asyncssh.SSHClient):
        def password_auth_requested(self) -> str:
            rig.gate.banned.add("127.0.0.1")
            return "secret"

    async with running(tmp_path) as rig:
        failure = await _refused(rig, password=None, client_factory=Slow)
        assert isinstance(failure, asyncssh.DisconnectError)
        assert "banned" in str(failure)


async def test_limits_after_a_good_credential_have_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = {"alice": Account(max_connections=1), "bob": Account(protocols=frozenset())}
    async with running(tmp_path, accounts=accounts) as rig:
        async with rig.connect():
            failure = await _refused(rig)
            assert "Maximum number of connections exceeded (1)" in str(failure)
        assert "Protocol not allowed" in str(await _refused(rig, username="bob"))
        for error in (QuotaExceeded("Upload quota exceeded"), Stopping("shutting down")):

            async def login(
                self: DiskGate, *_: object, error: Exception = error, **__: object
            ) -> Session:
                raise error

            monkeypatch.setattr(DiskGate, "login", login)
            assert str(error) in str(await _refused(rig))
        await until(lambda: not rig.gate.sessions)


async def test_the_cap_of_connections(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=2) as rig:
        async with rig.connect(), rig.connect():
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            assert await reader.read() == b""
            writer.close()
        await until(lambda: not rig.portal.connections)
        async with rig.connect():
            pass


# --- time


async def test_a_client_that_does_not_log_in_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LOOK", soon(0.02))
    async with running(tmp_path, auth_timeout=soon(0.2)) as rig:
        for first in (b"", b"SSH-2.0-test\r\n", b"SSH-2.0-OpenSSH_9.9\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            writer.write(first)
            async with asyncio.timeout(5):
                assert (await reader.read()).startswith(b"SSH-2.0-ecpds\r\n")
            writer.close()
        await until(lambda: not rig.portal.connections)


async def test_an_idle_client_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LOOK", soon(0.02))
    async with running(tmp_path, idle_timeout=soon(0.3)) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        (await client.write(handle, 0, b"1")).ok()
        async with asyncio.timeout(5):
            await client.connection.wait_closed()
        await until(lambda: not rig.gate.sessions)
        assert len(rig.gate.parked) == 1


async def test_a_session_that_is_ended_hangs_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LOOK", soon(0.02))
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.stat("/")
        await until(lambda: rig.gate.touches)
        rig.gate.sessions[0].kicked = True
        async with asyncio.timeout(5):
            await client.connection.wait_closed()


# --- stopping


async def test_draining_lets_what_is_open_end_and_sends_the_idle_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LOOK", soon(0.02))
    async with running(tmp_path) as rig, asyncio.TaskGroup() as group:
        async with rig.wire() as idle, rig.wire() as busy:
            handle = await busy.create("/NORTH/f")
            draining = group.create_task(rig.portal.drain())
            async with asyncio.timeout(5):
                await idle.connection.wait_closed()
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", rig.port)
            (await busy.write(handle, 0, b"1")).ok()
            assert not draining.done()
            (await busy.close(handle)).ok()
            async with asyncio.timeout(5):
                await busy.connection.wait_closed()
        async with asyncio.timeout(5):
            await draining
        assert (rig.north / "f").read_bytes() == b"1"


async def test_closing_parks_what_is_open(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        (await client.write(handle, 0, b"1")).ok()
        await rig.portal.close()
        assert rig.gate.sessions == []
        assert len(rig.gate.parked) == 1
        await rig.portal.close()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", rig.port)


async def test_closing_does_not_wait_long_for_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    async def hangs(self: DiskSession, path: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(path)

    monkeypatch.setattr(DiskSession, "delete", hangs)
    monkeypatch.setattr(server, "STOP_SECONDS", 0.1)
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        (await client.write(handle, 0, b"1")).ok()
        client.ask(wire.REMOVE, text("/NORTH/g"))
        client.ask(wire.STAT, text("/NORTH/g"))  # waits for the other
        assert (await client.stat("/SOUTH")).attributes.size == 0  # all have arrived
        async with asyncio.timeout(4):
            await rig.portal.close()
        assert ended == ["/NORTH/g"]
        assert rig.gate.sessions == []
        assert len(rig.gate.parked) == 1


async def test_a_lost_client_does_not_keep_a_request_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(self: DiskSession, path: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(DiskSession, "delete", hangs)
    monkeypatch.setattr(sftp, "LEAVE_SECONDS", 0.1)
    async with running(tmp_path) as rig:
        async with rig.wire() as client:
            client.ask(wire.REMOVE, text("/NORTH/g"))
            assert (await client.stat("/SOUTH")).attributes.size == 0  # both have arrived
            client.connection.abort()
        await until(lambda: not rig.gate.sessions and not rig.portal.connections)


async def test_an_empty_listen_is_off(tmp_path: Path) -> None:
    from ecpds.base.clock import SystemClock
    from ecpds.base.settings import SftpSettings
    from ecpds.base.threads import Threads

    threads = Threads()
    portal = server.SshPortal(
        DiskGate(tmp_path), SftpSettings(listen=""), tmp_path / "k", threads, SystemClock(), "n"
    )
    assert await portal.start() == []
    await portal.close()
    threads.close()
    assert not (tmp_path / "k").exists()


# --- what does not exist


async def _status(connection: asyncssh.SSHClientConnection, command: str) -> int | None:
    result = await connection.run(command, check=False)
    return result.exit_status


async def test_no_shell_no_other_command(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.run()
        for command in ("ls", "scp", "scp -t", "scp -x -t /NORTH", "sh -c 'scp -t /NORTH'", "'"):
            assert await _status(connection, command) == 1
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_session(subsystem="netconf")
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.run("ls", term_type="xterm", request_pty="force")


async def test_no_forwarding(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", rig.port)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_unix_connection(str(tmp_path / "socket"))
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.start_server(lambda *_: None, "127.0.0.1", 0)
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.start_unix_server(lambda: None, str(tmp_path / "socket"))
        client = await Wire.open(connection)
        await client.greet()  # the connection goes on


@pytest.mark.needs("ssh")
@pytest.mark.parametrize(
    "wanted",
    [["-o", "ForwardAgent=yes"], ["-o", "SetEnv=A=1"], ["-o", "ForwardX11=yes"]],
)
async def test_no_agent_environment_or_display(tmp_path: Path, wanted: Sequence[str]) -> None:
    async with running(tmp_path) as rig:
        options = clients.ssh_options(rig.peer)
        outcome = await clients.run("ssh", *options, *wanted, "127.0.0.1", "ls")
        assert outcome.code in (1, 255)
        assert b"sftp and scp only" in outcome.err + outcome.out


async def test_channels_are_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        opened = [await Wire.open(connection) for _ in range(server.MAX_CHANNELS)]
        with pytest.raises(asyncssh.ChannelOpenError):
            await Wire.open(connection)
        opened[0].writer.close()
        await opened[0].writer.channel.wait_closed()
        client = await Wire.open(connection)
        await client.greet()


async def test_a_right_less_user_still_has_a_session(tmp_path: Path) -> None:
    accounts = {"alice": Account(operations=ALL - {Permission.DIR})}
    async with running(tmp_path, accounts=accounts) as rig, rig.wire() as client:
        assert (await client.stat("/NORTH")).attributes.size == 0
