"""What all clients of netd have together, at most."""

from __future__ import annotations

from typing import Final

MAX_SOCKETS: Final = 16_384
MAX_RESERVED_BYTES: Final = 64 << 20


class Room:
    """What all clients together may still have.

    Attributes:
        sockets: how many more.
        reserved_bytes: of SENDs that wait.
    """

    def __init__(self, sockets: int = MAX_SOCKETS, reserved_bytes: int = MAX_RESERVED_BYTES) -> None:
        self.sockets = sockets
        self.reserved_bytes = reserved_bytes
