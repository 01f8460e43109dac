"""WebDAV with the clients that people have: litmus, rclone, cadaver, curl."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.portalsite import site

RCLONE = Path(sys.executable).with_name("rclone")


async def _run(*words: str | Path, cwd: Path, stdin: bytes = b"", **environment: str) -> str:
    """Run a program to its end; return what it said, fail unless it exits with 0."""
    child = await asyncio.create_subprocess_exec(
        *map(str, words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    async with asyncio.timeout(60):
        output, _ = await child.communicate(stdin)
    text = output.decode("utf-8", "replace")
    assert child.returncode == 0, text
    return text


@pytest.mark.peer
@pytest.mark.parametrize("suite", ["basic", "copymove", "props", "locks", "http"])
async def test_litmus(suite: str, tmp_path: Path) -> None:
    """Each of its sets, without a failure or a warning that we do not know."""
    async with site(tmp_path) as s:
        found = await _run(
            "litmus", f"{s.url}/webdav/NORTH/", "alice", "secret", cwd=tmp_path, TESTS=suite
        )
    assert "FAIL" not in found, found
    assert "0 failed" in found, found
