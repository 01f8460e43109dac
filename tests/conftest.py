"""How tests run: coroutines on a fresh loop, nothing left behind, nothing blocking, no silent skip.

ECPDS_TEST_LOOP=uvloop runs every coroutine on uvloop. CI=true turns a missing program into a
failure. Temporary directories are below one folder of this run, which other accounts (those of
the test servers) may pass through, and which goes away unless a test failed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecpds.base.clock import SystemClock  # noqa: E402
from tests import eventforms  # noqa: E402
from tests.leaks import left_since, snapshot, tasks_left  # noqa: E402
from tests.peers.programs import ProgramMissing, missing  # noqa: E402

IS_CI = os.environ.get("CI") == "true"
IS_UVLOOP = os.environ.get("ECPDS_TEST_LOOP") == "uvloop"
PREFIX = "ecpds-tests-"
KEEP = 24 * 3600.0  # seconds that the files of a failed run stay
OWN_BASE = pytest.StashKey[Path]()
Coroutines = Callable[..., Coroutine[Any, Any, object]]

# Calls that our own code may make in the loop: local disk below 256 KiB is faster there than a
# hand-over to a thread (docs/decisions), and what a daemon does before it serves hurts nobody.
FILE_CALLS = ("os.", "io.", "builtins.")
ALONE = ("browser", "crash")  # folders of which only one test runs at a time
NEVER_IN_LOOP = ("os.listdir", "os.scandir", "os.sendfile", "os.statvfs")


# ---- temporary directories


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give this run its own base of temporary directories."""
    eventforms.watch()
    config.addinivalue_line("markers", "needs(*programs): skip (in CI: fail) without them")
    if hasattr(config, "workerinput") or config.option.basetemp:
        return
    _remove_old_bases()
    base = Path(tempfile.mkdtemp(prefix=PREFIX))
    config.stash[OWN_BASE] = base
    config.option.basetemp = str(base / "run")


def _remove_old_bases() -> None:
    """Remove what failed runs have kept for more than a day."""
    for old in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        with suppress(FileNotFoundError):
            state = old.stat()
            age = SystemClock().now().timestamp() - state.st_mtime
            if state.st_uid == os.geteuid() and age > KEEP:
                shutil.rmtree(old, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _passable_base(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp()
    for folder in (base, *base.parents):
        if folder == Path(tempfile.gettempdir()) or folder.stat().st_uid != os.geteuid():
            return
        folder.chmod(0o711)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest and runs alone: crashes, then Chromiums."""
    items.sort(key=lambda item: _turn(_top(item.nodeid)))


def _turn(folder: str) -> int:
    return -1 - ALONE.index(folder) if folder in ALONE else 0


def _top(nodeid: str) -> str:
    """Return the folder below tests/ of a test."""
    return nodeid.partition("::")[0].removeprefix("tests/").partition("/")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Keep a file on one worker, for its servers, and all Chromiums and all crashes on one each."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Gives whole files to workers.

    Not by marks: those of pytest-xdist 3.8 have no effect with pytest 9.2, whose ids are fixed.
    """

    def _split_scope(self, nodeid: str) -> str:
        top = _top(nodeid)
        return top if top in ALONE else nodeid.partition("::")[0]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the temporary directories of a run in which nothing failed."""
    base = session.config.stash.get(OWN_BASE, None)
    if base is not None and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        shutil.rmtree(base, ignore_errors=True)


# ---- coroutines


def _new_loop() -> asyncio.AbstractEventLoop:
    if IS_UVLOOP:
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


@pytest.fixture(scope="session", autouse=True)
def _libuv_has_its_pipe() -> None:
    """Let libuv make the pipe for signals that it keeps for the life of the process."""

    async def start_one() -> None:
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()

    if IS_UVLOOP:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(start_one())


def _on_a_loop(function: Coroutines) -> Callable[..., None]:
    """Return a plain function that runs the coroutine and fails when it leaves tasks."""

    async def watched(*args: object, **kwargs: object) -> None:
        await function(*args, **kwargs)
        for _ in range(5):  # what the test has cancelled or closed may end first
            if not tasks_left():
                return
            await asyncio.sleep(0.01)
        if left := tasks_left():
            pytest.fail("left running: " + "; ".join(left), pytrace=False)

    @functools.wraps(function)
    def run(*args: object, **kwargs: object) -> None:
        with asyncio.Runner(debug=False, loop_factory=_new_loop) as runner:
            runner.run(watched(*args, **kwargs))

    return run


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run `async def` tests, hypothesis ones too; fail a test that leaves something behind."""
    function = pyfuncitem.obj
    inner = getattr(getattr(function, "hypothesis", None), "inner_test", None)
    if inner is not None:
        if inspect.iscoroutinefunction(inner):
            function.hypothesis.inner_test = _on_a_loop(inner)
    elif inspect.iscoroutinefunction(function):
        pyfuncitem.obj = _on_a_loop(function)
    before = snapshot()
    result = yield
    if left := left_since(before):
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)
    return result


# ---- blocking calls


@pytest.fixture(scope="session")
def _watch() -> BlockBuster:
    watch = BlockBuster("ecpds", excluded_modules=["ecpds.conformance"])
    for name in list(watch.functions):
        if name.startswith(FILE_CALLS) and name not in NEVER_IN_LOOP:
            del watch.functions[name]
        elif name.startswith("sqlite3."):  # a look-up by key (docs/decisions/0002-store.md)
            watch.functions[name].can_block_in("ecpds/store/db.py", "glance")
    return watch


@pytest.fixture(autouse=True)
def _nothing_blocks(_watch: BlockBuster) -> Iterator[None]:
    """Fail when code of ecpds blocks the loop: sleeps, locks, SQLite, blocking sockets, scans."""
    _watch.activate()
    try:
        yield
    finally:
        _watch.deactivate()


# ---- events


@pytest.fixture(autouse=True)
def _events_keep_their_form() -> Iterator[None]:
    """Fail when an event of the test, in this process or of a daemon, is not of the schema."""
    eventforms.WRONG.clear()
    yield
    assert eventforms.WRONG == []


# ---- missing programs


def _absent(programs: list[str]) -> None:
    if IS_CI:
        pytest.fail(f"missing: {', '.join(programs)}; run tests/install-peers.sh", pytrace=False)
    pytest.skip("missing program: " + ", ".join(programs))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the programs that the test names: `@pytest.mark.needs("lftp")`."""
    wanted = [str(name) for mark in item.iter_markers("needs") for name in mark.args]
    if absent := missing(*wanted):
        _absent(absent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Treat a server that found its program missing like a `needs` mark."""
    try:
        yield
    except ProgramMissing as error:
        _absent([error.program])
    except BaseExceptionGroup as group:
        found = group.subgroup(ProgramMissing)
        if found is None:
            raise
        _absent([_first(found).program])


def _first(group: BaseExceptionGroup[ProgramMissing]) -> ProgramMissing:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List what was not tested because of missing programs, where nobody can overlook it."""
    lost: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _, marked, programs = reason.partition("missing program: ")
        if marked:
            lost[programs] = lost.get(programs, 0) + 1
    if not lost:
        return
    terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
    for programs, count in sorted(lost.items()):
        terminalreporter.line(f"{count:5d} tests need {programs}")
    terminalreporter.line("install with: sudo tests/install-peers.sh")
