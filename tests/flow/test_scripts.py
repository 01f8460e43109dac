"""Scripts in their sandbox: what they may give, and what they may not do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ecpds.model.errors import ScriptError
from ecpds.scripting.scripts import ScriptLimits, Scripts
from tests.leaks import snapshot

JS, PY = "javascript", "python"


@asynccontextmanager
async def scripts(**limits: float) -> AsyncIterator[Scripts]:
    made = Scripts(limits=ScriptLimits(**limits) if limits else None)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize(
    ("language", "code", "text"),
    [
        (JS, '"/o/" + "STD" + "/"', "/o/STD/"),
        (JS, 'var a="/o/";\nreturn a;', "/o/"),  # dissemination.md 5
        (JS, "function f() { return 'x' }; f()", "x"),
        (JS, "['a', 'b']", "a\nb"),
        (JS, "print('one'); console.log('two')", "one\ntwo"),
        (JS, "target.toUpperCase() + destination.name", "A.GRIBSTD"),
        (JS, "vars.metadata.type || 'none'", "fc"),
        (PY, '"/o/" + "STD".lower() + "/"', "/o/std/"),
        (PY, '"\\n".join("/d/%02d/{.*}" % h for h in (0, 12))', "/d/00/{.*}\n/d/12/{.*}"),
        (PY, "a = 1\nif a:\n    return 'yes'", "yes"),
        (PY, "def f():\n    return 1\n['a', 'b']", "a\nb"),
        (PY, "print('one')\nprint('two')", "one\ntwo"),  # captured, when nothing is returned
        (PY, "target.upper() + destination.name + destination['name']", "A.GRIBSTDSTD"),
        (PY, "import re, json, math\njson.dumps({'a': re.sub('x', 'y', 'x')})", '{"a": "y"}'),
        (PY, "import datetime\ndatetime.datetime(2030, 1, 2).strftime('%Y%m%d')", "20300102"),
    ],
    ids=range(15),
)  # fmt: skip
async def test_what_a_script_gives(language: str, code: str, text: str) -> None:
    values = {"target": "a.grib", "destination[name]": "STD", "metadata[type]": "fc"}
    async with scripts() as made:
        assert (await made.run(language, code, values)).text == text


@pytest.mark.parametrize(
    ("language", "code", "words"),
    [
        (JS, "", "nothing"),
        (JS, "42", "a number"),
        (JS, "({a: 1})", "an object"),
        (JS, "[1]", "more than texts"),
        (JS, "nosuch", "not defined"),
        (JS, "throw new Error('mine')", "mine"),
        (JS, "(", "SyntaxError"),
        (JS, "require('fs')", "not defined"),
        (JS, "while (true) {}", "interrupted|longer"),
        (JS, "function f() { f() } f()", "stack overflow|too much recursion|overflow"),
        (JS, "let a = []; while (true) a.push('x'.repeat(100000) + a.length)", "memory|null|broke"),
        (JS, "'x'.repeat(10 * 1024 * 1024)", "longer than"),
        (PY, "None", "nothing"),
        (PY, "1 / 0", r"ZeroDivisionError.*line 1"),
        (PY, "a = 1\nraise ValueError('mine')", r"mine \(line 2\)"),
        (PY, "a = (", "line 1"),
        (PY, "object()", "no text"),
        (PY, "while True:\n    pass", "longer"),
        (PY, "def f():\n    f()\nf()", "RecursionError"),
        (PY, "a = 'x' * (1 << 30)", "[Mm]emory"),
        (PY, "a = []\nwhile True:\n    a.append('x' * 1000000)", "[Mm]emory|broke"),
        (PY, "'x' * (10 * 1024 * 1024)", "longer than"),
        (PY, "while True:\n    print('x' * 1000)", "printed"),
        (PY, "import os\nos.fork()", "Error"),
        (PY, "import os\nos.system('true')\nopen('/tmp/x', 'w')", "Error"),
        (PY, "open('/etc/passwd').read()", "Error"),
        (PY, "import os\nstr(os.listdir('/'))", "Error"),
        (PY, "import socket", "Error"),
        (PY, "import _socket\n_socket.socket()", "Error"),
        (PY, "import os\nos.kill(os.getppid(), 9)", "Error"),
        (PY, "import os, signal\nos.execv('/bin/true', ['true'])", "Error"),
        (PY, "import ctypes\nctypes.string_at(0)", "broke"),
        (PY, "import os\nos._exit(3)", "broke"),
        (PY, "raise SystemExit", "SystemExit"),
        (PY, "import time\ntime.sleep(60)", "longer"),
        ("ruby", "1", "language"),
        (PY, "x" * 200_000, "at most"),
    ],
    ids=range(37),
)  # fmt: skip
async def test_what_a_script_may_not(language: str, code: str, words: str) -> None:
    async with scripts(seconds=0.5, memory=200 * 1024 * 1024) as made:
        with pytest.raises(ScriptError, match=words):
            _ = (await made.run(language, code)).text
        assert (await made.run(PY, "'well'")).text == "well"


async def test_a_script_that_opens_sockets_by_system_calls() -> None:
    """The numbers of x86-64; elsewhere other calls, which are refused as well."""
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
" ".join(str(libc.syscall(n, 2, 1, 0, 0, 0)) for n in (41, 56, 57, 59, 2, 257, 62, 101, 198, 425))
"""
    async with scripts() as made:
        assert set((await made.run(PY, code)).text.split()) == {"-1"}


async def test_values_are_no_code() -> None:
    """Whatever a value contains, it is a value."""
    nasty = "'\"; throw 1 //\\ \u2028 ${x} `\n</script>"
    async with scripts() as made:
        for language in (JS, PY):
            assert (await made.run(language, "target", {"target": nasty})).text == nasty


async def test_processes_are_warm_and_bound_to_their_script() -> None:
    async with scripts() as made:
        assert made.started == 0
        await made.run(PY, "'a'")
        assert made.started == 1
        leak = (
            "import builtins\nbuiltins.kept = getattr(builtins, 'kept', 0) + 1\nstr(builtins.kept)"
        )
        first, second = [(await made.run(PY, leak)).text for _ in range(2)]
        assert (first, second, made.started) == ("1", "2", 2)
        look = "import builtins\nstr(getattr(builtins, 'kept', None))"
        assert (await made.run(PY, look)).text == "None"
        for _ in range(20):
            await made.run(PY, "'a'")
        assert made.started == 3


async def test_many_at_once_and_no_more_processes_than_allowed() -> None:
    async with scripts() as made, asyncio.TaskGroup() as group:
        tasks = [group.create_task(made.run(PY, f"'{number}'")) for number in range(12)]
        done = [(await task).text for task in tasks]
        assert done == [str(number) for number in range(12)]
        waiting = sum(map(len, made._idle.values()))
        assert waiting <= 4


async def test_a_cancelled_script_leaves_no_process() -> None:
    async with scripts() as made:
        await made.run(PY, "'a'")
        before = snapshot().children
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await made.run(PY, "import time\ntime.sleep(60)")
        assert snapshot().children <= before


async def test_objects_for_payloads() -> None:
    async with scripts() as made:
        found = await made.run(JS, "({mqtt: {payload: target, topic: 'a/b'}})", {"target": "x"})
        assert found.table == {"mqtt": {"payload": "x", "topic": "a/b"}}
        with pytest.raises(ScriptError, match="no object"):
            _ = (await made.run(JS, "'x'")).table
