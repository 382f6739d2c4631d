"""The machine's clocks and its randomness: what floors 0 and 1 are given instead of reading themselves."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

# Of macOS, CLOCK_MONOTONIC goes on in sleep, and time.monotonic does not.
_BOOT_CLOCK = getattr(time, "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME", None)

HAS_BOOT_CLOCK: Final = _BOOT_CLOCK is not None
"""Whether `monotonic_ns` goes on while the machine sleeps, which the timers of asyncio never do."""

monotonic_ns: Callable[[], int] = (
    time.monotonic_ns if _BOOT_CLOCK is None else partial(time.clock_gettime_ns, _BOOT_CLOCK)
)
"""Nanoseconds since some moment; never goes back, whatever is done to the date.

Where the system can, it goes on while the machine sleeps: keys must not live longer for it.
"""

wall_ns: Callable[[], int] = time.time_ns
"""Nanoseconds since 1970; may jump."""

random_bytes: Callable[[int], bytes] = os.urandom
"""That many unpredictable bytes."""
