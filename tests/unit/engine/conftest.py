"""Fixtures of the engine's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.engine.nodes import Nodes, Test
from tests.unit.engine.pair import VirtualLoop
from weft.engine import calling, changes, lifetime
from weft.engine.verbs import peers


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """Runs a test in virtual time: what takes none of it is done before a timer is looked at."""

    def in_loop(test: Test) -> None:
        loop = VirtualLoop()
        for module in (lifetime, calling, changes, peers):
            monkeypatch.setattr(module, "monotonic_ns", lambda: loop.now_ns)

        async def main() -> None:
            nodes = Nodes(tmp_path)
            try:
                await test(nodes)
            finally:
                await nodes.stop()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        try:
            with ThreadPoolExecutor() as executor:
                loop.set_default_executor(executor)
                loop.run_until_complete(main())
        finally:
            loop.close()

    return in_loop
