"""WebDAV with the clients that people have: litmus, rclone, cadaver, curl."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.peers import clients
from tests.peers.clients import Outcome
from tests.portalsite import Site, site

MIB = 1024 * 1024
ODD = ("a b&c.txt", "é'\"#%.bin", "plain", "x+y=z;.nc")


def _sample(folder: Path) -> dict[str, bytes]:
    """Write files with odd names at two levels; return their content."""
    found = {name: os.urandom(1000) for name in ODD} | {"big": os.urandom(3 * MIB), "empty": b""}
    found |= {"deep/er/file": b"deep"}
    for name, content in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return found


def _tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.needs("litmus")
@pytest.mark.parametrize("suite", ["basic", "copymove", "props", "locks", "http"])
async def test_litmus(suite: str, tmp_path: Path) -> None:
    """Each of its sets, without a failure or a warning."""
    async with site(tmp_path) as s:
        words = (f"{s.url}/webdav/NORTH/", "alice", "secret")
        found = (await clients.run("litmus", *words, cwd=tmp_path, env={"TESTS": suite})).ok()
    assert "0 failed" in found.text, found.text
    assert "FAIL" not in found.text, found.text
    assert "WARNING" not in found.text, found.text


async def _rclone(s: Site, *words: str | Path, cwd: Path) -> Outcome:
    hidden = (await clients.run("rclone", "obscure", "secret")).ok().text.strip()
    settings = {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_HUB_TYPE": "webdav",
        "RCLONE_CONFIG_HUB_URL": f"{s.url}/webdav/",
        "RCLONE_CONFIG_HUB_VENDOR": "other",
        "RCLONE_CONFIG_HUB_USER": "alice",
        "RCLONE_CONFIG_HUB_PASS": hidden,
        "RCLONE_RETRIES": "1",
        "HOME": str(cwd),
    }
    return (await clients.run("rclone", *words, cwd=cwd, env=settings)).ok()


@pytest.mark.needs("rclone")
async def test_rclone(tmp_path: Path) -> None:
    local = tmp_path / "local"
    sent = _sample(local)
    async with site(tmp_path) as s:
        await _rclone(s, "copy", local, "hub:NORTH/up", cwd=tmp_path)
        await _rclone(s, "copy", "hub:NORTH/up", "down", cwd=tmp_path)
        assert _tree(tmp_path / "down") == sent
        await _rclone(s, "check", "--download", local, "hub:NORTH/up", cwd=tmp_path)
        listed = await _rclone(s, "lsf", "-R", "--files-only", "hub:NORTH/up", cwd=tmp_path)
        assert set(listed.text.splitlines()) == set(sent)
        await _rclone(s, "moveto", "hub:NORTH/up/big", "hub:NORTH/up/deep/huge", cwd=tmp_path)
        await _rclone(s, "copyto", "hub:NORTH/up/plain", "hub:NORTH/plain", cwd=tmp_path)
        await _rclone(s, "mkdir", "hub:NORTH/fresh", cwd=tmp_path)
        await _rclone(s, "sync", local, "hub:NORTH/up", cwd=tmp_path)
        await _rclone(s, "about", "hub:NORTH", cwd=tmp_path)
        await _rclone(s, "purge", "hub:NORTH/up", cwd=tmp_path)
        listed = await _rclone(s, "lsf", "hub:NORTH", cwd=tmp_path)
        assert set(listed.text.splitlines()) == {"plain", "fresh/"}


@pytest.mark.needs("cadaver")
async def test_cadaver(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login alice password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    (tmp_path / "f.txt").write_bytes(b"content")
    script = b"""mkcol d
put f.txt d/f.txt
ls d
copy d/f.txt d/g.txt
move d/g.txt d/h.txt
get d/h.txt got.txt
lock d/h.txt
discover d/h.txt
unlock d/h.txt
propset d/h.txt colour red
propget d/h.txt colour
delete d/f.txt
quit
"""
    async with site(tmp_path) as s:
        found = await clients.run(
            "cadaver", f"{s.url}/webdav/NORTH/", data=script, cwd=tmp_path,
            env={"HOME": str(tmp_path)},
        )  # fmt: skip
        said = found.ok().text
        assert "failed" not in said, said
        assert "colour of `d/h.txt'" in said or "red" in said, said
        assert (tmp_path / "got.txt").read_bytes() == b"content"
        assert [one.target for one in await s.transfers()] == ["d/h.txt"]


@pytest.mark.needs("curl")
async def test_curl(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    async with site(tmp_path) as s:
        address = f"{s.url}/webdav/NORTH/f"
        user = ("-sS", "--fail", "--user", "alice:secret")
        (await clients.run("curl", *user, "-T", "f", address, cwd=tmp_path)).ok()
        got = await clients.run("curl", *user, "--range", "2-4", address)
        assert got.ok().out == b"234"
        words = ("-X", "PROPFIND", "-H", "Depth: 0", address)
        assert b"multistatus" in (await clients.run("curl", *user, *words)).ok().out
        (await clients.run("curl", *user, "-X", "DELETE", address)).ok()
        assert await s.transfers() == []
