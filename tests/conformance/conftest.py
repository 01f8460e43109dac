"""Services and servers serve all tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ecpds.conformance.case import Case
from tests.conformance.kept import Keeper, Kept
from tests.peers.azurite import service as shared_azurite
from tests.peers.gcs import service as shared_gcs
from tests.peers.moto import shared_moto
from tests.peers.programs import ProgramMissing
from tests.peers.seaweedfs import shared_seaweed

SERVICES = {
    "azure-azurite": shared_azurite,
    "gcs-emulator": shared_gcs,
    "s3-seaweedfs": shared_seaweed,
    "s3-moto": shared_moto,
}


@pytest.fixture(scope="session", autouse=True)
def _services(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Run those that a chosen test names; a missing program shows in each of these tests."""
    with ExitStack() as running:
        for name, service in SERVICES.items():
            if any(name in item.name for item in request.session.items):
                try:
                    running.enter_context(service(tmp_path_factory.mktemp(name)))
                except ProgramMissing:
                    continue
        yield


@pytest.fixture(scope="session")
def _keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    try:
        yield keeper
    finally:
        keeper.close()


@pytest.fixture(autouse=True)
def _server(
    request: pytest.FixtureRequest, _keeper: Keeper, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Have the server of the test's case run."""
    callspec = getattr(request.node, "callspec", None)
    case = callspec.params.get("case") if callspec is not None else None
    if isinstance(case, Case) and isinstance(case.server, Kept) and case.server.running is None:
        try:
            _keeper.keep(case.server, tmp_path_factory.mktemp(case.name))
        except ProgramMissing:
            return  # shows in the test, which starts its own
