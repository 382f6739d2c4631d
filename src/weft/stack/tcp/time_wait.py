"""Connections that are over, until what is left of them on the way has gone.

Only what is needed to answer is kept, for they may be many: the last FIN is acknowledged again, and the time begins
anew with that; a SYN that is surely a new one may take the place.

Source: RFC 9293 sections 3.6.1 (MUST-13, MAY-2), 3.10.7.4; RFC 6191 (by timestamps); RFC 1337 (a reset ends nothing).
"""

from __future__ import annotations

from typing import Final

from weft.packet.tcp import ACK, FIN, RST, SYN
from weft.stack.endpoint import Endpoint
from weft.stack.tcp.segment import Segment
from weft.stack.tcp.sequence import MASK, unwrap

DURATION_NS: Final = 60_000_000_000
"""Twice the lifetime of a segment, which is 30 s here as it is in Linux."""
MOST: Final = 16_384
"""The oldest make room for new ones."""
REOPEN_DISTANCE: Final = 0x1_0000
"""Between the last number of a connection and the first of one that takes its place, as in Linux."""
_HALF: Final = 1 << 31


class TimeWait:
    """One of them.

    Attributes:
        local: our end.
        remote: the other end.
        next_sent: the sequence number behind our FIN.
        next_expected: the one behind theirs.
        recent: their last timestamp.
        offset: of our timestamps; None without timestamps.
        until: when it is forgotten.
    """

    __slots__ = ("local", "next_expected", "next_sent", "offset", "recent", "remote", "until")

    def __init__(
        self,
        local: Endpoint,
        remote: Endpoint,
        next_sent: int,
        next_expected: int,
        recent: int,
        offset: int | None,
        until: int,
    ) -> None:
        self.local = local
        self.remote = remote
        self.next_sent = next_sent
        self.next_expected = next_expected
        self.recent = recent
        self.offset = offset
        self.until = until

    def is_reopened_by(self, segment: Segment) -> bool:
        """Whether a segment is the SYN of a new connection, and no old one."""
        if not segment.flags & SYN or segment.flags & (ACK | RST):
            return False
        timestamps = segment.options.timestamps
        if self.offset is not None and timestamps is not None and timestamps[0] != self.recent:
            return (timestamps[0] - self.recent) & MASK < _HALF
        return unwrap(segment.sequence, self.next_expected) > self.next_expected

    @property
    def above_all_sent(self) -> int:
        """An initial sequence number for a new connection, behind what the old one may still have on the way."""
        return (self.next_sent + REOPEN_DISTANCE) & MASK

    def is_ended_again_by(self, segment: Segment) -> bool:
        """Whether a segment has their FIN once more, so that the acknowledgment of it was lost."""
        return bool(segment.flags & FIN) and (segment.sequence + segment.length - self.next_expected) & MASK == 0

    def begun_anew(self, now: int) -> TimeWait:
        """The same, for as long again."""
        return TimeWait(
            self.local,
            self.remote,
            self.next_sent,
            self.next_expected,
            self.recent,
            self.offset,
            now + DURATION_NS,
        )
