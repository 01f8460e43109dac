"""A store of the first schema, with rows in it, becomes one of this release and is served."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from ecpds.cli.access import Access
from ecpds.cli.client import Client
from ecpds.cli.upload import Form
from ecpds.store.migrate import migrations
from tests.commandline import command_line

CONTENT = b"kept over all releases"
SITE = {
    "hosts": [{"name": "h", "role": "dissemination", "method": "genericSftp",
               "host": "192.0.2.1", "login": "feed", "password": "sealed by the old release"}],
    "destinations": [{"name": "MET", "active": False, "hosts": ["h"],
                      "aliases": [{"to": "COPY"}]}, {"name": "COPY", "active": False}],
    "data_users": [{"login": "alice", "password": "secret-secret", "destinations": ["MET"],
                    "operations": ["dir", "get"]}],
}  # fmt: skip


def as_first_schema(path: Path, steps: int) -> None:
    """Turn a store into one of the first `steps` migrations, with the rows that fit into it."""
    old = path.with_name("old.db")
    with closing(sqlite3.connect(old)) as db:
        for number, name, text in migrations()[:steps]:
            assert resources.files("ecpds.store").joinpath("migrations").is_dir(), name
            db.executescript(f"BEGIN;\n{text}\nPRAGMA user_version = {number};\nCOMMIT;")
        db.execute("ATTACH DATABASE ? AS new", (str(path),))
        tables = [row[0] for row in db.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )]  # fmt: skip
        # counters are kept by triggers: destinations come with theirs, after the transfers
        for table in sorted(tables, key=lambda name: name == "destination"):
            columns = [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]
            known = {row[1] for row in db.execute(f"PRAGMA new.table_info({table})")}
            names = ", ".join(f'"{one}"' for one in columns if one in known)
            db.execute(f"DELETE FROM main.{table}")
            db.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
        db.commit()
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    old.replace(path)


@pytest.mark.parametrize("steps", [1, len(migrations()) // 2])
def test_an_old_store_is_migrated_and_served(tmp_path: Path, steps: int) -> None:
    """Files, transfers, secrets, accounts; nothing is wrong with it afterwards."""
    with command_line(tmp_path) as cli:
        daemon = cli.daemon
        assert daemon is not None
        (tmp_path / "site.json").write_text(json.dumps(SITE))
        cli("apply", "site.json")
        before = cli("export", "--secrets").text

        def client() -> Client:
            server = daemon.endpoints["monitor"]
            return Client(Access(server=server, token=daemon.token, insecure=True))

        with client() as one:
            form = Form(
                {"destination": "MET", "target": "f"}, "f", io.BytesIO(CONTENT), size=len(CONTENT)
            )
            made = one.upload("/files", form)
        asyncio.run(daemon.stop())
        as_first_schema(daemon.data / "ecpds.db", steps)
        with closing(sqlite3.connect(daemon.data / "ecpds.db")) as db:
            assert db.execute("PRAGMA user_version").fetchone()[0] == migrations()[steps - 1][0]

        asyncio.run(daemon.start())
        with client() as one:
            file = made["data_file"]["id"]
            assert b"".join(one.download(f"/files/{file}/content")) == CONTENT
            found = list(one.items("/transfers"))
            assert {row["destination"] for row in found} == {"MET", "COPY"}
        assert cli("export", "--secrets").text == before
        asyncio.run(daemon.stop())
        assert cli("fsck", "--deep", "--output", "json").json["problems"] == 0
