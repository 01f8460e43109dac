"""`/ecpds/v1`: the calls of OpenECPDS, their answers kept as texts in tests/golden/v1.

`V1_GOLDEN=write` writes them anew; look at the difference before you commit it.
"""

from __future__ import annotations

import io
import json
import os
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ecpds.base.settings import ApiSettings, ApiV1Settings
from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.sitefile import read_site
from ecpds.model.account import Role
from ecpds.model.decode import Where
from tests.protocol.api import Reply, Rig, rig

GOLDEN = Path(__file__).parent.parent / "golden" / "v1"
SITE: dict[str, Any] = {
    "hosts": [
        {"name": "src", "role": "source", "method": "genericTest", "directory": "/data"},
        {
            "name": "north", "method": "genericSftp", "host": "sftp.example.org", "login": "feed",
            "password": "geheim", "directory": "/in/$dataTransfer[target]",
            "options": {"sftp.port": 2022, "sftp.passPhrase": "tief"},
        },
    ],
    "destinations": [
        {
            "name": "NORTH", "type": "gold", "country": "fr", "comment": "Gold site",
            "user_mail": "a@example.org", "hosts": ["north"], "source_host": "src",
            "aliases": [{"to": "ARCHIVE", "rule": "pattern=.*\\.grib2,priority=80"}],
        },
        {"name": "ARCHIVE", "type": "time critical", "country": "de", "active": False},
    ],
    "api_users": [
        {"name": "robot", "password": "pass:word", "services": ".*"},
        {"name": "files", "password": "f", "services": "datafile(Put|Size)"},
        {"name": "gone", "password": "g", "services": ".*", "active": False},
    ],
    "web_users": [{"name": "olga", "password": "o", "roles": [{"role": "viewer", "scope": "N*"}]}],
}  # fmt: skip


@dataclass
class V1:
    """Sends v1 calls as one user."""

    hub: Rig
    user: str = "robot"
    password: str = "pass:word"

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> Reply:
        credential = b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {credential}"} if self.user else {}
        return await self.hub.client().call(
            method, f"/_/ecpds/v1/{path}", body, headers=headers, **more
        )

    async def golden(self, name: str, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Call, compare with the file of that name, return the document."""
        answer = await self.call(method, path, body, **more)
        told = f"{method} {path}\n{answer.status}\n{constant(answer.text)}\n"
        place = GOLDEN / f"{name}.txt"
        if os.environ.get("V1_GOLDEN") == "write":
            place.parent.mkdir(exist_ok=True)
            place.write_text(told, "utf-8")
        assert told == place.read_text("utf-8"), name
        return answer.json


def constant(text: str) -> str:
    """Return an answer without what differs from run to run."""
    text = re.sub(r'"\d{4}-\d\d-\d\dT[0-9:.]+Z"', '"TIME"', text)
    text = re.sub(r'("(?:arrivalTime|lastUpdate)": )\d{9,}', r"\1SECONDS", text)
    text = re.sub(r'("minutesBeforeSchedule": )-?\d+', r"\1MINUTES", text)
    text = re.sub(r'("version": )"[^"]+"', r'\1"VERSION"', text)
    return re.sub(r'("pass": )"[^"]{8}"', r'\1"EIGHT"', text)


@asynccontextmanager
async def v1(folder: Path, **settings: Any) -> AsyncIterator[V1]:
    async with rig(folder, **settings) as hub:
        services = hub.monitor._services
        assert services is not None
        await services.site.apply(read_site(SITE, Where()), SYSTEM, dry_run=False)
        yield V1(hub)


async def test_users(tmp_path: Path) -> None:
    async with v1(tmp_path) as api:
        await api.golden("user-add", "POST", "incoming/user/add?id=ann&pass=secret12&iso=fr")
        user = (await api.hub.admin.get("/portal/users/ann")).json
        assert (user["active"], user["operations"]) == (False, ["dir", "get", "mtime", "size"])
        await api.golden("user-add-again", "POST", "incoming/user/add?id=ann&email=a@example.org")
        user = (await api.hub.admin.get("/portal/users/ann")).json
        assert (user["comment"], user["country"]) == ("a@example.org", "fr")
        await api.golden("user-add-no-id", "POST", "incoming/user/add?pass=x")
        await api.golden("user-add-dash", "POST", "incoming/user/add?id=a-b")
        await api.golden("user-add-country", "POST", "incoming/user/add?id=ann&iso=xx")
        made = await api.golden(
            "user-add2", "POST", "incoming/user/add2?id=bob&email=b@c.de&iso=de"
        )
        await api.golden("user-add2-exists", "POST", "incoming/user/add2?id=bob&email=b&iso=de")
        await api.golden("user-list", "GET", "incoming/user/list")
        link = "incoming/association"
        await api.golden("association-inactive", "POST", f"{link}/add?id=ann&destination=NORTH")
        await api.golden("category-add", "POST", "incoming/category/add?id=ann", ["x", "my-ecpds"])
        assert (await api.hub.admin.get("/portal/users/ann")).json["active"] is True
        await api.golden("association-add", "POST", f"{link}/add?id=ann&destination=NORTH")
        await api.golden("association-list", "GET", f"{link}/list?id=ann")
        assert (await api.call("POST", f"{link}/add?id=bob&destination=NORTH")).json[
            "success"
        ] == "yes"
        async with await api.hub.node.login("bob", made["pass"]):
            pass
        await api.golden("user-list-of", "GET", "incoming/user/list?destination=NORTH")
        await api.golden("association-nowhere", "POST", f"{link}/add?id=ann&destination=NO")
        await api.golden("association-del", "DELETE", f"{link}/del?id=ann&destination=NORTH")
        await api.golden("category-none", "POST", "incoming/category/add?id=ann", ["x"])
        assert (await api.hub.admin.get("/portal/users/ann")).json["active"] is False
        await api.golden("category-body", "POST", "incoming/category/add?id=ann", {"a": 1})
        await api.golden("user-del", "DELETE", "incoming/user/del/ann")
        await api.golden("user-del-again", "DELETE", "incoming/user/del/ann")


async def test_destinations(tmp_path: Path) -> None:
    async with v1(tmp_path) as api:
        await api.golden("version", "GET", "version")
        await api.golden("destination-list", "GET", "destination/list")
        await api.golden("destination-list-iso", "GET", "destination/list?iso=FR&type=gold")
        await api.golden("destination-list-id", "GET", "destination/list?id=olga&type=2")
        await api.golden("destination-list-nobody", "GET", "destination/list?id=nobody")
        await api.golden("destination", "GET", "destination/NORTH")
        await api.golden("destination-none", "GET", "destination/SOUTH")
        await api.golden("destination-types", "GET", "destination/type/list")
        countries = (await api.call("GET", "destination/country/list")).json["countryList"]
        assert len(countries) > 240
        assert {"iso": "fr", "name": "France"} in countries


async def test_metadata(tmp_path: Path) -> None:
    async with v1(tmp_path) as api:
        for field in (
            {"name": "desk", "label": "Desk", "type": "contact", "category": "People"},
            {"name": "mails", "type": "email", "category": "People", "max_occurrences": -1},
            {"name": "vpn", "type": "password", "category": "Net", "position": 2},
            {"name": "old", "active": False},
        ):
            assert (await api.hub.admin.post("/metadata/fields", field)).status == 201
        await api.golden("metadata-fields", "GET", "destination/metadata/fields")
        await api.golden("metadata-empty", "GET", "destination/NORTH/metadata")
        given = {
            "People": {
                "desk": {"name": "Ann", "phone": "+33"}, "mails": ["a@b.c", "", None, "d@e.f"],
                "nonsense": "x",
            },
            "Net": {"vpn": "secret"},
        }  # fmt: skip
        path = "destination/NORTH/metadata"
        await api.golden("metadata-put", "PUT", path, {"metadata": given})
        await api.golden("metadata", "GET", path)
        await api.golden("metadata-bad", "PUT", path, {"metadata": {"People": {"mails": "x"}}})
        await api.golden("metadata-shape", "PUT", path, {"metadata": 3})


async def test_backup_and_option(tmp_path: Path) -> None:
    async with v1(tmp_path) as api:
        found = await api.golden("backup-one", "GET", "destination/backup/NORTH")
        every = (await api.call("GET", "destination/backup")).json["backup"]
        assert [one["destination"]["name"] for one in every["destinations"]] == ["ARCHIVE", "NORTH"]
        backup = found["backup"]
        text = json.dumps(backup).replace("NORTH", "SOUTH").replace('"north"', '"south"')
        await api.golden("backup-put", "PUT", "destination/backup", {"backup": json.loads(text)})
        await api.golden("backup-again", "PUT", "destination/backup", {"backup": json.loads(text)})
        south = (await api.hub.admin.get("/destinations/SOUTH")).json
        assert (south["hosts"], south["country"]) == (["south"], "fr")
        assert south["source_host"] == "src"
        host = (await api.hub.admin.get("/hosts/south")).json
        assert host["has_password"] is False  # masked secrets are nobody's password
        shared = json.loads(json.dumps(backup).replace("NORTH", "EAST"))
        place = "destination/backup?copySharedHost=yes"
        assert (await api.call("PUT", place, {"backup": shared})).json["success"] == "yes"
        assert (await api.hub.admin.get("/destinations/EAST")).json["hosts"] == ["north-2"]
        await api.golden("backup-shape", "PUT", "destination/backup", {"backup": []})
        token = V1(api.hub, "any", await api.hub.token())
        clear = (await token.call("GET", "destination/backup/NORTH")).json["backup"]
        assert clear["destinations"][0]["associations"][0]["host"]["passwd"] == "geheim"
        assert "tief" in clear["destinations"][0]["associations"][0]["host"]["properties"]
        number = backup["destinations"][0]["associations"][0]["host"]["name"]
        option = f"host/option?hostid={number}&name=sftp.port"
        await api.golden("option", "POST", option, data={"value": "2222"})
        changed = (await api.hub.admin.get("/hosts/north")).json
        assert (changed["options"]["sftp.port"], changed["has_password"]) == ("2222", True)
        await api.golden("option-no-dot", "POST", f"host/option?hostid={number}&name=port",
                         data={"value": "1"})  # fmt: skip
        await api.golden("option-no-host", "POST", "host/option?hostid=no&name=sftp.port",
                         data={"value": "1"})  # fmt: skip
        await api.golden("option-no-value", "POST", option, data={"other": "1"})
        await api.golden("option-bad", "POST", option, data={"value": "many"})


async def test_files(tmp_path: Path) -> None:
    async with v1(tmp_path) as api:
        place = "datafile/put?destination=NORTH&source=/data/a.grib&uniquename=1&metadata=a=b"
        made = await api.golden("datafile-put", "POST", place + "&at=20310101&standby=yes")
        get = await api.call(
            "GET", "datafile/put?destination=NORTH&source=/data/b.grib&lifetime=2d"
        )
        assert get.json["success"] == "yes"
        assert get.headers["Deprecation"]
        assert get.headers["Sunset"]
        one = (await api.hub.admin.get(f"/files/{made['id']}")).json
        assert (one["metadata"], one["submitter"]) == ({"a": "b"}, "robot")
        transfer = (await api.hub.admin.get("/transfers?target=a.grib")).items[0]
        assert transfer["priority"] == 99, transfer
        assert transfer["scheduled"].startswith("2031-01-01T00:00:00")
        await api.golden("datafile-put-again", "POST", place)
        forced = await api.call("POST", place + "&force=yes")
        assert forced.json["success"] == "yes", forced.text
        await api.golden("datafile-put-nowhere", "GET", "datafile/put?destination=NO&source=a")
        await api.golden("datafile-put-no-source", "GET", "datafile/put?destination=NORTH")
        bad = "datafile/put?destination=NORTH&source=a&"
        await api.golden("datafile-put-priority", "POST", bad + "priority=a")
        await api.golden("datafile-put-lifetime", "POST", bad + "lifetime=soon")
        await api.golden("datafile-put-at", "POST", bad + "at=20319999")
        await api.golden(
            "datafile-no-source-host", "POST", "datafile/put?destination=ARCHIVE&source=a"
        )
        uploaded = await api.hub.admin.upload(b"12345", destination="ARCHIVE")
        number = uploaded.json["data_file"]["id"]
        await api.golden("datafile-size", "GET", f"datafile/size?id={number}")
        await api.golden("datafile-del", "DELETE", f"datafile/del?id={number}")
        await api.golden("datafile-del-again", "DELETE", f"datafile/del?id={number}")
        await api.golden("datafile-size-none", "GET", "datafile/size?id=4711")
        await api.golden("datafile-size-text", "GET", "datafile/size?id=x")


async def test_products(tmp_path: Path) -> None:
    async with v1(tmp_path) as api:
        step = "/products/WAVE/00/steps/6/FC"
        schedule = {"schedule": "2031-05-04T03:00:00Z", "base": "2031-05-04T00:00:00Z"}
        for status in ("expected", "completed"):
            body = {"status": status, "buffer": "PT10M", **schedule}
            assert (await api.hub.admin.put(step, body)).ok
        await api.golden("summary", "GET", "monitoring/summary/WAVE/00")
        await api.golden("summary-step", "GET", "monitoring/summary/WAVE/00/6/FC")
        await api.golden("summary-text", "GET", "monitoring/summary/WAVE/00/six/FC")
        await api.golden("summary-none", "GET", "monitoring/summary/NONE/00")


async def test_who_may_what(tmp_path: Path) -> None:
    async with v1(tmp_path) as api:
        hub = api.hub
        paths = ("destination/list", "destination/NORTH", "destination/type/list",
                 "monitoring/summary/a/b", "datafile/size?id=1")  # fmt: skip
        for path in paths:  # some asked nobody in the original
            for user, password in (("", ""), ("robot", "wrong"), ("gone", "g"), ("nobody", "x")):
                answer = await V1(hub, user, password).call("GET", path)
                if answer.status == 429:  # logins of one address are slowed down
                    continue
                assert answer.status == 401, (path, user, answer.text)
                assert answer.json["success"] == "no"
                assert answer.json["status"] == "error"
                assert answer.json["error"] == answer.json["message"]
                assert answer.headers["WWW-Authenticate"].startswith("Basic ")


async def test_services_and_scopes(tmp_path: Path) -> None:
    async with v1(tmp_path) as api:
        hub = api.hub
        few = V1(hub, "files", "f")
        await few.golden("not-authorized", "GET", "destination/list")
        assert (await few.call("DELETE", "datafile/del?id=1")).json[
            "error"
        ] == "User not authorized"
        assert (await few.call("GET", "datafile/size?id=1")).json["error"] != "User not authorized"
        reader = V1(hub, "x", await hub.token(scopes=("destinations:read",), objects=("N*",)))
        assert len((await reader.call("GET", "destination/list")).json["destinationList"]) == 1
        assert (await reader.call("GET", "destination/ARCHIVE")).json["success"] == "no"
        assert (await reader.call("GET", "incoming/user/list")).json["success"] == "no"
        editor = await hub.as_user("ed", Role.EDITOR, "N*")
        scoped = V1(hub, "ed", editor.token)
        add = "incoming/user/add?id=eve"
        assert (await scoped.call("POST", add)).json["success"] == "no"  # reaches everywhere
        assert (await scoped.call("PUT", "destination/backup", {"backup": {"destinations": []}})
                ).json["success"] == "no"  # fmt: skip


async def test_statuses_and_bans(tmp_path: Path) -> None:
    async with v1(
        tmp_path, api=ApiSettings(v1=ApiV1Settings(http_errors=True, version=False))
    ) as api:
        assert (await api.call("GET", "destination/SOUTH")).status == 404
        assert (await V1(api.hub, "files", "f").call("GET", "destination/list")).status == 403
        assert (await api.call("GET", "version")).status == 404
        assert (await api.call("GET", "nowhere")).status == 404
        assert (await api.call("PATCH", "destination/list")).status == 405
        assert (
            (await api.call("GET", "destination/list"))
            .headers["Content-Type"]
            .startswith("application/json")
        )
        body = io.BytesIO(json.dumps(["x" * 2_000_000]).encode())
        huge = await api.call("POST", "incoming/category/add?id=a", data=body)
        assert (huge.status, huge.json["success"]) == (413, "no")
        for _ in range(20):
            await V1(api.hub, "nobody", "wrong").call("GET", "destination/list")
            if (await api.hub.admin.get("/portal/bans")).items:
                break
        else:
            raise AssertionError("nobody was banned")


async def test_v1_users_of_the_api(tmp_path: Path) -> None:
    async with v1(tmp_path) as api:
        admin = api.hub.admin
        made = await admin.post(
            "/api/v2/api_users", {"name": "new", "password": "p", "services": "a.*"}
        )
        assert made.status == 201, made.text
        assert (made.status, made.json["password"], made.json["services"]) == (201, "***", "a.*")
        assert (await admin.post("/api/v2/api_users", {"name": "new"})).status == 409
        bad = await admin.patch("/api/v2/api_users/new", {"services": "("}, match="*")
        assert (bad.status, bad.json["errors"][0]["pointer"]) == (422, "/services")
        assert (await admin.patch("/api/v2/api_users/new", {"services": ""})).status == 428
        stale = await admin.patch("/api/v2/api_users/new", {"services": ""}, match='"99"')
        assert stale.status == 412
        new = V1(api.hub, "new", "p")
        assert (await new.call("GET", "destination/type/list")).json["success"] == "yes"
        assert (await new.call("GET", "destination/list")).json["success"] == "no"
        assert (await admin.patch("/api/v2/api_users/new", {"services": ".*"}, match="*")).ok
        assert (await new.call("GET", "destination/list")).json["success"] == "yes"
        assert (await admin.delete("/api/v2/api_users/new", match="*")).status == 204
        assert (await new.call("GET", "destination/list")).status == 401
        viewer = await api.hub.as_user("vi", Role.VIEWER)
        assert (await viewer.get("/api/v2/api_users")).status == 403
        exported = (await admin.get("/site")).json["api_users"]
        assert [one["name"] for one in exported] == ["files", "gone", "robot"]
        assert "password" not in exported[0]
        assert datetime.fromisoformat((await admin.get("/changes?kind=api_user")).items[0]["time"])
