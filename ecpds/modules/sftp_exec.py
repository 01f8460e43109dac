"""Commands that an SFTP host runs for us: after a file, around the making of directories.

Spec: transfer-modules-protocols.md section 2 (`execCmd`), 1.1 (`preMkdirsCmd`).
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from typing import Final

import asyncssh

from ecpds.model.errors import ConnectionLost, Phase, RemoteError, RemoteTimeout

KEPT: Final = 2000
"""Bytes of the output that an error tells."""


def filled(command: str, values: Mapping[str, str]) -> str:
    """Return a command with `$name` replaced by values, quoted for the shell of the other side."""
    for name in sorted(values, key=len, reverse=True):
        command = command.replace(f"${name}", shlex.quote(values[name]))
    return command


async def run_command(
    connection: asyncssh.SSHClientConnection, command: str, *, code: int, limit: float
) -> None:
    """Run a command; raises RemoteError (phase hook) when it ends with another code."""
    told = b""
    try:
        async with asyncio.timeout(limit):
            process = await connection.create_process(
                command, stdin=asyncssh.DEVNULL, stderr=asyncssh.STDOUT, encoding=None
            )
            async with process:
                while block := await process.stdout.read(64 * 1024):
                    told = (told + block)[:KEPT]
                await process.wait_closed()
    except TimeoutError:
        raise RemoteTimeout(f"a command did not end within {limit:g} s", phase=Phase.HOOK) from None
    except (asyncssh.Error, OSError) as error:
        raise ConnectionLost(f"a command was cut off: {error}", phase=Phase.HOOK) from error
    if process.exit_status != code:
        text = told.decode(errors="replace").strip()
        raise RemoteError(
            f"a command ended with {process.exit_status}, not {code}: {text}",
            phase=Phase.HOOK,
            remote_code=str(process.exit_status),
            remote_text=text,
        )
