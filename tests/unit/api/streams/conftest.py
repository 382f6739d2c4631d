"""Every test that is a coroutine runs on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.unit.api.streams.joined import Node, joined
from tests.unit.loops import LOOPS


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS


@pytest_asyncio.fixture
async def nodes() -> AsyncIterator[tuple[Node, Node]]:
    """Two hosts, joined."""
    async with joined() as both:
        yield both


@pytest_asyncio.fixture
async def complaints() -> AsyncIterator[list[dict[str, object]]]:
    """What the exception handler of the loop is told; a test that asks for it looks at it."""
    told: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    yield told
    loop.set_exception_handler(None)


@pytest.fixture
def left(nodes: tuple[Node, Node]) -> Node:
    return nodes[0]


@pytest.fixture
def right(nodes: tuple[Node, Node]) -> Node:
    return nodes[1]
