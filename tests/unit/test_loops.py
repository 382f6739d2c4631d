"""The loops of tests: what a test leaves open fails it, and does not stop the others."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.loops import Uvloop


def test_what_is_left_open_on_uvloop_is_told() -> None:
    async def leave_open() -> None:
        loop = asyncio.get_running_loop()
        await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1")

    with pytest.raises(ResourceWarning, match="unclosed"), asyncio.Runner(loop_factory=Uvloop) as runner:
        runner.run(leave_open())
