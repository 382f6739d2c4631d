"""What the environment says for measurements and tests: never needed to run a node."""

from __future__ import annotations

import os

OFFLOADS = frozenset({"gso", "gro", "sendmsg", "recvmmsg", "tun"})


def fixed_pieces() -> int | None:
    """WEFT_BURST_PIECES fixes the burst size: 0 is type 4 messages only."""
    text = os.environ.get("WEFT_BURST_PIECES", "")
    return int(text) if text.isdigit() else None


def allowed_offloads() -> set[str]:
    """WEFT_WITHOUT lists what is not to be used although the system has it, any of `OFFLOADS`."""
    return set(OFFLOADS) - set(os.environ.get("WEFT_WITHOUT", "").replace(",", " ").split())
