"""Whom the HTTP client believes, and where it may be led."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteConfig,
    RemoteName,
    RemotePin,
    RemoteTransient,
)
from ecpds.modules.http_address import file_url, page_url
from ecpds.modules.http_egress import Egress
from ecpds.transfer.contract import Surroundings, Target, TlsTrust
from tests.peers.certificates import Authority
from tests.protocol.scripted_http import ScriptedHttp, answer

ORIGIN = URL("http://10.1.2.3:8080")


def serving(authority: Authority, *, wants_ours: bool = False) -> ssl.SSLContext:
    """Return the context of a server whose certificate names localhost and 127.0.0.1."""
    issued = authority.issue("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    context.load_cert_chain(issued.bundle)
    context.verify_mode = ssl.CERT_REQUIRED if wants_ours else ssl.CERT_NONE
    return context


async def ask(server: ScriptedHttp, trust: TlsTrust, host: str, **options: Any) -> None:
    """Make one request to the address of the server, calling it `host`."""
    target = Target(host_name="h", host=host, address="127.0.0.1", tls=trust)
    async with server.session(target=target, scheme="https", **options) as module:
        assert [block async for block in module.get("/f")] == [b"x"]


async def test_the_name_is_checked_although_we_connect_to_an_address(tmp_path: Path) -> None:
    """Verified by default; each way to believe has to be chosen."""
    authority = Authority(tmp_path)
    pin = ""
    async with ScriptedHttp(context=serving(authority)) as server:
        server.routes["GET /f"] = answer(200, b"x")
        ours = TlsTrust(ca=str(authority.ca))
        await ask(server, ours, "localhost")
        certificate = ssl.PEM_cert_to_DER_cert((tmp_path / "server.cert.pem").read_text())
        pin = hashlib.sha256(certificate).hexdigest()
        for trust, host in (
            (ours, "other.example"),
            (TlsTrust(), "localhost"),
            (TlsTrust(pin="ab" * 32), "localhost"),
        ):
            with pytest.raises(RemotePin) as caught:
                await ask(server, trust, host)
            assert caught.value.phase is Phase.TLS
        assert len(server.requests) == 1
        await ask(server, TlsTrust(pin=pin), "other.example")
        await ask(server, TlsTrust(verify=False), "other.example")
        await ask(server, TlsTrust(), "other.example", ssl_validation=False)
        await ask(server, ours, "other.example", strict=False)
        with pytest.raises(RemotePin):
            await ask(server, TlsTrust(), "other.example", strict=False)
        assert server.requests[-1].headers["host"] == f"other.example:{server.port}"


async def test_our_own_certificate(tmp_path: Path) -> None:
    """Servers may want one."""
    authority = Authority(tmp_path)
    own = authority.issue("me", client=True)
    async with ScriptedHttp(context=serving(authority, wants_ours=True)) as server:
        server.routes["GET /f"] = answer(200, b"x")
        ours = TlsTrust(ca=str(authority.ca))
        await ask(server, replace(ours, client_certificate=own.bundle.read_text()), "localhost")
        with pytest.raises((ConnectionLost, RemoteTransient)):
            await ask(server, ours, "localhost")


async def test_a_server_without_tls() -> None:
    """It can be tried again: somebody may be at work there."""
    async with ScriptedHttp() as server:
        with pytest.raises(RemoteTransient) as caught:
            await ask(server, TlsTrust(), "localhost")
        assert caught.value.phase is Phase.TLS


def egress(*allowed: str) -> Egress:
    """Return the rule of a host with a private address, without any thread started."""
    around = Surroundings(threads=Threads({}), clock=SystemClock(), egress_allow=allowed)
    return Egress(Target(host_name="h", host="10.1.2.3"), ORIGIN, around)


PUBLIC = ("http://8.8.8.8/", "https://[2001:4860:4860::8888]/", "http://data.example/f")
PRIVATE = (
    "http://10.1.2.3/",  # another port of our own host
    "http://127.0.0.1/",
    "http://0.0.0.0/",
    "http://169.254.169.254/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[2002:0a00:0001::]/",  # 6to4 of 10.0.0.1
    "http://[64:ff9b::0a00:0001]/",  # NAT64 of 10.0.0.1
)


def test_links_may_lead_to_public_places() -> None:
    """And to the configured origin, whatever it is."""
    rule = egress()
    rule.check(ORIGIN / "f")
    for text in PUBLIC:
        rule.check(URL(text))
    for text in PRIVATE:
        with pytest.raises(RemoteName, match="egress_allow"):
            rule.check(URL(text))
    for text in ("ftp://8.8.8.8/", "http:///f", "http://u:p@8.8.8.8/", "file:///etc/passwd"):
        with pytest.raises(RemoteName):
            rule.check(URL(text))


def test_private_networks_can_be_allowed() -> None:
    """By name of the network only."""
    rule = egress("10.0.0.0/8", "::1/128")
    for text in ("http://10.9.9.9/", "http://[::1]/", "http://[::ffff:10.0.0.1]/"):
        rule.check(URL(text))
    with pytest.raises(RemoteName):
        rule.check(URL("http://192.168.0.1/"))
    with pytest.raises(RemoteConfig):
        egress("10.0.0.0/99")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/a b", "/a%20b"),
        ("50%20off", "/base/50%2520off"),
        ("a?b#c;d=e+f&g", "/base/a%3Fb%23c%3Bd%3De%2Bf%26g"),
        ("é/漢", "/base/%C3%A9/%E6%BC%A2"),
        ("http://8.8.8.8/x%20y?z=1#part", "http://8.8.8.8/x%20y?z=1"),
        ("//double", "/double"),
        ("\udcff", "/base/%FF"),
    ],
)
def test_names_of_files_mean_themselves(name: str, path: str) -> None:
    """Only whole addresses are taken as they are written."""
    expected = path if path.startswith("http") else f"{ORIGIN}{path}"
    assert str(file_url(ORIGIN, "/base", name)) == expected


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("/a b/", "/a%20b/"),
        ("/a%20b/", "/a%20b/"),
        ("/50%/", "/50%25/"),
        ("d?x=1 2&y=%20", "/base/d?x=1%202&y=%20"),
        ("/a#b/", "/a%23b/"),
        ("", "/base/"),
    ],
)
def test_pages_are_named_as_addresses(reference: str, path: str) -> None:
    """What is encoded stays so, a question mark begins the query."""
    assert str(page_url(ORIGIN, "/base/", reference)) == f"{ORIGIN}{path}"
