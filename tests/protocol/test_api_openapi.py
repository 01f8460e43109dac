"""The description of the API: complete, consistent, and true of real answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from ecpds.model.host import HostRole
from ecpds.model.secret import Secret
from ecpds.web.rights import is_right
from tests.protocol.api import PASSWORD, Reply, Rig, rig


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [one for item in value.values() for one in references(item)]
    if isinstance(value, list):
        return [one for item in value for one in references(item)]
    return []


async def test_every_route_is_described(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        document = (await hub.admin.get("/openapi.json")).json
        assert document["openapi"] == "3.1.0"
        schemas = document["components"]["schemas"]
        for reference in references(document):
            assert reference.removeprefix("#/components/schemas/") in schemas, reference
        for name, schema in schemas.items():
            Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object", name
        described = {
            (method.upper(), path)
            for path, operations in document["paths"].items()
            for method in operations
        }
        served = {(one.method, one.path) for one in hub.monitor.routes if one.kind == "api"}
        assert described == served
        identities = set()
        for path, operations in document["paths"].items():
            for operation in operations.values():
                assert is_right(operation["x-scope"]), path
                assert operation["summary"], path
                identities.add(operation["operationId"])
                named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
                assert named == set(re.findall(r"{(\w+)}", path))
                for code in ("400", "401", "403", "404", "429", "500", "503"):
                    problem = operation["responses"][code]["content"]
                    assert "application/problem+json" in problem
                for one in operation["parameters"]:
                    assert "description" in one or one["in"] == "path"
        assert len(identities) == len(served)


async def test_only_the_open_ones_need_no_credential(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        document = (await hub.admin.get("/openapi.json")).json
        opened = [
            path
            for path, operations in document["paths"].items()
            for operation in operations.values()
            if operation.get("security") == []
        ]
        assert opened == ["/api"]


class Checked:
    """Sends requests and compares each answer with the description."""

    def __init__(self, hub: Rig, document: Any) -> None:
        self.hub, self.document = hub, document
        self.seen: set[tuple[str, str]] = set()

    async def call(self, method: str, path: str, template: str, body: Any = None) -> Reply:
        answer = await self.hub.admin.call(method, path, body, match="*")
        self.check(method, template, answer)
        return answer

    def check(self, method: str, template: str, answer: Reply) -> None:
        place = template if template.startswith("/api") else f"/api/v2{template}"
        operation = self.document["paths"][place][method.lower()]
        self.seen.add((method, place))
        response = operation["responses"][str(answer.status)]
        if "content" not in response:
            assert answer.body == b""
            return
        schema = response["content"][answer.headers["Content-Type"].partition(";")[0]]["schema"]
        if answer.headers["Content-Type"].endswith("json") or answer.body[:1] in b"{[":
            whole = {"components": self.document["components"], "allOf": [schema]}
            problems = list(Draft202012Validator(whole).iter_errors(answer.json))
            assert not problems, (method, place, problems[0].message, answer.text)


async def test_answers_about_destinations_and_hosts(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        check = Checked(hub, (await hub.admin.get("/openapi.json")).json)
        call = check.call
        await call("POST", "/hosts", "/hosts", {"name": "h", "method": "genericTest"})
        body = {"name": "NORTH", "hosts": ["h"], "max_file_size": "1GB"}
        await call("POST", "/destinations", "/destinations", body)
        await call("PUT", "/destinations/COPY", "/destinations/{destination}", {})
        aliases = [{"to": "COPY"}]
        place = "/destinations/{destination}"
        await call("PUT", "/destinations/NORTH/aliases", f"{place}/aliases", aliases)
        for tail in ("", "/hosts", "/aliases", "/status"):
            await call("GET", f"/destinations/NORTH{tail}", place + tail)
        for verb in ("stop", "start", "hold", "release", "restart"):
            await call("POST", f"/destinations/NORTH/actions/{verb}", f"{place}/actions/{verb}", {})
        await call("PATCH", "/destinations/NORTH", place, {"comment": "c"})
        await call("GET", "/destinations", "/destinations")
        await call("GET", "/destinations/NOWHERE", place)
        for path in ("/hosts", "/hosts/h"):
            await call("GET", path, path.replace("/h", "/h").replace("/hosts/h", "/hosts/{host}"))
        await call("POST", "/hosts/h/actions/test", "/hosts/{host}/actions/test", {})
        option = {"value": "3"}
        option_path = "/hosts/{host}/options/{key}"
        await call("PUT", "/hosts/h/options/ectrans.retryCount", option_path, option)
        await call("DELETE", "/hosts/h/options/ectrans.retryCount", option_path)


async def test_answers_about_files_and_transfers(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        check = Checked(hub, (await hub.admin.get("/openapi.json")).json)
        call = check.call
        await hub.host("h", tmp_path)
        await hub.host("src", tmp_path, role=HostRole.SOURCE)
        await hub.node.destination("NORTH", hosts=("h",))
        uploaded = await hub.admin.upload(b"12345", destination="NORTH", metadata="a=b")
        check.check("POST", "/files", uploaded)
        body = {"source": "/x", "destination": "NORTH", "host": "src", "version": "2"}
        await call("POST", "/files", "/files", body)
        for path in ("/files", "/transfers"):
            await call("GET", path, path)
        await call("GET", "/files/1?digests=md5,sha256", "/files/{file}")
        one = "/transfers/{transfer}"
        await call("GET", "/transfers/1", one)
        await call("GET", "/transfers/1/history", f"{one}/history")
        await call("GET", "/transfers/1/content", f"{one}/content")
        for verb in ("hold", "release", "extend", "schedule_now", "stop", "requeue", "delete"):
            await call("POST", f"/transfers/1/actions/{verb}", f"{one}/actions/{verb}", {})
        await call("PATCH", "/transfers/2", one, {"priority": 3})
        await call("PATCH", "/transfers/2", one, {"priority": 300})
        await call("POST", "/transfers/2/actions/prioritise", f"{one}/actions/prioritise", {})
        await call("DELETE", "/transfers/2", one)


async def test_answers_about_accounts_and_the_node(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        check = Checked(hub, (await hub.admin.get("/openapi.json")).json)
        call = check.call
        await hub.node.destination("NORTH")
        user = {"login": "a", "destinations": ["NORTH"], "operations": ["dir"]}
        await call("POST", "/portal/users", "/portal/users", user)
        user_path = "/portal/users/{user}"
        await call("POST", "/portal/users/a/s3_keys", f"{user_path}/s3_keys", {})
        reset = "/actions/reset_password"
        await call("POST", f"/portal/users/a{reset}", user_path + reset, {})
        await call("GET", "/portal/users", "/portal/users")
        await call("GET", "/portal/users/a", user_path)
        await call("PATCH", "/portal/users/a", user_path, {"comment": "c"})
        policy = {"name": "p", "operations": ["get"], "destinations": ["NORTH"]}
        await call("POST", "/portal/policies", "/portal/policies", policy)
        await call("GET", "/portal/policies", "/portal/policies")
        await call("GET", "/portal/policies/p", "/portal/policies/{policy}")
        async with await hub.node.login("a", (await _password(hub))):
            await call("GET", "/portal/sessions", "/portal/sessions")
        for _ in range(8):
            await hub.node.gate.failed_elsewhere("192.0.2.1", "x", is_known=False)
        await call("GET", "/portal/bans", "/portal/bans")

        olga = {"name": "olga", "roles": [{"role": "viewer"}]}
        await call("POST", "/web_users", "/web_users", olga)
        await call("GET", "/web_users", "/web_users")
        await call("GET", "/web_users/olga", "/web_users/{name}")
        await call("GET", "/roles", "/roles")
        await call("POST", "/tokens", "/tokens", {"name": "t"})
        await call("GET", "/tokens", "/tokens")
        await call("GET", "/tokens/t", "/tokens/{token}")
        await call("DELETE", "/tokens/t", "/tokens/{token}")
        for path in ("/events", "/changes", "/volumes", "/config"):
            await call("GET", path, path)
        await call("GET", "/destinations/NORTH/changes", "/destinations/{destination}/changes")
        for path in ("/options", "/statuses", "/methods", "/whoami", "/site", "/openapi.json"):
            await call("GET", path, path)
        site = {"data": {"hosts": [{"name": "n", "method": "genericTest"}]}}
        await call("POST", "/site", "/site", site)
        await call("GET", "/api", "/api")


async def _password(hub: Rig) -> str:
    reset = await hub.admin.post("/portal/users/a/actions/reset_password")
    return str(reset.json["password"])


async def test_the_page_shows_every_operation(tmp_path: Path) -> None:
    async with rig(tmp_path, pages=True) as hub:
        session = await hub.node.accounts.log_in("admin", Secret(PASSWORD), "127.0.0.1")
        headers = {"Cookie": f"ecpds_session={session[0]}"}
        answer = await hub.client().get("/api/docs", headers=headers)
        assert answer.status == 200, answer.text
        for route in hub.monitor.routes:
            if route.kind == "api":
                assert f"<code>{route.path}</code>" in answer.text, route.path
        assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text)
        assert (await hub.client().get("/api/docs")).status == 303
