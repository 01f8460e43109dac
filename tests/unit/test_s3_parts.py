"""Pieces of the S3 module: signatures as botocore makes them, addresses, parts, answers."""

from __future__ import annotations

import hashlib
import string
import time
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from ecpds.model.errors import RemoteConfig, RemoteName, RemoteTransient
from ecpds.model.secret import Secret
from ecpds.modules.s3_address import Endpoint
from ecpds.modules.s3_options import S3Options
from ecpds.modules.s3_put import tag_of_parts
from ecpds.modules.s3_sign import Keys, Signer, encoded, query_text
from ecpds.modules.s3_upload import MOST_PARTS, Part, Upload, part_size_for
from ecpds.modules.s3_xml import read
from ecpds.transfer.contract import Target

MIB = 1024 * 1024
NOW = datetime(2026, 11, 21, 12, 30, 5, tzinfo=UTC)
VALUES = st.text(alphabet=string.ascii_letters + string.digits + " -._~/+=%&é漢", max_size=12)


def signed_by_botocore(
    method: str, url: str, headers: dict[str, str], content: bytes, token: str
) -> str:
    """Return the Authorization header that botocore makes."""
    request = AWSRequest(method=method, url=url, headers=headers, data=content)
    with (
        patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)),
        patch("botocore.compat.get_current_datetime", return_value=NOW.replace(tzinfo=None)),
    ):
        S3SigV4Auth(Credentials("AKID", "sec/ret+", token or None), "s3", "eu-west-1").add_auth(
            request
        )
    return str(request.headers["Authorization"])


@settings(max_examples=50, deadline=None)
@given(
    key=VALUES.filter(lambda text: not text.startswith("/") and "//" not in text),
    query=st.lists(
        st.tuples(st.sampled_from(["uploads", "prefix", "part-number", "x"]), VALUES),
        max_size=3,
        unique_by=lambda pair: pair[0],
    ),
    content=st.binary(max_size=40),
    token=st.sampled_from(["", "tok/en=="]),
)
def test_signatures_are_those_of_botocore(
    key: str, query: list[tuple[str, str]], content: bytes, token: str
) -> None:
    """For every key, query and body."""
    path, text = f"/bucket/{encoded(key, safe='/')}", query_text(query)
    headers = {"x-amz-meta-md5": "a  b", "Content-Type": "text/plain"}
    url = f"http://127.0.0.1:8333{path}{'?' if text else ''}{text}"
    ours = Signer("s3").headers(
        Keys(access_key="AKID", secret_key=Secret("sec/ret+"), token=Secret(token)),
        "eu-west-1",
        method="PUT",
        host="127.0.0.1:8333",
        path=path,
        query=text,
        headers=headers,
        payload=hashlib.sha256(content).hexdigest(),
        now=NOW,
    )
    assert ours["Authorization"] == signed_by_botocore("PUT", url, headers, content, token)
    assert "sec/ret+" not in str(ours)


def test_a_signature_costs_little() -> None:
    """A tenth of what a small request costs altogether."""
    signer, keys = Signer("s3"), Keys(access_key="A", secret_key=Secret("s"))

    def sign() -> float:
        begun = time.perf_counter()
        signer.headers(
            keys, "us-east-1", method="PUT", host="h:1", path="/b/k", query="",
            headers={"Content-Type": "application/octet-stream"}, payload="0" * 64, now=NOW,
        )  # fmt: skip
        return time.perf_counter() - begun

    assert min(sign() for _ in range(100)) < 0.0001


def place(host: str, bucket: str = "bucket", key: str = "a b/é", **options: object) -> str:
    """Return the address of a key."""
    given = S3Options(bucket_name=bucket, **options)  # type: ignore[arg-type]
    endpoint = Endpoint(Target(host_name="h", host=host), given)
    return str(endpoint.place(bucket, key, endpoint.first_region).url(""))


def test_addresses_of_aws_and_of_others() -> None:
    """The bucket is in the host name at AWS, in the path elsewhere, unless told otherwise."""
    tail = "a%20b/%C3%A9"
    aws = "s3.us-east-1.amazonaws.com"
    assert place("") == f"https://bucket.{aws}/{tail}"
    assert place("s3.eu-west-1.amazonaws.com") == (
        f"https://bucket.s3.eu-west-1.amazonaws.com/{tail}"
    )
    assert place("", bucket="with.dots") == f"https://{aws}/with.dots/{tail}"
    assert place("", path_style=True) == f"https://{aws}/bucket/{tail}"
    assert place("", dualstack=True, region="eu-west-1") == (
        f"https://bucket.s3.dualstack.eu-west-1.amazonaws.com/{tail}"
    )
    assert place("", acceleration=True) == f"https://bucket.s3-accelerate.amazonaws.com/{tail}"
    assert place("", region="cn-north-1") == (
        f"https://bucket.s3.cn-north-1.amazonaws.com.cn/{tail}"
    )
    assert place("minio.example", scheme="http", port=9000) == (
        f"http://minio.example:9000/bucket/{tail}"
    )
    assert place("minio.example", path_style=False) == f"https://bucket.minio.example/{tail}"
    assert place("x", url="https://y.example:444") == f"https://y.example:444/bucket/{tail}"
    assert place("::1", scheme="http") == f"http://[::1]/bucket/{tail}"


def test_bad_addresses_are_told() -> None:
    """With the option that is wrong."""
    for options in ({"region": "nowhere"}, {"url": "ftp://x"}, {"bucket_name": "a/b"}):
        with pytest.raises(RemoteConfig):
            Endpoint(Target(host_name="h", host=""), S3Options(**options))  # type: ignore[arg-type]


def test_names_are_keys() -> None:
    """Below the prefix; without a bucket of its own the first part is one."""
    target = Target(host_name="h", host="x")
    fixed = Endpoint(target, S3Options(bucket_name="b1", key_prefix="/radar/2026/"))
    assert fixed.split("", "/d/f") == ("b1", "radar/2026/d/f")
    assert fixed.split("sub", "f") == ("b1", "radar/2026/sub/f")
    free = Endpoint(target, S3Options())
    assert free.split("", "/b2/d/f") == ("b2", "d/f")
    for name in ("/", "/x", "/UPPER_case!/f"):
        with pytest.raises(RemoteName):
            free.split("", name)
    with pytest.raises(RemoteName, match="1024"):
        fixed.split("", "x" * 1100)


def test_parts_are_never_more_than_allowed() -> None:
    """The size grows where the wanted one would not do."""
    assert part_size_for(-1, 10 * MIB) == 10 * MIB
    assert part_size_for(100 * MIB, 10 * MIB) == 10 * MIB
    for total in (10 * MIB * MOST_PARTS + 1, 5 << 40):
        size = part_size_for(total, 10 * MIB)
        assert -(-total // size) <= MOST_PARTS
        assert size % MIB == 0


def test_only_parts_without_a_hole_count() -> None:
    """A state names the upload; a short part is none."""
    upload = Upload(bucket="b", key="k", id="u1", part_size=10)
    for number, size in ((1, 10), (2, 10), (4, 10), (5, 3)):
        upload.parts[number] = Part(etag='"x"', size=size)
    assert upload.reached == 20
    again = Upload.of_state("b", "k", upload.state)
    assert again is not None
    assert (again.id, again.part_size) == ("u1", 10)
    for text in ("", "{}", "[1]", '{"id":1}', "no json"):
        assert Upload.of_state("b", "k", text) is None


def test_the_tag_of_parts_is_that_of_aws() -> None:
    """MD5 of the MD5s, and their count; none where the tags are something else."""
    upload = Upload(bucket="b", key="k", id="u", part_size=1)
    parts = [b"one", b"two"]
    for number, content in enumerate(parts, 1):
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        upload.parts[number] = Part(etag=f'"{digest}"', size=1)
    joined = b"".join(hashlib.md5(c, usedforsecurity=False).digest() for c in parts)
    assert tag_of_parts(upload) == (hashlib.md5(joined, usedforsecurity=False).hexdigest() + "-2")
    upload.parts[3] = Part(etag='"opaque"', size=1)
    assert tag_of_parts(upload) == ""


def test_answers_are_read_and_bombs_are_not() -> None:
    """Records, other fields, and nothing with entities."""
    document = read(
        b'<R xmlns="x"><IsTruncated>true</IsTruncated>'
        b"<Contents><Key>a</Key><Owner><ID>o</ID></Owner></Contents></R>",
        ("Contents",),
    )
    assert (document.root, document.fields["IsTruncated"]) == ("R", "true")
    assert document.of("Contents") == [{"Key": "a", "ID": "o", "Owner": ""}]
    for text in (
        b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
        b"<x>" * 50,
        b"no xml",
        b"\x00\xff" * 1000,
    ):
        with pytest.raises(RemoteTransient):
            read(text)
