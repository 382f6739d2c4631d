"""The machine's clocks and its randomness: what floors 0 and 1 are given instead of reading themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

monotonic_ns: Callable[[], int] = (
    partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic_ns
)
"""Nanoseconds since some moment; never goes back, whatever is done to the date.

On Linux it goes on while the machine sleeps: keys must not live longer for it.
"""

wall_ns: Callable[[], int] = time.time_ns
"""Nanoseconds since 1970; may jump."""

random_bytes: Callable[[int], bytes] = os.urandom
"""That many unpredictable bytes."""
