"""What goes wrong is told by its right name, leaves no partial file, and can be tried again."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import timedelta
from pathlib import Path

import pytest

from ecpds.conformance.case import Case, applies
from ecpds.conformance.faultproxy import Channel, Way, drop, share, stall
from ecpds.conformance.site import KIB, MIB, Flowing, Site, breaks, descriptor_of, pattern, site
from ecpds.conformance.waiting import until
from ecpds.model.errors import (
    Phase,
    RemoteAuth,
    RemoteCancelled,
    RemoteError,
    RemoteMissing,
    RemotePin,
    RemoteTimeout,
    RemoteTransient,
    SourceBroke,
    Unsupported,
)
from ecpds.transfer.contract import Feature, Partial
from ecpds.transfer.deliver import remove_partial
from ecpds.transfer.source import ContentSource

PUT = Feature.PUT
SIZE = 4 * MIB
BIG = 8 * MIB  # more than any module has under way without an answer


# ---- our side breaks


@applies(PUT)
async def test_a_source_that_breaks_leaves_no_file(case: Case, tmp_path: Path) -> None:
    """The caller sees the source's own error; the remote side keeps what it had."""
    async with site(case, tmp_path) as there:
        there.peer.put("old", b"old")
        for name in ("old", "new"):
            source = Flowing(pattern(SIZE // 2), announced=SIZE, end=breaks)
            with pytest.raises(SourceBroke):
                await there.deliver(name, source)
        assert there.files() == {"old": b"old"}
        assert there.partial is None


@applies(PUT)
@pytest.mark.parametrize("size", [100 * KIB, SIZE])
async def test_a_source_that_ends_short_leaves_no_file(
    case: Case, tmp_path: Path, size: int
) -> None:
    """A file that was cut under our hands, small enough for the loop and large."""
    async with site(case, tmp_path) as there:
        with descriptor_of(pattern(size // 2)) as descriptor:
            source = ContentSource(descriptor, size, threads=there.around.threads)
            with pytest.raises(SourceBroke):
                await there.deliver("f", source)
        assert there.files() == {}


@applies(PUT)
async def test_a_stop_half_way_leaves_no_file(case: Case, tmp_path: Path) -> None:
    """An operator stops the transfer while the source has nothing to give."""
    async with site(case, tmp_path) as there:
        source = Flowing(pattern(SIZE // 2), announced=SIZE, end=asyncio.Event().wait)

        async def stop() -> None:
            await until(lambda: source.meter.moved >= SIZE // 2)
            source.meter.stop("stopped by an operator")

        async with asyncio.TaskGroup() as group:
            group.create_task(stop())
            with pytest.raises(RemoteCancelled, match="operator"):
                await there.deliver("f", source)
        assert there.files() == {}


@applies(PUT)
async def test_a_cancelled_delivery_leaves_no_file(case: Case, tmp_path: Path) -> None:
    """The task is cancelled half-way, as when the daemon stops."""
    async with site(case, tmp_path) as there:
        source = Flowing(pattern(SIZE // 2), announced=SIZE, end=asyncio.Event().wait)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(there.deliver("f", source))
            await until(lambda: source.meter.moved >= SIZE // 2)
            task.cancel()
        assert task.cancelled()
        assert there.files() == {}


@applies(PUT | Feature.RESUME_PUT)
async def test_a_cancelled_delivery_goes_on_later(case: Case, tmp_path: Path) -> None:
    """With a version the partial file stays, under its own name, and is not sent again."""
    async with site(case, tmp_path) as there:
        there.peer.put("f", b"old")
        source = Flowing(pattern(BIG // 2), announced=BIG, end=asyncio.Event().wait)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(there.deliver("f", source, version="1"))
            await until(lambda: source.meter.moved >= BIG // 2)
            await until(lambda: there.modules[-1].confirmed != 0)  # something has arrived
            task.cancel()
        assert there.files()["f"] == b"old"
        left = there.partial
        assert left is not None
        delivered = await there.deliver("f", pattern(BIG), version="1", partial=left)
        assert 0 < delivered.resumed_at <= BIG // 2
        assert delivered.sent == BIG - delivered.resumed_at
        assert there.files() == {"f": pattern(BIG)}
        assert there.partial is None


@applies(PUT | Feature.RESUME_PUT)
async def test_a_partial_file_of_another_version_is_removed(case: Case, tmp_path: Path) -> None:
    """Nobody mixes two contents."""
    async with site(case, tmp_path) as there:
        there.peer.put("f.0.tmp", pattern(KIB))
        left = Partial(name=there.remote("f.0.tmp"), offset=KIB, version="1")
        delivered = await there.deliver("f", pattern(SIZE, seed=9), version="2", partial=left)
        assert delivered.resumed_at == 0
        assert there.files() == {"f": pattern(SIZE, seed=9)}


@applies(PUT | Feature.RESUME_PUT)
async def test_a_partial_file_that_is_gone_is_sent_anew(case: Case, tmp_path: Path) -> None:
    """Somebody cleaned up on the remote side."""
    async with site(case, tmp_path) as there:
        left = Partial(name=there.remote("f.0.tmp"), offset=KIB, version="1")
        await there.deliver("f", pattern(SIZE), version="1", partial=left)
        assert there.files() == {"f": pattern(SIZE)}
        async with there.session() as module:
            await remove_partial(module, left)


@applies(PUT | Feature.RESUME_PUT, without=Feature.ATOMIC_PUT)
async def test_what_is_there_is_continued_when_told(case: Case, tmp_path: Path) -> None:
    """`if_target_exist = resume` without temporary names; a longer file is left as it is."""
    async with site(case, tmp_path) as there:
        access = there.access(**{f"{case.module.options.prefix}.usetmp": "no"})
        there.peer.put("f", pattern(SIZE)[: SIZE // 3])
        delivered = await there.deliver("f", pattern(SIZE), access=access, append=True)
        assert delivered.sent == SIZE - SIZE // 3
        assert there.files() == {"f": pattern(SIZE)}
        again = await there.deliver("f", pattern(SIZE), access=access, append=True)
        assert again.sent == 0
        assert there.files() == {"f": pattern(SIZE)}


@applies(PUT)
async def test_a_file_that_was_there_before_is_never_deleted(case: Case, tmp_path: Path) -> None:
    """Even without a temporary name: what the attempt did not create stays, if damaged."""
    async with site(case, tmp_path) as there:
        there.peer.put("old", b"old")
        access = there.access(**direct(case))
        for name in ("old", "new"):
            source = Flowing(pattern(SIZE // 2), announced=SIZE, end=breaks)
            with pytest.raises(SourceBroke):
                await there.deliver(name, source, access=access)
        assert list(there.files()) == ["old"]


def direct(case: Case) -> dict[str, object]:
    """Return the option that turns temporary names off, where the module has one."""
    known = "usetmp" in str(case.module.options.__dataclass_fields__.values())
    return {f"{case.module.options.prefix}.usetmp": "no"} if known else {}


# ---- the connection breaks


@applies(PUT, remote=True)
@pytest.mark.parametrize("percent", [1, 50, 99])
async def test_a_dropped_upload_goes_on(case: Case, tmp_path: Path, percent: int) -> None:
    """The failed attempt is told as one that may be tried again; the next one makes it whole."""
    content = pattern(BIG)
    async with site(case, tmp_path, fault=drop(after=share(percent, BIG))) as there:
        there.peer.put("f", b"old")
        with pytest.raises(RemoteTransient):
            await there.deliver("f", content, version="1")
        assert there.proxy is not None
        assert there.proxy.struck == 1
        assert there.files()["f"] == b"old"
        delivered = await there.deliver("f", content, version="1", partial=there.partial)
        assert there.files() == {"f": content}
        if Feature.RESUME_PUT in case.features and percent > 1:
            assert delivered.resumed_at > 0


@applies(PUT, remote=True)
async def test_an_upload_without_the_final_answer_is_not_done(case: Case, tmp_path: Path) -> None:
    """All bytes went out and nothing comes back any more."""
    async with site(case, tmp_path, fault=stall(after=SIZE - 64 * KIB)) as there:
        access = there.access(**impatient())
        begun = time.monotonic()
        with pytest.raises(RemoteError) as caught:
            await there.deliver("f", pattern(SIZE), access=access)
        assert isinstance(caught.value, RemoteTransient)
        assert time.monotonic() - begun < 15
        assert "f" not in there.files()


@applies(PUT, remote=True)
async def test_a_stalled_upload_ends(case: Case, tmp_path: Path) -> None:
    """No byte moves, both connections stay open."""
    async with site(case, tmp_path, fault=stall(after=SIZE // 2)) as there:
        access = there.access(**impatient())
        begun = time.monotonic()
        with pytest.raises(RemoteTimeout):
            await there.deliver("f", pattern(4 * SIZE), access=access)
        assert time.monotonic() - begun < 15
        assert "f" not in there.files()


def impatient() -> dict[str, object]:
    """Return options under which a silent peer is given up at once."""
    return {
        "ectrans.streamTimeout": "400ms",
        "ectrans.sizeTimeOut": "400ms",
        "ectrans.delTimeOut": "400ms",
        "ectrans.closeTimeOut": "400ms",
    }


@applies(remote=True)
async def test_nobody_listens(case: Case, tmp_path: Path) -> None:
    """Refused connections can be tried again."""
    async with site(case, tmp_path, proxied=True) as there:
        assert there.proxy is not None
        there.proxy.refuse()
        with pytest.raises(RemoteTransient) as caught:
            await use(there)
        assert caught.value.phase is Phase.CONNECT
        assert caught.value.remote_code == "ECONNREFUSED"


@applies(remote=True)
async def test_somebody_listens_and_says_nothing(case: Case, tmp_path: Path) -> None:
    """The time to connect covers greeting, negotiation and login."""
    silent = stall(after=0, way=Way.DOWN, times=None)
    async with site(case, tmp_path, proxied=True) as there:
        assert there.proxy is not None
        there.proxy.fault = silent if there.peer.scheme not in ("ftp", "ftps") else None
        if there.proxy.fault is None:
            there.proxy.fault = stall(after=0, way=Way.DOWN, times=None, channel=Channel.CONTROL)
        begun = time.monotonic()
        with pytest.raises(RemoteTimeout):
            await use(there, ectrans__connectTimeOut="400ms", **impatient())
        assert time.monotonic() - begun < 10


@applies(remote=True, where=lambda case: case.has_host)
async def test_nobody_has_that_name(case: Case, tmp_path: Path) -> None:
    """The phase tells that the name was not found."""
    async with site(case, tmp_path) as there:
        with pytest.raises(RemoteTransient) as caught:
            await use(there, host="nobody.invalid")
        assert caught.value.phase is Phase.RESOLVE


# ---- who we are, who they are


@applies(where=lambda case: case.has_login and not case.is_by_key)
async def test_a_wrong_password_is_refused_once(case: Case, tmp_path: Path) -> None:
    """No second try with the same login: accounts get locked that way."""
    async with site(case, tmp_path, proxied=True) as there:
        with pytest.raises(RemoteAuth) as caught:
            await use(there, password="wrong", ectrans__retryCount=3)
        assert caught.value.phase is Phase.AUTH
        assert not caught.value.retryable
        assert there.proxy is not None
        assert there.proxy.accepted == 1
        assert "wrong" not in f"{caught.value} {caught.value.facts}"


@applies(where=lambda case: case.has_login)
async def test_an_unknown_user_is_refused(case: Case, tmp_path: Path) -> None:
    """The same class as for a wrong password."""
    async with site(case, tmp_path) as there:
        with pytest.raises(RemoteAuth):
            await use(there, login="nobody-at-all")


@applies(where=lambda case: case.wrong_trust is not None)
async def test_a_wrong_server_gets_nothing(case: Case, tmp_path: Path) -> None:
    """Another key or certificate than expected: no login is sent, no retry made."""
    assert case.wrong_trust is not None
    async with site(case, tmp_path, proxied=True) as there:
        there.extra.update(case.wrong_trust)
        with pytest.raises(RemotePin) as caught:
            await use(there, ectrans__retryCount=3)
        assert caught.value.phase is Phase.TLS
        assert not caught.value.retryable
        assert there.proxy is not None
        assert there.proxy.accepted == 1
        if there.peer.host_key:
            assert re.search(re.escape(there.peer.host_key), str(caught.value))


async def use(there: Site, **options: object) -> None:
    """Open a session and do one act in it: some protocols only speak then."""
    access = there.access(**options)
    async with there.session(access) as module:
        try:
            if Feature.SIZE in there.case.features:
                await module.stat(there.remote("any"))
        except RemoteMissing:
            return
        except Unsupported:
            return


@applies(PUT)
async def test_a_slow_transfer_is_ended_when_told(case: Case, tmp_path: Path) -> None:
    """`upload.interruptSlow`: the first window passes, a later one does not."""
    async with site(case, tmp_path) as there:
        access = there.access(
            upload__interruptSlow="yes",
            upload__minimumDuration="200ms",
            upload__minimumRate="100KB",
            upload__maximumDuration="1h",
        )
        source = Flowing(pattern(SIZE), announced=2 * SIZE, end=asyncio.Event().wait)
        with pytest.raises(RemoteTimeout, match="slower"):
            await there.deliver("f", source, access=access)
        assert there.files() == {}
        assert access.upload.minimum_duration == timedelta(milliseconds=200)
