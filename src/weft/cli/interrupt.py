"""Commands that go on until somebody ends them: how they hear of it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def until_interrupted() -> None:
    """Return at Ctrl-C or SIGTERM; the next one counts as it does elsewhere, so that nobody has to wait for an end.

    Where a loop takes no signals (Windows) Ctrl-C cancels this, as it does elsewhere.
    """
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    taken = []
    try:
        with suppress(NotImplementedError):
            for number in SIGNALS:
                loop.add_signal_handler(number, asked.set)
                taken.append(number)
        await asked.wait()
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
