"""Waiting for something that another process does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from bench.namespaces import BenchError


def until(
    condition: Callable[[], bool],
    what: str,
    process: subprocess.Popen[bytes] | None = None,
    timeout_s: float = 10,
) -> None:
    """Return when the condition holds.

    Raises:
        BenchError: it does not after `timeout_s`, or the process that should bring it about has ended.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if process is not None and process.poll() is not None:
            raise BenchError(f"{what}: its process ended with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not after {timeout_s:g} s")
        time.sleep(0.02)
