"""Writes a backup of a node, at work or at rest: first its store, then what that refers to."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zlib
from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ecpds import __version__
from ecpds.base.clock import SystemClock
from ecpds.base.settings import Settings
from ecpds.cli.backup_archive import BLOCK, FORM, HEAD, STORE, TREES, ArchiveWriter, blocks_of
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.progress import progress
from ecpds.store import backup as store

Facts = dict[str, Any]
MOST_TOLD: Final = 20  # lost files that are named; the others are counted


def make(settings: Settings, config: Path | None, args: Namespace) -> tuple[Facts, int]:
    """Write `args.file`; return what is in it, and how many objects are gone or damaged.

    It gets its name when it is whole and on disk.
    """
    target: Path = args.file.absolute()
    now = SystemClock().now()
    if not (settings.data_dir / "keys" / "master.key").exists():
        message = f"{settings.data_dir} has no keys/master.key: there is no node to back up"
        raise CommandError(message, Exit.NOT_FOUND)
    try:
        folder = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        text = f"{target.parent} cannot be written: {error.strerror}"
        raise CommandError(text, Exit.USAGE) from None
    with folder as name:
        place = Path(name)
        store.snapshot(settings.store_path, place / STORE)
        making = _Making(settings, place, now)
        with (place / "archive").open("wb") as sink, (place / "lines").open("w+b") as lines:
            os.fchmod(sink.fileno(), 0o600)
            writer = ArchiveWriter(sink, lines, mtime=int(now.timestamp()))
            making.write(writer, config, args)
            sink.flush()
            os.fsync(sink.fileno())
        (place / "archive").replace(target)
        _sync(target.parent)
    facts = {"file": str(target), "bytes": writer.size, "objects": making.objects}
    facts |= {"content": args.content, "lost": making.lost, "damaged": making.damaged}
    return facts, making.lost + making.damaged


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Making:
    """One backup under way."""

    def __init__(self, settings: Settings, place: Path, now: datetime) -> None:
        self._settings, self._place, self._now = settings, place, now
        self._copy = place / STORE
        self._volumes = {one.name: one.path.absolute() for one in settings.volume_list}
        self._numbers = {name: number for number, name in enumerate(self._volumes)}
        self.objects = self.lost = self.damaged = 0
        self._forgotten: list[int] = []

    def write(self, writer: ArchiveWriter, config: Path | None, args: Namespace) -> None:
        """Write all members; the store comes last, as it is told what turned out to be gone."""
        writer.add_text(HEAD, json.dumps(self._head(content=args.content)).encode() + b"\n")
        if config is not None:
            writer.add_text("ecpds.toml", config.read_bytes())
        for name, path in self._files():
            _add_file(writer, name, path)
        if args.content:
            self._add_objects(writer, args)
        if self._forgotten:
            text = "the content was gone when the backup was made"
            store.forget_content(self._copy, self._forgotten, text, now=self._now)
        _add_file(writer, STORE, self._copy)
        writer.finish()

    def _head(self, *, content: bool) -> Facts:
        home = self._settings.data_dir / "objects"
        homes = [number for number, path in enumerate(self._volumes.values()) if path == home]
        return {
            "form": FORM,
            "release": __version__,
            "schema": store.schema(self._copy),
            "created": self._now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "node": self._settings.node.name,
            "content": content,
            "volumes": list(self._volumes),
            "home": homes[0] if homes else None,
        }

    def _files(self) -> Iterator[tuple[str, Path]]:
        root = self._settings.data_dir
        if (root / "admin.token").exists():
            yield "admin.token", root / "admin.token"
        for tree in TREES:
            for folder, _, names in os.walk(root / tree):
                for name in sorted(names):
                    path = Path(folder, name)
                    if path.is_file():
                        yield str(path.relative_to(root)), path

    def _add_objects(self, writer: ArchiveWriter, args: Namespace) -> None:
        with progress(args, args.file.name, None) as watch:
            for one in store.contents(self._copy):
                path = self._volumes.get(one.volume, Path("/nowhere")) / one.key
                try:
                    file = path.open("rb")
                except OSError as error:
                    self._missing(one, error)
                    continue
                number = self._numbers[one.volume]
                with file:
                    size = os.fstat(file.fileno()).st_size
                    adler = _Adler()
                    blocks = adler.watched(blocks_of(file, watch))
                    writer.add(f"objects/{number}/{one.key}", size, blocks)
                self.objects += 1
                if size != one.size or one.checksum not in ("", adler.text):
                    self.damaged += 1
                    self._tell(one, "has other bytes than were stored")

    def _missing(self, one: store.Content, error: OSError) -> None:
        """Note an object that is gone: deleted since the copy of the store was made, or lost."""
        self._forgotten.append(one.file)
        if store.is_needed(self._settings.store_path, one.volume, one.key):
            self.lost += 1
            self._tell(one, f"cannot be read: {error.strerror}")

    def _tell(self, one: store.Content, what: str) -> None:
        if self.lost + self.damaged <= MOST_TOLD:
            text = f"data file {one.file}: its content {what} ({one.volume} {one.key})"
            print(f"warning: {text}", file=sys.stderr)


class _Adler:
    """The Adler-32 of what passes by."""

    def __init__(self) -> None:
        self._value = zlib.adler32(b"")

    @property
    def text(self) -> str:
        return f"{self._value:08x}"

    def watched(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self._value = zlib.adler32(block, self._value)
            yield block


def _add_file(writer: ArchiveWriter, name: str, path: Path) -> None:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < BLOCK:  # a small one may be replaced while it is read: take what was opened
            data = file.read()
            writer.add(name, len(data), [data])
        else:
            writer.add(name, size, blocks_of(file))
