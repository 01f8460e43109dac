"""Every error of the hub has one stable SFTP code, and its text reaches the client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ecpds.model import errors
from ecpds.model.errors import ConfigError, EcpdsError
from ecpds.portals.ssh import wire
from ecpds.portals.ssh.answers import code_of, status_of

# The stable codes; whatever is not below one of these is FAILURE.
EXPECTED = {
    "not-found": wire.NO_SUCH_FILE,
    "not-stored": wire.FAILURE,
    "denied": wire.PERMISSION_DENIED,
    "unauthenticated": wire.PERMISSION_DENIED,
    "banned": wire.PERMISSION_DENIED,
    "unsupported": wire.OP_UNSUPPORTED,
    "malformed": wire.BAD_MESSAGE,
}


def _tree(kind: type[EcpdsError]) -> Iterator[type[EcpdsError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _tree(below)


@pytest.mark.parametrize("kind", sorted(set(_tree(EcpdsError)), key=str))
def test_each_error_has_its_code(kind: type[EcpdsError]) -> None:
    error = kind("a text\nof two lines")
    assert code_of(error) == EXPECTED.get(kind.code, wire.FAILURE)
    packet = status_of(7, error)
    assert packet[4] == wire.STATUS
    read = wire.Fields(packet, 5)
    assert (read.u32(), read.u32()) == (7, code_of(error))
    assert read.text() == "a text of two lines"
    assert read.text() == "en"
    assert not read.more()


def test_the_tree_is_not_empty() -> None:
    assert ConfigError in set(_tree(EcpdsError))
    assert len(set(_tree(EcpdsError))) > 30
