"""Deliveries of compressed content: on the way, made ahead, and when it is not worth it."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ecpds.model.errors import InputError
from ecpds.model.status import TransferStatus
from ecpds.store import files, history, outgoing
from tests.flow.test_engine import Bench, bench, plain
from tests.waiting import until

TEXT = b"temperature 271.3 K at 850 hPa\n" * 20_000


def site(rig: Bench, filter_name: str, ahead: str = "none", **options: Any) -> Mapping[str, Any]:
    """Return a site whose host and destination compress."""
    document = plain(rig, filter_name=ahead)
    sender = next(host for host in document["hosts"] if host["name"] == "out")
    sender["filter_name"] = filter_name
    sender["options"] = sender.get("options", {}) | {
        key.replace("__", "."): value for key, value in options.items()
    }
    return document


async def _sent(rig: Bench, target: str, content: bytes) -> tuple[int, list[Path]]:
    number = await rig.push(target, content)
    await rig.wait(lambda all_: all(one.status is TransferStatus.DONE for one in all_))
    return number, sorted(path for path in rig.out.rglob("*") if path.is_file())


async def test_content_is_compressed_on_its_way(tmp_path: Path) -> None:
    async with bench(tmp_path) as rig:
        await rig.apply(site(rig, "zstd:10MB:lz4", ectrans__createChecksum="yes"))
        number, (packed, sidecar) = await _sent(rig, "a.grib", TEXT)
        assert packed.name == "a.grib.zst"
        assert zstandard.ZstdDecompressor().decompressobj().decompress(packed.read_bytes()) == TEXT
        assert sidecar.name == "a.grib.zst.md5"
        assert sidecar.read_text() == hashlib.md5(packed.read_bytes()).hexdigest()
        transfer = await rig.get(number)
        assert transfer.sent == packed.stat().st_size < len(TEXT) // 10
        assert "zstd" in transfer.comment
        steps = await rig.node.core.store.read(history.steps, number)
        assert "% of 620000" in steps[-1].comment
        await rig.node.engine.eventlog.drain()
        log = (rig.node.settings.data_dir / "log" / "events.log").read_text()
        assert "Compressed=zstd;CompressedOnTheFly=true" in log


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({"ectrans__filterpattern": r".*\.grib"}, "a.txt"),
        ({"ectrans__filterMinimumSize": "1MB"}, "a.grib"),
    ],
)
async def test_what_no_pattern_or_size_asks_for_is_sent_as_it_is(
    options: dict[str, str], target: str, tmp_path: Path
) -> None:
    async with bench(tmp_path) as rig:
        await rig.apply(site(rig, "gzip", **options))
        _, (there,) = await _sent(rig, target, TEXT)
        assert (there.name, there.read_bytes()) == (target, TEXT)


async def test_a_destination_compresses_once_for_all(tmp_path: Path) -> None:
    async with bench(tmp_path) as rig:
        await rig.apply(site(rig, "none", "gzip"))
        number, (packed,) = await _sent(rig, "a.grib", TEXT)
        assert packed.name == "a.grib.gz"
        assert gzip.decompress(packed.read_bytes()) == TEXT
        store = rig.node.core.store
        file = (await rig.get(number)).data_file
        copy = await store.read(outgoing.squeezed, file, None, "gzip")
        assert copy is not None
        kept = rig.node.core.objects.path(copy.volume, copy.object_key)
        assert kept.read_bytes() == packed.read_bytes()

        await rig.push("b.grib", TEXT, standby=True)  # made ahead, before anybody sends it
        await until(lambda: sum(path.name.isalnum() for path in kept.parent.iterdir()) >= 4)


async def test_a_copy_that_is_not_smaller_is_not_used(tmp_path: Path) -> None:
    noise = os.urandom(50_000)
    async with bench(tmp_path) as rig:
        await rig.apply(site(rig, "none", "gzip"))
        number, (there,) = await _sent(rig, "noise.bin", noise)
        assert (there.name, there.read_bytes()) == ("noise.bin", noise)
        file = (await rig.get(number)).data_file
        copy = await rig.node.core.store.read(outgoing.squeezed, file, None, "gzip")
        assert copy is not None
        assert copy.size == -1


async def test_a_copy_goes_with_its_content(tmp_path: Path) -> None:
    async with bench(tmp_path) as rig:
        await rig.apply(site(rig, "none", "zstd"))
        number, _ = await _sent(rig, "a.grib", TEXT)
        store, objects = rig.node.core.store, rig.node.core.objects
        file = (await rig.get(number)).data_file
        copy = await store.read(outgoing.squeezed, file, None, "zstd")
        assert copy is not None
        await rig.push("a.grib", TEXT + b"more", on_duplicate="overwrite")
        await rig.wait(lambda all_: all(one.status is TransferStatus.DONE for one in all_))
        await rig.node.engine.attempts.packing.work_ahead()
        assert not objects.path(copy.volume, copy.object_key).exists()
        assert await store.read(outgoing.squeezed, file, None, "zstd") is None


async def test_copies_are_no_orphans(tmp_path: Path) -> None:
    """The sweep after a start leaves them."""
    async with bench(tmp_path) as rig:
        await rig.apply(site(rig, "none", "gzip"))
        number, _ = await _sent(rig, "a.grib", TEXT)
        store = rig.node.core.store
        copy = await store.read(outgoing.squeezed, (await rig.get(number)).data_file, None, "gzip")
        assert copy is not None
        keys = [copy.object_key, "20000101/00/nobody"]
        assert await store.read(files.unknown_objects, copy.volume, keys) == keys[1:]


@pytest.mark.parametrize(
    ("host", "destination", "words"),
    [
        ({"filter_name": "gzp"}, {}, "gzip"),
        ({"options": {"ectrans.filterpattern": "["}}, {}, "filterpattern"),
        ({"options": {"ectrans.filterLevel": "zstd=99"}}, {}, "filterLevel"),
        ({}, {"filter_name": "zstd:x"}, "size"),
        ({}, {"options": {"ectrans.filterpattern": "["}}, "filterpattern"),
    ],
)
async def test_what_cannot_be_meant_is_refused_when_it_is_saved(
    host: dict[str, Any], destination: dict[str, Any], words: str, tmp_path: Path
) -> None:
    async with bench(tmp_path) as rig:
        document = plain(rig, **destination)
        next(one for one in document["hosts"] if one["name"] == "out").update(host)
        with pytest.raises(InputError, match=words):
            await rig.apply(document)
