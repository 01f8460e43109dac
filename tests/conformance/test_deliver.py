"""Files arrive whole, under every name, in place of what was there."""

from __future__ import annotations

from ecpds.conformance.case import pytest_generate_tests as pytest_generate_tests
from ecpds.conformance.deliver import *  # noqa: F403
from tests.conformance.cases import CASES as CASES
