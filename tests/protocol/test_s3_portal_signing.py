"""Who signed what: headers, addresses, forms, chunks, checksums, and all that does not hold."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import zlib
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from ecpds.base.clock import SystemClock
from ecpds.portals.s3 import checksums
from tests.protocol.s3_site import Got, Site, presign, sign, signing_key, site

SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY = hashlib.sha256(b"").hexdigest()


# --- headers ---------------------------------------------------------------------------------


async def test_a_forged_signature_opens_nothing(tmp_path: Path) -> None:
    """Another secret, another path, another body, a field added on the way."""
    async with site(tmp_path) as s:
        good = sign(s.pairs["alice"], "PUT", f"{s.url}/NORTH/x", {}, b"body")

        async def status(target: str, body: bytes, **fields: str) -> str:
            headers = good | {name.replace("_", "-"): text for name, text in fields.items()}
            got = await s.ask("PUT", target, body=body, headers=headers, user="")
            return got.code if got.status != 200 else "ok"

        assert await status("/NORTH/x", b"body") == "ok"
        assert await status("/NORTH/y", b"body") == "SignatureDoesNotMatch"
        assert await status("/NORTH/x", b"evil") == "XAmzContentSHA256Mismatch"
        assert await status("/NORTH/x", b"body", x_amz_copy_source="/a/b") == "AccessDenied"
        assert await status("/NORTH/x?acl", b"body") == "SignatureDoesNotMatch"
        forged = good["Authorization"][:-1] + ("0" if good["Authorization"][-1] != "0" else "1")
        assert await status("/NORTH/x", b"body", Authorization=forged) == "SignatureDoesNotMatch"
        for field, code in {
            "AWS alice:c2lnbmF0dXJl": "InvalidRequest",
            "Basic YWxpY2U6c2VjcmV0": "InvalidRequest",
            "AWS4-HMAC-SHA256 Credential=x": "AuthorizationHeaderMalformed",
            good["Authorization"].replace("AKALICE", "AKNOBODY"): "InvalidAccessKeyId",
            good["Authorization"].replace("/s3/", "/sts/"): "AuthorizationHeaderMalformed",
        }.items():
            assert await status("/NORTH/x", b"body", Authorization=field) == code, field
        got = await s.ask("GET", "/NORTH?AWSAccessKeyId=x&Signature=y&Expires=1", user="")
        assert got.code == "InvalidRequest"


async def test_a_replay_is_over_after_the_skew(tmp_path: Path) -> None:
    """Fifteen minutes, either way."""
    async with site(tmp_path) as s:
        now = SystemClock().now()
        for minutes, code in ((-16, "RequestTimeTooSkewed"), (16, "RequestTimeTooSkewed")):
            moment = now + timedelta(minutes=minutes)
            got = await s.ask("GET", "/", moment=moment)
            assert (got.status, got.code) == (403, code)
        assert (await s.ask("GET", "/", moment=now - timedelta(minutes=14))).status == 200


async def test_signature_errors_count_against_the_address(tmp_path: Path) -> None:
    """interface.md 8: guessing leads to a ban, at every door."""
    async with site(tmp_path, security={"ban_score": 3}) as s:
        headers = sign(s.pairs["alice"], "GET", f"{s.url}/", {})
        headers["Authorization"] = headers["Authorization"][:-4] + "0000"
        for _ in range(3):
            got = await s.ask("GET", "/", headers=headers, user="")
            assert got.code == "SignatureDoesNotMatch"
        with pytest.raises(aiohttp.ClientError):  # not a word on a new connection
            async with aiohttp.ClientSession() as fresh, fresh.get(s.url):
                pass
        assert [ban.address for ban in await s.node.gate.bans()] == ["127.0.0.1"]


async def test_any_region_and_both_paths_can_be_signed(tmp_path: Path) -> None:
    """Regions are the client's business; `/s3` is part of what is signed on the HTTPS portal."""
    async with site(tmp_path) as s:
        assert (await s.ask("GET", "/NORTH", region="eu-west-3")).status == 200
        assert (await s.ask("GET", "/NORTH", below=True)).status == 200
        assert (await s.ask("GET", "", below=True)).status == 200
        async with s.client.get(f"http://127.0.0.1:{s.https_port}/s3x") as other:
            assert other.status == 404  # a page of the portal, no business of S3


async def test_the_host_may_name_the_bucket(tmp_path: Path) -> None:
    """Virtual-host style on the listener of its own."""
    async with site(tmp_path) as s:
        host = {"Host": f"NORTH.localhost:{s.port}"}
        assert (await s.ask("PUT", "/k/1", body=b"x", headers=host)).status == 200
        assert (await s.ask("GET", "/", headers=host)).texts("Contents/Key") == ["k/1"]
        assert (await s.ask("GET", "/NORTH/k/1")).body == b"x"


# --- addresses -------------------------------------------------------------------------------


async def fetch(s: Site, method: str, url: str, body: bytes | None = None) -> Got:
    return await s.ask(method, url.removeprefix(s.url), body=body, user="")


async def test_an_address_can_be_signed(tmp_path: Path) -> None:
    """GET and PUT, for so many seconds; with and without the `/s3` in what is signed."""
    async with site(tmp_path) as s:
        pair, url = s.pairs["alice"], f"{s.url}/NORTH/f%20ile"
        now = SystemClock().now()
        assert (await fetch(s, "PUT", presign(pair, "PUT", url), b"x")).status == 200
        assert (await fetch(s, "GET", presign(pair, "GET", url))).body == b"x"
        shown = presign(pair, "GET", f"{url}?response-content-type=text%2Fcsv")
        assert (await fetch(s, "GET", shown)).headers["Content-Type"] == "text/csv"
        assert (await fetch(s, "DELETE", presign(pair, "GET", url))).code == "SignatureDoesNotMatch"
        late = presign(pair, "GET", url, moment=now - timedelta(seconds=61))
        assert (await fetch(s, "GET", late)).code == "AccessDenied"
        early = presign(pair, "GET", url, moment=now + timedelta(hours=1))
        assert (await fetch(s, "GET", early)).code == "AccessDenied"
        for lasts in (0, 7 * 86400 + 1):
            got = await fetch(s, "GET", presign(pair, "GET", url, expires=lasts))
            assert got.code == "AuthorizationQueryParametersError"
        below = f"{s.below}/NORTH/f%20ile"
        for signed_path in (None, "/NORTH/f%20ile"):
            link = presign(pair, "GET", below, signed_path=signed_path)
            async with s.client.get(URL(link, encoded=True)) as answer:
                assert await answer.read() == b"x"
        s3 = s.boto(signature_version="s3v4")
        link = await s.call(
            s3.generate_presigned_url, "get_object", {"Bucket": "NORTH", "Key": "f ile"}
        )
        assert (await fetch(s, "GET", link)).body == b"x"
        s3.close()


# --- chunks ----------------------------------------------------------------------------------


def chunked(s: Site, headers: dict[str, str], pieces: list[bytes], *, bad: int = -1) -> bytes:
    """Return a body of signed chunks; the signature of number `bad` is wrong."""
    pair, stamp = s.pairs["alice"], headers["x-amz-date"]
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    key, last = signing_key(pair.secret, scope), headers["Authorization"].rpartition("=")[2]
    body = b""
    for number, piece in enumerate([*pieces, b""]):
        digest = hashlib.sha256(piece).hexdigest()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{scope}\n{last}\n{EMPTY}\n{digest}"
        last = hmac.digest(key, text.encode(), "sha256").hex()
        shown = "0" * 64 if number == bad else last
        body += f"{len(piece):x};chunk-signature={shown}\r\n".encode() + piece + b"\r\n"
    return body


def chunk_head(s: Site, size: int, payload: str, **fields: str) -> dict[str, str]:
    headers = {"x-amz-decoded-content-length": str(size), "Content-Encoding": "aws-chunked"}
    headers |= {name.replace("_", "-"): text for name, text in fields.items()}
    url = f"{s.url}/NORTH/x"
    return headers | sign(s.pairs["alice"], "PUT", url, headers, payload=payload)


async def test_signed_chunks_are_verified_one_by_one(tmp_path: Path) -> None:
    """A wrong signature of any chunk, a missing end, a wrong size: nothing is stored."""
    pieces = [os.urandom(65536), os.urandom(65536), os.urandom(1000)]
    size = sum(map(len, pieces))
    async with site(tmp_path) as s:
        headers = chunk_head(s, size, SIGNED)
        for bad in range(4):
            body = chunked(s, headers, pieces, bad=bad)
            got = await s.ask("PUT", "/NORTH/x", body=body, headers=headers, user="")
            assert got.code == "SignatureDoesNotMatch", bad
        body = chunked(s, headers, pieces)
        cut = body[: body.rindex(b"\r\n0;chunk") + 2]
        got = await s.ask("PUT", "/NORTH/x", body=cut, headers=headers, user="")
        assert got.code == "IncompleteBody"
        wrong = chunk_head(s, size + 1, SIGNED)
        body = chunked(s, wrong, pieces)
        got = await s.ask("PUT", "/NORTH/x", body=body, headers=wrong, user="")
        assert got.code == "IncompleteBody"
        small = [b"x" * 100, b"y" * 100]
        head = chunk_head(s, 200, SIGNED)
        body = chunked(s, head, small)
        got = await s.ask("PUT", "/NORTH/x", body=body, headers=head, user="")
        assert got.code == "InvalidChunkSizeError"
        assert (await s.ask("GET", "/NORTH")).texts("Contents/Key") == []
        body = chunked(s, headers, pieces)
        got = await s.ask("PUT", "/NORTH/x", body=body, headers=headers, user="")
        assert got.status == 200, got.text
        kept = await s.ask("GET", "/NORTH/x")
        assert kept.body == b"".join(pieces)
        assert "Content-Encoding" not in kept.headers
        await s.idle()
        assert list((tmp_path / "objects/tmp").iterdir()) == []


async def test_chunks_of_nobody_are_refused(tmp_path: Path) -> None:
    """What is no chunk, a line without end, a signature where none belongs."""
    async with site(tmp_path) as s:
        for body in (b"zz\r\n", b"5" * 2000, b"5\r\nhelloXX0\r\n\r\n", b"5;chunk-signature=1\r\n"):
            headers = chunk_head(s, 5, UNSIGNED_TRAILER, x_amz_trailer="x-amz-checksum-crc32")
            got = await s.ask("PUT", "/NORTH/x", body=body, headers=headers, user="")
            assert got.code == "IncompleteBody", body[:10]
        headers = chunk_head(s, 5, UNSIGNED_TRAILER)
        got = await s.ask("PUT", "/NORTH/x", body=b"0\r\n\r\n", headers=headers, user="")
        assert got.code == "InvalidRequest"


@pytest.mark.parametrize("name", checksums.ALGORITHMS)
@pytest.mark.parametrize("size", [0, 5, 300_000])
async def test_trailing_checksums_are_verified(tmp_path: Path, name: str, size: int) -> None:
    """STREAMING-UNSIGNED-PAYLOAD-TRAILER with each algorithm."""
    content = os.urandom(size)
    one = checksums.make(name)
    one.update(content)
    right = base64.b64encode(one.digest())
    wrong = base64.b64encode(b"\xff" * len(one.digest()))
    pieces = [content[n : n + 65536] for n in range(0, size, 65536)]
    lines = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    async with site(tmp_path) as s:
        field = f"x-amz-checksum-{name}"
        for text, wanted in ((wrong, "BadDigest"), (b"!", "InvalidRequest"), (right, "")):
            headers = chunk_head(s, size, UNSIGNED_TRAILER, x_amz_trailer=field)
            body = lines + b"0\r\n" + field.encode() + b":" + text + b"\r\n\r\n"
            got = await s.ask("PUT", "/NORTH/x", body=body, headers=headers, user="")
            assert (got.code if wanted else got.status) == (wanted or 200), got.text
        head = await s.ask("HEAD", "/NORTH/x", headers={"x-amz-checksum-mode": "ENABLED"})
        assert head.headers[field] == right.decode()


async def test_signed_trailers_are_verified(tmp_path: Path) -> None:
    """STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER."""
    content = os.urandom(20_000)
    value = base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
    async with site(tmp_path) as s:
        for bad in (True, False):
            name = "x-amz-checksum-crc32"
            headers = chunk_head(s, len(content), f"{SIGNED}-TRAILER", x_amz_trailer=name)
            stamp = headers["x-amz-date"]
            scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
            key = signing_key(s.pairs["alice"].secret, scope)
            body = chunked(s, headers, [content])[:-2]
            last = body.rstrip(b"\r\n").rpartition(b"=")[2].decode()
            digest = hashlib.sha256(f"{name}:{value}\n".encode()).hexdigest()
            text = f"AWS4-HMAC-SHA256-TRAILER\n{stamp}\n{scope}\n{last}\n{digest}"
            signature = "0" * 64 if bad else hmac.digest(key, text.encode(), "sha256").hex()
            body += f"{name}:{value}\n\r\nx-amz-trailer-signature:{signature}\r\n\r\n".encode()
            got = await s.ask("PUT", "/NORTH/x", body=body, headers=headers, user="")
            assert (got.code if bad else got.status) == ("SignatureDoesNotMatch" if bad else 200)
        assert (await s.ask("GET", "/NORTH/x")).body == content


async def test_announced_digests_are_verified(tmp_path: Path) -> None:
    """Content-MD5 and x-amz-checksum-* before the content."""
    async with site(tmp_path) as s:

        async def put(**fields: str) -> str:
            named = {name.replace("_", "-"): text for name, text in fields.items()}
            got = await s.ask("PUT", "/NORTH/x", body=b"hello", headers=named)
            return got.code if got.status != 200 else "ok"

        md5 = base64.b64encode(hashlib.md5(b"hello").digest()).decode()
        other = base64.b64encode(hashlib.md5(b"other").digest()).decode()
        assert await put(content_md5=md5) == "ok"
        assert await put(content_md5=other) == "BadDigest"
        assert await put(content_md5="nonsense") == "InvalidDigest"
        assert await put(x_amz_checksum_crc32="AAAAAA==") == "BadDigest"
        assert await put(x_amz_checksum_crc32="NhCmhg==") == "ok"
        assert await put(x_amz_checksum_crc32="NhCmhg==", x_amz_checksum_sha1="x") == (
            "InvalidRequest"
        )
        assert await put(x_amz_checksum_md4="x") == "InvalidRequest"
        assert await put(x_amz_sdk_checksum_algorithm="SHA256") == "InvalidRequest"
        assert await put(x_amz_server_side_encryption="AES256") == "NotImplemented"


# --- forms -----------------------------------------------------------------------------------


def form(s: Site, conditions: list[object], *, late: bool = False, **more: str) -> dict[str, str]:
    """Return the signed fields of an upload form."""
    pair, now = s.pairs["alice"], SystemClock().now()
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    own = {
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{pair.access}/{scope}",
        "x-amz-date": stamp,
    }
    ends = now + timedelta(minutes=-1 if late else 1)
    document = {
        "expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
        "conditions": [*conditions, *({name: text} for name, text in own.items())],
    }
    policy = base64.b64encode(json.dumps(document).encode()).decode()
    key = signing_key(pair.secret, scope)
    signature = hmac.digest(key, policy.encode(), "sha256").hex()
    return own | more | {"policy": policy, "x-amz-signature": signature}


async def post(s: Site, fields: dict[str, str], content: bytes = b"hello") -> Got:
    parts = [
        f'--line\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    ]
    parts.append('--line\r\nContent-Disposition: form-data; name="file"; filename="name.txt"\r\n')
    body = "".join(parts).encode() + b"\r\n" + content + b"\r\n--line--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=line"}
    return await s.ask("POST", "/NORTH", body=body, headers=headers, user="")


async def test_a_form_uploads_what_its_policy_allows(tmp_path: Path) -> None:
    """Key prefix, size range, fields that nobody signed, expiry, signature."""
    async with site(tmp_path) as s:
        rules: list[object] = [
            {"bucket": "NORTH"},
            ["starts-with", "$key", "in/"],
            ["content-length-range", 1, 10],
        ]
        got = await post(s, form(s, rules, key="in/${filename}"))
        assert got.status == 204, got.text
        assert (await s.ask("GET", "/NORTH/in/name.txt")).body == b"hello"
        got = await post(s, form(s, [*rules, {"success_action_status": "201"}], key="in/2",
                                 success_action_status="201"))  # fmt: skip
        assert (got.status, got.texts("Key")) == (201, ["in/2"])
        refused = [
            (form(s, rules, key="out/1"), b"x", "AccessDenied"),
            (form(s, rules, key="in/1"), b"x" * 11, "EntityTooLarge"),
            (form(s, rules, key="in/1"), b"", "EntityTooSmall"),
            (form(s, rules, key="in/1", acl="public-read"), b"x", "AccessDenied"),
            (form(s, rules, key="in/1", late=True), b"x", "AccessDenied"),
            (form(s, [{"bucket": "SOUTH"}], key="in/1"), b"x", "AccessDenied"),
            (form(s, rules, key="in/1") | {"x-amz-signature": "0" * 64}, b"x",
             "SignatureDoesNotMatch"),
            ({"key": "in/1"}, b"x", "AccessDenied"),
        ]  # fmt: skip
        for fields, content, code in refused:
            got = await post(s, fields, content)
            assert got.code == code, got.text
        assert (await s.ask("GET", "/NORTH")).texts("Contents/Key") == ["in/2", "in/name.txt"]
        s3 = s.boto(signature_version="s3v4")
        made = await s.call(s3.generate_presigned_post, "NORTH", "boto/${filename}")
        assert (await post(s, made["fields"])).status == 204
        s3.close()


# --- documents and heads ---------------------------------------------------------------------

BOMB = b"""<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;">]><Delete><Object><Key>&c;</Key></Object></Delete>"""
OUTSIDE = b"""<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<Delete><Object><Key>&x;</Key></Object></Delete>"""


async def test_documents_that_attack_are_refused(tmp_path: Path) -> None:
    """Entities, outside references, depth, size, nonsense."""
    deep = b"<Delete>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</Delete>"
    huge = b"<Delete>" + b" " * (3 << 20) + b"</Delete>"
    async with site(tmp_path) as s:
        for body in (
            BOMB,
            OUTSIDE,
            deep,
            huge,
            b"",
            b"<Delete>",
            b"<Other/>",
            b"\xff\xfe",
            b"<a/>",
        ):
            got = await s.ask("POST", "/NORTH?delete=", body=body)
            assert (got.status, got.code) == (400, "MalformedXML"), body[:40]


async def test_heads_that_are_too_large_are_refused(tmp_path: Path) -> None:
    """Oversized heads by HTTP itself, oversized metadata by S3."""
    async with site(tmp_path) as s:
        got = await s.ask("PUT", "/NORTH/x", body=b"", headers={"x-amz-meta-a": "x" * 2049})
        assert got.code == "MetadataTooLarge"
        got = await s.ask("GET", "/NORTH", headers={"x-other": "x" * 40_000})
        assert got.status == 431
        got = await s.ask("GET", "/NORTH?prefix=" + "x" * 3000)
        assert got.code == "InvalidArgument"
        for query in ("max-keys=-1", "max-keys=x", "max-keys=99999999999", "encoding-type=x"):
            assert (await s.ask("GET", f"/NORTH?{query}")).code == "InvalidArgument", query
        got = await s.ask("GET", "/NORTH?continuation-token=nonsense&list-type=2")
        assert got.code == "InvalidArgument"
