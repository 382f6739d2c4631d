"""pytest fixtures: a virtual clock, a simulated network, and the trace in the report of a test that fails.

Nothing is loaded unasked; write this into the `conftest.py` at the top of your tests:

    pytest_plugins = ["weft.testing.fixtures"]
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from weft.testing.clock import VirtualClock
from weft.testing.network import Network
from weft.testing.pair import Pair


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock that moves only when told."""
    return VirtualClock()


@pytest.fixture
def network(virtual_clock: VirtualClock) -> Network:
    """A simulated network without hosts, on `virtual_clock`, with seed 0."""
    return Network(virtual_clock)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach to a failure the trace of every network and pair that is a fixture of the test."""
    report = yield
    if report.when == "call" and report.failed and isinstance(item, pytest.Function):
        for name, value in item.funcargs.items():
            if isinstance(value, Network | Pair):
                report.sections.append((f"datagrams of {name}", str(value.trace)))
    return report
