"""`ecpds serve` and `ecpds init`: the node itself."""

from __future__ import annotations

import asyncio
import gc
import resource
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from ecpds.base.settings import Settings, load
from ecpds.cli.access import settings_path
from ecpds.cli.codes import Exit
from ecpds.cli.verbs import Verb

MOST_FILES: Final = 65536  # descriptors


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings; default ./ecpds.toml if there"
    )


def _serve(args: Namespace) -> int:
    path = settings_path(args)
    settings = load(path)
    gc.disable()  # nothing that is made while importing is garbage; looking for it takes a tenth
    from ecpds.daemon import serve  # the whole program: wrong settings are told before

    gc.freeze()
    gc.enable()
    _allow_files()
    try:
        serve(settings, path, say=lambda text: print(text, flush=True))
    except BaseExceptionGroup as group:
        raise _first(group) from None
    return Exit.DONE


def _allow_files() -> None:
    """Use what the system allows: a shell's 1,024 descriptors are 500 clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group: why the daemon ended."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _init(args: Namespace) -> int:
    settings = load(settings_path(args))
    asyncio.run(_create(settings))
    return Exit.DONE


async def _create(settings: Settings) -> None:
    from ecpds.cli.atrest import first_password
    from ecpds.node import DataDirectory, open_node

    directory = DataDirectory(settings)
    directory.open()
    try:
        node = await open_node(settings)
        await node.close()
    finally:
        directory.close()
    print(f"data directory {settings.data_dir} is ready")
    if node.first_password:
        print(first_password(node))


VERBS: Final = (
    Verb(words="serve", help="run the daemon in the foreground until SIGTERM; SIGHUP reads the"
         " settings again", arguments=_arguments, run=_serve),
    Verb(words="init", help="create data directory, keys and administrator, start nothing",
         arguments=_arguments, run=_init),
)  # fmt: skip
