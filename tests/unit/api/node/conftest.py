"""Every test that is a coroutine runs on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest_asyncio

import weft
from tests.unit.engine.pair import identity
from tests.unit.loops import LOOPS

LISTEN = ("/ip4/127.0.0.1/udp/0",)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS


@pytest_asyncio.fixture
async def alice() -> AsyncIterator[weft.Node]:
    async with weft.Node(listen=LISTEN, identity=identity("alice")) as node:
        yield node


@pytest_asyncio.fixture
async def bob() -> AsyncIterator[weft.Node]:
    async with weft.Node(listen=LISTEN, identity=identity("bob")) as node:
        yield node
