"""Commands that go on until somebody ends them: how they hear of it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from weft.errors import Broken, WeftError

if TYPE_CHECKING:
    from weft.api.attached import AttachedNode

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _nothing() -> None:
    pass


async def until_interrupted(ready: Callable[[], None] = _nothing) -> None:
    """Return at Ctrl-C or SIGTERM; the next one counts as it does elsewhere, so that nobody has to wait for an end.

    Where a loop takes no signals (Windows) Ctrl-C cancels this, as it does elsewhere.

    Args:
        ready: is called once they count, to say so.
    """
    import asyncio

    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    taken = []
    try:
        with suppress(NotImplementedError):
            for number in SIGNALS:
                loop.add_signal_handler(number, asked.set)
                taken.append(number)
        ready()
        await asked.wait()
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


async def until_over(network: AttachedNode, ready: Callable[[], None] = _nothing) -> None:
    """Return at the same; but the network may end before.

    Args:
        network: whose end counts too.
        ready: as of `until_interrupted`.

    Raises:
        Broken: it has.
    """
    import asyncio

    ends = [asyncio.ensure_future(each) for each in (until_interrupted(ready), _network_end(network))]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        # Who interrupts it may end its daemon in the same moment; the signal of this turn is heard in the next.
        await asyncio.sleep(0)
        if ends[0].done():
            await ends[0]
        else:
            raise Broken("the network has ended: its daemon or its interface went down")
    finally:
        for each in ends:
            each.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


async def _network_end(network: AttachedNode) -> None:
    with suppress(WeftError, TimeoutError):
        async for _ in network.events("interface-down"):
            return
