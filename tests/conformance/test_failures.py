"""What goes wrong is told by its right name and can be tried again."""

from __future__ import annotations

from ecpds.conformance.case import pytest_generate_tests as pytest_generate_tests
from ecpds.conformance.failures import *  # noqa: F403
from tests.conformance.cases import CASES as CASES
