"""The machine's clocks and its randomness: what floors 0 and 1 are given instead of reading themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

monotonic_ns: Callable[[], int] = time.monotonic_ns
"""Nanoseconds since some moment; never goes back, whatever is done to the date."""

wall_ns: Callable[[], int] = time.time_ns
"""Nanoseconds since 1970; may jump."""

random_bytes: Callable[[int], bytes] = os.urandom
"""That many unpredictable bytes."""
