"""Each declared feature works, each other one raises Unsupported."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ecpds.conformance.case import Case, applies
from ecpds.conformance.site import MIB, Flowing, Site, breaks, pattern, site
from ecpds.model.entry import Kind
from ecpds.model.errors import RemoteError, RemoteMissing, RemoteName, SourceBroke, Unsupported
from ecpds.transfer.contract import Feature, TransferModule
from ecpds.transfer.source import BytesSource

Module = TransferModule[Any]
PART = 8 * MIB  # more than one part of any object store with the options of its case


async def can_list(there: Site, module: Module) -> None:
    there.peer.put("f", b"x")
    assert [entry.name async for entry in module.list(there.remote(""))] == ["f"]


async def can_get(there: Site, module: Module) -> None:
    there.peer.put("f", b"content")
    assert b"".join([block async for block in module.get(there.remote("f"))]) == b"content"


async def can_resume_get(there: Site, module: Module) -> None:
    there.peer.put("f", b"content")
    blocks = [block async for block in module.get(there.remote("f"), offset=3)]
    assert b"".join(blocks) == b"tent"


async def can_put(there: Site, module: Module) -> None:
    assert await module.put(there.remote("f"), BytesSource(b"content")) == 7
    assert there.files() == {"f": b"content"}


async def can_resume_put(there: Site, module: Module) -> None:
    if Feature.ATOMIC_PUT | Feature.RESUME_PUT in module.features:
        await can_resume_an_upload(there, module)
        return
    there.peer.put("f", b"con")
    source = BytesSource(b"content")
    source.start_at(3)
    assert await module.put(there.remote("f"), source, offset=3) == 4
    assert there.files() == {"f": b"content"}


async def can_resume_an_upload(there: Site, module: Module) -> None:
    """Nothing is seen of it before its end; dropped it is gone."""
    content, half = pattern(2 * PART), pattern(2 * PART)[:PART]
    for name in ("f", "g"):
        with pytest.raises(SourceBroke):
            await module.put(there.remote(name), Flowing(half, announced=len(content), end=breaks))
        assert there.files() == {}
        state = module.upload
        assert 0 < len(state.encode()) <= 2000
        reached = await module.uploaded(there.remote(name), state)
        assert 0 < reached <= PART
        if name == "f":
            source = BytesSource(content)
            source.start_at(reached)
            sent = await module.put(there.remote(name), source, offset=reached)
            assert sent == len(content) - reached
            assert there.files() == {"f": content}
            there.peer.remove("f")
        else:
            await module.forget(there.remote(name), state)
            await module.forget(there.remote(name), state)
            left = await module.uploaded(there.remote(name), state)
            assert left == 0 or not there.case.drops_uploads


async def can_tell_sizes(there: Site, module: Module) -> None:
    there.peer.put("f", b"content")
    entry = await module.stat(there.remote("f"))
    assert (entry.size, entry.kind) == (7, Kind.FILE)
    with pytest.raises(RemoteMissing):
        await module.stat(there.remote("none"))


async def can_delete(there: Site, module: Module) -> None:
    there.peer.put("f", b"content")
    await module.delete(there.remote("f"))
    assert there.files() == {}
    with pytest.raises(RemoteMissing):
        await module.delete(there.remote("f"))


async def can_rename(there: Site, module: Module) -> None:
    there.peer.put("f", b"content")
    await module.rename(there.remote("f"), there.remote("g"), replace=True)
    assert there.files() == {"g": b"content"}
    with pytest.raises(RemoteError):
        await module.rename(there.remote("f"), there.remote("h"), replace=True)
    assert there.files() == {"g": b"content"}


async def can_replace(there: Site, module: Module) -> None:
    there.peer.put("f", b"new")
    there.peer.put("g", b"old")
    await module.rename(there.remote("f"), there.remote("g"), replace=True)
    assert there.files() == {"g": b"new"}


async def can_make_directories(there: Site, module: Module) -> None:
    await module.mkdir(there.remote("d"))
    await module.mkdir(there.remote("d"))
    assert there.peer.has_directory("d")
    with pytest.raises(RemoteName):
        await module.mkdir(there.remote("a/b"))
    there.peer.put("f", b"x")
    with pytest.raises(RemoteError):
        await module.mkdir(there.remote("f"))
    assert there.files() == {"f": b"x"}


async def can_remove_directories(there: Site, module: Module) -> None:
    there.peer.mkdir("d")
    await module.rmdir(there.remote("d"))
    assert not there.peer.has_directory("d")
    there.peer.put("e/f", b"x")
    with pytest.raises(RemoteError):
        await module.rmdir(there.remote("e"))
    assert there.files() == {"e/f": b"x"}


async def can_put_all_or_nothing(there: Site, module: Module) -> None:
    await module.put(there.remote("f"), BytesSource(b"content"))
    assert there.files() == {"f": b"content"}


async def can_tell_digests(there: Site, module: Module) -> None:
    there.peer.put("f", b"content")
    found = await module.checksum(there.remote("f"), "sha256")
    assert found in (None, hashlib.sha256(b"content").hexdigest())
    assert await module.checksum(there.remote("f"), "no-such-digest") is None


async def can_copy(there: Site, module: Module) -> None:
    there.peer.put("f", b"new")
    there.peer.put("g", b"old")
    await module.copy(there.remote("f"), there.remote("g"))
    await module.copy(there.remote("f"), there.remote("two words"))
    assert there.files() == {"f": b"new", "g": b"new", "two words": b"new"}
    with pytest.raises(RemoteMissing):
        await module.copy(there.remote("none"), there.remote("h"))


ACTS: dict[Feature, Callable[[Site, Module], Awaitable[None]]] = {
    Feature.LIST: can_list,
    Feature.GET: can_get,
    Feature.PUT: can_put,
    Feature.RESUME_GET: can_resume_get,
    Feature.RESUME_PUT: can_resume_put,
    Feature.SIZE: can_tell_sizes,
    Feature.DELETE: can_delete,
    Feature.RENAME: can_rename,
    Feature.REPLACE: can_replace,
    Feature.MKDIR: can_make_directories,
    Feature.RMDIR: can_remove_directories,
    Feature.ATOMIC_PUT: can_put_all_or_nothing,
    Feature.CHECKSUM: can_tell_digests,
    Feature.COPY: can_copy,
}


def test_every_feature_has_its_test() -> None:
    """A new feature needs a line above."""
    assert set(ACTS) == set(Feature) - {Feature.NONE}


@applies()
@pytest.mark.parametrize("feature", list(ACTS), ids=lambda f: str(f.name).lower())
async def test_a_declared_feature_works_and_no_other(
    case: Case, feature: Feature, tmp_path: Path
) -> None:
    """Declared by the module, or narrowed by the case for a server that does less."""
    async with site(case, tmp_path) as there:
        if feature in case.features:
            async with there.session() as module:
                await ACTS[feature](there, module)
        elif feature not in case.module.features and not implied(feature):
            with pytest.raises(Unsupported):
                async with there.session() as module:
                    await ACTS[feature](there, module)


def implied(feature: Feature) -> bool:
    """Tell whether the feature is a property of another act and cannot be asked for alone."""
    return feature in (Feature.REPLACE, Feature.ATOMIC_PUT)


@applies(Feature.RENAME)
async def test_a_rename_that_may_not_replace_does_not(case: Case, tmp_path: Path) -> None:
    """Without `replace` an existing file stays."""
    async with site(case, tmp_path) as there:
        there.peer.put("f", b"new")
        there.peer.put("g", b"old")
        with pytest.raises(RemoteError):
            async with there.session() as module:
                await module.rename(there.remote("f"), there.remote("g"), replace=False)
        assert there.files() == {"f": b"new", "g": b"old"}
