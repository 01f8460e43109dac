"""The S3 module with a service that answers as a test wants: regions, refusals, rubbish."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from ecpds.model.errors import (
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteSpace,
    RemoteTransient,
    RemoteVerify,
)
from ecpds.model.secret import Secret
from ecpds.modules.s3 import S3Module
from ecpds.modules.s3_options import S3Options
from ecpds.transfer.contract import Target, Timeouts
from ecpds.transfer.source import BytesSource
from tests.protocol.scripted_http import Handler, ScriptedHttp, answer

KEY = "/bkt/f"


def error(status: int, code: str, more: str = "", **headers: Any) -> Handler:
    """Return an answer with an S3 error."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said</Message>{more}</Error>"
    return answer(status, body.encode(), **headers)


@asynccontextmanager
async def session(server: ScriptedHttp, **options: Any) -> AsyncIterator[S3Module]:
    """Give a session with the bucket `bkt`."""
    target = Target(
        host_name="scripted",
        host=server.host,
        login="AK",
        password=Secret("geheim"),
        timeouts=Timeouts(command=timedelta(seconds=2), connect=timedelta(seconds=2)),
    )
    given = S3Options(**{"scheme": "http", "port": server.port, "bucket_name": "bkt", **options})
    async with S3Module.connect(target, given, server.around) as module:
        yield module


def scopes(server: ScriptedHttp) -> list[str]:
    """Return the regions that requests were signed for."""
    return [one.headers["authorization"].split("/")[2] for one in server.requests]


async def put(module: S3Module) -> int:
    """Send a small object."""
    return await module.put("/f", BytesSource(b"content"))


async def test_the_region_is_learnt_and_remembered() -> None:
    """From the refusal; another session knows it, and the next start of the daemon."""
    async with ScriptedHttp() as server:
        refusal = error(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")
        fine = answer(200, ETag='"x"')

        async def handle(request: Any, writer: Any) -> None:
            is_right = "/eu-west-1/s3/" in request.headers["authorization"]
            await (fine if is_right else refusal)(request, writer)

        server.routes[f"PUT {KEY}"] = handle
        for _ in range(2):
            async with session(server) as module:
                assert await put(module) == 7
        assert scopes(server) == ["us-east-1", "eu-west-1", "eu-west-1"]
        facts = server.around.memory.learned()
        assert facts == [("s3", "scripted", "region bkt", "eu-west-1")]
        server.around.memory.restore(facts)
        async with session(server, region="us-west-2") as module:
            with pytest.raises(RemoteConfig, match="us-west-2"):  # the operator's word wins
                await put(module)


async def test_a_wrong_region_is_told_unless_it_may_be_followed() -> None:
    """`region` was given: the message names the right one."""
    async with ScriptedHttp() as server:
        server.routes[f"HEAD {KEY}"] = answer(400, x_amz_bucket_region="eu-west-1")
        async with session(server, region="us-west-2") as module:
            with pytest.raises(RemoteConfig, match="eu-west-1"):
                await module.stat("/f")
        assert len(server.requests) == 1
        async with session(server, region="us-west-2", cross_region=True) as module:
            with pytest.raises(RemoteConfig):
                await module.stat("/f")
        assert scopes(server)[1:] == ["us-west-2", "eu-west-1"]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", RemoteAuth),
        (403, "SignatureDoesNotMatch", RemoteAuth),
        (403, "RequestTimeTooSkewed", RemoteConfig),
        (404, "NoSuchBucket", RemoteConfig),
        (404, "NoSuchKey", RemoteMissing),
        (400, "EntityTooLarge", RemoteSpace),
        (400, "BadDigest", RemoteVerify),
        (501, "NotImplemented", RemoteConfig),
        (400, "NewAndUnknown", RemoteConfig),
        (418, "Teapot", RemoteError),
    ],
)
async def test_refusals_are_told_by_their_class(
    status: int, code: str, kind: type[RemoteError]
) -> None:
    """Once, with what the service said."""
    async with ScriptedHttp() as server:
        server.routes[f"PUT {KEY}"] = error(status, code)
        async with session(server) as module:
            with pytest.raises(RemoteError, match="said") as caught:
                await put(module)
        assert type(caught.value) is kind
        assert caught.value.remote_code == code
        assert len(server.requests) == 1
        if kind is RemoteAuth:
            assert caught.value.phase is Phase.AUTH


@pytest.mark.parametrize(("off", "times"), [(False, 4), (True, 1)])
async def test_a_busy_service_is_asked_again_a_few_times(off: bool, times: int) -> None:
    """Not at all with `disableSdkRetries`."""
    async with ScriptedHttp() as server:
        server.routes[f"PUT {KEY}"] = error(503, "SlowDown")
        async with session(server, no_retries=off) as module:
            with pytest.raises(RemoteTransient, match="SlowDown"):
                await put(module)
        assert len(server.requests) == times


async def test_a_busy_moment_is_not_noticed() -> None:
    """The second try succeeds, after what the service asked for."""
    async with ScriptedHttp() as server:
        answers = [error(503, "SlowDown", Retry_After="0"), answer(200, ETag='"x"')]

        async def handle(request: Any, writer: Any) -> None:
            await answers.pop(0)(request, writer)

        server.routes[f"PUT {KEY}"] = handle
        async with session(server) as module:
            assert await put(module) == 7
            assert module.proven == 7
        assert [one.body for one in server.requests] == [b"content", b"content"]


@pytest.mark.parametrize(
    "page", [b"\xff\xfe" * 5_000_000, b"<x>" * 3_000_000, b"", b"<html><body>login</body></html>"]
)
async def test_rubbish_is_no_listing(page: bytes) -> None:
    """Ten megabytes of it, a bomb of levels, nothing, another page."""
    async with ScriptedHttp() as server:
        server.routes["GET /bkt"] = answer(200, page)
        async with session(server, no_retries=True) as module:
            with pytest.raises(RemoteTransient):
                assert [entry async for entry in module.list("/")] == []


async def test_a_listing_that_turns_in_circles_ends() -> None:
    """The same page again and again."""
    async with ScriptedHttp() as server:
        page = (
            b"<ListBucketResult><IsTruncated>true</IsTruncated>"
            b"<NextContinuationToken>t</NextContinuationToken>"
            b"<Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>"
        )
        server.routes["GET /bkt"] = answer(200, page)
        async with session(server) as module:
            with pytest.raises(RemoteError, match="for ever"):
                assert [entry async for entry in module.list("/")] == []
        assert len(server.requests) == 2


async def test_a_late_error_is_an_error() -> None:
    """The completion of an upload says 200 first and what went wrong later."""
    begun = answer(200, b"<R><UploadId>u1</UploadId></R>")
    late = error(200, "InternalError")
    async with ScriptedHttp() as server:

        async def handle(request: Any, writer: Any) -> None:
            await (begun if request.target.endswith("?uploads=") else late)(request, writer)

        server.routes[f"POST {KEY}"] = handle
        server.routes[f"PUT {KEY}"] = answer(200, ETag='"0"')
        server.routes["GET /bkt"] = answer(200, b"<R></R>")
        sizes = {"part_size": 64 * 1024, "multipart_size": 64 * 1024}
        async with session(server, **sizes) as module:
            with pytest.raises(RemoteTransient, match="InternalError"):
                await module.put("/f", BytesSource(b"x" * 200_000))
            assert module.upload
            assert module.confirmed == 3 * 64 * 1024


async def test_another_range_than_asked_for_is_refused() -> None:
    """Or the whole object where a part was wanted."""
    async with ScriptedHttp() as server:
        server.routes[f"HEAD {KEY}"] = answer(200, Content_Length="10", ETag='"1"')
        for response in (
            answer(200, b"0123456789"),
            answer(206, b"456", Content_Range="bytes 4-6/10"),
            answer(206, b"456"),
        ):
            server.routes[f"GET {KEY}"] = response
            async with session(server) as module:
                with pytest.raises(RemoteError):
                    assert [block async for block in module.get("/f", offset=5)] == []


async def test_without_a_login_requests_are_anonymous() -> None:
    """Public buckets."""
    async with ScriptedHttp() as server:
        server.routes[f"GET {KEY}"] = answer(200, b"content")
        async with session(server, credentials="anonymous") as module:
            assert [block async for block in module.get("/f")] == [b"content"]
        assert "authorization" not in server.requests[0].headers
