"""What each client program does with the portal: one table, run by a test, shown in the docs.

`python -m tests.clientmatrix` writes docs/clients.md.  A cell is the words of a command, or a text
in brackets that says why there is none.  `{n}` is a directory of the client's own, `up` a file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "clients.md"
OPERATIONS = ("put", "list", "get", "rename", "mkdir", "rmdir", "delete")
"""In the order in which they are tried: what one leaves behind the next one needs."""

NOT_HERE = "(not in this client)"
NO_PROTOCOL = "(not in the protocol)"
NONE = "\N{EN DASH}"

Words = str | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One program at one door."""

    name: str
    door: str
    command: tuple[str, ...] = ()  # `{act}` is replaced by the words of a cell
    script: str = ""  # the same for its standard input
    acts: Mapping[str, Words] = field(default_factory=dict)
    needs: str = ""  # program; empty: the first word of the command
    proof: str = ""  # test that tries it otherwise: file::function
    shows: Mapping[str, str] = field(default_factory=dict)  # cells of a client with a proof

    @property
    def key(self) -> str:
        """Return a name for its directory."""
        return "".join(c for c in f"{self.name}-{self.door}".lower() if c.isalnum() or c == "-")

    def cell(self, operation: str) -> str:
        """Return what the page shows."""
        if self.proof:
            return self.shows.get(operation, NONE)
        act = self.acts[operation]
        return NONE if isinstance(act, str) and act.startswith("(") else "yes"


def _batch(**acts: str) -> Mapping[str, Words]:
    return acts


_FTP = "ftp://127.0.0.1:{ftp}/NORTH/{n}/"
_HTTP = "{url}/ecpds/data/file/NORTH/{n}/"
_DAV = "{url}/webdav/NORTH/{n}/"
_SSH = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
        "BatchMode=no", "-o", "LogLevel=ERROR", "-P", "{sftp}")  # fmt: skip
_RCLONE: Mapping[str, Words] = {
    "put": ("copyto", "up", "hub{door}:NORTH/{n}/f"),
    "list": ("lsf", "hub{door}:NORTH/{n}"),
    "get": ("copyto", "hub{door}:NORTH/{n}/f", "back"),
    "rename": ("moveto", "hub{door}:NORTH/{n}/f", "hub{door}:NORTH/{n}/g"),
    "mkdir": ("mkdir", "hub{door}:NORTH/{n}/d"),
    "rmdir": ("rmdir", "hub{door}:NORTH/{n}/d"),
    "delete": ("deletefile", "hub{door}:NORTH/{n}/g"),
}
_LFTP = "set net:max-retries 1; set ssl:verify-certificate no; "
_LFTP_SSH = (
    "set sftp:auto-confirm yes; "
    "set sftp:connect-program 'ssh -a -x -o UserKnownHostsFile=/dev/null'; "
)
_NO_DIRECTORIES = {"mkdir": NO_PROTOCOL, "rmdir": NO_PROTOCOL}
_READS = dict.fromkeys(("put", "rename", "mkdir", "rmdir", "delete"), NOT_HERE)


def _rclone(door: str, **other: Words) -> Client:
    return Client(name="rclone", door=door, command=("rclone", "{act}"), acts={**_RCLONE, **other})


def _sftp_batch(put: str = "put up", get: str = "get", delete: str = "rm") -> Mapping[str, Words]:
    return _batch(
        put=f"{put} /DATA/NORTH/{{n}}/f",
        list="ls /DATA/NORTH/{n}",
        get=f"{get} /DATA/NORTH/{{n}}/f back",
        rename="{mv} /DATA/NORTH/{n}/f /DATA/NORTH/{n}/g",
        mkdir="mkdir /DATA/NORTH/{n}/d",
        rmdir="rmdir /DATA/NORTH/{n}/d",
        delete=f"{delete} /DATA/NORTH/{{n}}/g",
    )


CLIENTS = (
    Client(
        name="lftp",
        door="FTPS",
        command=(
            "lftp",
            "-c",
            f"{_LFTP}open -u alice,secret -p {{ftp}} 127.0.0.1; {{act}}",
        ),
        acts=_batch(
            put="put up -o /NORTH/{n}/f",
            list="cls -1 /NORTH/{n}/",
            get="get /NORTH/{n}/f -o back",
            rename="mv /NORTH/{n}/f /NORTH/{n}/g",
            mkdir="mkdir /NORTH/{n}/d",
            rmdir="rmdir /NORTH/{n}/d",
            delete="rm /NORTH/{n}/g",
        ),
    ),
    Client(
        name="lftp",
        door="SFTP",
        command=(
            "lftp",
            "-c",
            f"{_LFTP}{_LFTP_SSH}open -u alice,secret -p {{sftp}} sftp://127.0.0.1; {{act}}",
        ),
        acts=_batch(
            put="put up -o /DATA/NORTH/{n}/f",
            list="cls -1 /DATA/NORTH/{n}/",
            get="get /DATA/NORTH/{n}/f -o back",
            rename="mv /DATA/NORTH/{n}/f /DATA/NORTH/{n}/g",
            mkdir="mkdir /DATA/NORTH/{n}/d",
            rmdir="rmdir /DATA/NORTH/{n}/d",
            delete="rm /DATA/NORTH/{n}/g",
        ),
    ),
    Client(
        name="curl",
        door="FTPS",
        command=("curl", "-sS", "--fail", "--ssl-reqd", "-k", "-u", "alice:secret", "{act}"),
        acts={
            "put": ("--ftp-create-dirs", "-T", "up", _FTP + "f"),
            "list": ("-l", _FTP),
            "get": ("-o", "back", _FTP + "f"),
            "rename": ("-I", "-Q", "RNFR /NORTH/{n}/f", "-Q", "RNTO /NORTH/{n}/g", _FTP),
            "mkdir": ("-I", "-Q", "MKD /NORTH/{n}/d", _FTP),
            "rmdir": ("-I", "-Q", "RMD /NORTH/{n}/d", _FTP),
            "delete": ("-I", "-Q", "DELE /NORTH/{n}/g", _FTP),
        },
    ),
    Client(
        name="curl",
        door="HTTPS",
        command=("curl", "-sS", "--fail", "-u", "alice:secret", "{act}"),
        acts={
            "put": ("-T", "up", _HTTP + "f"),
            "list": ("-H", "Accept: text/plain", "{url}/ecpds/data/list/NORTH/{n}"),
            "get": ("-o", "back", _HTTP + "f"),
            "rename": ("-d", "to=g", _HTTP + "f?action=rename"),
            "mkdir": NO_PROTOCOL,
            "rmdir": NO_PROTOCOL,  # of directories that were made elsewhere it can
            "delete": ("-X", "DELETE", _HTTP + "g"),
        },
    ),
    Client(
        name="curl",
        door="WebDAV",
        command=("curl", "-sS", "--fail", "-u", "alice:secret", "{act}"),
        acts={
            "put": ("-T", "up", "{url}/webdav/NORTH/{n}-f"),
            "list": ("-X", "PROPFIND", "-H", "Depth: 1", "{url}/webdav/NORTH/"),
            "get": ("-o", "back", "{url}/webdav/NORTH/{n}-f"),
            "rename": (
                "-X",
                "MOVE",
                "-H",
                "Destination: {url}/webdav/NORTH/{n}-g",
                "{url}/webdav/NORTH/{n}-f",
            ),
            "mkdir": ("-X", "MKCOL", "{url}/webdav/NORTH/{n}-d"),
            "rmdir": ("-X", "DELETE", "{url}/webdav/NORTH/{n}-d/"),
            "delete": ("-X", "DELETE", "{url}/webdav/NORTH/{n}-g"),
        },
    ),
    Client(
        name="ncftp",
        door="FTP",
        command=("ncftp", "-u", "alice", "-p", "secret", "-P", "{ftp}", "127.0.0.1"),
        script="{act}\nquit\n",
        acts=_batch(
            put="mkdir /NORTH/{n}\ncd /NORTH/{n}\nput -z up f",
            list="ls /NORTH/{n}/",
            get="get -z /NORTH/{n}/f back",
            rename="rename /NORTH/{n}/f /NORTH/{n}/g",
            mkdir="mkdir /NORTH/{n}/d",
            rmdir="rmdir /NORTH/{n}/d",
            delete="rm /NORTH/{n}/g",
        ),
    ),
    Client(
        name="OpenSSH sftp",
        door="SFTP",
        command=("sshpass", "-p", "secret", "sftp", "-q", *_SSH, "-b", "-", "alice@127.0.0.1"),
        script="{act}\n",
        needs="sshpass",
        acts=_sftp_batch(),
    ),
    Client(
        name="OpenSSH scp",
        door="SCP, SFTP",
        command=("sshpass", "-p", "secret", "scp", "-q", *_SSH, "{act}"),
        needs="sshpass",
        acts={
            "put": ("up", "alice@127.0.0.1:/DATA/NORTH/{n}/f"),
            "get": ("-O", "alice@127.0.0.1:/DATA/NORTH/{n}/f", "back"),
            **dict.fromkeys(("list", "rename", "mkdir", "rmdir", "delete"), NOT_HERE),
        },
    ),
    Client(
        name="PuTTY psftp",
        door="SFTP",
        command=(
            "psftp",
            "-batch",
            "-P",
            "{sftp}",
            "-pw",
            "secret",
            "-hostkey",
            "{host_key}",
            "-b",
            "/dev/stdin",
            "alice@127.0.0.1",
        ),
        script="{act}\nbye\n",
        acts=_sftp_batch(),
    ),
    Client(
        name="PuTTY pscp",
        door="SCP, SFTP",
        command=(
            "pscp",
            "-batch",
            "-P",
            "{sftp}",
            "-pw",
            "secret",
            "-hostkey",
            "{host_key}",
            "{act}",
        ),
        acts={
            "put": ("-sftp", "up", "alice@127.0.0.1:/DATA/NORTH/{n}/f"),
            "list": ("-ls", "alice@127.0.0.1:/DATA/NORTH/{n}"),
            "get": ("-scp", "alice@127.0.0.1:/DATA/NORTH/{n}/f", "back"),
            **dict.fromkeys(("rename", "mkdir", "rmdir", "delete"), NOT_HERE),
        },
    ),
    _rclone("FTPS"),
    _rclone("SFTP"),
    _rclone("WebDAV"),
    _rclone("HTTPS", **_READS),
    _rclone("S3", **_NO_DIRECTORIES),
    Client(
        name="cadaver",
        door="WebDAV",
        command=("cadaver", "{url}/webdav/NORTH/"),
        script="{act}\nquit\n",
        acts=_batch(
            put="put up {n}-f",
            list="ls",
            get="get {n}-f back",
            rename="move {n}-f {n}-g",
            mkdir="mkcol {n}-d",
            rmdir="rmcol {n}-d",
            delete="delete {n}-g",
        ),
    ),
    Client(
        name="aws cli",
        door="S3",
        command=("aws", "--endpoint-url", "{s3}", "s3", "{act}"),
        acts={
            "put": ("cp", "up", "s3://NORTH/{n}/f"),
            "list": ("ls", "s3://NORTH/{n}/"),
            "get": ("cp", "s3://NORTH/{n}/f", "back"),
            "rename": ("mv", "s3://NORTH/{n}/f", "s3://NORTH/{n}/g"),
            "delete": ("rm", "s3://NORTH/{n}/g"),
            **_NO_DIRECTORIES,
        },
    ),
    Client(
        name="boto3",
        door="S3",
        command=(
            sys.executable,
            "-c",
            "import boto3; c = boto3.client('s3', endpoint_url='{s3}'); b = 'NORTH'; {act}",
        ),
        acts=_batch(
            put="c.upload_file('up', b, '{n}/f')",
            list="print(c.list_objects_v2(Bucket=b, Prefix='{n}/')['Contents'])",
            get="c.download_file(b, '{n}/f', 'back')",
            rename="c.copy_object(Bucket=b, Key='{n}/g', CopySource=b + '/{n}/f'); "
            "c.delete_object(Bucket=b, Key='{n}/f')",
            mkdir="c.put_object(Bucket=b, Key='{n}/d/')",
            rmdir="c.delete_object(Bucket=b, Key='{n}/d/')",
            delete="c.delete_object(Bucket=b, Key='{n}/g')",
        ),
    ),
    Client(
        name="s3cmd",
        door="S3",
        command=("s3cmd", "-c", "s3cfg", "--no-progress", "{act}"),
        acts={
            "put": ("put", "up", "s3://NORTH/{n}/f"),
            "list": ("ls", "s3://NORTH/{n}/"),
            "get": ("get", "--force", "s3://NORTH/{n}/f", "back"),
            "rename": ("mv", "s3://NORTH/{n}/f", "s3://NORTH/{n}/g"),
            "delete": ("del", "s3://NORTH/{n}/g"),
            **_NO_DIRECTORIES,
        },
    ),
    Client(
        name="restic",
        door="S3",
        proof="tests/protocol/test_s3_portal_clients.py::test_restic_backs_up_and_restores",
        shows={"put": "backup", "list": "check", "get": "restore", "delete": "forget, prune"},
    ),
    Client(
        name="restic",
        door="SFTP",
        proof="tests/protocol/test_sftp_clients.py::test_restic_backs_up_and_restores",
        shows={"put": "backup", "list": "check", "get": "restore", "delete": "forget, prune"},
    ),
    Client(
        name="Python ftplib",
        door="FTP, FTPS",
        proof="tests/protocol/test_ftp_clients.py::test_ftplib",
        shows=dict.fromkeys(OPERATIONS, "yes"),
    ),
    Client(
        name="FileZilla (its way of asking)",
        door="FTP",
        proof="tests/protocol/test_ftp_transfers.py::test_listings_sent_ahead_as_filezilla_does",
        shows={"list": "yes"},
    ),
    Client(
        name="asyncssh",
        door="SFTP",
        proof="tests/protocol/test_sftp_clients.py::test_asyncssh",
        shows=dict.fromkeys(OPERATIONS, "yes"),
    ),
    Client(
        name="litmus",
        door="WebDAV",
        proof="tests/protocol/test_webdav_clients.py::test_litmus",
        shows=dict.fromkeys(OPERATIONS, "yes"),
    ),
    Client(
        name="Chromium",
        door="HTTPS",
        proof="tests/browser/test_portal.py::test_a_person_uploads_renames_and_deletes",
        shows=dict.fromkeys(("put", "list", "get", "rename", "delete"), "yes"),
    ),
    Client(
        name="tus-js-client",
        door="HTTPS (tus)",
        proof="tests/protocol/test_tus.py::test_tus_js_client",
        shows={"put": "yes"},
    ),
)

_INTRODUCTION = """\
# Clients and what they can do

Every `yes` is a command that `tests/protocol/test_client_matrix.py` runs against a portal, with the
program itself, and whose effect it checks in the tree; a dash is what the client or its protocol
does not have. The page is written by `python -m tests.clientmatrix`. Longer sessions of each client
(odd names, resuming, many files) are in `tests/protocol/test_*_clients.py`.

"""
_END = """
S3 has no directories: names are implied by keys, and a key that ends with a slash makes one. HTTPS
removes empty directories (`DELETE` with a slash at the end), and makes them with the files in them.

Tried by hand: davfs2 and the MinIO client `mc` ([portal](guides/portal.md#tried-by-hand)), which is
in no package of Debian 12, PyPI or npm.
"""


def page() -> str:
    """Return docs/clients.md."""
    lines = [f"| Client | Door | {' | '.join(OPERATIONS)} |", "|---" * (len(OPERATIONS) + 2) + "|"]
    for one in CLIENTS:
        cells = " | ".join(one.cell(name) for name in OPERATIONS)
        lines.append(f"| {one.name} | {one.door} | {cells} |")
    return _INTRODUCTION + "\n".join(lines) + "\n" + _END


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
