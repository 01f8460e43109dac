"""Mails against a real SMTP server that refuses, loses and takes them, and as files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from ecpds.base.mail import Mail, Mailer, addresses_in, checked_address
from ecpds.base.settings import MailSettings
from ecpds.base.threads import Threads
from ecpds.model.errors import ConfigError, InputError
from tests.clock import FakeClock

MAIL = Mail(to=("a@example.org",), subject="Häilo\r\nBcc: x@y.z", text="Grüße\n")


class Box:
    """What the SMTP server took; `answers` come first."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.answers: list[str] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.answers:
            return self.answers.pop(0)
        self.mails.append(envelope.content)
        return "250 taken"


@asynccontextmanager
async def smtp(box: Box) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, hostname="test", loop=loop), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def mailer(folder: Path, url: str, clock: FakeClock | None = None) -> AsyncIterator[Mailer]:
    threads = Threads()
    settings = MailSettings(url=url, from_="hub@example.org")
    found = Mailer(settings, folder, threads, clock or FakeClock(), "hub.example.org")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(found.run())
        try:
            yield found
        finally:
            task.cancel()
    await asyncio.to_thread(threads.close)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_mail_arrives(tmp_path: Path) -> None:
    box = Box()
    async with smtp(box) as port, mailer(tmp_path, f"smtp://127.0.0.1:{port}") as m:
        await m.post(MAIL)
        await until(lambda: box.mails)
    found = message_from_bytes(box.mails[0], policy=policy.default)
    assert (found["To"], found["From"]) == ("a@example.org", "hub@example.org")
    assert found["Bcc"] is None  # a line end in the subject adds no field
    assert found["Subject"].startswith("Häilo")
    assert found.get_content().strip() == "Grüße"
    assert list(tmp_path.iterdir()) == []


async def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    box, clock = Box(), FakeClock()
    box.answers = ["451 later"]
    async with smtp(box) as port, mailer(tmp_path, f"smtp://127.0.0.1:{port}", clock) as m:
        await m.post(MAIL)
        await until(lambda: not box.answers)
        async with asyncio.timeout(10):
            while not box.mails:
                await clock.advance(timedelta(seconds=1))
                await asyncio.sleep(0.005)


async def test_a_refused_mail_is_kept(tmp_path: Path) -> None:
    box = Box()
    box.answers = ["550 no such user"]
    async with smtp(box) as port, mailer(tmp_path, f"smtp://127.0.0.1:{port}") as m:
        await m.post(MAIL)
        await until(lambda: list(tmp_path.glob("unsent/*.eml")))
    assert box.mails == []


async def test_what_waits_at_the_end_is_kept(tmp_path: Path) -> None:
    async with mailer(tmp_path, "smtp://127.0.0.1:1") as m:
        await m.post(MAIL)
        await m.post(MAIL)
        await until(lambda: m.waiting == 1)  # the other one is being tried
    assert len(list(tmp_path.glob("unsent/*.eml"))) == 2


async def test_without_a_server_mails_are_files(tmp_path: Path) -> None:
    async with mailer(tmp_path, "") as m:
        await m.post(MAIL)
        [path] = tmp_path.glob("*.eml")
    assert message_from_bytes(path.read_bytes(), policy=policy.default)["To"] == "a@example.org"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("url", ["http://x", "smtp://", "smtp://h:port", "h:25"])
def test_an_address_that_is_none_stops_the_start(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Mailer(MailSettings(url=url), tmp_path, Threads(), FakeClock(), "h")


@pytest.mark.parametrize("text", ["", "a", "a@", "@b", "a b@c", "a@b\nBcc: c@d", "a@-b", "a" * 255])
def test_mail_addresses_are_checked(text: str) -> None:
    with pytest.raises(InputError):
        checked_address(text)
    assert checked_address(" o'hara+x@example.org ") == "o'hara+x@example.org"
    assert addresses_in("a@b; c@d,x e@f") == ["a@b", "c@d", "e@f"]
