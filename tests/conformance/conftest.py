"""Services that take long to start serve all cases of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

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
