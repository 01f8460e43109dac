"""Digests that an FTP server computes: HASH where it is offered, else the older X… commands.

Spec: draft-bryan-ftpext-hash-02; XMD5, XSHA1, XSHA256, XSHA512, XCRC, MD5 as ProFTPD's mod_digest,
Serv-U and others have them.
"""

from __future__ import annotations

import re
from typing import Final

from ecpds.model.errors import Phase
from ecpds.modules.ftp_control import argument, refusal
from ecpds.modules.ftp_session import FtpSession

_HASH_NAMES: Final = {
    "md5": "MD5",
    "sha1": "SHA-1",
    "sha256": "SHA-256",
    "sha512": "SHA-512",
    "crc32": "CRC32",
}
_COMMANDS: Final = {
    "md5": ("XMD5", "MD5"),
    "sha1": ("XSHA1", "XSHA"),
    "sha256": ("XSHA256",),
    "sha512": ("XSHA512",),
    "crc32": ("XCRC",),
}
_LENGTHS: Final = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128, "crc32": 8}
_ALL: Final = frozenset({"HASH"}).union(*_COMMANDS.values())
_CHOSEN: Final = "hash algorithm"


def has_digests(session: FtpSession) -> bool:
    """Tell whether the server offers any of the commands."""
    return not session.abilities.keys().isdisjoint(_ALL)


async def digest_of(session: FtpSession, name: str, algorithm: str) -> str | None:
    """Return the digest in hex, None if the server offers none for the algorithm.

    Raises RemoteMissing and other RemoteErrors of phase verify.
    """
    if algorithm not in _HASH_NAMES:
        return None
    if await _choose(session, algorithm):
        command = "HASH"
    else:
        offered = [one for one in _COMMANDS[algorithm] if one in session.abilities]
        if not offered:
            return None
        command = offered[0]
    limit = session.limits.data  # the server reads the whole file before it answers
    reply = await session.control.ask(f"{command} {argument(name)}", timeout=limit)
    if reply.code in (500, 501, 502, 504):
        return None
    if not reply.positive:
        raise refusal(reply, f"digest of {name!r}", Phase.VERIFY, missing=True)
    form = re.compile(rf"(?<![0-9A-Za-z])[0-9A-Fa-f]{{{_LENGTHS[algorithm]}}}(?![0-9A-Za-z])")
    in_name = form.findall(name)
    told = [one for one in form.findall(" ".join(reply.lines)) if one not in in_name]
    return told[0].lower() if told else None


async def _choose(session: FtpSession, algorithm: str) -> bool:
    """Make HASH give that algorithm; False when it cannot."""
    told = session.abilities.get("HASH")
    if told is None:
        return False
    wanted = _HASH_NAMES[algorithm]
    offered = {one.strip().rstrip("*").upper(): one.strip() for one in told.split(";")}
    if wanted not in offered:
        return False
    present = session.abilities.get(_CHOSEN, "")
    if present == wanted or (not present and offered[wanted].endswith("*")):
        return True
    reply = await session.control.ask(f"OPTS HASH {wanted}")
    if reply.positive:
        session.abilities[_CHOSEN] = wanted
    return reply.positive
