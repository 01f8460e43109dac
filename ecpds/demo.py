"""The sample site of `[demo] enabled = true`: real products on their way through the whole node.

A feed directory is acquired into DEMO, sent over the node's own SFTP portal into DEMO-ARCHIVE, and
by an alias over its own FTP portal as well; people fetch from both with the account `demo`.  What
arrives and what was delivered is announced over MQTT below `demo/`.  A feeder lays a product with a
new name into the feed every few seconds, so that something moves on the pages.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncssh

from ecpds.base.logs import get_logger
from ecpds.base.passwords import random_password
from ecpds.base.resources import shared
from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.site import SiteOperations
from ecpds.engine.operations.sitefile import read_site
from ecpds.model.decode import Where
from ecpds.node import Node
from ecpds.store import accounts

log = get_logger(__name__)

USER = "demo"
TOPICS = "demo"  # where the sample site announces its products over MQTT
EVERY = timedelta(seconds=5)
KEPT = timedelta(minutes=10)  # how long the feed keeps a product
ALL = ["dir", "get", "put", "delete", "mkdir", "rmdir", "rename", "size", "mtime"]


async def make_demo(node: Node, endpoints: Mapping[str, str]) -> list[str]:
    """Create or refresh the sample site; return the lines to print on its first start."""
    known = await node.core.store.read(accounts.user, USER)
    host = node.core.snapshot.hosts.get("demo-sftp")
    password = random_password() if known is None or host is None else ""
    secret = password or (host.host.password.reveal() if host else "")
    document = _document(node, endpoints, secret, new=bool(password))
    site = read_site(document, Where(file="demo"))
    await SiteOperations(node.engine).apply(site, SYSTEM, file="demo", dry_run=False)
    if not password:
        return []
    return ["", f"Demo data user {USER!r}, password {password}", *_watching(node, endpoints)]


def _watching(node: Node, endpoints: Mapping[str, str]) -> list[str]:
    """Return how the announcements can be seen."""
    port = urlsplit(endpoints.get("mqtts", "")).port
    if port is None:
        return []
    certificate = node.settings.data_dir / "tls" / "certificate.pem"
    command = f"mosquitto_sub -h localhost -p {port} --cafile {certificate}"
    command += f" -u {USER} -P PASSWORD -t '{TOPICS}/#' -v"
    return ["Announcements of its products, with the password above:", f"  {command}"]


def feed_directory(node: Node) -> Path:
    """Return the directory that the sample site acquires from."""
    return Path(node.settings.file_roots[0]) / "demo"


def _fingerprint(folder: Path) -> str:
    key = asyncssh.read_public_key(folder / "ssh_host_ed25519_key.pub")
    return str(key.get_fingerprint())


def _document(
    node: Node, endpoints: Mapping[str, str], secret: str, *, new: bool
) -> dict[str, Any]:
    sftp, ftp = urlsplit(endpoints.get("sftp", "")), urlsplit(endpoints.get("ftp", ""))
    feed = feed_directory(node)
    login = {"login": USER, "password": secret, "host": "127.0.0.1", "max_connections": 4}
    hosts = [
        {
            "name": "demo-feed",
            "role": "acquisition",
            "method": "genericFile",
            "comment": "Sample products, see config/demo/products/NOTICE.md",
            "directory": f"[metadata=type=sample;lifetime=1h]{feed}/{{[^.].*}}",
            "acquisition_frequency": "3s",
        },
        {
            "name": "demo-sftp",
            "method": "genericSftp",
            "comment": "This node's own SFTP portal",
            "directory": "/DEMO-ARCHIVE/by-sftp/",
            "active": bool(sftp.port),
            "options": {
                "sftp.port": sftp.port or 22,
                "sftp.serverHostKey": "ssh-ed25519",
                "sftp.fingerPrint": _fingerprint(node.settings.data_dir / "ssh"),
            },
        }
        | login,
        {
            "name": "demo-ftp",
            "method": "genericFtp",
            "comment": "This node's own FTP portal",
            "directory": "/DEMO-ARCHIVE/by-ftp/",
            "active": bool(ftp.port),
            "options": {"ftp.port": ftp.port or 21},
        }
        | login,
    ]
    destinations = [
        {
            "name": "DEMO",
            "comment": "Acquired sample products, sent on over SFTP",
            "acquisition": True,
            "max_connections": 2,
            "hosts": ["demo-feed", "demo-sftp"],
            "aliases": [{"to": "DEMO-FTP", "comment": "The same over FTP"}],
            "options": {
                "mqtt.publish": "yes",
                "mqtt.topic": TOPICS + "/{destination}/{event}/",
                "mqtt.events": "available,delivered",
            },
        },
        {
            "name": "DEMO-FTP",
            "comment": "Copies sent on over FTP",
            "max_connections": 2,
            "hosts": ["demo-ftp"],
        },
        {
            "name": "DEMO-ARCHIVE",
            "comment": "What remote sites would fetch from the portal",
            "options": {
                "incoming.standby": "yes",
                "incoming.lifetime": "1h",
                "mqtt.publish": "yes",
                "mqtt.topic": TOPICS + "/{destination}/",
                "mqtt.retain": "yes",
            },
        },
    ]
    user: dict[str, Any] = {
        "login": USER,
        "comment": "Account of the sample site",
        "operations": ALL,
        "destinations": ["DEMO", "DEMO-FTP", "DEMO-ARCHIVE"],
        "options": {"portal.maxConnections": 50, "portal.mqttPermission": f"{TOPICS}/#"},
    }
    if new:
        user["password"] = secret
    return {"hosts": hosts, "destinations": destinations, "data_users": [user]}


async def feed(node: Node) -> None:
    """Lay sample products into the feed until cancelled."""
    products = sorted(
        path
        for path in (shared("config") / "demo" / "products").iterdir()
        if path.suffix in {".grib2", ".bufr", ".nc", ".csv"}
    )
    clock, place = node.core.clock, feed_directory(node)
    threads = node.core.threads
    for number, product in enumerate(itertools.cycle(products)):
        stem = product.name.replace(",", "_")
        name = stem if number < len(products) else f"{clock.now():%Y%m%dT%H%M%S}_{stem}"
        before = (clock.now() - KEPT).timestamp()
        try:
            await threads.run("disk", _lay, product, place / name, before)
        except OSError as error:
            log.warning("the demo feed cannot be written", reason=str(error))
        if number >= len(products):
            await clock.sleep(EVERY)
        else:
            await asyncio.sleep(0)


def _lay(product: Path, place: Path, before: float) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}")
    shutil.copyfile(product, temporary)
    temporary.replace(place)
    for old in place.parent.iterdir():
        if old.name[:8].isdigit() and old.stat().st_mtime < before:
            old.unlink(missing_ok=True)
