"""TLS of the FTP client with vsftpd: whom it believes, and as whom it comes."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.model.errors import Phase, RemoteConfig, RemotePin, RemoteTransient
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.modules.ftp import FtpModule
from ecpds.modules.ftp_options import FtpOptions
from ecpds.modules.ftps import FtpsModule
from ecpds.modules.trust import client_context
from ecpds.transfer.contract import Surroundings, Target, TlsTrust
from ecpds.transfer.registry import Registry
from ecpds.transfer.source import BytesSource
from tests.peers.certificates import Authority
from tests.peers.peer import Peer
from tests.peers.vsftpd import vsftpd


@asynccontextmanager
async def session(
    peer: Peer, trust: TlsTrust, *, host: str = "", **options: Any
) -> AsyncIterator[FtpModule]:
    """Connect to the address of `peer`, calling it `host`."""
    threads = Threads()
    target = Target(
        host_name="peer",
        host=host or peer.host,
        address=peer.host,
        login=peer.login,
        password=Secret(peer.password),
        tls=trust,
    )
    given = FtpOptions(port=peer.port, connection_type="FTPES", **options)
    try:
        around = Surroundings(threads=threads, clock=SystemClock())
        async with FtpModule.connect(target, given, around) as module:
            yield module
    finally:
        await asyncio.to_thread(threads.close)


async def test_the_name_is_checked_although_we_connect_to_an_address(tmp_path: Path) -> None:
    """On the control and on the data connection."""
    async with vsftpd(tmp_path, tls="explicit") as peer:
        trust = TlsTrust(ca=str(peer.ca))
        async with session(peer, trust, host="localhost") as module:
            await module.put("f", BytesSource(b"x"))
        with pytest.raises(RemotePin) as caught:
            async with session(peer, trust, host="other.example"):
                pass
        assert caught.value.phase is Phase.TLS
        assert "other.example" in caught.value.message
        unverified = TlsTrust(verify=False)
        async with session(peer, unverified, host="other.example") as module:
            assert (await module.stat("f")).size == 1


async def test_pins_and_authorities(tmp_path: Path) -> None:
    """A pin replaces the chain; PEM text is as good as a path; nothing is believed by itself."""
    async with vsftpd(tmp_path, tls="explicit") as peer:
        assert peer.ca is not None
        certificate = ssl.PEM_cert_to_DER_cert((peer.ca.parent / "vsftpd.cert.pem").read_text())
        pin = hashlib.sha256(certificate).hexdigest()
        colons = "SHA256:" + ":".join(pin[i : i + 2] for i in range(0, 64, 2)).upper()
        for trust in (
            TlsTrust(pin=pin),
            TlsTrust(pin=colons),
            TlsTrust(ca=peer.ca.read_text()),
        ):
            async with session(peer, trust) as module:
                await module.put("f", BytesSource(b"x" * 300_000))
        for trust in (TlsTrust(), TlsTrust(pin="ab" * 32)):
            with pytest.raises(RemotePin):
                async with session(peer, trust):
                    pass


async def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    """Even of a known authority."""
    authority = Authority(tmp_path / "own")
    old = authority.issue("old", ends=timedelta(hours=-1))
    options = {"rsa_cert_file": old.certificate, "rsa_private_key_file": old.key}
    async with vsftpd(tmp_path / "s", tls="explicit", options=options) as peer:
        with pytest.raises(RemotePin, match="expired"):
            async with session(peer, TlsTrust(ca=str(authority.ca))):
                pass


@pytest.mark.parametrize("form", ["path", "text"])
async def test_our_own_certificate(tmp_path: Path, form: str) -> None:
    """Servers may want one; control and data connections show it."""
    authority = Authority(tmp_path / "own")
    own = authority.issue("me", hosts=["me.example"], client=True)
    options = {"require_cert": "YES", "validate_cert": "YES", "ca_certs_file": authority.ca}
    async with vsftpd(tmp_path / "s", tls="explicit", options=options) as peer:
        shown = str(own.bundle) if form == "path" else own.bundle.read_text()
        async with session(peer, TlsTrust(ca=str(peer.ca), client_certificate=shown)) as module:
            await module.put("f", BytesSource(b"x"))
        with pytest.raises(RemoteTransient):
            async with session(peer, TlsTrust(ca=str(peer.ca))):
                pass


async def test_data_connections_take_up_the_session(tmp_path: Path) -> None:
    """vsftpd refuses them otherwise, and says why."""
    async with vsftpd(tmp_path, tls="explicit", session_reuse=True) as peer:
        async with session(peer, TlsTrust(ca=str(peer.ca))) as module:
            for number in range(3):
                await module.put(f"{number}", BytesSource(b"x"))
                assert [block async for block in module.get(f"{number}")] == [b"x"]
        assert peer.names() == ["0", "1", "2"]
        # without a session to take up the server closes, and nothing is taken for done
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ecpds.modules.trust.ClientContext.wrap_bio", ssl.SSLContext.wrap_bio)
            async with session(peer, TlsTrust(ca=str(peer.ca))) as module:
                with pytest.raises((RemoteTransient, RemoteConfig)) as caught:
                    await module.put("never", BytesSource(b"x"))
                assert caught.value.remote_code in ("522", "426", "425")


@pytest.mark.parametrize(
    ("trust", "version"),
    [
        (TlsTrust(ca="/nowhere/ca.pem"), "TLS"),
        (TlsTrust(ca="-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----"), "TLS"),
        (TlsTrust(pin="0a0b"), "TLS"),
        (TlsTrust(client_certificate="/nowhere/me.pem"), "TLS"),
        (TlsTrust(client_certificate="-----BEGIN nonsense"), "TLS"),
        (TlsTrust(), "SSLv3"),
    ],
)
def test_bad_settings_are_named(trust: TlsTrust, version: str) -> None:
    """They are the operator's, not the server's."""
    with pytest.raises(RemoteConfig) as caught:
        client_context(trust, minimum=version)
    assert caught.value.phase is Phase.TLS


def test_a_key_with_a_pass_phrase_is_refused(tmp_path: Path) -> None:
    """The library would ask on the terminal."""
    from cryptography.hazmat.primitives import serialization

    authority = Authority(tmp_path)
    own = authority.issue("me", client=True)
    key = serialization.load_pem_private_key(own.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"phrase"),
    )
    with pytest.raises(RemoteConfig, match="pass phrase"):
        client_context(
            TlsTrust(client_certificate=(locked + own.certificate.read_bytes()).decode())
        )


@pytest.mark.parametrize("tls", ["explicit", "implicit"])
async def test_generic_ftps_is_secure_without_a_word(tls: str, tmp_path: Path) -> None:
    """`genericFtps`: AUTH TLS by default, the certificate is checked unless `strict` is no."""
    kinds = {"explicit": {}, "implicit": {"ftps.connectionType": "FTPS"}}
    async with vsftpd(tmp_path, tls=tls) as peer:
        options: dict[str, Any] = {"ftps.port": peer.port, "ftps.keepAlive": "5s", **kinds[tls]}
        host = Host(name="h", method="genericFtps", host="127.0.0.1", options=options)
        host = replace(host, login=peer.login, password=Secret(peer.password))
        trusting = replace(host, options=options | {"ectrans.tlsCa": str(peer.ca)})
        careless = replace(host, options=options | {"ftps.strict": "no"})
        threads = Threads()
        around = Surroundings(threads=threads, clock=SystemClock())
        try:
            for one in (trusting, careless):
                access = Registry([FtpsModule]).access(one)
                assert access.module.keep_alive(access.options) == timedelta(seconds=5)
                async with access.module.connect(access.target, access.options, around) as module:
                    assert await module.put("f", BytesSource(b"secret")) == 6
                    assert module.statistics()["bytes_acked"] > 6
            access = Registry([FtpsModule]).access(host)
            with pytest.raises(RemotePin):
                async with access.module.connect(access.target, access.options, around):
                    pass
        finally:
            await asyncio.to_thread(threads.close)
        assert (peer.root / "f").read_bytes() == b"secret"
