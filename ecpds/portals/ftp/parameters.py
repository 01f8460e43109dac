"""Commands about the connection itself: FEAT, OPTS, TYPE, REST, ALLO, SITE, STAT and the like.

Spec: RFC 959, RFC 2389 (FEAT, OPTS), RFC 3659 (REST, MLST), draft-bryan-ftpext-hash; portal.md 3.1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from ecpds.portals.ftp import facts
from ecpds.portals.ftp.control import Connection

MAX_OFFSET: Final = 2**63 - 1
HASHES: Final[Mapping[str, str]] = {
    "SHA-256": "sha256",
    "SHA-512": "sha512",
    "SHA-1": "sha1",
    "MD5": "md5",
    "CRC32": "crc32",
}


async def features(c: Connection, _: str) -> None:
    """FEAT."""
    found = ["CLNT", "EPSV", "MDTM", "MFMT", "PASV", "REST STREAM", "SIZE", "TVFS", "UTF8"]
    found += ["XCRC", "XMD5", "XSHA1", "XSHA256"]
    found.append("HASH " + ";".join(f"{h}{'*' if h == c.hash else ''}" for h in HASHES))
    found.append("MLST " + "".join(f"{f}{'*' if f in c.facts else ''};" for f in facts.FACTS))
    if c.site.settings.active:
        found.append("EPRT")
    if c.site.offers_tls:
        found += ["AUTH TLS", "PBSZ", "PROT"]
    c.channel.put("211-Features:\r\n" + "".join(f" {f}\r\n" for f in sorted(found)))
    c.reply(211, "End")


async def options(c: Connection, argument: str) -> None:
    """OPTS UTF8, OPTS MLST, OPTS HASH."""
    name, _, value = argument.partition(" ")
    chosen = _OPTIONS.get(name.upper())
    if chosen is None:
        c.reply(501, "OPTS knows UTF8, MLST and HASH")
    else:
        chosen(c, value.strip())


def _utf8(c: Connection, value: str) -> None:
    if value.upper() in ("", "ON", "NLST"):
        c.reply(200, "Names are always UTF-8")
    else:
        c.reply(504, "Names are always UTF-8")


def _mlst(c: Connection, value: str) -> None:
    wanted = {fact.strip().lower() for fact in value.split(";")}
    c.facts = tuple(fact for fact in facts.FACTS if fact in wanted)
    c.reply(200, ("MLST OPTS " + "".join(f"{fact};" for fact in c.facts)).rstrip())


def _hash(c: Connection, value: str) -> None:
    if value and value.upper() not in HASHES:
        c.reply(501, "HASH knows " + " ".join(HASHES))
        return
    c.hash = value.upper() or c.hash
    c.reply(200, c.hash)


_OPTIONS: Final[Mapping[str, Callable[[Connection, str], None]]] = {
    "UTF8": _utf8,
    "UTF-8": _utf8,
    "MLST": _mlst,
    "HASH": _hash,
}


def fixed(code: int, text: str) -> Callable[[Connection, str], Awaitable[None]]:
    """Return a command that always gives the same reply."""

    async def run(c: Connection, _: str) -> None:
        c.reply(code, text)

    return run


async def kind(c: Connection, argument: str) -> None:
    """TYPE: I and A are accepted, bytes are never changed."""
    wanted = " ".join(argument.upper().split())
    if wanted in ("I", "A", "A N", "L 8", "L8"):
        c.reply(200, f"Type is {wanted}; bytes are never changed")
    else:
        c.reply(504, "TYPE knows I and A")


def only(name: str, letter: str) -> Callable[[Connection, str], Awaitable[None]]:
    """Return MODE or STRU, which know one letter each."""

    async def run(c: Connection, argument: str) -> None:
        if argument.upper() == letter:
            c.reply(200, f"{name} is {letter}")
        else:
            c.reply(504, f"{name} knows {letter}")

    return run


async def restart(c: Connection, argument: str) -> None:
    """REST: where the next RETR or STOR begins."""
    if not argument.isascii() or not argument.isdigit() or int(argument) > MAX_OFFSET:
        c.reply(501, "Syntax: REST byte")
        return
    c.offset = int(argument)
    c.reply(350, f"The next transfer begins at byte {c.offset}")


async def allocate(c: Connection, argument: str) -> None:
    """ALLO: how many bytes the next upload has to bring; 0 takes the promise back."""
    size, _, record = argument.partition(" ")
    is_number = size.isascii() and size.isdigit() and int(size) <= MAX_OFFSET
    if not is_number or (record and not record.upper().startswith("R ")):
        c.reply(501, "Syntax: ALLO bytes")
        return
    c.promise = int(size) or None
    c.reply(200, f"{size} bytes expected")


async def site(c: Connection, argument: str) -> None:
    """SITE: what clients send for the sake of other servers is accepted without effect."""
    verb = argument.partition(" ")[0].upper()
    if verb in ("CHMOD", "UMASK", "IDLE"):
        c.reply(200, f"SITE {verb} has no effect here")
    elif verb == "HELP":
        c.reply(214, "CHMOD IDLE UMASK, without effect")
    else:
        c.reply(504, "SITE knows CHMOD, UMASK and IDLE")


def status(c: Connection) -> list[str]:
    """Return what STAT without argument tells."""
    lines = [f"{c.site.node_name}, status:", f"Connected from {c.peer}"]
    if c.is_logged_in:
        lines.append(f"Logged in as {c.session.profile.user.login}")
    lines.append("Control connection " + ("protected by TLS" if c.channel.secure else "in clear"))
    lines.append("Data connections " + ("protected by TLS" if c.protects else "in clear"))
    return [*lines, "End of status"]
