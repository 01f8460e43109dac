"""The table of FTP commands: each verb, what runs it and what it needs.

Spec: portal.md 3.1.  Verbs of the standard that a virtual tree has no use for are refused by 502;
everything else is unknown, 500.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from ecpds.portals.ftp import access, parameters, transfers, tree
from ecpds.portals.ftp.control import Command, Connection


async def explain(c: Connection, argument: str) -> None:
    """HELP."""
    command = COMMANDS.get(argument.strip().upper())
    if command is not None:
        c.reply(214, f"Syntax: {argument.strip().upper()} {command.syntax}".rstrip())
        return
    c.channel.put("214-Commands:\r\n")
    verbs = sorted(COMMANDS)
    for start in range(0, len(verbs), 8):
        c.channel.put(" " + " ".join(f"{v:<7}" for v in verbs[start : start + 8]) + "\r\n")
    c.reply(214, "End")


def _on_path(run: Callable[[Connection, str], Awaitable[None]]) -> Command:
    return Command(run, needs_argument=True, syntax="path")


COMMANDS: Final[Mapping[str, Command]] = {
    # login and protection
    "USER": Command(access.user, needs_login=False, needs_argument=True, syntax="name[@domain]"),
    "PASS": Command(access.password, needs_login=False, syntax="password"),
    "AUTH": Command(access.auth, needs_login=False, needs_argument=True, syntax="TLS"),
    "PBSZ": Command(access.buffer_size, needs_login=False, needs_argument=True, syntax="0"),
    "PROT": Command(access.protection, needs_login=False, needs_argument=True, syntax="P|C"),
    "QUIT": Command(access.bye, needs_login=False),
    # parameters
    "FEAT": Command(parameters.features, needs_login=False),
    "OPTS": Command(
        parameters.options, needs_login=False, needs_argument=True, syntax="name [value]"
    ),
    "CLNT": Command(parameters.fixed(200, "Noted"), needs_login=False),
    "SYST": Command(parameters.fixed(215, "UNIX Type: L8"), needs_login=False),
    "NOOP": Command(parameters.fixed(200, "OK"), needs_login=False),
    "HELP": Command(explain, needs_login=False, syntax="[command]"),
    "TYPE": Command(parameters.kind, needs_argument=True, syntax="I|A"),
    "MODE": Command(parameters.only("MODE", "S"), needs_argument=True, syntax="S"),
    "STRU": Command(parameters.only("STRU", "F"), needs_argument=True, syntax="F"),
    "REST": Command(parameters.restart, needs_argument=True, syntax="byte"),
    "ALLO": Command(parameters.allocate, needs_argument=True, syntax="bytes"),
    "SITE": Command(parameters.site, needs_argument=True, syntax="command"),
    "ACCT": Command(parameters.fixed(502, "There are no accounts")),
    "SMNT": Command(parameters.fixed(502, "There is nothing to mount")),
    "REIN": Command(parameters.fixed(502, "Open another connection")),
    # names
    "PWD": Command(tree.where),
    "XPWD": Command(tree.where),
    "CWD": _on_path(tree.change),
    "XCWD": _on_path(tree.change),
    "CDUP": Command(tree.up),
    "XCUP": Command(tree.up),
    "MKD": _on_path(tree.make),
    "XMKD": _on_path(tree.make),
    "RMD": _on_path(tree.remove_directory),
    "XRMD": _on_path(tree.remove_directory),
    "DELE": _on_path(tree.delete),
    "RNFR": _on_path(tree.rename_from),
    "RNTO": _on_path(tree.rename_to),
    "SIZE": _on_path(tree.size),
    "MDTM": _on_path(tree.modified),
    "MFMT": Command(tree.set_modified, needs_argument=True, syntax="YYYYMMDDhhmmss path"),
    "MLST": Command(tree.machine_status, syntax="[path]"),
    "HASH": _on_path(tree.hash_of),
    "XCRC": _on_path(tree.digest("crc32")),
    "XMD5": _on_path(tree.digest("md5")),
    "XSHA1": _on_path(tree.digest("sha1")),
    "XSHA256": _on_path(tree.digest("sha256")),
    # data
    "PASV": Command(transfers.passive),
    "EPSV": Command(transfers.extended_passive, syntax="[1|2|ALL]"),
    "PORT": Command(transfers.port, needs_argument=True, syntax="h1,h2,h3,h4,p1,p2"),
    "EPRT": Command(transfers.extended_active, needs_argument=True, syntax="|1|host|port|"),
    "LIST": Command(transfers.list_long, syntax="[path]"),
    "NLST": Command(transfers.list_names, syntax="[path]"),
    "MLSD": Command(transfers.list_machine, syntax="[path]"),
    "STAT": Command(transfers.status, syntax="[path]"),
    "RETR": _on_path(transfers.retrieve),
    "STOR": _on_path(transfers.store),
    "APPE": _on_path(transfers.append),
    "STOU": Command(transfers.store_unique, syntax="[prefix]"),
    "ABOR": Command(transfers.abort),
}
