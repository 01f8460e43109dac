"""`kill -9` while an upload in parts is completed: afterwards it is there whole, or goes on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.crash.test_kill import wait_dead
from tests.daemon import DaemonProcess

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

POINTS = (
    "objects.renamed",
    "vfs.before_register",
    "store.before_commit",
    "vfs.after_register",
)
ACCESS, SECRET = "AKFEEDER", "a-secret-of-forty-characters-0123456789abc"
FIVE = 5 * 1024 * 1024
PARTS = [os.urandom(FIVE), os.urandom(FIVE), os.urandom(77)]


def client(daemon: DaemonProcess) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=daemon.endpoints["portal_s3"],
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def site() -> dict[str, Any]:
    return {
        "destinations": [{"name": "IN", "max_pending": 0}],
        "data_users": [
            {
                "login": "feeder",
                "operations": ["dir", "get", "put", "delete", "mkdir", "size", "mtime"],
                "destinations": ["IN"],
                "s3_keys": [{"access_key": ACCESS, "secret": SECRET}],
            }
        ],
    }


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_while_completing_loses_no_part(point: str, tmp_path: Path) -> None:
    """Parts that were acknowledged survive; the same list completes the upload afterwards."""
    listen = {"ECPDS_PORTAL__S3__LISTEN": "127.0.0.1:0", "ECPDS_PORTAL__S3__TLS": "false"}
    daemon = DaemonProcess(tmp_path, environment=listen)
    await daemon.apply(site())
    try:
        await daemon.start()
        s3 = client(daemon)
        upload = s3.create_multipart_upload(Bucket="IN", Key="big")["UploadId"]
        named = []
        for number, content in enumerate(PARTS, 1):
            put = s3.upload_part(
                Bucket="IN", Key="big", UploadId=upload, PartNumber=number, Body=content
            )
            named.append({"PartNumber": number, "ETag": put["ETag"]})
        s3.close()
        daemon.kill()  # no part may depend on a graceful end
        # commits of the start itself come first, and on a slow machine more of them
        await daemon.start(
            may_die=point.startswith("store."), ECPDS_FAILPOINTS=f"{point}:kill{_count(point)}"
        )
        s3 = client(daemon)
        wanted = {"Bucket": "IN", "Key": "big", "UploadId": upload}
        wanted["MultipartUpload"] = {"Parts": named}
        for _ in range(40):
            try:
                s3.complete_multipart_upload(**wanted)
            except (BotoCoreError, ClientError):
                break
        assert await wait_dead(daemon, 20), f"{point} was never passed\n{daemon.log()}"
        s3.close()
        daemon.kill()
        await daemon.start()
        s3 = client(daemon)
        done = s3.complete_multipart_upload(**wanted)
        digests = b"".join(hashlib.md5(part).digest() for part in PARTS)
        assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'
        body = s3.get_object(Bucket="IN", Key="big")["Body"]
        assert body.read() == b"".join(PARTS)
        body.close()
        s3.close()
        found = [one for one in (daemon.data / "objects").glob("2*/*/*") if one.is_file()]
        assert [one.stat().st_size for one in found if one.stat().st_size > FIVE] == [10485837]
    finally:
        await daemon.stop()


def _count(point: str) -> str:
    """Commits of the start itself come first."""
    return "@12" if point.startswith("store.") else ""
