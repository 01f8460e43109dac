"""The FTP client line by line: against a server that answers as the test wants."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ecpds.model.entry import Kind
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTimeout,
    RemoteTransient,
    RemoteVerify,
    SourceBroke,
)
from ecpds.model.host import Host
from ecpds.modules import ftp_flow
from ecpds.modules.ftp import FtpModule
from ecpds.transfer.contract import ListingStyle, Timeouts
from ecpds.transfer.registry import Registry
from ecpds.transfer.source import BytesSource
from tests.protocol.scripted_ftp import ScriptedFtp, Session
from tests.waiting import until

SHORT = Timeouts(
    connect=timedelta(seconds=5),
    command=timedelta(milliseconds=300),
    stall=timedelta(milliseconds=300),
    close=timedelta(milliseconds=300),
)


async def content_of(module: FtpModule, name: str, offset: int = 0) -> bytes:
    return b"".join([block async for block in module.get(name, offset=offset)])


def from_byte(content: bytes, offset: int) -> BytesSource:
    source = BytesSource(content)
    source.start_at(offset)
    return source


# ---- login


async def test_a_session_from_login_to_quit() -> None:
    """What is sent, in which order, and nothing more."""
    async with ScriptedFtp() as server:
        async with server.session(directory="in") as module:
            assert await module.put("f", BytesSource(b"content")) == 7
            assert module.peer == "127.0.0.1"
        assert server.files == {"f": b"content"}
        assert server.commands == [
            "USER me",
            "PASS geheim",
            "FEAT",
            "TYPE I",
            "CWD in",
            "EPSV",
            "STOR f",
            "QUIT",
        ]


@pytest.mark.parametrize(
    ("greeting", "kind"),
    [
        (b"421 too many\r\n", RemoteTransient),
        (b"530 go away\r\n", RemoteAuth),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", RemoteTransient),
        (b"220-" + b"x" * 9000, RemoteTransient),
        (b"220-x\r\n" + b"y\r\n" * 1001, RemoteTransient),
        (b"220 hi\r\n" * 200, ConnectionLost),
    ],
)
async def test_bad_greetings(greeting: bytes, kind: type[RemoteError]) -> None:
    """Refusals have their class, nonsense ends the connection."""
    async with ScriptedFtp() as server:
        server.answers["GREETING"] = [greeting]
        with pytest.raises(kind):
            async with server.session():
                pass


async def test_a_server_may_ask_to_wait() -> None:
    """120 is not the greeting yet."""
    async with ScriptedFtp() as server:
        server.answers["GREETING"] = [b"120 ready in a minute\r\n220 now\r\n"]
        async with server.session():
            pass


@pytest.mark.parametrize(
    ("verb", "answer", "options", "kind"),
    [
        ("PASS", b"530 no\r\n", {}, RemoteAuth),
        ("PASS", b"530 maximum number of clients reached\r\n", {}, RemoteTransient),
        ("PASS", b"421 busy\r\n", {}, RemoteTransient),
        ("PASS", b"332 account?\r\n", {}, RemoteAuth),
        ("USER", b"331 password?\r\n", {"no_password": True}, RemoteAuth),
        ("USER", b"530 who?\r\n", {}, RemoteAuth),
        ("TYPE", b"504 no\r\n", {}, RemoteTransient),
        ("AUTH", b"502 no TLS\r\n", {"connection_type": "FTPES"}, RemoteConfig),
        ("AUTH", b"431 later\r\n", {"connection_type": "FTPES"}, RemoteTransient),
        ("USER", b"230 in\r\n", {"post_connect": "SITE X"}, RemoteTransient),
    ],
)
async def test_logins_that_fail(
    verb: str, answer: bytes, options: dict[str, Any], kind: type[RemoteError]
) -> None:
    """Each by its class; the password is in no message."""
    async with ScriptedFtp() as server:
        server.answers[verb] = [answer]
        with pytest.raises(kind) as caught:
            async with server.session(**options):
                pass
        assert "geheim" not in str(caught.value)


async def test_a_server_without_password() -> None:
    """230 right after USER."""
    async with ScriptedFtp() as server:
        server.answers["USER"] = [b"230 in\r\n"]
        async with server.session(no_password=True):
            pass
        assert "PASS geheim" not in server.commands


async def test_the_password_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Not even when everything is."""
    caplog.set_level(logging.DEBUG)
    async with ScriptedFtp() as server, server.session():
        pass
    lines = [str(vars(record)) for record in caplog.records]
    assert any("PASS ***" in line for line in lines)
    assert not any("geheim" in line for line in lines)


async def test_clear_text_after_auth_is_an_attack() -> None:
    """Somebody on the way puts replies in before TLS begins (STARTTLS injection)."""
    async with ScriptedFtp() as server:
        server.answers["AUTH"] = [b"234 go on\r\n230 logged in\r\n"]
        with pytest.raises(ConnectionLost) as caught:
            async with server.session(connection_type="FTPES"):
                pass
        assert caught.value.phase is Phase.TLS


async def test_a_missing_working_directory_is_made() -> None:
    """All its levels."""
    async with ScriptedFtp() as server:
        server.answers["CWD"] = [b"550 none\r\n", b"250 there\r\n"]
        server.answers["MKD"] = [b"257 made\r\n"]
        async with server.session(directory="/a/b c"):
            pass
        assert server.commands[4:-1] == ["CWD /a/b c", "MKD /a", "MKD /a/b c", "CWD /a/b c"]
        server.answers["CWD"] = [b"550 none\r\n"]
        with pytest.raises(RemoteName) as caught:
            async with server.session(directory="/a", mkdirs=False):
                pass
        assert caught.value.phase is Phase.CWD


# ---- data connections


async def test_passive_falls_back_and_is_remembered() -> None:
    """PASV after a refused EPSV, for the whole Host from then on."""
    async with ScriptedFtp() as server:
        server.answers["EPSV"] = [b"500 what?\r\n"]
        for _ in range(2):
            async with server.session() as module:
                await module.put("f", BytesSource(b"x"))
        assert server.verbs() == ["EPSV", "PASV", "STOR", "PASV", "STOR"]


async def test_a_swallowed_epsv_is_remembered() -> None:
    """The session is lost, the next one does not ask again."""
    async with ScriptedFtp() as server:
        server.answers["EPSV"] = [None]
        with pytest.raises(RemoteTimeout):
            async with server.session(timeouts=SHORT) as module:
                await module.put("f", BytesSource(b"x"))
        async with server.session(timeouts=SHORT) as module:
            await module.put("f", BytesSource(b"x"))
        assert server.verbs() == ["EPSV", "PASV", "STOR"]


async def test_extended_only() -> None:
    """`extended = yes` never sends PASV, `no` never EPSV."""
    async with ScriptedFtp() as server:
        server.answers["EPSV"] = [b"500 what?\r\n"]
        with pytest.raises(RemoteName):
            async with server.session(extended="yes") as module:
                await module.put("f", BytesSource(b"x"))
        async with server.session(extended="no") as module:
            await module.put("f", BytesSource(b"x"))
        assert server.verbs() == ["EPSV", "PASV", "STOR"]


async def test_the_address_in_the_answer_to_pasv_is_not_believed() -> None:
    """Servers behind NAT tell a wrong one, hostile ones a third party's."""

    async def elsewhere(session: Session, rest: str) -> None:
        port = await session.listen()
        session.say(f"227 Passive (127,0,0,99,{port // 256},{port % 256})")

    async with ScriptedFtp() as server:
        server.answers["PASV"] = [elsewhere]
        async with server.session(extended="no") as module:
            await module.put("f", BytesSource(b"x"))
        with pytest.raises(RemoteTransient):
            async with server.session(
                extended="no", trust_address=True, port_timeout=timedelta(seconds=2)
            ) as module:
                await module.put("f", BytesSource(b"x"))


async def test_active_mode_takes_only_the_server() -> None:
    """EPRT, or PORT where that is not known; connections from elsewhere are closed."""

    async def intruded(session: Session, rest: str) -> None:
        port = int(rest.split("|")[3])
        loop = asyncio.get_running_loop()
        stranger = await loop.create_connection(
            asyncio.Protocol, "127.0.0.1", port, local_addr=("127.0.0.5", 0)
        )
        session.say("200 noted")
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        session.data = writer.get_extra_info("socket").dup()
        writer.close()
        stranger[0].close()

    async def store(session: Session, rest: str) -> None:
        session.say("150 go on")
        assert session.data is not None
        session.data.setblocking(False)
        session.server.files[rest] = await session.receive()
        session.close_data()
        session.say("226 stored")

    async with ScriptedFtp() as server:
        server.answers["EPRT"] = [intruded]
        server.answers["STOR"] = [store]
        async with server.session(passive="no") as module:
            await module.put("f", BytesSource(b"x"))
        assert server.files == {"f": b"x"}
        server.answers["EPRT"] = [b"500 what?\r\n"]
        server.answers["PORT"] = [b"500 neither\r\n"]
        with pytest.raises(RemoteName):
            async with server.session(passive="no") as module:
                await module.put("f", BytesSource(b"x"))
        assert server.verbs() == ["EPRT", "STOR", "EPRT", "PORT"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"550 d/f: no such directory\r\n", RemoteName),
        (b"553 bad name\r\n", RemoteName),
        (b"552 full\r\n", RemoteSpace),
        (b"452 full\r\n", RemoteSpace),
        (b"530 log in first\r\n", RemoteAuth),
        (b"421 bye\r\n", RemoteTransient),
        (b"425 no connection\r\n", RemoteTransient),
        (b"450 busy\r\n", RemoteTransient),
        (b"226 done already\r\n", RemoteTransient),
    ],
)
async def test_a_refused_put(answer: bytes, kind: type[RemoteError]) -> None:
    """By its class, with what the server said; the session goes on if it can."""
    async with ScriptedFtp() as server, server.session() as module:
        server.answers["STOR"] = [answer]
        with pytest.raises(kind) as caught:
            await module.put("f", BytesSource(b"x"))
        assert caught.value.remote_code == answer[:3].decode()
        assert await module.alive() == (answer[:3] not in (b"421", b"226"))


async def stored(session: Session, final: str) -> None:
    """Take all bytes, then say `final`."""
    session.say("150 go on")
    await session.accept()
    await session.receive()
    session.close_data()
    if final:
        session.say(final)


@pytest.mark.parametrize(
    ("final", "kind"),
    [("426 cut", RemoteTransient), ("452 full", RemoteSpace), ("", ConnectionLost)],
)
async def test_the_final_reply_decides(final: str, kind: type[RemoteError]) -> None:
    """All bytes were taken, and still it is no success."""

    async def store(session: Session, rest: str) -> None:
        await stored(session, final)
        if not final:
            session.writer.close()

    async with ScriptedFtp() as server, server.session() as module:
        server.answers["STOR"] = [store]
        with pytest.raises(kind):
            await module.put("f", BytesSource(b"x"))


async def test_a_refusal_half_way_ends_the_put() -> None:
    """The disk is full; the server says so and leaves the data connection open."""

    async def full(session: Session, rest: str) -> None:
        session.say("150 go on")
        await session.accept()
        await session.receive(100_000)
        session.say("552 disk full")

    async with ScriptedFtp() as server, server.session() as module:
        server.answers["STOR"] = [full]
        begun = time.monotonic()
        with pytest.raises(RemoteSpace):
            await module.put("f", BytesSource(b"x" * 50_000_000))
        assert time.monotonic() - begun < 3
        with pytest.raises(RemoteMissing):
            await module.delete("f")


async def test_a_loss_of_the_control_connection_ends_the_put() -> None:
    """Nobody could confirm it any more."""

    async def leave(session: Session, rest: str) -> None:
        session.say("150 go on")
        await session.accept()
        await session.receive(100_000)
        session.writer.transport.abort()

    async with ScriptedFtp() as server, server.session() as module:
        server.answers["STOR"] = [leave]
        with pytest.raises(ConnectionLost):
            await module.put("f", BytesSource(b"x" * 50_000_000))
        assert not await module.alive()


async def test_less_than_announced_is_a_loss() -> None:
    """A box on the way has ended the data in order, the server knows nothing of it."""

    async def short(session: Session, rest: str) -> None:
        session.say("150 Opening BINARY mode data connection for f (1000 bytes).")
        await session.accept()
        await session.send(b"x" * (400 - session.offset))
        session.say("226 sent")

    async with ScriptedFtp() as server, server.session() as module:
        server.answers["RETR"] = [short]
        with pytest.raises(ConnectionLost, match="400 of 1000"):
            await content_of(module, "f")
        with pytest.raises(ConnectionLost, match="400 of 1000"):
            await content_of(module, "f", offset=100)


async def test_data_that_does_not_come() -> None:
    """The limit is that of the data, not of replies."""

    async def silent(session: Session, rest: str) -> None:
        session.say("150 soon")
        await session.accept()

    async with ScriptedFtp() as server:
        server.answers["RETR"] = [silent]
        async with server.session(timeouts=SHORT) as module:
            with pytest.raises(RemoteTimeout):
                await content_of(module, "f")
            assert not await module.alive()


@pytest.mark.parametrize("early", [True, False])
async def test_a_broken_source_leaves_the_session_for_cleaning_up(early: bool) -> None:
    """The upload is reset, so that the server knows; then the partial file can be deleted."""
    got: list[bytes] = []

    async def aborted(session: Session, rest: str) -> None:
        session.say("150 go on")
        await session.accept()
        got.append(await session.receive())
        session.server.files[rest] = got[-1]
        session.say("426 aborted")

    class Broken(BytesSource):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            if not early:
                yield b"x" * 1000
            raise SourceBroke("gone")

    async with ScriptedFtp() as server, server.session() as module:
        server.answers["STOR"] = [aborted]
        with pytest.raises(SourceBroke):
            await module.put("f", Broken(b"x" * 2000))
        await module.delete("f")
        assert server.files == {}
        assert not await module.alive()


async def test_a_cancelled_put_leaves_the_session_for_cleaning_up() -> None:
    """And the pool does not use it again."""

    async def aborted(session: Session, rest: str) -> None:
        session.say("150 go on")
        await session.accept()
        session.server.files[rest] = await session.receive()
        session.say("426 aborted")

    class Endless(BytesSource):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x" * 1000
            self.meter.add(1000)
            await asyncio.Event().wait()

    async with ScriptedFtp() as server, server.session() as module:
        server.answers["STOR"] = [aborted]
        source = Endless(b"x" * 2000)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(module.put("f", source))
            await until(lambda: source.meter.moved > 0)
            task.cancel()
        assert task.cancelled()
        await module.delete("f")
        assert not await module.alive()


# ---- probes while data flows


NOOPS = {
    "at once": (["200 a", "200 b"], "226 stored", []),
    "after the end": ([], "226 stored", ["200 a", "200 b"]),
    "half and half": (["200 a"], "226 stored", ["200 b"]),
    "never": ([], "226 stored", []),
    "unknown": (["500 what?", "500 what?"], "226 stored", []),
    "other end": (["200 a"], "250 stored", ["200 b"]),
}


@pytest.mark.parametrize("name", NOOPS)
async def test_probes_are_accounted_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever their answers come, each later reply belongs to its command."""
    monkeypatch.setattr(ftp_flow, "KEEP_CONTROL", 0.01)
    before, final, after = NOOPS[name]

    async def store(session: Session, rest: str) -> None:
        session.say("150 go on")
        await session.accept()
        for text in before:
            assert (await session.reader.readline()) == b"NOOP\r\n"
            session.say(text)
        for _ in range(2 - len(before)):
            assert (await session.reader.readline()) == b"NOOP\r\n"
        content = await session.receive()
        session.server.files[rest] = content
        session.close_data()
        for text in (final, *after):
            session.say(text)

    class Slow(BytesSource):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x"
            control = module._session.control
            await until(lambda: control._owed + len(before) >= 2 and len(seen) == 2)
            module._session.flows.keep_control = 0
            yield b"y"

    seen: list[str] = []
    async with ScriptedFtp() as server, server.session(keep_control_alive=True) as module:
        control = module._session.control
        real = control.probe

        def probe(command: str) -> None:
            if len(seen) < 2:
                seen.append(command)
                real(command)

        monkeypatch.setattr(control, "probe", probe)
        server.answers["STOR"] = [store]
        server.answers["NOOP"] = [None] if name == "never" else [b"200 noop\r\n"]
        assert await module.put("f", Slow(b"xy")) == 2
        assert (await module.stat("f")).size == 2
        with pytest.raises(RemoteMissing):
            await module.stat("g")


# ---- resume, checks, names


async def test_resume_by_rest() -> None:
    """REST comes right before STOR or RETR."""
    async with ScriptedFtp() as server, server.session() as module:
        server.files["f"] = b"abcXXX"
        assert await module.put("f", from_byte(b"abcdef", 3), offset=3) == 3
        assert server.files == {"f": b"abcdef"}
        assert await content_of(module, "f", offset=4) == b"ef"
        assert server.verbs() == ["EPSV", "REST", "STOR", "EPSV", "REST", "RETR"]


@pytest.mark.parametrize("way", ["no ability", "option"])
async def test_resume_by_appe(way: str) -> None:
    """Only if the remote file ends exactly there."""
    async with ScriptedFtp() as server:
        if way == "no ability":
            server.answers["FEAT"] = [b"502 no\r\n"]
        async with server.session(use_append=way == "option") as module:
            server.files["f"] = b"abc"
            assert await module.put("f", from_byte(b"abcdef", 3), offset=3) == 3
            assert server.files == {"f": b"abcdef"}
            assert "APPE f" in server.commands
            with pytest.raises(RemoteVerify):
                await module.put("f", from_byte(b"abcdef", 3), offset=3)
            assert server.files == {"f": b"abcdef"}


@pytest.mark.parametrize(("verb", "answer"), [("REST", b"502 no\r\n"), ("STOR", b"451 no\r\n")])
async def test_a_server_that_does_not_resume(verb: str, answer: bytes) -> None:
    """Told as a difference, so that the next attempt begins at zero."""
    async with ScriptedFtp() as server, server.session() as module:
        server.answers[verb] = [answer]
        with pytest.raises(RemoteVerify):
            await module.put("f", from_byte(b"abcdef", 3), offset=3)
        assert await module.alive()


@pytest.mark.parametrize("size", [4, 3])
async def test_no_final_reply_but_a_second_look(size: int) -> None:
    """`retryAfterTimeoutOnCheck`: a new login compares the size."""

    async def mute(session: Session, rest: str) -> None:
        session.say("150 go on")
        await session.accept()
        session.server.files[rest] = (await session.receive())[:size]
        session.close_data()

    async with ScriptedFtp() as server:
        server.answers["STOR"] = [mute]
        async with server.session(timeouts=SHORT, retry_check=True, directory="in") as module:
            if size == 4:
                assert await module.put("f", BytesSource(b"abcd")) == 4
                await module.rename("f", "g", replace=True)
                assert server.files == {"g": b"abcd"}
            else:
                with pytest.raises(RemoteTimeout, match="3 of 4"):
                    await module.put("f", BytesSource(b"abcd"))
        assert server.commands.count("USER me") == 2
        assert server.commands.count("CWD in") == 2
        with pytest.raises(RemoteTimeout):
            async with server.session(timeouts=SHORT) as module:
                await module.put("f", BytesSource(b"abcd"))


async def test_hooks() -> None:
    """In their order, with the written name; a refused one fails the act."""
    hooks: dict[str, Any] = {
        "post_connect": "SITE A; SITE B",
        "pre_put": "SITE PRE $filename",
        "post_put": "SITE POST $filename",
        "pre_get": "SITE FETCH $filename",
        "post_get": "SITE FETCHED $filename",
        "pre_close": "SITE END",
    }
    async with ScriptedFtp() as server:
        server.answers["SITE"] = [b"200 ok\r\n"]
        async with server.session(**hooks) as module:
            await module.put("f.tmp", BytesSource(b"x"))
            await content_of(module, "f.tmp")
            assert server.commands[4:] == [
                "SITE A",
                "SITE B",
                "SITE PRE f.tmp",
                "EPSV",
                "STOR f.tmp",
                "SITE POST f.tmp",
                "SITE FETCH f.tmp",
                "EPSV",
                "RETR f.tmp",
                "SITE FETCHED f.tmp",
            ]
        assert server.commands[-2:] == ["SITE END", "QUIT"]
        server.answers["SITE"] = [b"500 no\r\n"]
        with pytest.raises(RemoteError) as caught:
            async with server.session(pre_put="SITE X") as module:
                await module.put("f", BytesSource(b"x"))
        assert caught.value.phase is Phase.HOOK


async def test_a_rename_deletes_only_where_it_must() -> None:
    """Where the server refuses to replace, or the option says so."""
    async with ScriptedFtp() as server, server.session() as module:
        server.files = {"f": b"new", "g": b"old"}
        server.answers["RNTO"] = [b"550 exists\r\n"]

        async def rename(session: Session, rest: str) -> None:
            await session.do_rnto(rest)

        server.answers["RNTO"].append(rename)
        await module.rename("f", "g", replace=True)
        assert server.files == {"g": b"new"}
        verbs = ["RNFR", "RNTO", "SIZE", "MDTM", "DELE", "RNFR", "RNTO"]
        assert server.verbs() == verbs
    async with ScriptedFtp() as server, server.session(delete_on_rename=True) as module:
        server.files = {"f": b"new", "g": b"old"}
        await module.rename("f", "g", replace=True)
        assert server.verbs() == ["DELE", "RNFR", "RNTO"]


async def test_a_refused_rename_deletes_nothing() -> None:
    """The final name is not there, so that it was not in the way."""
    async with ScriptedFtp() as server, server.session() as module:
        server.files = {"f": b"new"}
        server.answers["RNTO"] = [b"553 bad name\r\n"]
        with pytest.raises(RemoteName) as caught:
            await module.rename("f", "g", replace=True)
        assert caught.value.phase is Phase.RENAME
        assert server.files == {"f": b"new"}


async def test_names_with_line_ends_are_never_sent() -> None:
    """In no command."""
    bad = "a\r\nDELE b"
    async with ScriptedFtp() as server, server.session() as module:
        before = list(server.commands)
        for act in (
            module.put(bad, BytesSource(b"x")),
            module.stat(bad),
            module.rename(bad, "c", replace=True),
            module.rename("f", bad, replace=True),
            module.delete(bad),
            module.mkdir(bad),
            module.rmdir(bad),
        ):
            with pytest.raises(RemoteName):
                await act
        with pytest.raises(RemoteName):
            await content_of(module, bad)
        with pytest.raises(RemoteName):
            assert [entry async for entry in module.list(bad)] == []
        assert server.commands == before


async def test_names_are_written_in_the_encoding_of_the_host() -> None:
    """255 is doubled, as telnet wants; what cannot be written is refused."""
    async with ScriptedFtp() as server, server.session(encoding="latin-1") as module:
        await module.put("ÿé", BytesSource(b"x"))
        assert list(server.files) == [b"\xff\xff\xe9".decode(errors="surrogateescape")]
        with pytest.raises(RemoteName):
            await module.stat("漢")


# ---- listings


async def test_nlst_and_questions() -> None:
    """Names, then size and time of each; what has no size is a directory."""
    async with ScriptedFtp() as server:
        server.files = {"f": b"12", "g": b""}
        async with server.session(use_nlst=True) as module:
            server.answers["SIZE"] = [b"213 2\r\n", b"550 no plain file\r\n"]
            found = [entry async for entry in module.list("d")]
            assert [(e.name, e.kind, e.size) for e in found] == [
                ("f", Kind.FILE, 2),
                ("g", Kind.DIRECTORY, None),
            ]
            assert found[0].mtime is not None
        async with server.session(use_nlst=True, ask_each=False) as module:
            assert [entry.name async for entry in module.list("d")] == ["f", "g"]


async def test_a_filter_goes_to_the_server() -> None:
    """Appended to the path of LIST."""
    async with ScriptedFtp() as server, server.session(list_options="-a") as module:
        assert [entry async for entry in module.list("/d", filter_text="*.grib")] == []
        assert server.commands[-1] == "LIST -a /d/*.grib"


async def test_listing_of_what_is_not_there() -> None:
    """An empty answer is looked at twice; names in another encoding are told."""
    async with ScriptedFtp() as server, server.session() as module:
        server.answers["CWD"] = [b"550 none\r\n"]
        with pytest.raises(RemoteMissing):
            assert [entry async for entry in module.list("d")] == []
        server.answers.clear()
        assert [entry async for entry in module.list("d")] == []
        server.files = {"\udcff": b"x", "f": b"x"}
        bad, good = [entry async for entry in module.list("d")]
        assert "utf-8" in bad.error
        assert good.name == "f"


async def test_a_directory_that_looks_like_a_pattern_is_entered() -> None:
    """And left again; if it is none, the pattern goes to the server."""
    async with ScriptedFtp() as server, server.session() as module:
        server.files = {"f": b"x"}
        assert [entry.name async for entry in module.list("d[1]")] == ["f"]
        assert server.verbs() == ["PWD", "CWD", "EPSV", "LIST", "CWD"]
        assert server.commands[-1] == "CWD /"
        server.answers["CWD"] = [b"550 none\r\n"]
        assert [entry.name async for entry in module.list("d*")] == ["f"]
        assert server.commands[-1] == "LIST d*"


async def test_an_endless_line_costs_nothing() -> None:
    """It is one unreadable entry."""

    async def endless(session: Session, rest: str) -> None:
        session.say("150 listing")
        await session.accept()
        await session.send(b"x" * 20_000_000)
        session.say("226 listed")

    async with ScriptedFtp() as server, server.session() as module:
        server.answers["LIST"] = [endless]
        (entry,) = [entry async for entry in module.list("d")]
        assert entry.error
        assert len(entry.name) == 200


async def test_an_idle_session_that_was_closed_is_not_alive() -> None:
    """421 while nobody asked."""
    async with ScriptedFtp() as server, server.session() as module:
        assert await module.alive()
        server.sessions[0].say("421 timeout")
        await until(lambda: not module._session.control.quiet)
        assert not await module.alive()


async def test_listings_of_other_systems() -> None:
    """`acquisition.systemKey` and its neighbours reach the module."""

    async def dos(session: Session, rest: str) -> None:
        session.say("150 listing")
        await session.accept()
        await session.send(b"03-04-25  05:06AM                 1234 a b.nc\r\n")
        session.say("226 listed")

    options = {"acquisition.systemKey": "WINDOWS", "acquisition.serverTimeZoneId": "Europe/Paris"}
    registry = Registry([FtpModule])
    async with ScriptedFtp() as server:
        server.answers["LIST"] = [dos]
        host = Host(
            name="h",
            method="genericFtp",
            host="127.0.0.1",
            options={"ftp.port": server.port, **options},
        )
        access = registry.access(host)
        async with access.module.connect(access.target, access.options, server.around) as module:
            (entry,) = [entry async for entry in module.list("d")]
            module.listing = ListingStyle(system="WINDOWS")  # a directory line says it again
            (again,) = [entry async for entry in module.list("d")]
        assert (entry.name, entry.size) == ("a b.nc", 1234)
        assert entry.mtime == datetime(2025, 3, 4, 4, 6, tzinfo=UTC)
        assert again.mtime == datetime(2025, 3, 4, 5, 6, tzinfo=UTC)
        for bad in ({"acquisition.serverTimeZoneId": "Nowhere/Here"}, {"ftp.passive": "maybe"}):
            with pytest.raises(RemoteConfig):
                registry.access(replace(host, options=bad))
        bad_style = replace(host, options={"ftp.port": server.port, "acquisition.systemKey": "XX"})
        access = registry.access(bad_style)
        async with access.module.connect(access.target, access.options, server.around) as module:
            with pytest.raises(RemoteConfig, match="systemKey"):
                assert [entry async for entry in module.list("d")] == []
