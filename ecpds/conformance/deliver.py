"""Files arrive whole, under every name, in place of what was there."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from ecpds.conformance.case import ODD_NAMES, Case, applies
from ecpds.conformance.site import KIB, MIB, Flowing, pattern, site
from ecpds.model.errors import InvalidName, RemoteName, RemoteVerify
from ecpds.transfer.contract import Feature, Sidecar

PUT = Feature.PUT
SIZES = (
    0,
    1,
    32 * KIB - 1,
    32 * KIB,
    32 * KIB + 1,
    255 * KIB,
    256 * KIB,
    256 * KIB + 1,
    5 * MIB + 17,
)


@applies(PUT)
async def test_every_name_arrives(case: Case, tmp_path: Path) -> None:
    """The file on the disk has exactly the given name."""
    names = [name for name in ODD_NAMES if name not in case.refused_names]
    async with site(case, tmp_path) as there:
        for name in names:
            await there.deliver(f"dir of {len(names)}/{name}", name.encode())
        assert there.files() == {f"dir of {len(names)}/{name}": name.encode() for name in names}


@applies(PUT)
async def test_names_with_control_characters_are_refused(case: Case, tmp_path: Path) -> None:
    """A line end in a name could become a second command."""
    async with site(case, tmp_path) as there:
        for name in ("a\nb", "a\r\nDELE b", "nul\0", "dir/", ""):
            with pytest.raises(InvalidName):
                await there.deliver(name, b"x")
        assert there.files() == {}


@applies(PUT)
async def test_every_size_arrives(case: Case, tmp_path: Path) -> None:
    """Around the sizes of blocks and packets, and nothing at all."""
    async with site(case, tmp_path) as there:
        for size in SIZES:
            delivered = await there.deliver(f"{size}", pattern(size))
            assert (delivered.sent, delivered.path) == (size, there.remote(f"{size}"))
            assert delivered.size in (size, -1)
        assert there.files() == {f"{size}": pattern(size) for size in SIZES}
        assert there.partial is None


@applies(PUT)
@pytest.mark.parametrize("size", [0, 700 * KIB])
async def test_content_of_unknown_size_arrives(case: Case, tmp_path: Path, size: int) -> None:
    """Compressed on the way, nobody knows how long it will be."""
    async with site(case, tmp_path) as there:
        source = Flowing(pattern(size), announced=-1)
        delivered = await there.deliver("flow", source, size=-1)
        assert delivered.sent == size
        assert there.files() == {"flow": pattern(size)}


@applies(PUT | Feature.MKDIR)
async def test_missing_directories_are_made(case: Case, tmp_path: Path) -> None:
    """All levels, once; later files go straight there."""
    async with site(case, tmp_path) as there:
        await there.deliver("a/b c/d/1", b"one")
        await there.deliver("a/b c/d/2", b"two")
        await there.deliver("a/e/3", b"three")
        assert there.files() == {"a/b c/d/1": b"one", "a/b c/d/2": b"two", "a/e/3": b"three"}


@applies(PUT | Feature.MKDIR)
async def test_a_directory_that_went_away_is_made_again(case: Case, tmp_path: Path) -> None:
    """What is known of directories is only a hint."""
    async with site(case, tmp_path) as there:
        await there.deliver("a/b/1", b"one")
        there.peer.remove("a")
        await there.deliver("a/b/1", b"again")
        assert there.files() == {"a/b/1": b"again"}


@applies(PUT | Feature.MKDIR)
async def test_missing_directories_stay_missing_when_told(case: Case, tmp_path: Path) -> None:
    """`mkdirs = no`."""
    async with site(case, tmp_path) as there:
        access = there.access(**{f"{case.module.options.prefix}.mkdirs": "no"})
        with pytest.raises(RemoteName):
            await there.deliver("a/1", b"one", access=access)
        assert there.files() == {}
        assert not there.peer.has_directory("a")


@applies(PUT)
async def test_an_existing_file_is_replaced(case: Case, tmp_path: Path) -> None:
    """By a shorter one, too."""
    async with site(case, tmp_path) as there:
        there.peer.put("f", pattern(MIB))
        await there.deliver("f", b"short")
        assert there.files() == {"f": b"short"}


@applies(PUT | Feature.RENAME)
async def test_without_a_temporary_name_the_file_is_replaced_too(
    case: Case, tmp_path: Path
) -> None:
    """`usetmp = no`."""
    async with site(case, tmp_path) as there:
        there.peer.put("f", pattern(MIB))
        prefix = case.module.options.prefix
        await there.deliver("f", b"short", access=there.access(**{f"{prefix}.usetmp": "no"}))
        assert there.files() == {"f": b"short"}


@applies(PUT)
async def test_many_at_once_do_not_disturb_each_other(case: Case, tmp_path: Path) -> None:
    """Different names, each in a session of its own, in one new directory."""
    async with site(case, tmp_path) as there:
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                content = pattern(300 * KIB, seed=number)
                group.create_task(there.deliver(f"new/{number}", content))
        assert there.files() == {f"new/{n}": pattern(300 * KIB, seed=n) for n in range(8)}


@applies(PUT)
async def test_two_of_one_name_leave_one_of_them_whole(case: Case, tmp_path: Path) -> None:
    """Never a mixture: each writes under a name of its own, or all or nothing.

    In the latter case one may find the other's file when it compares sizes.
    """
    one, other = pattern(3 * MIB, seed=1), pattern(2 * MIB, seed=2)
    async with site(case, tmp_path) as there:

        async def send(content: bytes) -> None:
            with suppress(*([RemoteVerify] if Feature.ATOMIC_PUT in case.features else [])):
                await there.deliver("same", content)

        async with asyncio.TaskGroup() as group:
            group.create_task(send(one))
            group.create_task(send(other))
        assert list(there.files()) == ["same"]
        assert there.files()["same"] in (one, other)


@applies(PUT)
async def test_the_sidecar_lies_beside_the_file(case: Case, tmp_path: Path) -> None:
    """Written after it."""
    async with site(case, tmp_path) as there:
        sidecar = Sidecar(extension=".md5", content=b"0123456789abcdef0123456789abcdef")
        await there.deliver("d/f", b"content", sidecars=[sidecar])
        assert there.files() == {"d/f": b"content", "d/f.md5": sidecar.content}


@applies(PUT | Feature.GET | Feature.SIZE)
async def test_a_digest_is_compared_when_told(case: Case, tmp_path: Path) -> None:
    """The server's own or by reading again; what differs is not published."""
    right = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
    async with site(case, tmp_path) as there:
        access = there.access(ectrans__verify="hash")
        await there.deliver("f", b"hello world", access=access, digests={"sha256": right})
        assert there.files() == {"f": b"hello world"}
        with pytest.raises(RemoteVerify, match="sha256"):
            await there.deliver("g", b"other words", access=access, digests={"sha256": right})
        if Feature.RENAME in case.features:
            assert there.files() == {"f": b"hello world"}


@applies(PUT | Feature.RENAME)
async def test_a_written_name_follows_the_options(case: Case, tmp_path: Path) -> None:
    """Prefix, base, random part and suffix, in the directory of the file."""
    async with site(case, tmp_path) as there:
        prefix = case.module.options.prefix
        access = there.access(**{f"{prefix}.prefix": ".in ", f"{prefix}.suffix": ".part"})
        await there.deliver("d/a.grib", b"x", access=access)
        written = there.partials[0]
        assert written is not None
        tail = written.name.removeprefix(there.remote("d/.in a.grib."))
        assert tail.endswith(".part")
        assert len(tail) == len("01234567.part")
        assert there.files() == {"d/a.grib": b"x"}
