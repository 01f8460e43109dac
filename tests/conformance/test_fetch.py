"""Files are fetched whole or not at all, listings are complete and cost no memory."""

from __future__ import annotations

from ecpds.conformance.case import pytest_generate_tests as pytest_generate_tests
from ecpds.conformance.fetch import *  # noqa: F403
from tests.conformance.cases import CASES as CASES
