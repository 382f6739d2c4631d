"""Ephemeral ports, which strangers can't guess.

The upper half of all ports is used. A few are drawn by chance; where those are taken, the ports behind the last of them
are tried in turn, so that a free one is found if there is any.

Source: RFC 6056 section 3.3.1 (Algorithm 1).
Not done here: what is free, which each transport knows by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from weft.stack.failure import Failure, StackError

FIRST: Final = 0x8000
COUNT: Final = 0x8000
DRAWS: Final = 8


def pick_port(is_free: Callable[[int], bool], random_bytes: Callable[[int], bytes]) -> int:
    """A free port from `FIRST` on.

    Args:
        is_free: whether a port may be taken.
        random_bytes: gives that many random bytes.

    Raises:
        StackError: NO_PORTS, all are taken.
    """
    port = FIRST
    for _ in range(DRAWS):
        port = FIRST | int.from_bytes(random_bytes(2), "big") & COUNT - 1
        if is_free(port):
            return port
    for step in range(1, COUNT):
        following = FIRST | port + step & COUNT - 1
        if is_free(following):
            return following
    raise StackError(Failure.NO_PORTS)
