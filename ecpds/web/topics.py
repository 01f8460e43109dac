"""What a page wants to hear of: `dest:ops_*,transfer:123,transfers:NORTH,host:*,counter:*`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from ecpds.model.names import nearest
from ecpds.web.errors import Refused
from ecpds.web.rights import Caller

Kind = Literal[
    "dest",
    "transfer",
    "host",
    "counter",
    "file",
    "incident",
    "event",
    "account",
    "notify",
    "job",
    "product",
]

MOST: Final = 50  # topics of one stream
LONGEST: Final = 200  # characters of one topic
RIGHTS: Final = {
    "dest": "destinations:read",
    "transfer": "transfers:read",
    "host": "hosts:read",
    "file": "files:read",
    "counter": "stats:read",
    "incident": "destinations:read",
    "event": "system:read",
    "account": "portal:read",
    "notify": "notify:read",
    "job": "transfers:read",
    "product": "products:read",
}
LISTS: Final = {"counter", "incident", "event", "account", "notify", "job", "product"}
"""What is told of without a row: that there is something new, and nothing of what it is."""

FORMS: Final = (*RIGHTS, "transfers")


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about."""

    kind: Kind
    name: str  # of the destination, host or counter; id of the transfer or file
    destinations: tuple[str, ...] = ()  # that it belongs to

    def visible(self, caller: Caller) -> bool:
        """Tell whether the caller may hear of it."""
        right = RIGHTS[self.kind]
        if self.kind in LISTS:
            return caller.may(right)
        return caller.may_everywhere(right) or any(
            caller.may_on(right, name) for name in self.destinations
        )


@dataclass(frozen=True, slots=True)
class Topic:
    """One wish."""

    form: str
    glob: str

    def matches(self, subject: Subject) -> bool:
        """Tell whether that subject is wished for."""
        if self.form == "transfers":
            return subject.kind == "transfer" and any(
                fnmatchcase(name, self.glob) for name in subject.destinations
            )
        return subject.kind == self.form and fnmatchcase(subject.name, self.glob)


def parse_topics(text: str) -> tuple[Topic, ...]:
    """Return the topics of a query; Refused (400) for unknown forms and too many."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found or len(found) > MOST or any(len(part) > LONGEST for part in found):
        raise Refused(400, "bad-parameter", f"topics: name 1 to {MOST}, such as dest:*")
    return tuple(_topic(part) for part in found)


def _topic(text: str) -> Topic:
    form, colon, glob = text.partition(":")
    if form not in FORMS or not colon or not glob:
        near = nearest(form, FORMS)
        hint = f" (did you mean {near}:…?)" if near else ""
        raise Refused(400, "bad-parameter", f"topics: {text!r} is no topic{hint}")
    return Topic(form, glob)


def wanted(topics: Iterable[Topic], subject: Subject) -> bool:
    """Tell whether one of the topics matches."""
    return any(topic.matches(subject) for topic in topics)
