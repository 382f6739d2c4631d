"""Fragments that arrive: the first one of a packet opens the way for the others.

Only the first fragment shows the ports, so it is judged like a whole packet, and fragments that come before it are
lost. What later ones could do is overwrite what was judged: a receiver puts them together by their offsets. So none may
begin within the transport header of the first.

Source: RFC 1858 and RFC 3128 (overlaps and tiny fragments), RFC 5722, RFC 8200 section 4.5.
Not done here: reassembly.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from weft.packet.upper import Fragment

LIFETIME_NS: Final = 30_000_000_000
MAX_PACKETS: Final = 1024

Key = tuple[bytes, bytes, int, int, Hashable]


class Fragments:
    """The packets whose first fragment was let in lately: at most `MAX_PACKETS`, the oldest make room."""

    def __init__(self) -> None:
        self._packets: OrderedDict[Key, tuple[int, int]] = OrderedDict()

    def open(self, key: Key, header_end: int, now: int) -> None:
        """A first fragment was let in.

        Args:
            key: of the packet, by `fragment_key`.
            header_end: end of the transport header, in bytes from where the fragmentable part begins.
            now: monotonic ns.
        """
        _, before = self._packets.pop(key, (0, 0))
        self._packets[key] = (now + LIFETIME_NS, max(header_end, before))
        if len(self._packets) > MAX_PACKETS:
            self._packets.popitem(last=False)

    def allows(self, key: Key, offset: int, now: int) -> bool:
        """Whether a later fragment may follow.

        Args:
            key: of the packet, by `fragment_key`.
            offset: of the fragment in the fragmentable part, in bytes.
            now: monotonic ns.
        """
        deadline, header_end = self._packets.get(key, (now, 0))
        return now < deadline and offset >= header_end

    def expire(self, now: int) -> None:
        """Forget the packets whose time is over."""
        while self._packets:
            deadline, _ = next(iter(self._packets.values()))
            if deadline > now:
                break
            self._packets.popitem(last=False)

    def next_timer(self) -> int | None:
        """When `expire` next has something to do, monotonic ns."""
        return next((deadline for deadline, _ in self._packets.values()), None)


def fragment_key(source: bytes, destination: bytes, protocol: int, fragment: Fragment, peer: Hashable) -> Key:
    """What the fragments of one packet have in common, the peer that they come from included.

    The protocol counts in IPv4 only: of IPv6 fragments, the receiver believes the first one's and ignores the others'.
    """
    return source, destination, protocol if len(source) == 4 else 0, fragment.identification, peer
