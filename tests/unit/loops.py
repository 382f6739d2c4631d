"""The event loops on which tests run."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Final

import uvloop


class Uvloop(uvloop.Loop):
    """One whose end says what was left open: uvloop waits for ever for a handle of which its warning is an error."""

    def close(self) -> None:
        with warnings.catch_warnings(record=True) as left_open:
            warnings.simplefilter("always")
            super().close()
        for warning in left_open:
            warnings.warn(warning.message, stacklevel=2)


LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": Uvloop,
}
