"""What the suite runs against: a module, a real server, and the options that join them.

A test file of the suite has the name `CASES`: a list of `Case`.  Each test says by `applies` which
of them it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from ecpds.conformance.peer import Peer
from ecpds.transfer.contract import Feature, TransferModule

Server = Callable[[Path], AbstractAsyncContextManager[Peer]]
Test = TypeVar("Test", bound=Callable[..., Coroutine[Any, Any, None]])

ODD_NAMES: Final = (
    "plain.bin",
    "two words.bin",
    " leading and trailing ",
    "it's.bin",
    'say "hi".bin',
    "é-ü-漢字-😀.bin",
    ".hidden",
    "-rf",
    "100%.bin",
    "50%20off.bin",
    "a#b.bin",
    "what?.bin",
    "a&b;c=d+e,f~g$h!.bin",
    "[x]{y}(z).bin",
    "star*.bin",
    "x" * 200,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One module with one server.

    `options`: host options for a peer, beside the ones of the suite.  `wrong_trust`: options with
    which the server's identity is not the expected one, None where there is no identity.
    `features` narrows the module's where the server does less.  `refused_names`: odd names that
    this server cannot store.  `is_remote`: reached over TCP, so that connections can break.
    """

    name: str
    module: type[TransferModule[Any]]
    server: Server
    options: Callable[[Peer], Mapping[str, object]]
    wrong_trust: Mapping[str, object] | None = None
    narrowed: Feature | None = None
    refused_names: frozenset[str] = frozenset()
    is_remote: bool = True
    has_login: bool = True
    is_by_key: bool = False  # logs in with Peer.key, not with its password
    has_coarse_times: bool = False  # lists old files by day only
    sets_times: bool = True  # the suite can give a file its time
    has_directories: bool = True  # empty ones exist and missing ones are missed; else keys only
    has_host: bool = True  # the name of the server is that of the host, not part of an option
    drops_uploads: bool = True  # at once, when told; else after a while by itself
    many: int = 4_000  # entries of the longest listing
    about: Callable[[], str] = str  # name and version of the server, for the results page
    quirks: tuple[str, ...] = ()  # what people should know of it

    @property
    def features(self) -> Feature:
        """What works with this server."""
        return self.module.features if self.narrowed is None else self.narrowed

    def __str__(self) -> str:
        """Return the name for the test report."""
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Applies:
    """Which cases a test is for."""

    features: Feature
    without: Feature
    remote: bool
    where: Callable[[Case], bool]

    def fits(self, case: Case) -> bool:
        """Tell whether the test is for that case."""
        return (
            self.features in case.features
            and not self.without & case.features
            and (case.is_remote or not self.remote)
            and self.where(case)
        )


def applies(
    features: Feature = Feature.NONE,
    *,
    without: Feature = Feature.NONE,
    remote: bool = False,
    where: Callable[[Case], bool] = lambda case: True,
) -> Callable[[Test], Test]:
    """Mark a test as one for the cases that have all `features` and none of `without`.

    `remote`: only those reached over TCP.  `where`: only those of which that is true.
    """
    chosen = Applies(features=features, without=without, remote=remote, where=where)

    def mark(test: Test) -> Test:
        setattr(test, "applies", chosen)  # noqa: B010 - functions have no such attribute by type
        return test

    return mark


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a marked test with the `CASES` of its file that it is for."""
    chosen = getattr(metafunc.function, "applies", None)
    if isinstance(chosen, Applies):
        cases: Sequence[Case] = metafunc.module.CASES
        metafunc.parametrize("case", [case for case in cases if chosen.fits(case)], ids=str)
