"""The process in which scripts run: reads requests, computes, answers, can do nothing else.

It is started as a file of its own (`python -I -S worker.py`) and imports nothing of the hub.
Before the first request it gives everything up: resource limits, no new privileges, and a seccomp
filter that leaves memory, time and the two pipes.  A request is a JSON object behind its length of
four bytes, an answer the same.

Spec: acquisition.md section 11, seccomp(2).
"""

# What scripts may import has to be there before the filter closes the file system.
# ruff: noqa: F401
from __future__ import annotations

import _strptime  # type: ignore[import-not-found]  # no stub
import ast
import base64
import calendar
import collections
import ctypes
import datetime
import decimal
import functools
import hashlib
import io
import itertools
import json
import math
import operator
import os
import platform
import random
import re
import resource
import string
import struct
import sys
import textwrap
import time
import urllib.parse
from typing import Any

MOST_REQUEST = 1024 * 1024  # bytes
MOST_ANSWER = 1024 * 1024
WORD = "--script-worker"  # first argument of the single executable
BUNDLED = "-"  # quickjs is found without a path
CPU_SECONDS = 120  # in the life of one process
NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


class Refused(Exception):
    """A result that cannot be handed over."""


# --- giving everything up ------------------------------------------------------------------------

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
EPERM = 1

# Audit number of the machine, then: read write close fstat lseek mmap mprotect munmap brk mremap
# madvise rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack nanosleep clock_nanosleep
# clock_gettime clock_getres gettimeofday futex getrandom getpid sched_yield restart exit exit_group
CALLS = {
    "x86_64": (0xC000003E, (0, 1, 3, 5, 8, 9, 10, 11, 12, 25, 28, 13, 14, 15, 131, 35, 230, 228,
                            229, 96, 202, 318, 39, 24, 219, 60, 231)),
    "aarch64": (0xC00000B7, (63, 64, 57, 80, 62, 222, 226, 215, 214, 216, 233, 134, 135, 139, 132,
                             101, 115, 113, 114, 169, 98, 278, 172, 124, 128, 93, 94)),
}  # fmt: skip


def lock_down(memory: int) -> bool:
    """Give up everything but computing; tell whether system calls are filtered."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(what, (most, most))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return filter_calls(libc)


def filter_calls(libc: ctypes.CDLL) -> bool:
    """Let the kernel refuse every system call that is not in the list."""
    machine = CALLS.get(platform.machine())
    if machine is None:
        return False
    audit, calls = machine
    load, equal, answer, above = 0x20, 0x15, 0x06, 0x35
    lines = [
        (load, 0, 0, 4),
        (equal, 1, 0, audit),
        (answer, 0, 0, KILL),
        (load, 0, 0, 0),
        (above, 0, 1, 0x40000000),
        (answer, 0, 0, KILL),
    ]
    for call in calls:
        lines += [(equal, 0, 1, call), (answer, 0, 0, ALLOW)]
    lines.append((answer, 0, 0, ERRNO | EPERM))
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(buffer))
    held = ctypes.create_string_buffer(program, len(program))
    done = libc.prctl(
        PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.c_void_p(ctypes.addressof(held))
    )
    return bool(done == 0)


# --- languages -----------------------------------------------------------------------------------

HARNESS = """(() => {
  const text = JSON.stringify, code = __code, out = [];
  globalThis.print = (...some) => { out.push(some.map(String).join(" ")); };
  globalThis.console = { log: globalThis.print };
  globalThis.vars = JSON.parse(__vars);
  for (const name of Object.keys(vars)) if (/^[A-Za-z_$][\\w$]*$/.test(name)) globalThis[name] = vars[name];
  delete globalThis.__code; delete globalThis.__vars;
  let found;
  try { found = (0, eval)(code); }
  catch (error) {
    if (!(error instanceof SyntaxError) || !/\\breturn\\b/.test(code)) throw error;
    found = (new Function(code))();
  }
  return text([found === undefined ? null : found, out.join("\\n")]);
})()"""  # noqa: E501


def javascript(code: str, variables: dict[str, Any], limits: dict[str, Any]) -> tuple[Any, str]:
    """Evaluate; the value is that of the last expression, or what `return` gives."""
    import quickjs  # `main` has loaded it before the filter

    context = quickjs.Context()
    context.set_memory_limit(int(limits["memory"]) // 2)
    context.set_time_limit(limits["seconds"])
    context.set_max_stack_size(512 * 1024)
    context.set("__code", code)
    context.set("__vars", json.dumps(variables))
    try:
        answer = context.eval(HARNESS)
    except quickjs.JSException as error:
        raise Refused(str(error).strip() or "the script failed") from None
    value, output = json.loads(answer)
    return value, output


class Values(dict):  # type: ignore[type-arg]
    """Variables of one group: `destination.name` as well as `destination["name"]`."""

    def __getattr__(self, name: str) -> Any:
        """Return a value by its name; empty when there is none."""
        return self.get(name, "")


def python(code: str, variables: dict[str, Any], limits: dict[str, Any]) -> tuple[Any, str]:
    """Run; the value is that of the last line if it is an expression, or what `return` gives."""
    del limits
    output = io.StringIO()
    found = {k: Values(v) if isinstance(v, dict) else v for k, v in variables.items()}
    space: dict[str, Any] = {k: v for k, v in found.items() if NAME.fullmatch(k)}
    space |= {"vars": found, "__name__": "script", "print": _printer(output)}
    try:
        tree = ast.parse(textwrap.dedent(code).strip(), "script")
        exec(compile(_with_result(tree), "script", "exec"), space)  # noqa: S102 - in a sandbox
        value = space["__main"]() if "__main" in space else space.get("__value")
    except SyntaxError as error:
        raise Refused(f"{error.msg} (line {error.lineno})") from None
    except MemoryError:
        raise Refused("out of memory") from None
    except BaseException as error:  # noqa: BLE001 - whatever a script raises is its result
        raise Refused(_told(error)) from None
    return value, output.getvalue().removesuffix("\n")


def _printer(output: io.StringIO) -> Any:
    def write(*some: object, sep: str = " ", end: str = "\n", **_: object) -> None:
        text = sep.join(map(str, some)) + end
        if output.tell() + len(text) > MOST_ANSWER:
            raise Refused(f"more than {MOST_ANSWER} characters printed")
        output.write(text)

    return write


def _with_result(tree: ast.Module) -> ast.Module:
    """Return the program so that its value is kept: of `return`, or of the last expression."""
    returns = any(isinstance(node, ast.Return) for part in tree.body for node in _here(part))
    if returns:
        made = ast.parse("def __main():\n    pass")
        made.body[0].body = tree.body  # type: ignore[attr-defined]
        return ast.fix_missing_locations(made)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        kept = ast.Assign(targets=[ast.Name("__value", ast.Store())], value=last.value)
        tree.body[-1] = ast.copy_location(kept, last)
    return ast.fix_missing_locations(tree)


def _here(node: ast.AST) -> Any:
    """Yield a node and what is below it, but not what belongs to functions and classes in it."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
        return
    for child in ast.iter_child_nodes(node):
        yield from _here(child)


def _told(error: BaseException) -> str:
    if isinstance(error, Refused):
        return str(error)
    line, here = 0, error.__traceback__
    while here is not None:
        if here.tb_frame.f_code.co_filename == "script":
            line = here.tb_lineno
        here = here.tb_next
    place = f" (line {line})" if line else ""
    return f"{type(error).__name__}: {error}"[:1000] + place


# --- requests ------------------------------------------------------------------------------------

RUN = {"javascript": javascript, "python": python}


def answer_to(request: dict[str, Any]) -> bytes:
    """Return the answer to one request, never longer than the limit."""
    try:
        run = RUN[request["language"]]
        value, output = run(request["code"], request["variables"], request["limits"])
        if isinstance(value, tuple | set | frozenset):
            value = list(value)
        made = json.dumps({"value": value, "output": output}).encode()
        if len(made) > MOST_ANSWER:
            raise Refused(f"the result is longer than {MOST_ANSWER} bytes")
    except Refused as error:
        made = json.dumps({"error": str(error)[:2000]}).encode()
    except (TypeError, ValueError, RecursionError) as error:
        made = json.dumps({"error": f"the result is no text: {error}"[:2000]}).encode()
    except MemoryError:
        made = b'{"error": "out of memory"}'
    return made


def read(count: int) -> bytes:
    """Read exactly so many bytes; empty at the end of the pipe."""
    found = b""
    while len(found) < count:
        block = os.read(0, count - len(found))
        if not block:
            return b""
        found += block
    return found


def write(data: bytes) -> None:
    """Write all of an answer."""
    left = memoryview(struct.pack("!I", len(data)) + data)
    while left:
        left = left[os.write(1, left) :]


def main() -> None:
    """Serve requests until the pipe ends; arguments: bytes of memory, path of quickjs."""
    memory, place = int(sys.argv[-2]), sys.argv[-1]
    if place:
        if place != BUNDLED:
            sys.path.insert(0, place)
        import quickjs

        quickjs.Context().eval("1")
        if place != BUNDLED:
            sys.path.pop(0)
    json.dumps({"a": [1.5, None]}).encode()
    datetime.datetime.strptime("2030", "%Y")  # noqa: DTZ007 - loads what strptime needs
    hashlib.sha256(b"").hexdigest()
    sys.stdin = sys.stdout = None
    is_filtered = lock_down(memory)
    write(json.dumps({"ready": True, "filtered": is_filtered}).encode())
    while head := read(4):
        (length,) = struct.unpack("!I", head)
        if length > MOST_REQUEST:
            return
        data = read(length)
        if not data:
            return
        write(answer_to(json.loads(data)))


if __name__ == "__main__":
    main()
