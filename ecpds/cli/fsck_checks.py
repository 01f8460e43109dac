"""The checks of `ecpds fsck`, one after the other, and what `--repair` does about each finding."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Final

from ecpds.base.clock import SystemClock
from ecpds.base.settings import Settings
from ecpds.engine.telling import Teller
from ecpds.objects import sweep
from ecpds.objects.digests import adler_of
from ecpds.objects.volume import Volume
from ecpds.store import check
from ecpds.store.backup import Content, contents, damage, references
from ecpds.store.db import Connection

MOST_TOLD: Final = 50
SETTLED: Final = timedelta(minutes=10)  # online: younger objects may wait for their commit
FEW: Final = 10  # of so few objects of a volume all may be lost

KINDS: Final = {
    "damage": "the database is damaged",
    "lost": "content is missing or has another size",
    "altered": "content has another checksum",
    "unreachable": "content on a volume that is not there",
    "orphan": "an object that nothing refers to",
    "counter": "a wrong count of transfers",
    "reference": "a row that refers to one that is not there",
    "fileless": "a transfer without its file",
    "nowhere": "a transfer without its destination",
}


class Checks:
    """One look at a node."""

    def __init__(
        self, settings: Settings, *, deep: bool, repair: bool, online: bool, force: bool
    ) -> None:
        self._settings = settings
        self._deep, self._repair, self._online, self._force = deep, repair, online, force
        self._now = SystemClock().now()
        self._volumes = {
            one.name: Volume(one.name, one.path.absolute()) for one in settings.volume_list
        }
        self._kinds: Counter[str] = Counter()
        self._told: list[str] = []
        self._files = self._repaired = 0
        self._report: IO[str] | None = None
        self._lost: list[tuple[Content, str, str]] = []

    def run(self) -> dict[str, Any]:
        """Do all checks; return what they found, numbers and the first lines."""
        path = self._settings.store_path
        report = self._settings.data_dir / "log" / f"fsck-{self._now:%Y%m%dT%H%M%S.%fZ}.jsonl"
        with ExitStack() as stack:
            db = stack.enter_context(check.opened(path, read_only=not self._repair))
            if self._repair:
                self._report = stack.enter_context(_created(report))
            for text in damage(db):
                self._find("damage", text)
            if not self._kinds:
                self._rows(db)
                self._contents(db)
                self._orphans(db)
                if self._repair and self._kinds:
                    self._tell(db)
        problems = sum(self._kinds.values())
        return {
            "files": self._files,
            "problems": problems,
            "repaired": self._repaired,
            "damage": self._kinds["damage"] > 0,
            "kinds": dict(self._kinds),
            "told": self._told,
            "untold": problems - len(self._told),
            "report": str(report) if self._repair else None,
        }

    def _find(self, kind: str, text: str, **facts: Any) -> None:
        self._kinds[kind] += 1
        if len(self._told) < MOST_TOLD:
            self._told.append(f"{kind}: {text}")
        if self._report is not None:
            line = {"kind": kind, "text": text} | facts
            self._report.write(json.dumps(line, ensure_ascii=False) + "\n")

    # --- rows --------------------------------------------------------------------------------

    def _rows(self, db: Connection) -> None:
        self._each(
            db, "fileless", check.fileless(db), "transfer {id} has no file {data_file}",
            lambda row: check.drop(db, row["id"]),
        )  # fmt: skip
        self._each(
            db, "nowhere", check.nowhere(db), "transfer {id} has no destination {destination}",
            lambda row: check.delete(db, row["id"], now=self._now),
        )  # fmt: skip
        self._each(
            db, "counter", check.counters(db), "{name} counts {kept} of {status}, not {counted}",
            lambda row: check.set_counter(db, row),
        )  # fmt: skip
        self._references(db)

    def _each(
        self,
        db: Connection,
        kind: str,
        rows: list[dict[str, Any]],
        text: str,
        repair: Callable[[dict[str, Any]], None],
    ) -> None:
        for row in rows:
            self._find(kind, text.format(**row), row=row)
        if self._repair and rows:
            with check.changing(db):
                for row in rows:
                    repair(row)
            self._repaired += len(rows)

    def _references(self, db: Connection) -> None:
        for table, other in references(db):
            if (table, other) != ("transfer", "data_file"):  # told as `fileless`
                self._find("reference", f"a row of {table} refers to a {other} that is not there")

    # --- content -----------------------------------------------------------------------------

    def _contents(self, db: Connection) -> None:
        """Look at every object that a file refers to."""
        looked: Counter[str] = Counter()
        for one in contents(self._settings.store_path):
            self._files += 1
            looked[one.volume] += 1
            volume = self._volumes.get(one.volume)
            if volume is None or not volume.path.is_dir():
                self._find("unreachable", f"data file {one.file} is on volume {one.volume!r}")
                continue
            kind, text = self._look(volume, one)
            if kind:
                self._find(kind, f"data file {one.file}: {text}", file=one.file, key=one.key)
                if self._repair:
                    self._lost.append((one, kind, text))
        if self._repair:
            self._settle(db, looked)

    def _look(self, volume: Volume, one: Content) -> tuple[str, str]:
        path = volume.path / one.key
        try:
            size = path.stat().st_size
            if size != one.size:
                return "lost", f"{size} bytes instead of {one.size} in {path}"
            if not self._deep or not one.checksum:
                return "", ""
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = adler_of(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            return "lost", f"{path}: {error.strerror}"
        if found != one.checksum:
            return "altered", f"checksum {found} instead of {one.checksum} in {path}"
        return "", ""

    def _settle(self, db: Connection, looked: Counter[str]) -> None:
        """Mark what is lost, but never a whole volume that is only not mounted."""
        gone = Counter(one.volume for one, _, _ in self._lost)
        for volume, count in gone.items():
            if count > max(FEW, looked[volume] // 2) and not self._force:
                text = f"most of volume {volume} is not there: is it mounted?  see --force"
                self._told.insert(0, text)
                return
        teller = Teller(node=self._settings.node.name)
        for one, _, text in self._lost:
            with check.changing(db):
                failed = check.mark_lost(db, one.file, f"content lost: {text}", now=self._now)
                teller.plain(
                    db, "SYS", now=self._now, action="content-lost", file_id=one.file,
                    object={"kind": "file", "name": str(one.file)}, context=text,
                    transfers=failed, severity="error",
                )  # fmt: skip
            self._move(self._volumes[one.volume], one.key)
            self._repaired += 1

    # --- orphans -----------------------------------------------------------------------------

    def _orphans(self, db: Connection) -> None:
        before = self._now - (SETTLED if self._online else timedelta())
        for volume in self._volumes.values():
            if not volume.path.is_dir():
                continue
            for keys in sweep.candidates(volume, before):
                for key in check.orphans(db, volume.name, keys):
                    self._find("orphan", f"{volume.path / key}", volume=volume.name, key=key)
                    if self._repair:
                        self._move(volume, key)
                        self._repaired += 1

    def _move(self, volume: Volume, key: str) -> None:
        """Put an object aside, where no sweep looks; on the same file system."""
        source = volume.path / key
        target = volume.path / "lost+found" / f"{self._now:%Y%m%dT%H%M%SZ}" / key
        if source.exists():
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            source.rename(target)

    def _tell(self, db: Connection) -> None:
        teller = Teller(node=self._settings.node.name)
        with check.changing(db):
            teller.plain(
                db, "SYS", now=self._now, action="fsck", severity="warning",
                object={"kind": "store", "name": ""}, repaired=self._repaired,
                context=", ".join(f"{count} {kind}" for kind, count in self._kinds.items()),
            )  # fmt: skip


@contextmanager
def _created(path: Path) -> Iterator[IO[str]]:
    path.parent.mkdir(mode=0o750, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        yield file
        file.flush()
        os.fsync(descriptor)
