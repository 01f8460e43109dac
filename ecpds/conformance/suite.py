"""All tests of the suite, to be imported by a test file that defines `CASES`."""

from __future__ import annotations

from ecpds.conformance.case import pytest_generate_tests as pytest_generate_tests
from ecpds.conformance.deliver import *  # noqa: F403
from ecpds.conformance.failures import *  # noqa: F403
from ecpds.conformance.features import *  # noqa: F403
from ecpds.conformance.fetch import *  # noqa: F403
