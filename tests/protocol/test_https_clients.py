"""Programs that people use: curl and rclone, over TLS."""

from __future__ import annotations

import asyncio
import os
import sysconfig
from pathlib import Path

import pytest

from tests.protocol.https_site import Site, site

CONTENT = bytes(range(256)) * 8192  # 2 MiB: curl asks with Expect


@pytest.mark.needs("curl")
async def test_curl_uploads_downloads_resumes_and_deletes(tmp_path: Path) -> None:
    async with site(tmp_path, tls=True) as s:
        base = f"{s.url}/ecpds/data/file/NORTH"
        (tmp_path / "big").write_bytes(CONTENT)
        code, said, error = await s.curl("--upload-file", "big", "-w", "%{http_code}", f"{base}/d/")
        assert (code, said[-3:], error) == (0, "201", "")
        assert s.content("/NORTH/d/big") == CONTENT
        assert (await s.curl("-o", "whole", f"{base}/d/big"))[0] == 0
        assert (tmp_path / "whole").read_bytes() == CONTENT
        (tmp_path / "part").write_bytes(CONTENT[:1_000_000])
        assert (await s.curl("-C", "-", "-o", "part", f"{base}/d/big"))[0] == 0
        assert (tmp_path / "part").read_bytes() == CONTENT
        assert s.gate.downloads[-1].offset == 1_000_000
        _, said, _ = await s.curl("-I", f"{base}/d/big")
        assert f"Content-Length: {len(CONTENT)}" in said
        _, said, _ = await s.curl(
            "-z", "whole", "-w", "%{http_code}", "-o", "/dev/null", f"{base}/d/big"
        )
        assert said in ("200", "304")
        code, said, _ = await s.curl("-X", "DELETE", "-w", "%{http_code}", f"{base}/d/big")
        assert (said, s.has("/NORTH/d/big")) == ("204", False)


@pytest.mark.needs("curl")
async def test_curl_uploads_from_a_pipe_and_by_form(tmp_path: Path) -> None:
    async with site(tmp_path, tls=True) as s:
        base = f"{s.url}/ecpds/data/file/NORTH"
        code, _, error = await s.curl("-T", "-", f"{base}/pipe", stdin=CONTENT)
        assert (code, error, s.content("/NORTH/pipe")) == (0, "", CONTENT)
        (tmp_path / "é b.bin").write_bytes(CONTENT)
        code, said, error = await s.curl("-F", "file=@é b.bin", "-F", "note=x", f"{base}/")
        assert (code, error) == (0, "")
        assert said.startswith("Upload complete (id: ")
        assert s.content("/NORTH/é b.bin") == CONTENT
        octets = "Content-Type: application/octet-stream"
        code, said, error = await s.curl("--data-binary", "@é b.bin", "-H", octets, f"{base}/post")
        assert (code, error, s.content("/NORTH/post")) == (0, "", CONTENT)


@pytest.mark.needs("curl")
async def test_curl_reads_why_an_upload_is_refused(tmp_path: Path) -> None:
    """With and without Expect: the answer arrives although the body is not read."""
    async with site(tmp_path, tls=True) as s:
        s.gate.max_file_size = 1000
        (tmp_path / "big").write_bytes(CONTENT * 8)
        for words in ([], ["-H", "Expect:"]):
            target = f"{s.url}/ecpds/data/file/NORTH/big"
            _, said, _ = await s.curl(*words, "-T", "big", "-w", "%{http_code}", target)
            assert said.endswith("413")
            assert "1000 bytes" in said
        await s.idle()
        assert s.gate.uploads == []


async def rclone(s: Site, *words: str) -> str:
    """Run rclone's http remote on the home of alice; return its output."""
    program = Path(sysconfig.get_path("scripts")) / "rclone"
    environment = os.environ | {
        "RCLONE_CONFIG": str(s.folder / "rclone.conf"),
        "RCLONE_CA_CERT": str(s.ca),
        "RCLONE_HTTP_URL": f"https://alice:secret@127.0.0.1:{s.port}/ecpds/file/",
        "XDG_CACHE_HOME": str(s.folder / "cache"),
    }
    child = await asyncio.create_subprocess_exec(
        program,
        *words,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, error = await child.communicate()
    assert child.returncode == 0, error.decode()
    return output.decode()


@pytest.mark.needs("rclone")
async def test_rclone_lists_and_copies(tmp_path: Path) -> None:
    """Through the page: names, sizes and times are right, odd names too."""
    async with site(tmp_path, tls=True) as s:
        files = {
            "a.txt": b"a",
            "d/é ü.nc": CONTENT,
            "d/e/100% #1?.txt": b"",
            "d/<b>&amp;.txt": b"x",
        }
        for name, content in files.items():
            s.put(f"/NORTH/{name}", content)
        listed = await rclone(s, "lsf", "-R", "--format", "ps", ":http:NORTH")
        expected = [f"{name};{len(content)}" for name, content in files.items()]
        found = [line for line in listed.splitlines() if "/;" not in line]
        assert sorted(found) == sorted(expected)
        await rclone(s, "copy", ":http:NORTH", str(tmp_path / "copy"))
        for name, content in files.items():
            assert (tmp_path / "copy" / name).read_bytes() == content
        await rclone(s, "check", "--download", ":http:NORTH", str(tmp_path / "copy"))
