"""What the host was told of the way to its destinations: how large a packet may be.

    learn     a router said Packet Too Big about a packet of ours: the destination gets that MTU, if it is smaller
    forget    after 10 minutes, and then larger packets are tried again

The smallest values that are believed are those every path carries: 1280 bytes of IPv6, 576 of IPv4. A smaller one is
ignored for IPv6, as RFC 8201 wants, and taken as 576 for IPv4. An old router that says no MTU at all is answered with
the next plateau below the packet that did not fit.

Source: RFC 1191 sections 6 and 7 (plateaus), RFC 8201 sections 4 and 5.
Not done here: whether the message is to be believed (`icmp`); probing without messages (RFC 8899).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from weft.packet.ipv6 import MIN_MTU_BYTES

LEAST_V4: Final = 576
LIFETIME_NS: Final = 600_000_000_000
MAX_DESTINATIONS: Final = 1024
PLATEAUS: Final = (32000, 17914, 8166, 4352, 2002, 1492, 1006, LEAST_V4)
"""Without those below what is believed."""


class PathMtus:
    """The destinations with a smaller MTU than the interface: at most `MAX_DESTINATIONS`, the oldest make room."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        """By destination: MTU, and when to forget it; the oldest first."""

    def get(self, destination: bytes, otherwise: int) -> int:
        """The MTU towards a destination.

        Args:
            destination: 4 or 16 bytes.
            otherwise: of the interface.
        """
        known = self._known.get(destination)
        return otherwise if known is None else min(known[0], otherwise)

    def learn(self, destination: bytes, mtu: int, now: int) -> None:
        """Note a smaller MTU, one that `believable` returned."""
        self._known.pop(destination, None)
        self._known[destination] = (mtu, now + LIFETIME_NS)
        if len(self._known) > MAX_DESTINATIONS:
            self._known.popitem(last=False)

    def expire(self, now: int) -> bool:
        """Forget what is old; returns whether there was anything."""
        before = len(self._known)
        while self._known and next(iter(self._known.values()))[1] <= now:
            self._known.popitem(last=False)
        return len(self._known) < before

    def next_timer(self) -> int | None:
        """When `expire` next has something to do, monotonic ns."""
        return next(iter(self._known.values()))[1] if self._known else None


def believable(destination: bytes, mtu: int, length: int, current: int) -> int | None:
    """The MTU to use after a router refused a packet, or None if what it says changes nothing.

    Args:
        destination: of the packet.
        mtu: what the router said; 0 for nothing.
        length: bytes of the packet that it refused, by its own header.
        current: the MTU in use.
    """
    if len(destination) == 16:
        return mtu if MIN_MTU_BYTES <= mtu < current else None
    if mtu == 0:
        mtu = next((plateau for plateau in PLATEAUS if plateau < length), LEAST_V4)
    mtu = max(mtu, LEAST_V4)
    return mtu if mtu < current else None
