"""A directory as one ZIP file."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

from ecpds.model.account import Permission
from ecpds.store import history
from tests.portalsite import site


async def test_a_directory_as_one_file(tmp_path: Path) -> None:
    large = os.urandom(700_000)
    async with site(tmp_path) as s:
        for name, content in (
            ("a", b"1"),
            ("d/e/\u00e9 x", b"2"),
            ("d/large", large),
            ("d/z", b""),
        ):
            path = f"/ecpds/data/file/NORTH/{name}"
            assert (await s.ask("PUT", path, body=content)).status == 201
        got = await s.ask("GET", "/ecpds/data/list/NORTH/d?format=zip")
        assert (got.status, got.headers["Content-Type"]) == (200, "application/zip")
        assert 'filename="d.zip"' in got.headers["Content-Disposition"]
        with zipfile.ZipFile(io.BytesIO(got.body)) as archive:
            assert archive.testzip() is None
            assert sorted(archive.namelist()) == ["e/\u00e9 x", "large", "z"]
            assert archive.read("large") == large
        await s.node.gate.close()
        told = await s.node.store.read(history.events, limit=100, kind="INH")
        assert [event["action"] for _, event in told].count("download") == 3
        body = json.dumps({"path": "/NORTH/d"}).encode()
        kind = {"Content-Type": "application/json"}
        made = await s.ask("POST", "/ecpds/data/links", body=body, headers=kind)
        link = urlsplit(json.loads(made.body)["url"]).path
        got = await s.ask("GET", f"{link}?format=zip", user="")
        with zipfile.ZipFile(io.BytesIO(got.body)) as archive:
            assert "large" in archive.namelist()


async def test_rights_of_an_archive(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        await s.ask("PUT", "/ecpds/data/file/NORTH/a", body=b"1")
        page = await s.ask("GET", "/ecpds/file/NORTH/", headers={"Accept": "text/html"})
        assert "format=zip" in page.text
        for path in ("/ecpds/file/", "/ecpds/data/list/EAST"):
            assert (await s.ask("GET", f"{path}?format=zip")).status == 404
        few = [Permission.DIR]
        await s.node.user("alice", destinations=("NORTH",), operations=few)
        page = await s.ask("GET", "/ecpds/file/NORTH/", headers={"Accept": "text/html"})
        assert "format=zip" not in page.text
