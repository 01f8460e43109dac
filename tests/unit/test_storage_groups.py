"""Transfer groups choose volumes: a group with volumes of its own uses only these."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecpds.base.clock import SystemClock
from ecpds.base.settings import load
from ecpds.base.threads import Threads
from ecpds.engine.submit import storage_group
from ecpds.model.destination import Destination
from ecpds.model.errors import StorageFull
from ecpds.objects.directory import ObjectDirectory
from ecpds.objects.volume import Volume
from tests.unit.test_submit import entry


@contextmanager
def objects(folder: Path, **groups: tuple[str, ...]) -> Iterator[ObjectDirectory]:
    """Give volumes of these names for these groups."""
    volumes = [Volume(name, folder / name, groups=given) for name, given in groups.items()]
    threads = Threads()
    made = ObjectDirectory(volumes, threads=threads, clock=SystemClock())
    try:
        yield made
    finally:
        made.close()
        threads.close()


def used(made: ObjectDirectory, group: str) -> set[str]:
    """Return the volumes that twenty new objects of a group go to."""
    found = set()
    for _ in range(20):
        upload = made.create(1, group=group)
        found.add(upload.volume.name)
        upload.discard()
        upload.close()
    return found


def test_a_group_with_volumes_uses_only_these(tmp_path: Path) -> None:
    with objects(tmp_path, a=(), b=(), fast=("nwp", "obs"), slow=("obs",)) as made:
        assert used(made, "") == used(made, "nobody") == {"a", "b"}
        assert used(made, "nwp") == {"fast"}
        assert used(made, "obs") == {"fast", "slow"}


def test_a_full_group_does_not_spill(tmp_path: Path) -> None:
    with objects(tmp_path, a=(), fast=("nwp",)) as made:
        made.volume("fast").reserve = 2**62
        with pytest.raises(StorageFull):
            made.create(1, group="nwp")
        assert used(made, "") == {"a"}


def test_without_a_volume_for_all_every_volume_is_for_all(tmp_path: Path) -> None:
    with objects(tmp_path, fast=("nwp",), slow=("obs",)) as made:
        assert used(made, "") == {"fast", "slow"}
        assert used(made, "nwp") == {"fast"}


@pytest.mark.parametrize(
    ("options", "group"),
    [
        ({}, "own"),
        ({"scheduler.transfergroup": "nwp"}, "nwp"),
        ({"scheduler.force": "(=. .grib) transfergroup=obs"}, "obs"),
        ({"scheduler.force": "(=. .txt) transfergroup=obs"}, "own"),
    ],
)
def test_the_group_of_what_comes(options: dict[str, str], group: str) -> None:
    made = entry(Destination(name="D", transfer_group="own", options=options))
    assert storage_group(made, "x.grib") == group


def test_volumes_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "ecpds.toml"
    path.write_text(
        '[[volumes]]\nname = "a"\npath = "/a"\n'
        '[[volumes]]\nname = "fast"\npath = "/b"\ngroups = ["nwp"]\n'
    )
    assert [one.groups for one in load(path, {}).volumes] == [(), ("nwp",)]
