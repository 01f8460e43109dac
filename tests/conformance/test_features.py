"""Each declared feature works, each other one raises Unsupported."""

from __future__ import annotations

from ecpds.conformance.case import pytest_generate_tests as pytest_generate_tests
from ecpds.conformance.features import *  # noqa: F403
from tests.conformance.cases import CASES as CASES
