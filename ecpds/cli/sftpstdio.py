"""`ecpds sftp-stdio`: what sftp-server is, for the files of the portal.

It only carries bytes between its caller and the running node, so that nothing is slow to start.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.verbs import Verb

_BLOCK: Final = 256 * 1024
_LONGEST_ANSWER: Final = 4096  # bytes


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--user", help="data user; default: who calls ($LOGNAME)")
    parser.add_argument("--socket", metavar="PATH", help="default: portal.sftp.local_socket")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings; default ./ecpds.toml if there"
    )
    parser.add_argument("-R", action="store_true", dest="read_only", help="change nothing")
    parser.add_argument("-p", metavar="REQUESTS", dest="allow", help="take only these requests")
    parser.add_argument("-P", metavar="REQUESTS", dest="deny", help="do not take these requests")
    for flag in ("-f", "-l", "-u"):
        parser.add_argument(flag, metavar="VALUE", help="of sftp-server; without effect")
    parser.add_argument("-e", action="store_true", help="of sftp-server; without effect")


def _run(args: Namespace) -> int:
    user = args.user or os.environ.get("LOGNAME", "")
    hello = {
        "user": user,
        "peer": os.environ.get("SSH_CONNECTION", "").partition(" ")[0],
        "read_only": args.read_only,
        "allow": _names(args.allow),
        "deny": _names(args.deny),
    }
    with _connect(args) as sock:
        sock.sendall(json.dumps(hello).encode() + b"\n")
        refused = _line(sock)
        if refused:
            raise CommandError(refused, Exit.DENIED)
        threading.Thread(target=_send, args=(sock,), daemon=True).start()
        _receive(sock)
    return Exit.DONE


def _connect(args: Namespace) -> socket.socket:
    path = args.socket or _configured(args)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise CommandError(f"{path}: {error.strerror or error}", Exit.UNREACHABLE) from None
    return sock


def _configured(args: Namespace) -> str:
    from ecpds.base.settings import load  # slow; `--socket` does without
    from ecpds.cli.access import settings_path

    path = load(settings_path(args)).portal.sftp.local_socket
    if not path:
        raise CommandError("portal.sftp.local_socket is not set", Exit.USAGE)
    return path


def _names(given: str | None) -> list[str]:
    return [one.strip() for one in (given or "").split(",") if one.strip()]


def _line(sock: socket.socket) -> str:
    """Return the answer to the first line; nothing of what follows is taken."""
    said = bytearray()
    while not said.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte or len(said) > _LONGEST_ANSWER:
            return "the node hung up"
        said += byte
    return said.decode().strip()


def _send(sock: socket.socket) -> None:
    try:
        while block := os.read(sys.stdin.fileno(), _BLOCK):
            sock.sendall(block)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return  # who receives finds out too


def _receive(sock: socket.socket) -> None:
    out = sys.stdout.fileno()
    while block := sock.recv(_BLOCK):
        with memoryview(block) as left:
            done = 0
            while done < len(left):
                done += os.write(out, left[done:])


VERBS: Final = (
    Verb(words="sftp-stdio", help="serve SFTP on standard input and output through the running"
         " node, as sftp-server does below sshd", arguments=_arguments, run=_run),
)  # fmt: skip
