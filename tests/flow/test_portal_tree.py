"""FTP, SFTP and HTTPS over one tree: the cross-protocol examples of portal.md 3.8.

The portals are the real ones on free ports, behind them the real gate, store and engine.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import asyncssh
import pytest

from ecpds.engine.operations.actor import SYSTEM
from ecpds.model.account import Permission, Service
from ecpds.model.status import TransferStatus
from ecpds.store import history
from tests.portalsite import site

S = TransferStatus


async def test_ex_22_one_file_through_all_doors(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        await s.s3_key("alice")
        async with s.sftp() as sftp, sftp.open("/DATA/NORTH/a/1", "wb") as file:
            await file.write(b"content")
        keys = await s.s3("GET", "/NORTH?list-type=2&prefix=a%2F")
        assert (keys.status, "<Key>a/1</Key>" in keys.text) == (200, True)
        found = await s.ask("HEAD", "/ecpds/data/file/NORTH/a/1")
        assert (found.status, found.headers["Content-Length"]) == (200, "7")
        assert found.headers["ETag"] == '"00000000-0000-0001-0000-000000000000"'
        listed = await s.ask("GET", "/ecpds/data/list/NORTH/a", headers={"Accept": "text/plain"})
        assert listed.text.split() == ["1"]
        async with s.ftp() as ftp:
            assert await ftp("SIZE /NORTH/a/1") == (213, "7")
            assert await ftp.get("RETR /DATA/NORTH/a/1") == b"content"
            assert (await s.ask("GET", "/ecpds/data/file/NORTH/a/1")).body == b"content"
            shown = await s.ask("HEAD", "/webdav/NORTH/a/1")
            assert shown.headers["ETag"] == found.headers["ETag"]
            assert (await s.s3("HEAD", "/NORTH/a/1")).headers["ETag"] == found.headers["ETag"]
            assert (await s.ask("DELETE", "/webdav/NORTH/a/1")).status == 204
            assert (await ftp("SIZE /NORTH/a/1"))[0] == 550
        assert (await s.ask("HEAD", "/ecpds/data/file/NORTH/a/1")).status == 404
        await s.node.gate.close()
        told = await s.node.store.read(history.events, limit=100, kind="INH")
        protocols = [(e["action"], e["net"]["protocol"]) for _, e in told]
        assert sorted(protocols) == [("download", "ftp"), ("download", "https"), ("upload", "sftp")]


async def test_ex_21_known_paths_without_dir(tmp_path: Path) -> None:
    granted = {Permission.GET, Permission.SIZE, Permission.MTIME, Permission.PUT}
    async with site(tmp_path, user={"operations": granted}) as s:
        assert (await s.ask("PUT", "/ecpds/data/file/NORTH/a", body=b"content")).status == 201
        async with s.ftp() as ftp:
            assert await ftp.get("RETR /NORTH/a") == b"content"
            await ftp.passive()
            assert (await ftp("LIST /NORTH"))[0] == 550
        assert (await s.ask("GET", "/ecpds/data/list/NORTH")).status == 403
        await s.s3_key("alice")
        denied = await s.s3("GET", "/NORTH?list-type=2")
        assert (denied.status, "<Code>AccessDenied</Code>" in denied.text) == (403, True)
        assert (await s.s3("GET", "/NORTH/a")).body == b"content"
        got = await s.ask("PROPFIND", "/webdav/NORTH", headers={"Depth": "1"})
        assert got.status == 403


async def test_ex_24_open_access(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        await s.node.user(
            "pub", destinations=("NORTH",), service=Service.OPEN, password=None,
            operations={Permission.DIR, Permission.GET},
        )  # fmt: skip
        assert (await s.ask("PUT", "/ecpds/data/file/NORTH/a", body=b"content")).status == 201
        plain = {"Accept": "text/plain"}
        listed = await s.ask("GET", "/ecpds/home/pub/", user="", headers=plain)
        assert (listed.status, listed.text.split()) == (200, ["NORTH/"])
        assert (await s.ask("GET", "/ecpds/home/pub/NORTH/a", user="")).body == b"content"
        async with s.ftp("pub", "anything at all") as ftp:
            assert await ftp.get("RETR /NORTH/a") == b"content"
            await ftp.passive()
            assert (await ftp("STOR /NORTH/b"))[0] == 550
        denied = await s.ask("PUT", "/ecpds/data/file/NORTH/b", user="pub", body=b"x")
        assert denied.status == 403
        assert (await s.ask("GET", "/ecpds/home/alice/", user="")).status == 401
        listed = await s.ask("GET", "/s3/pub/", user="")
        assert (listed.status, "NORTH/" in listed.text) == (200, True)
        for path in ("/s3/pub/NORTH/b", "/webdav/NORTH/b"):
            user = "pub" if "webdav" in path else ""
            assert (await s.ask("PUT", path, user=user, body=b"x")).status == 403


async def test_ex_25_a_broken_upload_survives_a_restart(tmp_path: Path) -> None:
    async with site(tmp_path) as s, s.ftp() as ftp:
        await ftp("TYPE I")
        assert (await ftp("ALLO 20"))[0] in {200, 202}
        code, _ = await ftp.put("STOR /NORTH/d/a", b"0123456789")
        assert code in {426, 451}
        assert await s.transfers() == []
    async with site(tmp_path) as s, s.ftp() as ftp:
        await ftp("TYPE I")
        assert (await ftp("REST 10"))[0] == 350
        assert (await ftp.put("STOR /NORTH/d/a", b"abcdefghij"))[0] == 226
        (transfer,) = await s.transfers()
        assert (transfer.target, transfer.size) == ("d/a", 20)
        assert await ftp.get("RETR /NORTH/d/a") == b"0123456789abcdefghij"


async def test_ex_26_a_number_of_another_destination_is_a_missing_file(tmp_path: Path) -> None:
    async with site(tmp_path, user={"destinations": ("NORTH",)}) as s:
        await s.node.user("bob", destinations=("SOUTH",))
        put = await s.ask("PUT", "/ecpds/data/file/SOUTH/a", user="bob", body=b"x")
        assert put.status == 201
        (foreign,) = await s.transfers("SOUTH")
        answers = [
            await s.ask("GET", f"/ecpds/data/file/NORTH/DataTransferId={number}")
            for number in (foreign.id, foreign.id + 900)
        ]
        assert [answer.status for answer in answers] == [404, 404]
        first, second = (answer.text.replace(str(foreign.id + 900), "*") for answer in answers)
        assert first.replace(str(foreign.id), "*") == second


async def test_ex_27_connections_over_all_protocols(tmp_path: Path) -> None:
    async with site(tmp_path, user={"options": {"portal.maxConnections": "1"}}) as s:
        assert (await s.ask("PUT", "/ecpds/data/file/NORTH/a", body=b"content")).status == 201
        async with s.ftp():
            refused = await s.ask("GET", "/ecpds/data/file/NORTH/a")
            assert refused.status == 429
            assert "Retry-After" in refused.headers
            with pytest.raises(asyncssh.Error):
                async with s.sftp():
                    pass
        async with asyncio.timeout(10):
            while s.node.gate.sessions():
                await asyncio.sleep(0.01)
        assert (await s.ask("GET", "/ecpds/data/file/NORTH/a")).status == 200


async def test_an_address_is_banned_at_every_door(tmp_path: Path) -> None:
    async with site(tmp_path, security={"ban_score": 4}) as s:
        for _ in range(4):
            answer = await s.ask("GET", "/ecpds/data/list/NORTH", password="wrong")
            assert answer.status == 401
        assert (await s.ask("GET", "/ecpds/data/list/NORTH")).status in {401, 403, 429}
        with pytest.raises((OSError, asyncssh.Error)):
            async with s.sftp():
                pass
        reader, writer = await asyncio.open_connection("127.0.0.1", s.ftp_port)
        assert (await reader.read(100)).startswith(b"421")
        writer.close()
        await writer.wait_closed()
        assert await s.node.gate.unban("127.0.0.1")
        assert (await s.ask("GET", "/ecpds/data/list/NORTH")).status == 200


async def test_a_temporary_name_is_sent_only_under_its_final_one(tmp_path: Path) -> None:
    async with site(tmp_path, deliver=True, options={"incoming.tmpDetect": "yes"}) as s:
        async with s.sftp() as sftp:
            async with sftp.open("/NORTH/d/.f.tmp", "wb") as file:
                await file.write(b"content")
            await s.wait(("d/.f.tmp", S.HOLD))
            assert not s.out.exists()
            await sftp.posix_rename("/NORTH/d/.f.tmp", "/NORTH/d/f")
        await s.wait(("d/f", S.DONE))
        assert (s.out / "d" / "f").read_bytes() == b"content"
        assert [path.name for path in s.out.rglob("*") if path.is_file()] == ["f"]


async def test_a_new_version_is_sent_again_and_a_deleted_one_is_not(tmp_path: Path) -> None:
    async with site(tmp_path, deliver=True) as s:
        async with s.ftp() as ftp:
            assert (await ftp.put("STOR /NORTH/f", b"one"))[0] == 226
            await s.wait(("f", S.DONE))
            assert (await ftp.put("STOR /NORTH/f", b"second"))[0] == 226
            await s.wait(("f", S.DONE))
            assert (s.out / "f").read_bytes() == b"second"
            await s.node.destinations.stop("NORTH", SYSTEM)
            assert (await ftp.put("STOR /NORTH/g", b"never"))[0] == 226
            assert (await ftp("DELE /NORTH/g"))[0] == 250
        await s.node.destinations.start("NORTH", SYSTEM)
        await s.wait(("f", S.DONE))
        assert not (s.out / "g").exists()


async def test_a_lost_right_hangs_up(tmp_path: Path) -> None:
    async with site(tmp_path) as s, s.ftp() as ftp:
        assert (await ftp("NOOP"))[0] == 200
        await s.node.user("alice", destinations=("NORTH",), active=False)
        async with asyncio.timeout(10):
            while (await ftp("NOOP"))[0] == 200:
                await asyncio.sleep(0.01)
        assert (await s.ask("GET", "/ecpds/data/list/NORTH")).status == 401


async def test_an_upload_larger_than_allowed_is_refused_at_each_door(tmp_path: Path) -> None:
    content = os.urandom(2000)
    async with site(tmp_path, max_file_size=1000) as s:
        answer = await s.ask("PUT", "/ecpds/data/file/NORTH/a", body=content)
        assert answer.status == 413
        async with s.ftp() as ftp:
            assert (await ftp.put("STOR /NORTH/a", content))[0] >= 450
        async with s.sftp() as sftp:
            with pytest.raises(asyncssh.SFTPError):
                await sftp.put(_laid(tmp_path / "big", content), "/NORTH/a")
        assert await s.transfers() == []


def _laid(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)
