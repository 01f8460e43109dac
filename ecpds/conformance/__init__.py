"""The conformance suite of transfer modules, for ours and for those of other packages.

A module is ready when it passes: every name and size arrives, nothing partial is ever seen, what
breaks is told by its right name and goes on from where it was, and every declared feature works
while each other one raises Unsupported.  A test file of five lines runs it:

    from ecpds.conformance.case import Case
    from ecpds.conformance.suite import *

    CASES = [Case(name="mine", module=MyModule, server=my_server, options=my_options)]

with `pytest -p ecpds.conformance.plugin`.  docs/modules.md says more.  Needs pytest; nothing of the
running program imports this package.
"""

from __future__ import annotations

import pytest

# so that a failed assertion tells its values
pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("deliver", "failures", "features", "fetch", "waiting"))
)
