"""S3 as boto3 sees it: buckets, objects, listings."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.protocol.s3_site import site


async def test_an_object_comes_back_as_it_went(tmp_path: Path) -> None:
    """By both doors, with its metadata, type and MD5."""
    async with site(tmp_path) as s:
        for below in (False, True):
            s3 = s.boto(below=below)
            names = [b["Name"] for b in (await s.call(s3.list_buckets))["Buckets"]]
            assert names == ["NORTH"]
            content = b"hello" * 1000
            put = await s.call(
                s3.put_object, Bucket="NORTH", Key="a/b é+ ~.txt", Body=content,
                Metadata={"mtime": "1234.5", "a-very-long-name-of-a-metadata-value": "x" * 300},
                ContentType="text/x-own",
            )  # fmt: skip
            assert put["ETag"] == f'"{hashlib.md5(content).hexdigest()}"'
            got = await s.call(s3.get_object, Bucket="NORTH", Key="a/b é+ ~.txt")
            assert await s.call(got["Body"].read) == content
            assert got["ContentType"] == "text/x-own"
            assert got["Metadata"]["mtime"] == "1234.5"
            assert got["ETag"] == put["ETag"]
            head = await s.call(s3.head_object, Bucket="NORTH", Key="a/b é+ ~.txt")
            assert head["ContentLength"] == len(content)
            listed = await s.call(s3.list_objects_v2, Bucket="NORTH")
            assert [(one["Key"], one["ETag"]) for one in listed["Contents"]] == [
                ("a/b é+ ~.txt", put["ETag"])
            ]
            await s.call(s3.delete_object, Bucket="NORTH", Key="a/b é+ ~.txt")
            assert await s.refused(s3.get_object, Bucket="NORTH", Key="a/b é+ ~.txt") == "NoSuchKey"
            await s.call(s3.delete_object, Bucket="NORTH", Key="a/b é+ ~.txt")
            s3.close()
        await s.idle()
