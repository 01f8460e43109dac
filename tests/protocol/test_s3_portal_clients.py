"""Real S3 clients at the portal: aws cli, rclone, s3cmd, restic, boto3's transfer manager."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.peers.clients import Outcome, run
from tests.protocol.s3_site import REGION, Site, site

pytestmark = pytest.mark.peer
MIB = 1024 * 1024
NAMES = ("plain.txt", "with blank & é.bin", "deep/er/x+y=z.dat", "empty")


def sample(folder: Path) -> dict[str, bytes]:
    """Write some files, one of them large enough for several parts; return their contents."""
    contents = {name: os.urandom(1000 * number) for number, name in enumerate(NAMES[:3], 1)}
    contents |= {"empty": b"", "deep/large.bin": os.urandom(17 * MIB + 3)}
    for name, content in contents.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return contents


def read(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def environment(s: Site, home: Path) -> Mapping[str, str]:
    pair = s.pairs["alice"]
    (home / ".aws").mkdir(parents=True, exist_ok=True)
    # version 1 of the aws cli presigns by V2 unless it is told
    (home / ".aws/config").write_text("[default]\ns3 =\n  signature_version = s3v4\n")
    return {
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": pair.access,
        "AWS_SECRET_ACCESS_KEY": pair.secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CA_BUNDLE": str(s.ca or ""),
        "SSL_CERT_FILE": str(s.ca or ""),
    }


@pytest.mark.needs("aws")
async def test_aws_cli_syncs(tmp_path: Path) -> None:
    """Up, down, listed, moved, removed, presigned; over TLS, below `/s3`."""
    contents = sample(tmp_path / "up")
    async with site(tmp_path, tls=True) as s:
        known = environment(s, tmp_path / "home")

        async def aws(*words: str | Path) -> Outcome:
            return (await run("aws", "--endpoint-url", s.below, *words, env=known)).ok()

        await aws("s3", "sync", tmp_path / "up", "s3://NORTH/in", "--only-show-errors")
        listed = (await aws("s3", "ls", "--recursive", "s3://NORTH/in")).text
        assert all(name in listed for name in contents)
        await aws("s3", "sync", "s3://NORTH/in", tmp_path / "down", "--only-show-errors")
        assert read(tmp_path / "down") == contents
        again = (await aws("s3", "sync", tmp_path / "up", "s3://NORTH/in")).text
        assert "upload:" not in again
        await aws("s3", "mv", "s3://NORTH/in/plain.txt", "s3://NORTH/moved.txt")
        await aws("s3", "cp", "s3://NORTH/in/deep/large.bin", "s3://NORTH/copy.bin")
        assert "moved.txt" in (await aws("s3", "ls", "s3://NORTH")).text
        link = (await aws("s3", "presign", "s3://NORTH/moved.txt")).text.strip()
        fetched = await run("curl", "-sf", "--cacert", s.ca or "", link)
        assert fetched.ok().out == contents["plain.txt"]
        await aws("s3", "rm", "--recursive", "s3://NORTH", "--only-show-errors")
        assert (await s.ask("GET", "/NORTH")).texts("Contents/Key") == []


@pytest.mark.needs("rclone")
async def test_rclone_syncs_and_checks(tmp_path: Path) -> None:
    """Sync both ways, check by hash, times kept as metadata, purge."""
    contents = sample(tmp_path / "up")
    async with site(tmp_path) as s:
        pair = s.pairs["alice"]
        known = dict(environment(s, tmp_path / "home")) | {
            "RCLONE_CONFIG_HUB_TYPE": "s3",
            "RCLONE_CONFIG_HUB_PROVIDER": "Other",
            "RCLONE_CONFIG_HUB_ENDPOINT": s.url,
            "RCLONE_CONFIG_HUB_ACCESS_KEY_ID": pair.access,
            "RCLONE_CONFIG_HUB_SECRET_ACCESS_KEY": pair.secret,
            "RCLONE_CONFIG_HUB_REGION": REGION,
            "RCLONE_CONFIG_HUB_UPLOAD_CUTOFF": "8M",
            "RCLONE_CONFIG_HUB_CHUNK_SIZE": "5M",
            "RCLONE_CONFIG": str(tmp_path / "rclone.conf"),
        }

        async def rclone(*words: str | Path) -> Outcome:
            return (await run("rclone", *words, env=known)).ok()

        await rclone("sync", tmp_path / "up", "hub:NORTH/in")
        await rclone("check", tmp_path / "up", "hub:NORTH/in")
        await rclone("sync", "hub:NORTH/in", tmp_path / "down")
        assert read(tmp_path / "down") == contents
        for name in contents:
            times = [(tmp_path / side / name).stat().st_mtime for side in ("up", "down")]
            assert abs(times[0] - times[1]) < 0.001, name
        told = (await rclone("sync", "-v", tmp_path / "up", "hub:NORTH/in")).err
        assert b"Copied" not in told
        await rclone("moveto", "hub:NORTH/in/plain.txt", "hub:NORTH/moved.txt")
        assert (await rclone("cat", "hub:NORTH/moved.txt")).out == contents["plain.txt"]
        await rclone("purge", "hub:NORTH/in")
        assert (await rclone("lsf", "-R", "hub:NORTH")).text == "moved.txt\n"


@pytest.mark.needs("s3cmd")
async def test_s3cmd_puts_gets_and_deletes(tmp_path: Path) -> None:
    """The old client, in parts of 5 MiB."""
    contents = sample(tmp_path / "up")
    async with site(tmp_path) as s:
        pair = s.pairs["alice"]
        host = f"127.0.0.1:{s.port}"
        (tmp_path / "cfg").write_text(
            f"[default]\naccess_key={pair.access}\nsecret_key={pair.secret}\n"
            f"host_base={host}\nhost_bucket={host}\nuse_https=False\n"
            f"bucket_location={REGION}\nmultipart_chunk_size_mb=5\n"
        )

        async def s3cmd(*words: str | Path) -> Outcome:
            known = environment(s, tmp_path / "home")
            # s3cmd 2.4 still imports imp, which warns
            known = dict(known) | {"PYTHONWARNINGS": "ignore"}
            return (
                await run("s3cmd", "-c", tmp_path / "cfg", "--no-progress", *words, env=known)
            ).ok()

        await s3cmd("sync", f"{tmp_path}/up/", "s3://NORTH/in/")
        (tmp_path / "down").mkdir()
        await s3cmd("get", "--recursive", "s3://NORTH/in/", f"{tmp_path}/down/")
        assert read(tmp_path / "down") == contents
        await s3cmd("cp", "s3://NORTH/in/plain.txt", "s3://NORTH/copy.txt")
        shown = (await s3cmd("info", "s3://NORTH/copy.txt")).text
        assert "MD5 sum" in shown
        await s3cmd("del", "--recursive", "--force", "s3://NORTH/")
        got = await s.ask("GET", "/NORTH")
        assert got.texts("Contents/Key") == []


@pytest.mark.needs("restic")
async def test_restic_backs_up_and_restores(tmp_path: Path) -> None:
    """A repository with locks, packs and pruning."""
    contents = sample(tmp_path / "up")
    async with site(tmp_path) as s:
        known = dict(environment(s, tmp_path / "home")) | {
            "RESTIC_PASSWORD": "x",
            "RESTIC_REPOSITORY": f"s3:{s.url}/NORTH/repo",
            "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
        }

        async def restic(*words: str | Path) -> Outcome:
            return (await run("restic", "-q", *words, env=known, cwd=tmp_path)).ok()

        await restic("init")
        await restic("backup", "up")
        (tmp_path / "up/plain.txt").write_bytes(b"changed")
        await restic("backup", "up")
        await restic("forget", "--keep-last", "1", "--prune")
        await restic("check", "--read-data")
        await restic("restore", "latest", "--target", "down")
        assert read(tmp_path / "down/up") == contents | {"plain.txt": b"changed"}


async def test_boto3_sends_large_files_in_parts(tmp_path: Path) -> None:
    """Its transfer manager: ten threads, a checksum behind each part, ranges back."""
    content = os.urandom(40 * MIB + 1)
    async with site(tmp_path, tls=True) as s:
        s3 = s.boto()
        await s.call(s3.upload_fileobj, io.BytesIO(content), "NORTH", "large")
        back = io.BytesIO()
        await s.call(s3.download_fileobj, "NORTH", "large", back)
        assert back.getvalue() == content
        got = await s.call(s3.list_objects_v2, Bucket="NORTH")
        assert [one["Key"] for one in got["Contents"]] == ["large"]
        s3.close()
