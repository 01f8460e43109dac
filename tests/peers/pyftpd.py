"""pyftpdlib on loopback, the FTP server that Python programs use; as a module it is the server.

python -m tests.peers.pyftpd PORT FIRST-LAST ROOT LOGIN PASSWORD
"""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.peers import ports
from tests.peers.peer import Peer, serving_account
from tests.peers.process import serving

LOGIN = "feed"


@asynccontextmanager
async def pyftpdlib(folder: Path, *, root: Path | None = None) -> AsyncIterator[Peer]:
    """Serve `root` (default `folder`/root) by FTP, seen as "/", with sendfile where it is."""
    root = root or folder / "root"
    root.mkdir(parents=True, exist_ok=True)
    own, password = folder / "pyftpdlib", secrets.token_urlsafe(16)
    own.mkdir()
    with ports.reserved() as block:
        passive = f"{block[1]}-{block[-1]}"
        command: list[str | Path] = [
            *(sys.executable, "-m", "tests.peers.pyftpd", str(block[0]), passive),
            *(root, LOGIN, password),
        ]
        async with serving(
            "pyftpdlib", command, folder=own, port=block[0], banner=b"220",
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        ) as child:  # fmt: skip
            yield Peer(
                name="pyftpdlib",
                scheme="ftp",
                port=block[0],
                root=root,
                account=serving_account(),
                login=LOGIN,
                password=password,
                passive_ports=block[1:],
                log=child.output,
            )


def main() -> None:
    """Serve until killed."""
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import FTPServer

    port, passive, root, login, password = sys.argv[1:]
    logging.basicConfig(level=logging.ERROR)
    first, _, last = passive.partition("-")
    authorizer = DummyAuthorizer()
    authorizer.add_user(login, password, root, perm="elradfmwMT")
    handler = type("Handler", (FTPHandler,), {
        "authorizer": authorizer,
        "passive_ports": range(int(first), int(last) + 1),
    })  # fmt: skip
    FTPServer(("127.0.0.1", int(port)), handler).serve_forever()


if __name__ == "__main__":
    main()
