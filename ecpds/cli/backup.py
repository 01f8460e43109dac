"""`ecpds backup create|verify|restore`: a whole node as one file."""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

from ecpds.cli.access import settings_path
from ecpds.cli.backup_archive import OBJECT, STORE, ArchiveReader, Damaged, Member
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.progress import progress
from ecpds.cli.verbs import Verb, add_output, as_json, card

Facts = dict[str, Any]


def _common(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the backup")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bar")
    add_output(parser, ids=False)


def _create_arguments(parser: ArgumentParser) -> None:
    _common(parser)
    parser.add_argument(
        "--content", action="store_true", help="with the content of all files, not only the store"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE when it is there")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings of the node")


def _create(args: Namespace) -> int:
    from ecpds.base.settings import load
    from ecpds.cli.backup_make import make

    config = settings_path(args)
    settings = load(config)
    if args.file.exists() and not args.force:
        raise CommandError(f"{args.file} is there already; see --force", Exit.CONFLICT)
    facts, lost = make(settings, config, args)
    _tell(args, facts)
    return Exit.PARTIAL if lost else Exit.DONE


def _verify(args: Namespace) -> int:
    """Read it to its end; 1 when it is damaged, 4 when the node had lost content before."""
    with _opened(args) as (reader, folder, watch), _seen(folder) as tally:
        for one in reader.members():
            found = OBJECT.fullmatch(one.name)
            if one.name == STORE:
                _store(one, folder / STORE, watch)
            elif found:
                adler = _read(one, None, watch)
                tally.add(_volume(reader, found[1]), found[2], one.size, adler)
            else:
                _read(one, None, watch)
        return _conclude(args, reader, tally, folder / STORE, {})


def _restore(args: Namespace) -> int:
    """Unpack beside the directory, look at everything, then rename."""
    target: Path = args.data_dir.absolute()
    owner = _empty(target)
    parent = target.parent
    with _opened(args) as (reader, folder, watch), _seen(folder) as tally:
        parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{target.name}.restore-", dir=parent))
        try:
            for one in reader.members():
                found = OBJECT.fullmatch(one.name)
                adler = _store(one, staged / _place(reader, one.name), watch)
                if found:
                    tally.add(_volume(reader, found[1]), found[2], one.size, adler)
            facts = {"data_dir": str(target)} | _moved_volumes(reader, target)
            code = _conclude(args, reader, tally, staged / STORE, facts)
            _settle(staged, target, owner)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return code


def _empty(target: Path) -> os.stat_result | None:
    """Return whose directory it is, None when it is to be made; CommandError unless empty."""
    try:
        if any(target.iterdir()):
            message = f"{target} is not empty: a backup is restored into an empty directory"
            raise CommandError(message, Exit.CONFLICT)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise CommandError(f"{target} is no directory", Exit.USAGE) from None
    return target.stat()


def _settle(staged: Path, target: Path, owner: os.stat_result | None) -> None:
    """Give the files to the owner of the directory, bring them to disk, then put them there."""
    if owner is not None and os.geteuid() == 0:
        for folder, _, names in os.walk(staged):
            for name in (".", *names):
                os.chown(Path(folder, name), owner.st_uid, owner.st_gid)
    os.sync()  # one for all files: each of a million alone takes an hour
    if target.is_mount():
        # no rename replaces it; the store comes last, so that half of it is no node
        for one in sorted(staged.iterdir(), key=lambda path: path.name == STORE):
            shutil.move(one, target / one.name)
    else:
        staged.rename(target)
    os.sync()


def _place(reader: ArchiveReader, name: str) -> Path:
    """Return where a member belongs below the data directory."""
    found = OBJECT.fullmatch(name)
    if found is None:
        return Path(name)
    return _folder(reader.head, int(found[1])) / found[2]


def _folder(head: Facts, number: int) -> Path:
    if number == head.get("home"):
        return Path("objects")
    return Path("volumes", quote(_named(head, number), safe="").replace(".", "%2E"))


def _named(head: Facts, number: int) -> str:
    names = head["volumes"]
    if number >= len(names) or not isinstance(names[number], str):
        raise Damaged(f"there is no volume {number}")
    return str(names[number])


def _volume(reader: ArchiveReader, number: str) -> str:
    return _named(reader.head, int(number))


def _moved_volumes(reader: ArchiveReader, target: Path) -> Facts:
    """Tell the settings that find content of volumes outside of the data directory."""
    head = reader.head
    if not head.get("content") or head["volumes"] == ["default"]:
        return {}
    places = {_named(head, number): _folder(head, number) for number in range(len(head["volumes"]))}
    return {"volumes": {name: str(target / place) for name, place in places.items()}}


# --- reading -------------------------------------------------------------------------------------


@contextmanager
def _opened(args: Namespace) -> Iterator[tuple[ArchiveReader, Path, Any]]:
    try:
        file = args.file.open("rb")
    except OSError as error:
        raise CommandError(f"{args.file} cannot be read: {error.strerror}", Exit.USAGE) from None
    size = args.file.stat().st_size
    with (
        file,
        tempfile.TemporaryDirectory(prefix="ecpds-backup-") as folder,
        tempfile.TemporaryFile(dir=folder) as lines,
        progress(args, args.file.name, size) as watch,
    ):
        yield ArchiveReader(file, size, lines), Path(folder), watch


@contextmanager
def _seen(folder: Path) -> Iterator[Any]:
    from ecpds.store.backup import Tally

    tally = Tally(folder / "seen.db")
    try:
        yield tally
    finally:
        tally.close()


def _store(one: Member, path: Path, watch: Any) -> str:
    """Write a member to a new file; return its Adler-32."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise Damaged(f"{one.name} is there twice") from None
    with os.fdopen(descriptor, "wb") as sink:
        return _read(one, sink, watch)


def _read(one: Member, sink: IO[bytes] | None, watch: Any) -> str:
    adler = zlib.adler32(b"")
    for block in one.blocks:
        adler = zlib.adler32(block, adler)
        if sink is not None:
            sink.write(block)
        if watch is not None:
            watch(len(block))
    return f"{adler:08x}"


def _conclude(args: Namespace, reader: ArchiveReader, tally: Any, store: Path, more: Facts) -> Exit:
    """Compare store and objects; Damaged when the store is; print what there is."""
    if not store.exists():
        raise Damaged(f"{STORE} is missing")
    head = reader.head
    checked = tally.compare(store, content=bool(head.get("content")))
    if checked.problems:
        raise Damaged(f"the store is damaged: {checked.problems[0]}")
    facts = {key: head.get(key) for key in ("created", "node", "release", "schema", "content")}
    facts |= {"members": reader.count, "bytes": reader.size}
    facts |= {"files": checked.files, "transfers": checked.transfers}
    facts |= {"missing": checked.missing, "damaged": checked.different}
    _tell(args, {"file": str(args.file)} | facts | more)
    return Exit.PARTIAL if checked.missing or checked.different else Exit.DONE


def _tell(args: Namespace, facts: Facts) -> None:
    if args.output == "json":
        as_json(facts)
    else:
        card(facts)


def _restore_arguments(parser: ArgumentParser) -> None:
    _common(parser)
    parser.add_argument(
        "--data-dir", type=Path, required=True, metavar="DIR", help="empty or not there yet"
    )


VERBS: Final = (
    Verb(words="backup create", arguments=_create_arguments, run=_create,
         help="write store, keys and settings, with --content all files, while the node works"),
    Verb(words="backup verify", arguments=_common, run=_verify,
         help="read a backup to its end and compare everything in it"),
    Verb(words="backup restore", arguments=_restore_arguments, run=_restore,
         help="make the data directory of a node from a backup, all or nothing"),
)  # fmt: skip
