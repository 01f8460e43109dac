"""The node by API: certificates, settings, browser sessions, new secrets, quotas, hosts by hand."""

from __future__ import annotations

import base64
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from ecpds.base import tls
from ecpds.base.clock import SystemClock
from ecpds.engine.operations.actor import SYSTEM
from ecpds.model.account import Protocol, Role
from ecpds.model.errors import Unauthenticated
from ecpds.model.secret import Secret
from ecpds.store.accounts import Token
from tests.clock import FakeClock
from tests.node import small_node
from tests.protocol.api import PASSWORD, Rig, rig
from tests.protocol.test_api_openapi import Checked


async def checked(hub: Rig) -> Checked:
    return Checked(hub, (await hub.admin.get("/openapi.json")).json)


def pair(folder: Path, host: str) -> tuple[str, str]:
    """Return a new certificate and its key as PEM."""
    folder.mkdir(parents=True, exist_ok=True)
    made = tls.make_self_signed(folder, host, SystemClock().now())
    return made[0].read_text(), made[1].read_text()


async def test_a_certificate_is_asked_for_imported_and_read_anew(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        call = (await checked(hub)).call
        assert (await call("GET", "/certificates", "/certificates")).status == 404  # no listener
        core = hub.node.core
        folder = core.settings.data_dir / "tls"
        pair(folder, "one.example")
        core.certificates = tls.Certificates(folder / "certificate.pem", folder / "key.pem")
        first = (await call("GET", "/certificates", "/certificates")).items[0]
        assert (first["self_signed"], "one.example" in first["names"]) == (True, True)

        place = "/certificates/actions"
        made = await call("POST", f"{place}/csr", f"{place}/csr", {"names": ["two.example"]})
        request = x509.load_pem_x509_csr(made.json["request"].encode())
        assert request.is_signature_valid
        refused = await call("POST", f"{place}/csr", f"{place}/csr", {"names": ["a b"]})
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/names")

        chain, key = pair(tmp_path / "new", "three.example")
        wrong = {"certificate": chain, "key": pair(tmp_path / "other", "x")[1]}
        assert (await call("POST", f"{place}/import", f"{place}/import", wrong)).status == 422
        right = {"certificate": chain, "key": key}
        answer = await call("POST", f"{place}/import", f"{place}/import", right)
        assert "three.example" in answer.json["names"]

        chain, key = pair(tmp_path / "packed", "four.example")
        packed = pkcs12.serialize_key_and_certificates(
            b"x", serialization.load_pem_private_key(key.encode(), None),  # type: ignore[arg-type]
            x509.load_pem_x509_certificate(chain.encode()), None,
            serialization.BestAvailableEncryption(b"pass"),
        )  # fmt: skip
        text = base64.b64encode(packed).decode()
        body = {"pkcs12": text, "password": "word"}
        assert (await call("POST", f"{place}/import", f"{place}/import", body)).status == 422
        body["password"] = "pass"
        answer = await call("POST", f"{place}/import", f"{place}/import", body)
        assert "four.example" in answer.json["names"]
        assert isinstance(core.certificates.context(), ssl.SSLContext)

        again = await call("POST", f"{place}/reload", f"{place}/reload", {})
        assert again.json["sha256"] == answer.json["sha256"]
        own = await call("POST", f"{place}/self_signed", f"{place}/self_signed", {})
        assert own.json["sha256"] != answer.json["sha256"]
        changes = (await hub.admin.get("/changes?kind=certificate")).items
        assert {"import", "request", "self-sign", "reload"} == {one["action"] for one in changes}
        assert key[40:60] not in (await hub.admin.get("/changes")).text

        reload = await call("POST", "/config/actions/reload", "/config/actions/reload", {})
        assert (reload.status, "cannot be reloaded" in reload.text) == (422, False) or reload.ok
        mail = "/mail/actions/test"
        sent = await call("POST", mail, mail, {"to": "ops@example.org"})
        assert "ops@example.org" in sent.json["message"]
        assert (await call("POST", mail, mail, {"to": "a\r\nBcc: b"})).status == 422


async def test_browsers_are_listed_and_logged_out(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        call = (await checked(hub)).call
        accounts = hub.node.accounts
        await hub.web_user("olga", Role.OPERATOR)
        secrets = [(await accounts.log_in("olga", Secret(PASSWORD), "192.0.2.1"))[0] for _ in "123"]
        listed = (await call("GET", "/web_sessions?user=olga", "/web_sessions")).items
        assert [one["user"] for one in listed] == ["olga"] * 3
        assert all(secret not in str(listed) for secret in secrets)
        one = f"/web_sessions/{listed[0]['id']}"
        assert (await call("DELETE", one, "/web_sessions/{web_session}")).status == 204
        assert (await call("DELETE", one, "/web_sessions/{web_session}")).status == 404
        own = "/web_users/{name}/sessions"
        assert len((await call("GET", "/web_users/olga/sessions", own)).items) == 2
        assert (await call("DELETE", "/web_users/olga/sessions", own)).status == 204
        assert [await accounts.peek_session(secret) for secret in secrets] == [None] * 3
        assert (await call("DELETE", "/web_users/nobody/sessions", own)).status == 404


async def test_a_token_gets_another_secret_and_the_one_before_ends_later(tmp_path: Path) -> None:
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        first = await node.accounts.new_token(Token(id=0, name="t", owner="system"), SYSTEM)
        number = (await node.accounts.by_token(first)).id
        second = await node.accounts.rotate_token(number, timedelta(hours=1), SYSTEM)
        assert {(await node.accounts.by_token(one)).id for one in (first, second)} == {number}
        await clock.advance(timedelta(hours=1))
        assert (await node.accounts.by_token(second)).expires_at is None
        with pytest.raises(Unauthenticated):
            await node.accounts.by_token(first)


async def test_rotation_by_api(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        call = (await checked(hub)).call
        first = (await hub.admin.post("/tokens", {"name": "feed"})).json
        place = "/tokens/{token}/actions/rotate"
        second = await call("POST", f"/tokens/{first['id']}/actions/rotate", place, {})
        assert (second.json["id"], second.json["name"]) == (first["id"], "feed")
        for secret in (first["token"], second.json["token"]):
            assert (await hub.client(secret).get("/whoami")).ok
        path = "/tokens/feed/actions/rotate"
        third = await call("POST", path, place, {"overlap": "0s"})
        assert (await hub.client(third.json["token"]).get("/whoami")).ok
        assert (await hub.client(second.json["token"]).get("/whoami")).status == 401
        assert (await hub.client(first["token"]).get("/whoami")).status == 401
        assert (await call("POST", path, place, {"overlap": "300d"})).status == 422
        olga = await hub.as_user("olga", Role.EDITOR)
        assert (await olga.post(path, {})).status == 404  # not hers


async def test_what_data_users_moved_and_may_move(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        call = (await checked(hub)).call
        node = hub.node
        await node.destination(
            "NORTH", options={"incoming.maxUploadBytes": "1MB", "incoming.uploadPeriod": "1h"}
        )
        options = {"portal.maxDownloadBytes": "10KB", "portal.downloadPeriod": "1d"}
        await node.user("alice", destinations=("NORTH",), options=options)
        async with await node.login("alice", protocol=Protocol.SFTP) as session:
            async with await session.open_write("/NORTH/a.txt") as writer:
                writer.write(b"12345")
                await writer.commit()
            found = (await call("GET", "/portal/users/alice/sessions", USER_SESSIONS)).items
            assert [one["user"] for one in found] == ["alice"]
            ended = await call("DELETE", "/portal/users/alice/sessions", USER_SESSIONS)
            assert ended.json == {"ended": 1}
        quotas = {
            (one["kind"], one["name"]): one
            for one in (await call("GET", "/portal/quotas", "/portal/quotas")).items
        }
        assert quotas["destination", "NORTH"]["used"] == 5
        assert quotas["destination", "NORTH"]["left"] == 1024 * 1024 - 5
        assert quotas["user", "alice"]["limit"] == 10 * 1024
        for group, key in (("user", "alice"), ("destination", "NORTH"), ("protocol", "sftp")):
            place = f"/stats/portal?group_by={group}"
            moved = (await call("GET", place, "/stats/portal")).items
            assert [(one["key"], one["uploaded"]) for one in moved] == [(key, 5)], moved
        table = await hub.admin.get("/stats/portal?format=csv")
        assert table.text.splitlines()[1].startswith("alice,1,5,0,")
        assert (await call("GET", "/stats/portal?group_by=x", "/stats/portal")).status == 400
        files = (await call("GET", "/files/1/replicas", "/files/{file}/replicas")).items
        assert [(one["place"], one["state"]) for one in files] == [("volume", "there")]
        south = await hub.as_user("sue", Role.OPERATOR, "SOUTH*")
        assert (await south.get("/portal/quotas")).items == []
        assert (await south.get("/stats/portal")).items == []


USER_SESSIONS = "/portal/users/{user}/sessions"


async def test_a_host_is_tried_by_hand(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        call = (await checked(hub)).call
        place = "/hosts/{host}/actions/"

        async def act(verb: str, body: Any, name: str = "h") -> Any:
            return await call("POST", f"/hosts/{name}/actions/{verb}", place + verb, body)

        folder = tmp_path / "node" / "out"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "b.txt").write_text("one\ntwo é\nthree\n")
        (folder / "a.bin").write_bytes(b"\0" * 100_000)
        await hub.host("h", folder, method="genericFile")
        found = (await act("preview", {"path": str(folder), "lines": 2})).json["files"]
        assert [one["name"].rpartition("/")[2] for one in found] == ["a.bin", "b.txt"]
        assert (found[0]["text"], found[0]["size"], found[0]["read"]) == (False, None, 65536)
        assert (found[1]["lines"], found[1]["size"]) == (["one", "two é"], 17)
        missing = await act("preview", {"names": [str(folder / "no")]})
        assert missing.json["files"][0]["error"]
        assert (await act("preview", {"lines": 0})).status == 422

        port = hub.base.rpartition(":")[2]
        options = {"http.port": port, "http.scheme": "http"}
        await hub.host("web", folder, method="genericHttp", host="localhost", options=options)
        report = (await act("report", {}, "web")).json
        assert report["port"] == int(port)
        assert any(one["connected"] == 3 for one in report["addresses"]), report
        assert len(report["hours"]) == 24
        assert (await act("report", {})).json["error"] == "it is reached without a network"

        script = {"language": "python", "code": "return 6 * 7"}
        assert (await act("run_script", script)).json["value"] == 42
        reset = await act("reset_stats", {})
        assert (reset.status, reset.json["connections"]) == (200, 0)
        assert (await act("reset_stats", {}, "nowhere")).status == 404
        modules = (await call("GET", "/modules", "/modules")).items
        assert "put" in next(one for one in modules if one["name"] == "sftp")["features"]


async def test_a_site_makes_roles_of_its_own(tmp_path: Path) -> None:
    """Night shift may act on transfers of its destinations and look at nothing else."""
    async with rig(tmp_path) as hub:
        call = (await checked(hub)).call
        role = {"name": "night", "scopes": ["transfers:operate", "transfers:read"]}
        tried = await call("POST", "/roles?dry_run=true", "/roles", role)
        assert tried.json["scopes"] == ["transfers:operate", "transfers:read"]
        assert (await call("GET", "/roles/night", "/roles/{role}")).status == 404
        assert (await call("POST", "/roles", "/roles", role)).status == 201
        assert (await call("POST", "/roles", "/roles", role)).status == 409
        assert len((await call("GET", "/roles?q=built_in=yes", "/roles")).items) == 4
        for scopes in ([], ["x:read"], ["transfers"]):
            bad = await call("POST", "/roles", "/roles", {"name": "bad", "scopes": scopes})
            assert bad.status == 422, scopes
            assert bad.json["errors"][0]["pointer"].startswith("/scopes")
        for name in ("admin", "a b", "new"):
            bad = await call("PUT", f"/roles/{name}", "/roles/{role}", {"scopes": ["hosts:read"]})
            assert bad.status in {409, 422}, name

        olga = {"name": "olga", "roles": [{"role": "nights", "scope": "NORTH*"}]}
        refused = await call("POST", "/web_users", "/web_users", olga)
        assert (refused.status, "did you mean 'night'" in refused.text) == (422, True)
        olga["roles"] = [{"role": "night", "scope": "NORTH*"}]
        assert (await call("POST", "/web_users", "/web_users", olga)).status == 201
        client = hub.client(await hub.token("olga"))
        await hub.node.destination("NORTH")
        await hub.node.destination("SOUTH")
        for name in ("NORTH", "SOUTH"):
            await hub.admin.upload(b"1", destination=name, standby="yes")
        assert (await client.post("/transfers/1/actions/release", {})).status == 200
        assert (await client.post("/transfers/2/actions/release", {})).status == 404
        assert (await client.get("/hosts")).status == 403

        one = await hub.admin.get("/roles/night")
        late = await hub.admin.patch("/roles/night", {"scopes": ["hosts:read"]})
        assert late.status == 428
        tag = one.headers["ETag"]
        assert (await hub.admin.patch("/roles/night", {"scopes": ["hosts:read"]}, match=tag)).ok
        assert (await hub.admin.delete("/roles/night", match=tag)).status == 412
        assert (await client.get("/hosts")).status == 200  # at once
        assert (await client.post("/transfers/1/actions/hold", {})).status == 403
        held = await call("DELETE", "/roles/night", "/roles/{role}")
        assert (held.status, held.json["dependents"]) == (409, ["olga"])
        assert (await hub.admin.delete("/web_users/olga", match="*")).status == 204
        assert (await call("DELETE", "/roles/night", "/roles/{role}")).status == 204
        assert (await call("DELETE", "/roles/viewer", "/roles/{role}")).status == 409


async def test_words_of_addresses_are_no_names(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        bodies = {
            "/hosts": {"name": "new", "method": "genericTest"},
            "/destinations": {"name": "import"},
            "/portal/users": {"login": "export"},
            "/portal/policies": {"name": "new"},
            "/web_users": {"name": "import"},
        }
        for path, body in bodies.items():
            for query in ("", "?dry_run=true"):
                answer = await hub.admin.post(path + query, body)
                assert (answer.status, "is reserved" in answer.text) == (422, True), answer.text
        site = {"data": {"destinations": [{"name": "new"}]}}
        answer = await hub.admin.post("/site", site)
        assert (answer.status, "is reserved" in answer.text) == (422, True)


async def test_a_dry_run_says_what_would_be_and_stores_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        call = (await checked(hub)).call
        await hub.node.destination("NORTH")
        await hub.host("h", tmp_path)
        await hub.admin.upload(b"1", "a", destination="NORTH")
        await hub.admin.upload(b"1", "b", destination="NORTH")
        place = "/transfers/{transfer}"
        tried = await call("PATCH", "/transfers/1?dry_run=true", place,
                           {"priority": 7, "target": "c"})  # fmt: skip
        assert (tried.json["priority"], tried.json["target"]) == (7, "c")
        for body, status in (
            ({"expires": "2001-01-01T00:00:00Z"}, 422), ({"priority": 7, "target": "b"}, 409),
        ):  # fmt: skip
            for query in ("?dry_run=true", ""):
                answer = await call("PATCH", f"/transfers/1{query}", place, body)
                assert answer.status == status, (body, query, answer.text)
        one = (await hub.admin.get("/transfers/1")).json
        assert (one["priority"], one["target"]) == (99, "a")  # the refused name kept it, too
        assert len((await hub.admin.get("/transfers/1/history")).items) == 1

        token = await call("POST", "/tokens?dry_run=true", "/tokens", {"name": "t"})
        assert (token.status, token.json["token"]) == (200, "***")
        assert (await call("DELETE", "/tokens/1?dry_run=true", "/tokens/{token}")).status == 204
        assert len((await hub.admin.get("/tokens")).items) == 1
        option = "/hosts/{host}/options/{key}"
        path = "/hosts/h/options/ectrans.retryCount?dry_run=true"
        answer = await call("PUT", path, option, {"value": "3"})
        assert answer.json["options"]["ectrans.retryCount"] == "3"
        assert (await call("PUT", path, option, {"value": "many"})).status == 422
        assert (await hub.admin.get("/hosts/h")).json["options"] == {}
