"""How commands that go on hear of their end."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from weft.cli.interrupt import SIGNALS, until_interrupted


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_counts_from_when_it_is_said_on_and_once(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    ended = until_interrupted(lambda: os.kill(os.getpid(), number))
    asyncio.run(asyncio.wait_for(ended, 5))
    assert {each: signal.getsignal(each) for each in SIGNALS} == before
