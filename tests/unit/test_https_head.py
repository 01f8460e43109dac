"""Heads of requests and answers as bytes."""

from __future__ import annotations

import pytest

from ecpds.portals.https.exchange import Answer
from ecpds.portals.https.head import FIELDS, RequestHead, lines, render
from ecpds.portals.https.plainhttp import answer
from ecpds.portals.https.proxies import Proxies
from tests.unit.test_https_fields import ask


def test_an_answer_has_its_length() -> None:
    text = render(Answer(body=b"abc", headers={"X": "y"}), date="D", chunked=False, connection="")
    assert (
        text == b"HTTP/1.1 200 OK\r\nDate: D\r\nServer: ecpds\r\nContent-Length: 3\r\nX: y\r\n\r\n"
    )


def test_a_head_without_content() -> None:
    assert b"Content-Length" not in render(
        Answer(status=204), date="D", chunked=False, connection=""
    )
    assert b"Content-Length" not in render(
        Answer(status=304), date="D", chunked=False, connection=""
    )
    chunked = render(Answer(length=5), date="D", chunked=True, connection="close")
    assert b"Transfer-Encoding: chunked\r\nConnection: close" in chunked
    assert b"Content-Length: 5" in render(Answer(length=5), date="D", chunked=False, connection="")


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nX: y", "a\rb", "a\n"])
def test_no_field_breaks_out_of_its_line(value: str) -> None:
    with pytest.raises(ValueError, match="line end"):
        lines({"Location": value})
    with pytest.raises(ValueError, match="line end"):
        render(Answer(cookies=[value]), date="D", chunked=False, connection="")


def test_repeated_fields_are_joined() -> None:
    head = RequestHead()
    for name, value in (
        (b"Accept", b"a"),
        (b"ACCEPT", b" b "),
        (b"Cookie", b"x=1"),
        (b"cookie", b"y"),
    ):
        head.add(name, value)
    assert head.fields == {"accept": "a, b", "cookie": "x=1; y"}
    head.add(b"Connection", b"Keep-Alive ,X")
    assert head.tokens("connection") == ["keep-alive", "x"]
    assert head.tokens("missing") == []


def test_heads_are_bounded() -> None:
    head = RequestHead()
    for number in range(FIELDS + 1):
        assert not head.is_too_large
        head.add(b"x%d" % number, b"y")
    assert head.is_too_large
    assert RequestHead(target=b"x" * 9000).is_too_large


@pytest.mark.parametrize(
    ("head", "first"),
    [
        ("GET /a?b HTTP/1.1\r\nHost: h:80\r\n\r\n", "HTTP/1.1 308"),
        ("GET /a HTTP/1.1\r\nHost: h/../x\r\n\r\n", "HTTP/1.1 400"),
        ("GET //a HTTP/1.0\r\n\r\n", "HTTP/1.1 400"),
        ("GET /a\r\nX: y HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400"),
        ("\x00\x01", "HTTP/1.1 400"),
    ],
)
def test_plain_http_is_sent_to_https(head: str, first: str) -> None:
    text = answer(head).decode()
    assert text.startswith(first)
    assert ("Location: https://h:80/a?b\r\n" in text) == first.endswith("308")


def test_only_trusted_proxies_are_believed() -> None:
    fields = {
        "x_forwarded_for": "1.2.3.4, 198.51.100.7, 10.0.0.2",
        "x_forwarded_proto": "http",
        "x_forwarded_host": "data.example",
    }
    seen = ask(**fields)
    Proxies([]).apply(seen)
    assert (seen.peer, seen.secure, seen.host) == ("127.0.0.1", True, "localhost")
    Proxies(["192.0.2.0/24"]).apply(seen)
    assert seen.peer == "127.0.0.1"
    Proxies(["127.0.0.1", "10.0.0.0/8"]).apply(seen)
    # 1.2.3.4 is what the client itself claims
    assert (seen.peer, seen.secure, seen.host) == ("198.51.100.7", False, "data.example")


def test_a_proxy_that_says_nothing_changes_nothing() -> None:
    seen = ask(x_forwarded_for="nonsense, 127.0.0.1")
    Proxies(["127.0.0.0/8"]).apply(seen)
    assert (seen.peer, seen.secure, seen.host) == ("127.0.0.1", True, "localhost")
