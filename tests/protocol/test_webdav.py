"""WebDAV request by request: statuses, limits, locks, what hostile clients get."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from ecpds.model.account import Permission
from tests.node import ALL
from tests.portalsite import Site, site
from tests.protocol.https_site import Got

D = "{DAV:}"


class Dav:
    """A site and short words for requests to it."""

    def __init__(self, site: Site) -> None:
        self.site = site

    async def __call__(self, method: str, path: str, body: str | bytes = b"", **fields: str) -> Got:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        sent = body.encode() if isinstance(body, str) else body
        user = headers.pop("user", "alice")
        return await self.site.ask(
            method, f"/webdav{path}", body=sent or None, headers=headers, user=user
        )

    async def found(self, path: str, body: str = "", depth: str = "1") -> dict[str, set[str]]:
        """Return the addresses of a PROPFIND with the names of the properties that were found."""
        got = await self("PROPFIND", path, body, Depth=depth)
        assert got.status == 207, got.text
        return {
            one.findtext(f"{D}href", ""): {
                prop.tag
                for stat in one.iterfind(f"{D}propstat")
                if " 200 " in stat.findtext(f"{D}status", "")
                for prop in stat.iterfind(f"{D}prop/*")
            }
            for one in fromstring(got.body)
        }

    async def lock(self, path: str, *, scope: str = "exclusive", **fields: str) -> Got:
        return await self("LOCK", path, lockinfo(scope), **fields)


def lockinfo(scope: str = "exclusive", owner: str = "me") -> str:
    return (
        f'<lockinfo xmlns="DAV:"><lockscope><{scope}/></lockscope><locktype><write/></locktype>'
        f"<owner>{owner}</owner></lockinfo>"
    )


def prop(*names: str) -> str:
    return f'<propfind xmlns="DAV:"><prop>{"".join(f"<{n}/>" for n in names)}</prop></propfind>'


def _patch(changes: str) -> str:
    return f'<propertyupdate xmlns="DAV:">{changes}</propertyupdate>'


@asynccontextmanager
async def dav(folder: Path, **options: Any) -> AsyncIterator[Dav]:
    async with site(folder, **options) as s:
        yield Dav(s)


async def test_options_needs_no_credentials(tmp_path: Path) -> None:
    async with dav(tmp_path) as ask:
        got = await ask("OPTIONS", "/", user="")
        assert (got.status, got.headers["DAV"], got.headers["MS-Author-Via"]) == (
            200,
            "1, 2",
            "DAV",
        )
        assert "PROPFIND" in got.headers["Allow"]
        assert (await ask.site.ask("OPTIONS", "/", user="")).headers["DAV"] == "1, 2"
        got = await ask("PROPFIND", "/", user="", Depth="0")
        assert (got.status, got.headers["WWW-Authenticate"][:5]) == (401, "Basic")


async def test_what_propfind_shows(tmp_path: Path) -> None:
    """Destinations at the top, one level at a time, never the whole tree."""
    async with dav(tmp_path) as ask:
        assert (await ask("PUT", "/NORTH/a%20&.txt", b"12345")).status == 201
        assert set(await ask.found("/")) == {"/webdav/", "/webdav/NORTH/", "/webdav/SOUTH/"}
        assert set(await ask.found("", depth="0")) == {"/webdav/"}
        found = await ask.found("/NORTH")
        assert set(found) == {"/webdav/NORTH/", "/webdav/NORTH/a%20%26.txt"}
        assert {
            f"{D}getetag", f"{D}getcontentlength", f"{D}getcontenttype", f"{D}getlastmodified",
            f"{D}resourcetype", f"{D}supportedlock", f"{D}lockdiscovery", f"{D}displayname",
        } <= found["/webdav/NORTH/a%20%26.txt"]  # fmt: skip
        assert f"{D}quota-used-bytes" not in found["/webdav/NORTH/"]  # RFC 4331: not by allprop
        wanted = prop("quota-available-bytes", "quota-used-bytes", "nonsense")
        asked = await ask.found("/NORTH/", wanted, depth="0")
        assert asked == {"/webdav/NORTH/": {f"{D}quota-available-bytes", f"{D}quota-used-bytes"}}
        names = '<propfind xmlns="DAV:"><propname/></propfind>'
        assert f"{D}getetag" in (await ask.found("/NORTH", names))["/webdav/NORTH/a%20%26.txt"]
        for path in ("/", "/NORTH"):
            got = await ask("PROPFIND", path, Depth="infinity")
            assert (got.status, b"propfind-finite-depth" in got.body) == (403, True)
        assert (await ask("PROPFIND", "/NORTH")).status == 403  # no Depth means infinity
        assert (await ask("PROPFIND", "/NORTH", Depth="2")).status == 400
        assert (await ask("PROPFIND", "/EAST", Depth="0")).status == 404


async def test_a_listing_of_a_thousand_members_comes_in_pieces(tmp_path: Path) -> None:
    async with dav(tmp_path) as ask, ask.site.sftp() as sftp:
        for number in range(0, 1100, 1):
            await sftp.mkdir(f"/DATA/NORTH/d{number:04}")
        found = await ask.found("/NORTH")
        assert len(found) == 1101


@pytest.mark.parametrize(
    "body",
    [
        '<!DOCTYPE x [<!ENTITY a "b">]><propfind xmlns="DAV:"><allprop/></propfind>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd"><propfind xmlns="DAV:"><allprop/></propfind>',
        '<propfind xmlns="DAV:"><prop>',
        "<propfind/>",
        '<propfind xmlns="DAV:"><prop>' + "<a>" * 40 + "</a>" * 40 + "</prop></propfind>",
        '<propfind xmlns="DAV:"><prop>' + "<a/>" * 1000 + "</prop></propfind>",
        '<propfind xmlns="DAV:"></propfind>',
        "\x00",
        "nonsense",
    ],
)
async def test_bad_xml_is_refused(body: str, tmp_path: Path) -> None:
    async with dav(tmp_path) as ask:
        assert (await ask("PROPFIND", "/NORTH", body, Depth="0")).status == 400


async def test_xml_has_a_limit(tmp_path: Path) -> None:
    async with dav(tmp_path) as ask:
        body = prop("getetag") + " " * 70_000
        assert (await ask("PROPFIND", "/NORTH", body, Depth="0")).status == 413


async def test_put_and_collections(tmp_path: Path) -> None:
    async with dav(tmp_path, user={"options": {"portal.putPathPermRegex": "(?!.*no).*"}}) as ask:
        assert (await ask("PUT", "/NORTH/f", b"1")).status == 201
        assert (await ask("PUT", "/NORTH/f", b"2")).status == 204
        assert (await ask("PUT", "/NORTH/x/f", b"1")).status == 409
        assert (await ask("PUT", "/f", b"1")).status == 403
        assert (await ask("PUT", "/NORTH", b"1")).status == 405
        assert (await ask("PUT", "/NORTH/no", b"1")).status == 403
        assert (await ask("PUT", "/NORTH/f", b"1", Content_Range="bytes 0-0/2")).status == 400
        assert (await ask("MKCOL", "/NORTH/d")).status == 201
        assert (await ask("MKCOL", "/NORTH/d")).status == 405
        assert (await ask("MKCOL", "/NORTH/f")).status == 405
        assert (await ask("MKCOL", "/NORTH/x/y")).status == 409
        assert (await ask("MKCOL", "/top")).status == 403
        assert (await ask("MKCOL", "/NORTH/e", b"body")).status == 415
        assert (await ask("GET", "/NORTH/f", Range="bytes=0-0")).status == 206
        assert (await ask("GET", "/NORTH/", Accept="text/plain")).text == "f\nd/\n"
        assert (await ask("HEAD", "/NORTH/")).status == 200
        assert (await ask("HEAD", "/NORTH/f")).headers["Content-Length"] == "1"
        assert (await ask("GET", "/NORTH/f/")).status == 404
        assert (await ask("PATCH", "/NORTH/f")).status == 405
        assert (await ask("POST", "/NORTH/f", b"1")).status == 405


async def test_names_that_are_no_names(tmp_path: Path) -> None:
    """One normaliser: what others refuse is refused here, and nothing leaves the tree."""
    async with dav(tmp_path) as ask:
        for name in ("/NORTH/a%00b", "/NORTH//b", "/NORTH/" + "x" * 300, "/NORTH/%ff"):
            assert (await ask("PUT", name, b"1")).status == 400, name
        raw = "/NORTH/%2e%2e/%2e%2e/etc/passwd"
        assert (await ask("GET", raw)).status == 404
        assert (await ask("PUT", "/NORTH/%3Cb%3E&'\"", b"1")).status == 201
        got = await ask("PROPFIND", "/NORTH", Depth="1")
        assert b"<b>" not in got.body
        assert fromstring(got.body) is not None


async def test_delete(tmp_path: Path) -> None:
    async with dav(
        tmp_path, user={"options": {"portal.deletePathPermRegex": "(?!.*keep).*"}}
    ) as ask:
        await ask("MKCOL", "/NORTH/d")
        await ask("MKCOL", "/NORTH/d/e")
        for name in ("d/1", "d/keep", "d/e/2"):
            assert (await ask("PUT", f"/NORTH/{name}", b"1")).status == 201
        got = await ask("DELETE", "/NORTH/d")
        assert (got.status, b"/webdav/NORTH/d/keep" in got.body) == (207, True)
        assert b"403 Forbidden" in got.body
        assert set(await ask.found("/NORTH/d")) == {"/webdav/NORTH/d/", "/webdav/NORTH/d/keep"}
        assert (await ask("DELETE", "/NORTH/d/keep")).status == 403
        assert (await ask("DELETE", "/NORTH/nothing")).status == 404
        for path in ("/NORTH", "/", "/DATA", "/DATA/NORTH"):
            assert (await ask("DELETE", path)).status == 403
        assert (await ask("DELETE", "/NORTH/d", Depth="0")).status == 400


async def test_move_and_copy(tmp_path: Path) -> None:
    async with dav(tmp_path) as ask:
        base = f"{ask.site.url}/webdav"
        await ask("PUT", "/NORTH/a", b"a")
        await ask("PUT", "/NORTH/b", b"b")
        await ask("PUT", "/SOUTH/c", b"c")
        assert (await ask("MOVE", "/NORTH/a", Destination=f"{base}/NORTH/a2")).status == 201
        assert (await ask("COPY", "/NORTH/a2", Destination="/webdav/NORTH/a3")).status == 201
        wanted = {"Destination": f"{base}/NORTH/b"}
        assert (await ask("MOVE", "/NORTH/a2", Overwrite="F", **wanted)).status == 412
        assert (await ask("COPY", "/NORTH/a2", Overwrite="F", **wanted)).status == 412
        assert (await ask("MOVE", "/NORTH/a2", **wanted)).status == 204
        assert (await ask("GET", "/NORTH/b")).body == b"a"
        assert (await ask("COPY", "/SOUTH/c", Destination=f"{base}/NORTH/b")).status == 403
        assert (await ask("MOVE", "/SOUTH/c", Destination=f"{base}/NORTH/b")).status == 403
        assert (await ask("MOVE", "/SOUTH", Destination=f"{base}/WEST")).status == 403
        assert (await ask("MOVE", "/NORTH/b", Destination=f"{base}/NORTH/x/y")).status == 409
        assert (await ask("MOVE", "/NORTH/b", Destination=f"{base}/NORTH/b")).status == 403
        assert (await ask("MOVE", "/NORTH/b", Destination="http://elsewhere/b")).status == 502
        assert (await ask("MOVE", "/NORTH/b", Destination=f"{ask.site.url}/etc/b")).status == 502
        assert (await ask("MOVE", "/NORTH/b")).status == 400
        await ask("MKCOL", "/NORTH/d")
        await ask("PUT", "/NORTH/d/1", b"1")
        assert (await ask("COPY", "/NORTH/d", Destination=f"{base}/NORTH/d/e")).status == 409
        assert (await ask("COPY", "/NORTH/d", Destination=f"{base}/NORTH/e")).status == 201
        assert (await ask("GET", "/NORTH/e/1")).body == b"1"
        assert (await ask("MOVE", "/NORTH/e", Destination=f"{base}/NORTH/d")).status == 204
        assert set(await ask.found("/NORTH/d")) == {"/webdav/NORTH/d/", "/webdav/NORTH/d/1"}


async def test_locks(tmp_path: Path) -> None:
    async with dav(tmp_path) as ask:
        await ask.site.node.user("bob", destinations=("NORTH",))
        await ask("PUT", "/NORTH/f", b"1")
        got = await ask.lock("/NORTH/f", Timeout="Second-100")
        assert got.status == 200
        token = got.headers["Lock-Token"]
        assert "Second-100" in got.text
        for user in ("alice", "bob"):
            assert (await ask("PUT", "/NORTH/f", b"2", user=user)).status == 423
            assert (await ask("DELETE", "/NORTH/f", user=user)).status == 423
            assert (await ask.lock("/NORTH/f", user=user)).status == 423
        shown = f"({token})"
        assert (await ask("PUT", "/NORTH/f", b"2", user="bob", If=shown)).status == 423
        assert (await ask("PUT", "/NORTH/f", b"2", If=shown)).status == 204
        assert (await ask("PUT", "/NORTH/f", b"2", If="(<opaquelocktoken:0>)")).status == 412
        assert (await ask("PUT", "/NORTH/f", b"2", If="(nonsense")).status == 400
        assert (await ask("LOCK", "/NORTH/f", If=shown, Timeout="Infinite")).status == 200
        assert (await ask("UNLOCK", "/NORTH/f", user="bob", Lock_Token=token)).status == 403
        assert (await ask("UNLOCK", "/NORTH/f", Lock_Token="<x>")).status == 409
        assert (await ask("UNLOCK", "/NORTH/f", Lock_Token=token)).status == 204
        assert (await ask("PUT", "/NORTH/f", b"3")).status == 204
        # a name that is not there is reserved, nothing is made
        assert (await ask.lock("/NORTH/new")).status == 201
        assert "/webdav/NORTH/new" not in await ask.found("/NORTH")
        assert (await ask("PUT", "/NORTH/new", b"1")).status == 423
        assert (await ask("LOCK", "/NORTH/f", "<lockinfo/>")).status == 400
        assert (await ask("DELETE", "/NORTH/new")).status == 404


async def test_a_deep_lock_holds_for_all_users_and_members(tmp_path: Path) -> None:
    async with dav(tmp_path) as ask:
        await ask.site.node.user(
            "carol", destinations=("NORTH",), options={"portal.destination": "NORTH"}
        )
        await ask("MKCOL", "/NORTH/d")
        await ask("PUT", "/NORTH/d/f", b"1")
        got = await ask.lock("/NORTH/d", Depth="infinity")
        assert got.status == 200
        assert (await ask("PUT", "/d/f", b"2", user="carol")).status == 423  # another root
        assert (await ask("PUT", "/NORTH/d/g", b"2")).status == 423
        token = re.search(r"<(opaque.*)>", got.headers["Lock-Token"])
        assert token is not None
        tagged = f"<{ask.site.url}/webdav/NORTH/d> (<{token[1]}>)"
        assert (await ask("PUT", "/NORTH/d/g", b"2", If=tagged)).status == 201
        got = await ask("DELETE", "/NORTH/d")
        assert got.status == 423


async def test_properties_follow_the_file(tmp_path: Path) -> None:
    async with dav(tmp_path) as ask:
        await ask("PUT", "/NORTH/f", b"1")
        body = (
            '<propertyupdate xmlns="DAV:"><set><prop><x:colour xmlns:x="urn:x">r&amp;d</x:colour>'
            '<m:Win32LastModifiedTime xmlns:m="urn:schemas-microsoft-com:">'
            "Sun, 06 Nov 1994 08:49:37 GMT</m:Win32LastModifiedTime></prop></set></propertyupdate>"
        )
        assert b"200 OK" in (await ask("PROPPATCH", "/NORTH/f", body)).body
        await ask("MOVE", "/NORTH/f", Destination=f"{ask.site.url}/webdav/NORTH/g")
        await ask("COPY", "/NORTH/g", Destination=f"{ask.site.url}/webdav/NORTH/h")
        found = await ask.found("/NORTH")
        assert all("{urn:x}colour" in found[f"/webdav/NORTH/{name}"] for name in "gh")
        assert b"r&amp;d" in (await ask("PROPFIND", "/NORTH/g", Depth="0")).body
        live = _patch("<set><prop><getetag>x</getetag></prop></set>")
        assert b"403 Forbidden" in (await ask("PROPPATCH", "/NORTH/g", live)).body
        assert b"403 Forbidden" in (await ask("PROPPATCH", "/NORTH", body)).body
        long = body.replace("r&amp;d", "x" * 5000)
        assert b"507 Insufficient" in (await ask("PROPPATCH", "/NORTH/g", long)).body
        assert (await ask("PROPPATCH", "/NORTH/g")).status == 400
        assert (await ask("PROPPATCH", "/NORTH/none", body)).status == 404
        gone = _patch('<remove><prop><x:colour xmlns:x="urn:x"/></prop></remove>')
        assert b"200 OK" in (await ask("PROPPATCH", "/NORTH/g", gone)).body
        assert "{urn:x}colour" not in (await ask.found("/NORTH"))["/webdav/NORTH/g"]


async def test_ex_21_no_listing_without_dir(tmp_path: Path) -> None:
    few = (Permission.GET, Permission.SIZE, Permission.MTIME)
    async with dav(tmp_path) as ask:
        await ask("PUT", "/NORTH/f", b"1")
        await ask.site.node.user("alice", destinations=("NORTH",), operations=few)
        assert (await ask("PROPFIND", "/NORTH", Depth="1")).status == 403
        assert (await ask("PROPFIND", "/NORTH/f", Depth="0")).status == 207
        assert (await ask("GET", "/NORTH/f")).body == b"1"
        assert (await ask("LOCK", "/NORTH/f", lockinfo())).status == 403


async def test_a_quota_is_told_as_507(tmp_path: Path) -> None:
    quota = {"incoming.maxUploadBytes": "4KB", "incoming.uploadPeriod": "1h"}
    async with dav(tmp_path, options=quota) as ask:
        assert (await ask("PUT", "/NORTH/f", b"x" * 4096)).status == 201
        assert (await ask("PUT", "/NORTH/g", b"x")).status == 507


async def test_a_protocol_can_be_excluded(tmp_path: Path) -> None:
    async with dav(tmp_path, user={"options": {"portal.excludeProtocols": "webdav"}}) as ask:
        assert (await ask("PROPFIND", "/", Depth="0")).status == 403
        assert (await ask.site.ask("GET", "/ecpds/file/NORTH/")).status == 200


async def test_rename_needs_its_right(tmp_path: Path) -> None:
    operations = ALL - {Permission.RENAME}
    async with dav(tmp_path, user={"operations": operations}) as ask:
        await ask("PUT", "/NORTH/f", b"1")
        got = await ask("MOVE", "/NORTH/f", Destination=f"{ask.site.url}/webdav/NORTH/g")
        assert got.status == 403
