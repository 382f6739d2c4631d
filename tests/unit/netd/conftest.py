from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.unit.api.streams.joined import joined
from tests.unit.netd.served import Served, serving
from weft import netd


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """Two hosts, joined, and netd on the left one."""
    async with joined() as (left, right), serving(left, right, tmp_path) as served:
        yield served


@pytest_asyncio.fixture
async def client(served: Served) -> AsyncIterator[netd.Client]:
    async with netd.Client(served.path) as client:
        yield client
