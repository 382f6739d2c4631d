"""Two hosts of the stack for each test, on both event loops, and certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.api.streams.conftest import complaints, left, nodes, pytest_asyncio_loop_factories, right
from tests.unit.clients.certificates import Files

__all__ = ["complaints", "left", "nodes", "pytest_asyncio_loop_factories", "right"]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)
