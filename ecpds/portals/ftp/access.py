"""Commands of logging in and protecting: USER, PASS, AUTH, PBSZ, PROT, QUIT.

Spec: RFC 4217 (AUTH TLS), RFC 2228 (PBSZ, PROT); portal.md 1.4, 1.5 and 3.1.
"""

from __future__ import annotations

from typing import Final

from ecpds.base.logs import get_logger
from ecpds.model.account import Protocol
from ecpds.model.errors import EcpdsError, InvalidName, NotFound
from ecpds.model.secret import Secret
from ecpds.portals.ftp.control import Connection
from ecpds.vfs.contract import Password, Session

log = get_logger(__name__)

MAX_FAILURES: Final = 4  # the fourth failed login closes


async def user(c: Connection, argument: str) -> None:
    """USER: keep the name; every name is asked for a password, known or not."""
    if c.is_logged_in:
        c.reply(503, "You are logged in; open another connection for another user")
    elif c.site.needs_tls and not c.channel.secure:
        c.reply(522, "TLS is needed: send AUTH TLS first")
    else:
        c.user = argument
        c.reply(331, "Password please")


async def password(c: Connection, argument: str) -> None:
    """PASS: log in; `name@domain` begins in that destination."""
    name, c.user = c.user, ""
    if c.is_logged_in or not name:
        c.reply(503, "Send USER first")
        return
    name, _, domain = name.partition("@")
    try:
        session = await _logged_in(c, name, argument, domain)
    except EcpdsError as error:
        _refuse(c, error)
        return
    c.enter(session)
    log.info("ftp login", tls=c.channel.secure)
    c.reply(230, *(c.site.gate.banner(name) or "Logged in").splitlines())


async def _logged_in(c: Connection, name: str, text: str, domain: str) -> Session:
    credential = Password(Secret(text))
    session = await c.site.gate.login(name, credential, protocol=Protocol.FTP, peer=c.peer)
    try:
        c.directory = await _start(session, domain)
    except BaseException:
        await session.close()
        raise
    return session


async def _start(session: Session, domain: str) -> str:
    if not domain:
        return "/"
    try:
        node = await session.stat(session.absolute(domain))
    except InvalidName as error:
        raise NotFound("no such domain") from error
    if not node.is_directory:
        raise NotFound("no such domain")
    return node.path


def _refuse(c: Connection, error: EcpdsError) -> None:
    c.site.counts.refused_logins += 1
    c.failures += 1
    c.fail(error, login=True)
    c.leaving = c.leaving or c.failures >= MAX_FAILURES


async def auth(c: Connection, argument: str) -> None:
    """AUTH TLS: protect the control connection; nothing pipelined after it is obeyed."""
    if not c.site.offers_tls:
        c.reply(502, "TLS is off")
    elif argument.upper() not in ("TLS", "TLS-C"):
        c.reply(504, "AUTH knows TLS")
    elif c.channel.secure or c.is_logged_in:
        c.reply(503, "AUTH comes once, before the login")
    else:
        c.reply(234, "AUTH TLS successful")
        c.user = ""
        await c.secure()


async def buffer_size(c: Connection, argument: str) -> None:
    """PBSZ: always 0 with TLS, larger wishes are reduced to it."""
    if not c.channel.secure:
        c.reply(503, "PBSZ needs AUTH TLS first")
    elif not argument.isascii() or not argument.isdigit():
        c.reply(501, "Syntax: PBSZ 0")
    else:
        c.has_pbsz = True
        c.reply(200, "PBSZ=0")


async def protection(c: Connection, argument: str) -> None:
    """PROT: P encrypts data connections, C does not."""
    level = argument.upper()
    if not c.channel.secure or not c.has_pbsz:
        c.reply(503, "PROT needs AUTH TLS and PBSZ first")
    elif level in ("S", "E"):
        c.reply(536, "PROT knows C and P")
    elif level not in ("C", "P"):
        c.reply(504, "PROT knows C and P")
    elif level == "C" and c.site.needs_tls:
        c.reply(534, "Data connections need TLS here")
    else:
        c.protects = level == "P"
        c.reply(200, f"Protection level set to {level}")


async def bye(c: Connection, _: str) -> None:
    """QUIT."""
    c.reply(221, "Goodbye")
    c.leaving = True
