"""What pytest needs to run the suite outside this project: `-p ecpds.conformance.plugin`."""

from __future__ import annotations

import asyncio
import inspect

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks that the suite uses."""
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine on a loop of its own."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    wanted = inspect.signature(function).parameters
    with asyncio.Runner() as runner:
        runner.run(function(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True
