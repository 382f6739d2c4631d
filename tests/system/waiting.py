"""Waiting for what other processes bring about: with a deadline, and never longer than needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.05


def until(ask: Callable[[], T], what: str, timeout_s: float = 10) -> T:
    """Ask until the answer is true, and return it; fail after so long."""
    deadline = time.monotonic() + timeout_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s; the last answer was {answer!r}"
        time.sleep(POLL_S)
    return answer
