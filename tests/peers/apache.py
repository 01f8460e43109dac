"""Apache httpd with mod_dav on loopback: WebDAV classes 1 and 2, with locks.

The package `apache2-bin` brings the program without the service, so that nothing starts by itself.
2.4 loses locks that are taken at the same time, with threads and with processes.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.peers import ports
from tests.peers.certificates import Authority
from tests.peers.peer import Account, Peer, serving_account
from tests.peers.process import serving
from tests.peers.programs import find, find_file

LOGIN = "feed"
_MODULES = Path("/usr/lib/apache2/modules")
_WANTED = (
    "mpm_prefork",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_user",
    "auth_basic",
    "dav",
    "dav_fs",
    "dav_lock",
)


def _config(folder: Path, root: Path, account: Account, port: int, *, tls: str) -> str:
    wanted = (*_WANTED, *(("socache_shmcb", "ssl") if tls else ()))
    loaded = "\n".join(
        f'LoadModule {name}_module "{find_file(_MODULES / f"mod_{name}.so")}"' for name in wanted
    )
    user = f"User {account.name}\nGroup {account.name}" if os.geteuid() == 0 else ""
    return f"""
ServerRoot "{folder}"
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile "{folder}/pid"
ErrorLog /dev/stderr
DefaultRuntimeDir "{folder}"
{loaded}
{user}
StartServers 1
MinSpareServers 1
MaxSpareServers 16
MaxRequestWorkers 16
KeepAlive On
MaxKeepAliveRequests 0
LimitXMLRequestBody 1048576
DocumentRoot "{root}"
DAVLockDB "{folder}/locks/db"
DavMinTimeout 0
{tls}
<Directory "{root}">
    Dav On
    DavDepthInfinity off
    AuthType Basic
    AuthName "test peer"
    AuthUserFile "{folder}/logins"
    Require valid-user
</Directory>
"""


class ApachePeer(Peer):
    """Hides the files of mod_dav_fs: half an upload until it is removed, notes on locks."""

    def names(self) -> list[str]:
        """Return the relative paths of all files of its users below the root, sorted."""
        own = ("/.davfs.tmp", "/.DAV/")
        return [name for name in super().names() if not any(mark in f"/{name}" for mark in own)]


@asynccontextmanager
async def apache(
    folder: Path, *, root: Path | None = None, tls: bool = False
) -> AsyncIterator[Peer]:
    """Serve `root` (default `folder`/root) at "/"."""
    account, program = serving_account(), find("apache2")
    root = root or folder / "root"
    own = folder / "apache"
    account.open(root)
    own.mkdir()
    account.open(own)
    account.open(own / "locks")
    password = secrets.token_urlsafe(16)
    digest = base64.b64encode(hashlib.sha1(password.encode(), usedforsecurity=False).digest())
    (own / "logins").write_text(f"{LOGIN}:{{SHA}}{digest.decode()}\n")
    secured, ca = "", None
    if tls:
        authority = Authority(own)
        issued, ca = authority.issue("apache"), authority.ca
        secured = (
            f'SSLEngine on\nSSLCertificateFile "{issued.certificate}"\n'
            f'SSLCertificateKeyFile "{issued.key}"'
        )
    with ports.reserved() as block:
        config = own / "apache.conf"
        config.write_text(_config(own, root, account, block[0], tls=secured))
        command: list[str | Path] = [program, "-d", own, "-f", config, "-D", "FOREGROUND"]
        async with serving("apache", command, folder=own, port=block[0]) as child:
            yield replace(
                ApachePeer(name="Apache", scheme="http", port=block[0], root=root, account=account),
                scheme="https" if tls else "http",
                login=LOGIN,
                password=password,
                tls="implicit" if tls else "",
                ca=ca,
                log=child.output,
            )
