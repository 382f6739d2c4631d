from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.system.lab import Cable, Lab
from tests.unit.api.streams.joined import joined
from tests.unit.loops import LOOPS
from tests.unit.netd.kernel_end import kernel_end
from tests.unit.netd.served import Served, serving
from weft import netd


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What sockets do is the same on both loops; what netd makes of messages has nothing to do with them."""
    return LOOPS if item.path.name == "test_sockets.py" else {"asyncio": LOOPS["asyncio"]}


@pytest.fixture(scope="session")
def lan() -> Iterator[Cable]:
    """Another network of the machine that is the kernel's end, on the left."""
    with Lab() as lab:
        yield lab.veth(lab.host("left"), lab.host("neighbour"))


@pytest_asyncio.fixture(params=["stack", pytest.param("kernel", marks=pytest.mark.system)])
async def served(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """Two ends, joined, and netd on the left one, which is a host of the stack, or the kernel."""
    async with joined() as (left, right):
        if request.param == "stack":
            async with serving(left, right, tmp_path) as served:
                yield served
        else:
            async with (
                kernel_end(request.getfixturevalue("lan").left.host, right) as end,
                serving(end, right, tmp_path) as served,
            ):
                yield served


@pytest_asyncio.fixture
async def client(served: Served) -> AsyncIterator[netd.Client]:
    async with netd.Client(served.path) as client:
        yield client
