"""What the suite runs against: a module, a real server, and the options that join them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from ecpds.conformance.case import Case as Case
from ecpds.modules.azure import AzureModule
from ecpds.modules.exec import ExecModule
from ecpds.modules.ftp import FtpModule
from ecpds.modules.gcs import GcsModule
from ecpds.modules.http import HttpModule, PlainHttp
from ecpds.modules.local import FileModule
from ecpds.modules.s3 import S3Module
from ecpds.modules.sftp import SftpModule
from ecpds.modules.webdav import WebdavModule
from ecpds.transfer.contract import Feature
from tests.conformance.kept import Kept, beside
from tests.conformance.versions import with_version
from tests.peers.apache import apache
from tests.peers.azurite import AzuritePeer, account_url, azurite
from tests.peers.buckets import BucketPeer
from tests.peers.gcs import GcsPeer, gcs
from tests.peers.moto import moto
from tests.peers.nginx import nginx
from tests.peers.openssh import openssh
from tests.peers.peer import Account, Peer, serving_account
from tests.peers.proftpd import proftpd
from tests.peers.rclone import rclone
from tests.peers.seaweedfs import seaweedfs
from tests.peers.vsftpd import vsftpd


@asynccontextmanager
async def folder(base: Path) -> AsyncIterator[Peer]:
    """Play the peer of the file module: a directory of this machine."""
    root = base / "root"
    root.mkdir()
    me = serving_account()
    account = Account(name=me.name, uid=0, gid=0, password="") if me.uid else me
    yield Peer(
        name="folder", scheme="file", port=0, root=root, account=account, directory=str(root)
    )


@asynccontextmanager
async def command_folder(base: Path) -> AsyncIterator[Peer]:
    """Play the peer of the exec module: a directory, and a command that is content."""
    async with folder(base) as peer:
        place = base / "bin"
        place.mkdir()
        command = place / "ingest"
        command.write_text('#!/bin/sh\ntest -f "$ECPDS_FILE"\n')
        command.chmod(0o755)
        yield replace(peer, name="command", roots=(place,))


def sftp_options(peer: Peer) -> Mapping[str, object]:
    """Log in by key, trusting the server's own host key."""
    assert peer.key is not None
    return {
        "sftp.port": peer.port,
        "sftp.fingerPrint": peer.host_key,
        "sftp.privateKey": peer.key.read_text(),
        "sftp.keepAlive": "0s",
    }


def ftp_options(peer: Peer) -> Mapping[str, object]:
    """Trust the authority that signed the server's certificate, if it speaks TLS."""
    kinds = {"": "FTP", "explicit": "FTPES", "implicit": "FTPS"}
    options = {"ftp.port": peer.port, "ftp.connectionType": kinds[peer.tls]}
    return options | ({"ectrans.tlsCa": str(peer.ca)} if peer.ca else {})


def proftpd_options(peer: Peer) -> Mapping[str, object]:
    """Keep sessions: the server sleeps for 0.3 s whenever one has ended."""
    return {**ftp_options(peer), "ftp.keepAlive": "20s"}


def http_options(peer: Peer) -> Mapping[str, object]:
    """Trust the authority that signed the server's certificate, if it speaks TLS."""
    options = {"http.scheme": peer.scheme, "http.port": peer.port, "http.maxSize": "100MB"}
    return options | ({"ectrans.tlsCa": str(peer.ca)} if peer.ca else {})


def s3_options(peer: Peer) -> Mapping[str, object]:
    """Small parts, one after the other and sent once, so that faults strike where they should."""
    bucket = peer.bucket if isinstance(peer, BucketPeer) else peer.root.name
    options: dict[str, object] = {
        "s3.scheme": peer.scheme,
        "s3.port": peer.port,
        "s3.bucketName": bucket,
        "s3.multipartSize": "1MB",
        "s3.partSize": "256KB",
        "s3.numUploadThreads": 1,
        "s3.queueCapacity": 1,
        "s3.disableSdkRetries": "yes",
    }
    return options | ({"ectrans.tlsCa": str(peer.ca)} if peer.ca else {})


def webdav_options(peer: Peer) -> Mapping[str, object]:
    """Trust the authority that signed the server's certificate, if it speaks TLS."""
    options = {"webdav.scheme": peer.scheme, "webdav.port": peer.port}
    return options | ({"ectrans.tlsCa": str(peer.ca)} if peer.ca else {})


@asynccontextmanager
async def rclone_bucket(base: Path) -> AsyncIterator[Peer]:
    """Serve a folder as the only bucket, over TLS."""
    bucket = base / "root" / "bucket"
    bucket.mkdir(parents=True)
    async with rclone(base, "s3", root=bucket.parent, tls=True) as peer:
        yield replace(peer, root=bucket)


def azure_options(peer: Peer) -> Mapping[str, object]:
    """Use the peer's container, in small blocks."""
    assert isinstance(peer, AzuritePeer)
    return {
        "azure.url": account_url(peer),
        "azure.containerName": peer.container,
        "azure.multipartSize": "2MB",
        "azure.blockSize": "1MB",
        "azure.numBuffers": 1,
        "azure.disableRetries": "yes",
        "azure.keepAlive": "0s",
    }


def gcs_options(peer: Peer) -> Mapping[str, object]:
    """Use the peer's bucket, in small chunks."""
    assert isinstance(peer, GcsPeer)
    return {
        "gcs.scheme": "http",
        "gcs.port": peer.port,
        "gcs.bucketName": peer.bucket,
        "gcs.anonymous": "yes",
        "gcs.multipartSize": "0B",
        "gcs.chunkSize": "1MB",
        "gcs.disableRetries": "yes",
        "gcs.keepAlive": "0s",
    }


CASES = [
    Case(
        name="gcs-emulator",
        module=GcsModule,
        server=gcs,
        options=gcs_options,
        sets_times=False,
        has_directories=False,
        has_login=False,
        drops_uploads=False,
        many=50,
        about=lambda: "gcp-storage-emulator 2026.7.19",
        quirks=("the emulator checks no login; logins are tried with a token service of our own",),
    ),
    Case(
        name="azure-azurite",
        module=AzureModule,
        server=azurite,
        options=azure_options,
        sets_times=False,
        has_directories=False,
        has_host=False,
        drops_uploads=False,
        many=300,
        about=lambda: "Azurite 3.37",
        quirks=(
            "blocks of a broken upload stay at the service for up to a week (nobody sees them)",
        ),
    ),
    Case(
        name="file",
        many=50_000,
        module=FileModule,
        server=folder,
        options=lambda peer: {},
        is_remote=False,
        has_login=False,
    ),
    Case(
        name="exec",
        module=ExecModule,
        server=command_folder,
        options=lambda peer: {"exec.command": "ingest"},
        is_remote=False,
        has_login=False,
    ),
    Case(
        name="sftp-openssh",
        module=SftpModule,
        server=Kept(openssh),
        options=sftp_options,
        wrong_trust={"sftp.fingerPrint": "SHA256:" + "A" * 43},
        is_by_key=True,
    ),
    Case(
        name="sftp-openssh-password",
        module=SftpModule,
        server=Kept(partial(openssh, host_key="rsa")),
        options=lambda peer: {"sftp.port": peer.port, "sftp.fingerPrint": peer.host_key},
        wrong_trust={"sftp.fingerPrint": "0a:" * 15 + "0b"},
    ),
    Case(
        name="ftp-vsftpd",
        module=FtpModule,
        server=Kept(vsftpd),
        options=ftp_options,
        has_coarse_times=True,
    ),
    Case(
        name="ftp-vsftpd-tls",
        module=FtpModule,
        server=Kept(partial(vsftpd, tls="explicit")),
        options=ftp_options,
        wrong_trust={"ectrans.tlsCa": ""},
        has_coarse_times=True,
    ),
    Case(name="ftp-proftpd", module=FtpModule, server=Kept(proftpd), options=proftpd_options),
    Case(
        name="ftp-proftpd-tls",
        module=FtpModule,
        server=Kept(partial(proftpd, tls="implicit", session_reuse=True)),
        options=proftpd_options,
        wrong_trust={"ectrans.tlsPin": "0a" * 32},
    ),
    Case(name="http-nginx-dav", module=HttpModule, server=Kept(nginx), options=http_options),
    Case(
        name="http-nginx-plain",
        module=HttpModule,
        server=Kept(partial(nginx, tls=True, makes_parents=True)),
        options=lambda peer: {**http_options(peer), "http.dav": "no"},
        wrong_trust={"ectrans.tlsCa": ""},
        narrowed=PlainHttp.features,
    ),
    Case(
        name="webdav-apache",
        module=WebdavModule,
        server=Kept(apache),
        options=webdav_options,
        quirks=("Locks that are taken at the same time get lost: leave webdav.useLock off.",),
    ),
    Case(
        name="webdav-nginx-tls",
        module=WebdavModule,
        server=Kept(partial(nginx, tls=True)),
        options=webdav_options,
        wrong_trust={"ectrans.tlsCa": ""},
    ),
    Case(
        name="webdav-rclone",
        module=WebdavModule,
        server=Kept(partial(rclone, protocol="webdav")),
        options=webdav_options,
        many=300,  # it reads the directory anew for each entry
        quirks=(
            "It stores the rest of a broken upload after we hung up: looked for and removed.",
            "It answers 423 while a name is moved: the module asks again for a second.",
        ),
    ),
    Case(
        name="s3-seaweedfs",
        module=S3Module,
        server=seaweedfs,
        options=lambda peer: {**s3_options(peer), "s3.multipartSize": "5MB", "s3.partSize": "5MB"},
        # parts have 5 MiB at least, more than these tests send before they break
        narrowed=S3Module.features & ~Feature.RESUME_PUT,
        sets_times=False,
        has_directories=False,
        many=2_100,
    ),
    Case(
        name="s3-moto",
        module=S3Module,
        server=moto,
        # a connection for each request: a fault would strike none of many small parts
        options=lambda peer: {**s3_options(peer), "s3.multipartSize": "64MB"},
        narrowed=S3Module.features & ~Feature.RESUME_PUT,
        has_login=False,
        quirks=("It answers 500 to two uploads of one name: asked one request at a time here.",),
        sets_times=False,
        has_directories=False,
        many=300,
    ),
    Case(
        name="s3-rclone-tls",
        module=S3Module,
        server=Kept(rclone_bucket, beside),
        options=s3_options,
        wrong_trust={"ectrans.tlsCa": ""},
        has_directories=False,
        many=2_100,
    ),
]
CASES = [with_version(case) for case in CASES]
