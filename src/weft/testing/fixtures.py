"""pytest fixtures: virtual time, simulated networks, and the trace in the report of a test that fails.

Nothing is loaded unasked; write this into the `conftest.py` at the top of your tests, or into a file of tests:

    pytest_plugins = ["weft.testing.fixtures"]

| fixture             | what                                                                     |
|---------------------|--------------------------------------------------------------------------|
| `virtual_clock`     | a clock that moves only when told                                        |
| `network`           | hosts and paths for machines, on `virtual_clock`                         |
| `simulated_network` | nodes with sockets for programs on asyncio                               |
| `network_seed`      | of both networks: 0, until a test or a conftest.py has one of that name  |

A test that is a coroutine and asks for `simulated_network` runs in virtual time. It needs no plugin for that. One that
belongs to pytest-asyncio (1.4 or later) is run by that, together with its fixtures, on a `VirtualLoop`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any

import pytest

from weft.testing.clock import VirtualClock
from weft.testing.loop import VirtualLoop, run
from weft.testing.network import Network
from weft.testing.pair import Pair
from weft.testing.simulated import SimulatedNetwork

LoopFactories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock that moves only when told."""
    return VirtualClock()


@pytest.fixture
def network_seed() -> int:
    """Where the chance of simulated networks comes from."""
    return 0


@pytest.fixture
def network(virtual_clock: VirtualClock, network_seed: int) -> Network:
    """A simulated network without hosts, on `virtual_clock`."""
    return Network(virtual_clock, seed=network_seed)


@pytest.fixture
def simulated_network(network_seed: int) -> Generator[SimulatedNetwork]:
    """A simulated network without nodes; a coroutine that asks for it runs in virtual time."""
    network = SimulatedNetwork(seed=network_seed)
    yield network
    network.end()


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Generator[None, LoopFactories | None, LoopFactories]:
    """Tell pytest-asyncio on which loop a test is to run; it wants to hear that of all tests, once it asks."""
    factories = yield
    if _is_virtual(item):
        return {"virtual": VirtualLoop}
    return factories or {"asyncio": asyncio.new_event_loop}


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine that nobody else runs."""
    if not _is_virtual(pyfuncitem) or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    fixtures: dict[str, Any] = pyfuncitem.funcargs
    arguments = {name: fixtures[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    run(_within(fixtures["simulated_network"], pyfuncitem.obj(**arguments)))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach to a failure the trace of every network and pair that is a fixture of the test."""
    report = yield
    if report.when == "call" and report.failed and isinstance(item, pytest.Function):
        for name, value in item.funcargs.items():
            if isinstance(value, Network | Pair | SimulatedNetwork):
                report.sections.append((f"datagrams of {name}", str(value.trace)))
    return report


def _is_virtual(item: pytest.Item) -> bool:
    return "simulated_network" in getattr(item, "fixturenames", ())


async def _within(network: SimulatedNetwork, test: Coroutine[Any, Any, object]) -> None:
    async with network:
        await test
