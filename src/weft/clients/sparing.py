"""Lines about connections, for whoever runs a server: no more of them than a person can read, whoever causes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from weft.rates import Rate

Told = Callable[[str], None]

LINES_PER_SECOND: Final = 1
LINES_AT_ONCE: Final = 10


class Sparing:
    """Passes lines on, as many as there may be, and says how many it left out.

    Args:
        told: is told them.
        clock: monotonic ns.
    """

    def __init__(self, told: Told, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._told = told
        self._clock = clock
        self._rate = Rate(LINES_PER_SECOND, LINES_AT_ONCE)
        self._left_out = 0

    def __call__(self, line: str) -> None:
        """Tell a line, if there is room for one more."""
        if not self._rate.allows(self._clock()):
            self._left_out += 1
            return
        more = f" ({self._left_out} lines before it left out)" if self._left_out else ""
        self._left_out = 0
        self._told(line + more)
