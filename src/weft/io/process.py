"""What this process is, uses and may use; None where the system does not tell."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROC: Final = "/proc/self"

began_at: Final = time.time()
"""When the process began, but for the moment until this was imported; seconds since 1970."""


def cpu_s() -> float:
    """Processor time since the start, of the program and of the kernel for it."""
    return time.process_time()


def resident_bytes() -> int | None:
    """Memory that it holds now."""
    try:
        return int(Path(_PROC, "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def allow_descriptors() -> None:
    """Let the process have as many descriptors as it may: what it has at first is for programs that call select(2)."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def descriptors() -> int | None:
    """Descriptors that are open now."""
    try:
        # The one with which they are listed is not counted.
        return len(os.listdir(Path(_PROC, "fd"))) - 1
    except OSError:
        return None
