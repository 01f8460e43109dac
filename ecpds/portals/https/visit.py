"""One request of a logged-in data user: what a handler needs, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from ecpds.model.errors import Stopping
from ecpds.portals.https.addresses import Place, link
from ecpds.portals.https.exchange import Answer, Ask, Reply
from ecpds.vfs.contract import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """The request, the place that it names, and the session in which it acts."""

    ask: Ask
    place: Place
    session: Session
    reply: Reply
    query: dict[str, str]
    fields: dict[str, str] = field(default_factory=dict)  # added to each answer
    cookies: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Return the path as the client wrote it; the session makes it normal and refuses it."""
        return self.place.path

    def option(self, name: str) -> str:
        """Return the text of `portal.<name>`, empty if it is not set."""
        return self.session.options.get(f"portal.{name}", "")

    def number(self, name: str, default: int) -> int:
        """Return the count in `portal.<name>`; a text that is none counts as not set."""
        text = self.option(name).strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default

    def file_link(self, path: str) -> str:
        """Return the address of the file at the normal `path`."""
        return link(self.place.files, path)

    def directory_link(self, path: str) -> str:
        """Return the address of the directory at the normal `path`."""
        return link(self.place.directories, path, directory=True)

    def look(self) -> None:
        """Count as activity; raise Stopping when an operator or a lost right ended the session."""
        if self.session.closing and not self.reply.draining:
            raise Stopping("the session was ended")
        self.session.touch()

    async def send(self, answer: Answer) -> None:
        """Send the answer with the fields and cookies of this visit."""
        for name, value in self.fields.items():
            answer.headers.setdefault(name, value)
        answer.cookies.extend(self.cookies)
        await self.reply.send(answer)
