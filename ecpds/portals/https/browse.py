"""Directories: the page for people, the listings for programs, and the details of one file.

Names, comments and options are other people's texts: they reach the page only through autoescape,
and addresses only through percent-encoding.  Spec: portal.md 3.4.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlencode, urlsplit

from ecpds.model.account import Permission, Service
from ecpds.model.errors import InputError, IsDirectory, NotDirectory
from ecpds.model.units import format_bytes
from ecpds.portals.https import listings, negotiate
from ecpds.portals.https.addresses import link
from ecpds.portals.https.archive import Archives
from ecpds.portals.https.exchange import Answer, Refused
from ecpds.portals.https.fields import FILE_POLICY, Types, security, with_charset
from ecpds.portals.https.head import http_date
from ecpds.portals.https.listings import FORMATS, Page
from ecpds.portals.https.pages import Pages, is_on
from ecpds.portals.https.preview import Previews
from ecpds.portals.https.visit import Visit
from ecpds.vfs.contract import Listing, Node

ENTRIES = 200  # on one page
_DONE = {"uploaded": "Uploaded.", "deleted": "Deleted.", "renamed": "Renamed."}
_DIGESTS = (("sha256", "SHA-256"), ("md5", "MD5"), ("sha512", "SHA-512"), ("crc32c", "CRC-32C"))
_LIFETIMES = (("1d", "a day"), ("7d", "a week"), ("30d", "30 days"))
_KEPT = ("search", "sort", "order", "limit")  # query fields that links of the page keep
Endpoints = Callable[[], Mapping[str, str]]  # addresses of the other portals, by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row."""

    name: str
    href: str
    details: str
    is_directory: bool
    bytes: int
    size: str
    time: datetime | None
    id: int | None
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One head of the table."""

    key: str
    label: str
    href: str = ""
    sorted: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One line of the access guide."""

    what: str
    text: str


class Browse:
    """Answers requests for directories."""

    def __init__(
        self,
        pages: Pages,
        endpoints: Endpoints,
        *,
        lends: bool = False,
        previews: Previews | None = None,
        archives: Archives | None = None,
    ) -> None:
        """`lends`: whether users can make links here; `previews`: what looks into files."""
        self._pages = pages
        self._endpoints = endpoints
        self._lends = lends
        self._previews = previews
        self._archives = archives
        self._types = Types()

    async def listing(self, visit: Visit) -> None:
        """Send the listing of the directory in the form that the client wants most."""
        is_archive = self._archives is not None and visit.query.get("format") == "zip"
        kind = "zip" if is_archive else _format(visit)
        node = await visit.session.stat(visit.path)
        if not node.is_directory:
            raise NotDirectory(f"{node.path} is a file")
        if is_archive and self._archives is not None:
            await self._archives.send(visit, node)
            return
        wanted = listings.read_query(visit.query)
        if kind == "html":
            await visit.send(await self._page(visit, node, wanted))
        else:
            await visit.send(await self._machine(visit, node, wanted, kind))

    async def _machine(self, visit: Visit, node: Node, wanted: Listing, kind: str) -> Answer:
        fields = security(secure=visit.ask.secure, policy=FILE_POLICY)
        fields |= {
            "Content-Type": "application/json" if kind == "json" else with_charset(FORMATS[kind]),
            "Cache-Control": "no-cache",
            "Vary": "Accept",
        }
        if node.mtime is not None:
            fields["Last-Modified"] = http_date(node.mtime)
        nodes = visit.session.list(visit.path, wanted)
        if wanted.limit:
            page = await listings.read_page(visit.session, visit.path, wanted)
            if page.cursor is not None:
                here = visit.directory_link(node.path)
                fields["Link"] = listings.next_link(here, visit.query, page.cursor)
            nodes = listings.each(page.nodes)
        body = await listings.begun(listings.written(kind, nodes))
        return Answer(headers=fields, body=body)

    # --- the page ------------------------------------------------------------------------

    async def _page(self, visit: Visit, node: Node, wanted: Listing) -> Answer:
        limited = replace(wanted, limit=min(wanted.limit or ENTRIES, 1000))
        page = await listings.read_page(visit.session, visit.path, limited)
        here = visit.directory_link(node.path)
        kept = {name: visit.query[name] for name in _KEPT if visit.query.get(name)}
        fields = {"Vary": "Accept, Cookie"}
        if node.mtime is not None:
            fields["Last-Modified"] = http_date(node.mtime)
        return self._pages.page(
            visit.ask,
            "list",
            options=visit.session.options,
            headers=fields,
            directory=node,
            here=here,
            crumbs=_crumbs(visit, node.path),
            parent=visit.directory_link(_parent(node.path)) if node.path != "/" else "",
            entries=[self._entry(visit, node, member) for member in page.nodes],
            columns=_columns(here, kept, wanted),
            search=visit.query.get("search", ""),
            kept=[(name, value) for name, value in kept.items() if name != "search"],
            next=_next(here, kept, page),
            first=_address(here, kept) if wanted.cursor else "",
            formats=[
                (label, _address(here, {**kept, "format": label.lower()}))
                for label in ("JSON", "CSV", "text", *self._archive(visit, node))
            ],
            done=_DONE.get(visit.query.get("done", ""), ""),
            upload=_upload_address(visit, node),
            guide=self._guide(visit, node.path),
            lending=self._lending(visit, node),
            account=_account(visit),
        )

    def _entry(self, visit: Visit, directory: Node, node: Node) -> Entry:
        path = f"{directory.path.rstrip('/')}/{node.name}"
        href = visit.directory_link(path) if node.is_directory else visit.file_link(path)
        return Entry(
            name=node.name,
            href=href,
            details="" if node.is_directory else f"{href}?view=details",
            is_directory=node.is_directory,
            bytes=node.size,
            size=format_bytes(node.size),
            time=node.scheduled or node.mtime,
            id=node.transfer_id,
            comment=node.comment,
        )

    async def details(self, visit: Visit) -> None:
        """Send the page about one file; raise IsDirectory."""
        node = await visit.session.stat(visit.path)
        if node.is_directory:
            raise IsDirectory(f"{node.path} is a directory")
        may_get = visit.session.may(Permission.GET, visit.path)
        href = visit.file_link(node.path)
        shows = may_get and self._previews is not None and visit.place.home != "link"
        preview = await self._previews.of(visit.session, node) if shows and self._previews else None
        answer = self._pages.page(
            visit.ask,
            "details",
            options=visit.session.options,
            file=node,
            href=href,
            here=href,
            action=href,
            size=format_bytes(node.size),
            kind=self._types.of(node.name),
            crumbs=_crumbs(visit, node.path),
            metadata=sorted(node.metadata.items()),
            digest=await _digest(visit) if may_get else None,
            digests=_DIGESTS,
            may_digest=may_get,
            preview=preview,
            lending=self._lending(visit, node),
            may_rename=visit.session.may(Permission.RENAME, visit.path),
            may_delete=visit.session.may(Permission.DELETE, visit.path),
            done="",
            account=_account(visit),
        )
        await visit.send(answer)

    def _archive(self, visit: Visit, node: Node) -> tuple[str, ...]:
        may = visit.session.may(Permission.GET, f"{node.path.rstrip('/')}/file")
        return ("ZIP",) if self._archives is not None and node.destination and may else ()

    def _lending(self, visit: Visit, node: Node) -> dict[str, object] | None:
        """Return what the form for links offers, None when there is nothing to offer."""
        if not self._lends or visit.place.home is not None or node.path == "/":
            return None
        allowed = visit.option("links") or "both"
        may_read = visit.session.may(
            Permission.DIR if node.is_directory else Permission.GET, node.path
        )
        may_put = node.is_directory and visit.session.may(Permission.PUT, f"{node.path}/file")
        offers = (
            ("share", "Others may read", may_read),
            ("request", "Others may upload", may_put),
        )
        kinds = [(key, label) for key, label, may in offers if may and allowed in ("both", key)]
        if not kinds:
            return None
        return {"path": node.path, "kinds": kinds, "lifetimes": _LIFETIMES}

    def _guide(self, visit: Visit, path: str) -> list[Command]:
        """Return commands that a person can paste; every name in them is quoted for the shell."""
        if not is_on(visit.session.options, "accessGuide", default=True):
            return []
        login = visit.session.profile.user.login
        is_open = visit.session.profile.user.service is Service.OPEN
        scheme = "https" if visit.ask.secure else "http"
        base = visit.place.files if visit.place.home else "/ecpds/data/file/"
        address = f"{scheme}://{visit.ask.host}{link(base, path, directory=True)}"
        user = "" if is_open else f"-u {shlex.quote(login)} "
        commands = [
            Command(
                what="Download with curl", text=f"curl {user}-O {shlex.quote(address + 'FILE')}"
            )
        ]
        if path != "/" and visit.session.may(Permission.PUT, f"{path}/FILE"):
            text = f"curl {user}-T FILE {shlex.quote(address)}"
            commands.append(Command(what="Upload with curl", text=text))
        listing = f"{scheme}://{visit.ask.host}{link(base, path, directory=True)}?format=json"
        if base.startswith("/ecpds/data/"):
            listing = listing.replace("/ecpds/data/file/", "/ecpds/data/list/", 1)
        commands.append(Command(what="List as JSON", text=f"curl {user}{shlex.quote(listing)}"))
        if "webdav" in self._endpoints() and not is_open:
            commands += _webdav(f"{scheme}://{visit.ask.host}/webdav/", login, path)
        return commands + self._other_portals(visit.ask.host_name, login, path)

    def _other_portals(self, host: str, login: str, path: str) -> list[Command]:
        known = self._endpoints()
        commands = []
        directory = shlex.quote(f"/DATA{path}".rstrip("/"))
        if "ftp" in known:
            ftp = urlsplit(known["ftp"])
            text = f"lftp -u {shlex.quote(login)} {ftp.scheme}://{host}:{ftp.port}{directory}"
            commands.append(Command(what="FTP with lftp", text=text))
        if "sftp" in known:
            port = urlsplit(known["sftp"]).port
            target = shlex.quote(f"{login}@{host}:/DATA{path}")
            commands.append(Command(what="SFTP with OpenSSH", text=f"sftp -P {port} {target}"))
            text = f"scp -P {port} {target.rstrip('/')}/FILE ."
            commands.append(Command(what="One file with scp", text=text))
        return commands


def _webdav(address: str, login: str, path: str) -> list[Command]:
    """Return commands for a mounted folder and for rclone."""
    remote = shlex.quote(f":webdav:{path}")
    folder = address.rstrip("/") + link("/", path, directory=True)
    flags = f"--webdav-url {shlex.quote(address)} --webdav-user {shlex.quote(login)}"
    return [
        Command(
            what="Mount as a folder (davfs2)", text=f"mount -t davfs {shlex.quote(folder)} /mnt"
        ),
        Command(
            what="Copy with rclone (WebDAV)",
            text=f"rclone copy {remote} . {flags} --webdav-pass $(rclone obscure PASSWORD)",
        ),
    ]


def _format(visit: Visit) -> str:
    """Return `html`, `json`, `csv` or `text`; raise InputError or Refused (406)."""
    asked = visit.query.get("format", "")
    if asked:
        if asked not in FORMATS:
            raise InputError(f"format is one of {', '.join(FORMATS)}", pointer="format")
        return asked
    found = negotiate.choose(visit.ask.headers.get("accept", ""), list(FORMATS.values()))
    if found is None:
        raise Refused(406, f"listings are {', '.join(FORMATS.values())}")
    kind = next(name for name, media in FORMATS.items() if media == found)
    simple = kind == "html" and is_on(visit.session.options, "simpleList", default=False)
    return "text" if simple else kind


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _crumbs(visit: Visit, path: str) -> list[tuple[str, str]]:
    found = [("Home" if visit.place.home else "Destinations", visit.directory_link("/"))]
    parts = path.strip("/").split("/") if path != "/" else []
    for count, name in enumerate(parts, 1):
        found.append((name, visit.directory_link("/" + "/".join(parts[:count]))))
    return found


def _address(base: str, query: Mapping[str, str]) -> str:
    return f"{base}?{urlencode(query)}" if query else base


def _next(here: str, kept: Mapping[str, str], page: Page) -> str:
    return _address(here, {**kept, "cursor": page.cursor}) if page.cursor is not None else ""


def _columns(here: str, kept: Mapping[str, str], wanted: Listing) -> list[Column]:
    found = []
    for key, label in (("target", "Name"), ("time", "Scheduled (UTC)"), ("size", "Size")):
        is_sorted = wanted.sort == key
        up = wanted.order != "desc"
        order = "desc" if (is_sorted and up) or (not is_sorted and key != "target") else "asc"
        found.append(
            Column(
                key=key,
                label=label,
                href=_address(here, {**kept, "sort": key, "order": order}),
                sorted=("ascending" if up else "descending") if is_sorted else "",
            )
        )
    return [*found, Column(key="id", label="Id")]


def _upload_address(visit: Visit, node: Node) -> str:
    """Return where the upload form goes, empty when this user cannot upload here."""
    if node.path == "/" or not visit.session.may(Permission.PUT, f"{node.path}/file"):
        return ""
    return link(visit.place.files, node.path, directory=True)


def _account(visit: Visit) -> dict[str, object]:
    user = visit.session.profile.user
    is_open = user.service is Service.OPEN
    return {"user": user.login, "open_access": is_open, "logged_in": not is_open}


async def _digest(visit: Visit) -> dict[str, str] | None:
    key = visit.query.get("digest", "")
    label = dict(_DIGESTS).get(key)
    if label is None:
        return None
    return {"label": label, "value": await visit.session.digest(visit.path, key)}
