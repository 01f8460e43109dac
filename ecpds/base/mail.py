"""Mails of the node: by SMTP, or as files where there is no mail server.

`post` never waits: what it takes is sent by `run`, again with growing pauses while the server is
away.  What cannot be sent is kept as a file, so that a person can send it.
Spec: RFC 5322, RFC 5321, RFC 8314 (smtps); interface.md 3 (`mail.url`).
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import aiosmtplib

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger
from ecpds.base.settings import MailSettings
from ecpds.base.threads import Threads
from ecpds.model.errors import ConfigError, InputError

log = get_logger(__name__)

MOST_WAITING: Final = 1_000
"""Mails that wait to be sent; a further one is kept as a file at once."""

PAUSES: Final = (1, 10, 60, 300, 900)  # seconds before another try
SEND_TIME: Final = 30.0  # seconds for one mail
LONGEST_ADDRESS: Final = 254
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_PORTS = {"smtp": 25, "submission": 587, "smtps": 465}


def checked_address(text: str) -> str:
    """Return an address fit for a header; raise InputError for one that is none."""
    found = text.strip()
    if len(found) > LONGEST_ADDRESS or _ADDRESS.fullmatch(found) is None:
        raise InputError("this is no mail address", pointer="email")
    return found


def addresses_in(text: str) -> list[str]:
    """Return the addresses of a list with `;`, `,` or blanks between them; bad ones left out."""
    parts = re.split(r"[;,\s]+", text)
    return [part for part in parts if len(part) <= LONGEST_ADDRESS and _ADDRESS.fullmatch(part)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail."""

    to: Sequence[str]
    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """Where `mail.url` leads."""

    scheme: str
    host: str
    port: int
    user: str
    password: str

    @property
    def needs_start_tls(self) -> bool | None:
        """Demand STARTTLS before a password crosses a network; None: use it when offered."""
        is_here = self.host in {"localhost", "127.0.0.1", "::1"}
        if self.scheme == "smtps":
            return False
        return True if self.scheme == "submission" or (self.user and not is_here) else None

    @classmethod
    def of(cls, url: str) -> _Server | None:
        if not url:
            return None
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ConfigError("write smtp://user:password@host:port or smtps://…", key="mail.url")
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )


class Mailer:
    """Sends mails one after the other."""

    def __init__(
        self, settings: MailSettings, folder: Path, threads: Threads, clock: Clock, host: str
    ) -> None:
        """`folder` takes the files; `host` names us in message ids.  Raises ConfigError."""
        self.take(settings)
        self._folder = folder
        self._threads = threads
        self._clock = clock
        self._host = host if _ADDRESS.fullmatch(f"a@{host}") else "localhost"
        self._waiting: asyncio.Queue[EmailMessage] = asyncio.Queue(MOST_WAITING)

    def take(self, settings: MailSettings) -> None:
        """Use another server and sender from the next mail on.  Raises ConfigError."""
        server = _Server.of(settings.url)
        self._sender, self._server = settings.from_, server

    @property
    def waiting(self) -> int:
        """Return how many mails wait to be sent."""
        return self._waiting.qsize()

    async def post(self, mail: Mail) -> None:
        """Take a mail; without a server it is a file when this returns.

        Addresses and subject may come from strangers: line ends in them become blanks.
        """
        message = self._message(mail)
        if self._server is None:
            await self._keep(message, "")
            return
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            await self._keep(message, "unsent")
            log.warning("mail kept as a file", reason="too many wait")

    def _message(self, mail: Mail) -> EmailMessage:
        message = EmailMessage(policy=SMTP)
        message["From"] = _line(self._sender)
        message["To"] = ", ".join(_line(one) for one in mail.to)
        message["Subject"] = _line(mail.subject)
        message["Date"] = format_datetime(self._clock.now())
        message["Message-ID"] = make_msgid(domain=self._host)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        return message

    async def run(self) -> None:
        """Send what was posted, until cancelled; what is left then is kept as files."""
        message: EmailMessage | None = None
        try:
            while True:
                message = await self._waiting.get()
                await self._send(message)
                message = None
        finally:
            left = [] if message is None else [message]
            while not self._waiting.empty():
                left.append(self._waiting.get_nowait())
            for one in left:  # a short write each, at the end of the process only
                _write(self._folder / "unsent", one, self._clock.now())

    async def _send(self, message: EmailMessage) -> None:
        for pause in (0, *PAUSES):
            await self._clock.sleep(timedelta(seconds=pause))
            try:
                await self._hand_over(message)
            except aiosmtplib.SMTPResponseException as error:
                log.warning("mail refused", code=error.code, reason=error.message)
                if error.code >= 500:
                    break
            except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
                log.warning("mail not sent", reason=str(error) or type(error).__name__)
            else:
                return
        await self._keep(message, "unsent")
        log.error("mail kept as a file", subject=message["Subject"])

    async def _hand_over(self, message: EmailMessage) -> None:
        server = self._server
        if server is None:
            return
        async with asyncio.timeout(SEND_TIME):
            await aiosmtplib.send(
                message,
                hostname=server.host,
                port=server.port,
                username=server.user or None,
                password=server.password or None,
                use_tls=server.scheme == "smtps",
                start_tls=server.needs_start_tls,
                timeout=SEND_TIME,
            )

    async def _keep(self, message: EmailMessage, kind: str) -> None:
        now = self._clock.now()
        await self._threads.run("disk", _write, self._folder / kind, message, now)


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:500]


def _write(folder: Path, message: EmailMessage, now: datetime) -> None:
    """Write one file as a whole; names are in the order of time."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{now.astimezone(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}.eml"
    temporary = folder / f".{name}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(message.as_bytes())
    temporary.rename(folder / name)
