"""nginx on loopback: WebDAV with listings in HTML or JSON.

One address does both: GET of a directory answers a listing, everything else is WebDAV. nginx
refuses a PUT with Content-Range (501), as most servers do.
"""

from __future__ import annotations

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
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_MODULES = Path("/usr/lib/nginx/modules")


def _location(
    listing: str, *, auth: bool, writable: bool, makes_parents: bool, folder: Path
) -> list[str]:
    lines = [
        "autoindex on;",
        f"autoindex_format {listing};",
        "autoindex_exact_size on;",
        "dav_ext_methods PROPFIND OPTIONS LOCK UNLOCK;",
        "dav_ext_lock zone=locks;",
        f"create_full_put_path {'on' if makes_parents else 'off'};",
        "dav_access user:rw group:r all:r;",
        "min_delete_depth 0;",
    ]
    if writable:
        lines.append("dav_methods PUT DELETE MKCOL COPY MOVE;")
    if auth:
        lines += ['auth_basic "test peer";', f'auth_basic_user_file "{folder}/logins";']
    return lines


def _config(folder: Path, root: Path, account: Account, listen: str, inner: list[str]) -> str:
    module = find_file(_MODULES / "ngx_http_dav_ext_module.so")
    temporary = "\n".join(f'{kind}_temp_path "{folder}/{kind}";' for kind in _TEMPORARY)
    user = f"user {account.name};" if os.geteuid() == 0 else ""
    return f"""
{user}
load_module {module};
daemon off;
worker_processes 1;
pid "{folder}/pid";
error_log stderr info;
events {{ worker_connections 512; }}
http {{
    {temporary}
    default_type application/octet-stream;
    access_log "{folder}/access";
    client_max_body_size 0;
    sendfile on;
    keepalive_timeout 75;
    dav_ext_lock_zone zone=locks:1m;
    server {{
        {listen}
        root "{root}";
        charset utf-8;
        location / {{
            {chr(10).join(inner)}
        }}
    }}
}}
"""


@asynccontextmanager
async def nginx(
    folder: Path,
    *,
    root: Path | None = None,
    tls: bool = False,
    listing: str = "html",
    auth: bool = True,
    writable: bool = True,
    makes_parents: bool = False,
    options: str = "",
) -> AsyncIterator[Peer]:
    """Serve `root` (default `folder`/root) at "/".

    `listing`: html, json or xml. `auth`: every request needs the Basic login. `makes_parents`: a
    PUT creates missing directories. `options`: more lines of the location, e.g. `limit_rate 100k;`.
    """
    account, program = serving_account(), find("nginx")
    root = root or folder / "root"
    own = folder / "nginx"
    account.open(root)
    own.mkdir()
    account.open(own)
    password = secrets.token_urlsafe(16)
    (own / "logins").write_text(f"{LOGIN}:{{PLAIN}}{password}\n")
    secured, ca = "", None
    if tls:
        authority = Authority(own)
        issued, ca = authority.issue("nginx"), authority.ca
        secured = f'ssl_certificate "{issued.certificate}"; ssl_certificate_key "{issued.key}";'
    with ports.reserved() as block:
        listen = f"listen 127.0.0.1:{block[0]}{' ssl' if tls else ''}; {secured}"
        lines = _location(
            listing, auth=auth, writable=writable, makes_parents=makes_parents, folder=own
        )
        inner = [*lines, options]
        config = own / "nginx.conf"
        config.write_text(_config(own, root, account, listen, inner))
        async with serving(
            "nginx",
            [program, "-p", own, "-c", config, "-e", "stderr"],
            folder=own,
            port=block[0],
        ) as child:
            yield replace(
                Peer(name="nginx", scheme="http", port=block[0], root=root, account=account),
                scheme="https" if tls else "http",
                login=LOGIN if auth else "",
                password=password if auth else "",
                tls="implicit" if tls else "",
                ca=ca,
                log=lambda: child.output() + (own / "access").read_text(errors="replace"),
            )
