"""Two commands at once: one round trip less for a port and for a new name, where that is safe."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ecpds.model.errors import RemoteMissing, RemoteTimeout
from ecpds.transfer.contract import Timeouts
from ecpds.transfer.source import BytesSource
from tests.protocol.scripted_ftp import ScriptedFtp, Session

SOON = timedelta(milliseconds=300)


async def drops_the_next(session: Session, rest: str) -> None:
    """Open the door, and forget what came in the same packet."""
    port = await session.listen()
    dropped = await session.reader.readline()
    session.server.commands.append(f"dropped {dropped.decode().strip()}")
    session.say(f"229 Extended (|||{port}|)")


async def test_a_second_file_needs_fewer_round_trips() -> None:
    """The first one goes step by step; then the command comes before the answer to EPSV."""
    async with ScriptedFtp() as server, server.session() as module:
        await module.put("a.tmp", BytesSource(b"one"))
        await module.rename("a.tmp", "a", replace=True)
        known: list[bytes] = []

        async def looks(session: Session, rest: str) -> None:
            known.append(await session.reader.readline())
            session.reader.feed_data(known[-1])
            await session.do_epsv(rest)

        server.answers["EPSV"] = [looks]
        await module.put("b.tmp", BytesSource(b"two"))
        await module.rename("b.tmp", "b", replace=True)
        assert known == [b"STOR b.tmp\r\n"]
        assert server.files == {"a": b"one", "b": b"two"}
        one = ["EPSV", "STOR", "RNFR", "RNTO"]
        assert server.verbs() == one + one
        server.answers["RNTO"] = [b"503 what first?\r\n"]
        with pytest.raises(RemoteMissing):
            await module.rename("none", "c", replace=True)
        assert await module.alive()


async def test_what_is_dropped_is_never_sent_so_again() -> None:
    """Boxes on the way may drop it: the attempt fails, and this host gets one at a time."""
    async with ScriptedFtp() as server:
        async with server.session(timeouts=Timeouts(command=SOON, stall=SOON)) as module:
            await module.put("a", BytesSource(b"one"))
            server.answers["EPSV"] = [drops_the_next]
            with pytest.raises(RemoteTimeout):
                await module.put("b", BytesSource(b"two"))
        assert server.commands[-1] == "dropped STOR b"
        assert server.around.memory.learned() == [("ftp", "scripted", "pairs", "no")]
        del server.answers["EPSV"]
        async with server.session() as module:
            for name in ("b", "c"):
                await module.put(name, BytesSource(b"two"))
                await module.rename(name, f"{name}2", replace=True)
        assert server.files == {"a": b"one", "b2": b"two", "c2": b"two"}


async def test_a_refused_port_does_not_lose_the_step() -> None:
    """Both answers are read, and the file goes the other way."""
    async with ScriptedFtp() as server, server.session() as module:
        await module.put("a", BytesSource(b"one"))
        server.answers["EPSV"] = [b"500 what?\r\n"]
        server.answers["STOR"] = [b"425 no port\r\n", Session.do_stor]
        await module.put("b", BytesSource(b"two"))
        assert server.files == {"a": b"one", "b": b"two"}
        assert server.verbs()[-4:] == ["STOR", "EPSV", "PASV", "STOR"]
        assert await module.alive()


async def test_a_session_is_asked_after_silence_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has just answered lives."""
    async with ScriptedFtp() as server, server.session() as module:
        assert await module.alive()
        assert "NOOP" not in server.verbs()
        monkeypatch.setattr(module, "_probe_after", 0.0)
        assert await module.alive()
        assert "NOOP" in server.verbs()
