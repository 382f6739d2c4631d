"""The receiving half of a connection: data in order for the user, and what of the window is told.

    next     the first byte that is missing
    edge     the end of what was offered; it never moves back

What comes behind a hole is kept, the first copy of each byte, as far as it was offered. The window grows with what the
user takes in a round trip, so that a fast path is filled and a slow one does not hold memory; it is offered in steps of
a segment at least (the silly window).

Source: RFC 9293 sections 3.8.6.2.2, 3.10.7.4; RFC 2018 section 4 (which blocks are told); Linux, tcp_rcv_space_adjust
(the idea of how the window grows).
Not done here: when to acknowledge (connection.py).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from weft.stack.tcp.budget import Budget

INITIAL_LIMIT: Final = 256 * 1024
MAX_LIMIT: Final = 8 * 1024 * 1024
SHIFT: Final = 8
"""Of the window that we offer: enough for `MAX_LIMIT`."""
UNSCALED_MAX: Final = 0xFFFF

LEAST_SEGMENT: Final = 536
MOST_SEGMENT: Final = 16 * 1024

MAX_PIECES: Final = 1024
"""Pieces behind holes; a super-segment is one. More are thrown away: they will come again."""
TOLD_BLOCKS: Final = 4
GROWTH: Final = 4
"""The window, in what the user takes in a round trip: twice that lets a sender double, the rest is to spare."""
MIN_ROUND_TRIP_NS: Final = 1_000_000
INITIAL_ROUND_TRIP_NS: Final = 100_000_000


class Receiver:
    """The receiving half.

    Attributes:
        next: see above.
        edge: see above.
        fin: the sequence number of the FIN; None before one came.
        has_fin: whether all that the other side has to say has come.
        segment: payload bytes of the largest segment that came; what the other side sends as a full one, by and by.
        limit: how much is kept for the user and offered, bytes.
        shift: how far the window is shifted on the wire.
        ready_bytes: what waits for the user.
        blocks: what has come behind holes, the newest first, as ranges of sequence numbers.
    """

    __slots__ = (
        "_pieces",
        "_ready",
        "_starts",
        "_taken",
        "_watched_at",
        "blocks",
        "edge",
        "fin",
        "has_fin",
        "limit",
        "next",
        "ready_bytes",
        "segment",
        "shift",
    )

    def __init__(self, next_sequence: int) -> None:
        self.next = next_sequence
        self.edge = next_sequence
        self.fin: int | None = None
        self.has_fin = False
        self.segment = LEAST_SEGMENT
        self.limit = INITIAL_LIMIT
        self.shift = 0
        self.ready_bytes = 0
        self._ready: list[bytes] = []
        self._starts: list[int] = []
        self._pieces: list[bytes] = []
        self.blocks: list[tuple[int, int]] = []
        self._taken = 0
        self._watched_at = 0

    def is_acceptable(self, start: int, length: int) -> bool:
        """Whether a segment has anything to do with the window (RFC 9293 section 3.10.7.4, table 6).

        Args:
            start: its first sequence number.
            length: how many it occupies.
        """
        if not length:
            return self.next <= start < self.edge or start == self.next
        return start < self.edge and start + length > self.next

    def note_segment(self, size: int) -> None:
        """A segment of that many bytes came; no more is believed than what is surely no super-segment."""
        if size > self.segment:
            self.segment = min(size, MOST_SEGMENT)

    def receive(self, start: int, payload: memoryview) -> bool:
        """Take what of the payload is new and was offered.

        Args:
            start: the sequence number of its first byte.
            payload: of a segment; copied.

        Returns:
            Whether it came where it was expected, and left no hole.
        """
        end = start + len(payload)
        if start == self.next < end <= self.edge and self.fin is None and not self._starts:
            # What follows would come to the same: all of it is new, and nothing is missing.
            self._append(bytes(payload))
            return True
        end = min(end, self.edge)
        if self.fin is not None:
            end = min(end, self.fin)
        first = max(start, self.next)
        if first >= end:
            return False
        is_expected = first == self.next and not self._starts
        if is_expected:
            self._append(bytes(payload[first - start : end - start]))
        else:
            self._keep(first, payload[first - start : end - start])
            if first == self.next:
                self._close_hole()
        self._pass_fin()
        return is_expected

    def receive_fin(self, at: int) -> None:
        """The other side says that it has no more than what is before this sequence number."""
        if self.fin is None and self.next <= at <= self.edge:
            self.fin = at
        self._pass_fin()

    def _pass_fin(self) -> None:
        if self.fin == self.next:
            self.has_fin = True
            self.next += 1
            self.edge = max(self.edge, self.next)

    def _append(self, data: bytes) -> None:
        self._ready.append(data)
        self.ready_bytes += len(data)
        self.next += len(data)

    def _keep(self, start: int, payload: memoryview) -> None:
        """Keep what came behind a hole, or fills one, as far as it is not there yet."""
        starts, pieces = self._starts, self._pieces
        at, end, origin = start, start + len(payload), start
        while at < end:
            number = bisect_right(starts, at)
            if number:
                covered = starts[number - 1] + len(pieces[number - 1])
                if covered > at:
                    at = covered
                    continue
            stop = min(end, starts[number]) if number < len(starts) else end
            if len(starts) >= MAX_PIECES and start > self.next:
                return
            starts.insert(number, at)
            pieces.insert(number, bytes(payload[at - origin : stop - origin]))
            at = stop
        self._note_block(start, end)

    def _note_block(self, start: int, end: int) -> None:
        """Put the range around what came to the front of what is told."""
        starts, pieces = self._starts, self._pieces
        number = bisect_right(starts, start) - 1
        left = right = number
        while left and starts[left - 1] + len(pieces[left - 1]) == starts[left]:
            left -= 1
        while right + 1 < len(starts) and starts[right] + len(pieces[right]) == starts[right + 1]:
            right += 1
        block = starts[left], starts[right] + len(pieces[right])
        others = [each for each in self.blocks if each[1] < block[0] or each[0] > block[1]]
        self.blocks = [block, *others][:TOLD_BLOCKS]

    def _close_hole(self) -> None:
        """The first missing byte came: what follows without a hole is ready."""
        starts, pieces = self._starts, self._pieces
        number = 0
        while number < len(starts) and starts[number] == self.next:
            self._append(pieces[number])
            number += 1
        del starts[:number], pieces[:number]
        self.blocks = [block for block in self.blocks if block[1] > self.next]

    def forget_holes(self) -> None:
        """Nothing more will come: what came behind a hole is of no use."""
        self._starts, self._pieces, self.blocks = [], [], []

    def take(self, limit: int | None) -> list[bytes]:
        """Take data in order away.

        Args:
            limit: bytes at most; None for all.
        """
        ready = self._ready
        if limit is None or self.ready_bytes <= limit:
            self._ready, taken, size = [], ready, self.ready_bytes
        else:
            taken, size = [], 0
            while size < limit:
                chunk = ready[0]
                room = limit - size
                if len(chunk) > room:
                    ready[0] = chunk[room:]
                    chunk = chunk[:room]
                else:
                    del ready[0]
                taken.append(chunk)
                size += len(chunk)
        self.ready_bytes -= size
        self._taken += size
        return taken

    def adapt(self, now: int, round_trip_ns: int, budget: Budget) -> None:
        """Let the window grow with what the user takes; to be called when data came.

        Args:
            now: monotonic ns.
            round_trip_ns: the least that there was, for queues that fill up need no window; 0 if none is known.
            budget: of the host.
        """
        elapsed_ns = now - self._watched_at
        if round_trip_ns < MIN_ROUND_TRIP_NS:
            round_trip_ns = MIN_ROUND_TRIP_NS if round_trip_ns else INITIAL_ROUND_TRIP_NS
        if elapsed_ns < round_trip_ns:
            return
        if self._watched_at:
            wanted = min(GROWTH * self._taken * round_trip_ns // elapsed_ns, MAX_LIMIT)
            if wanted > self.limit:
                self.limit += budget.take(wanted - self.limit)
        self._watched_at = now
        self._taken = 0

    def give_back(self, budget: Budget) -> None:
        """Nothing more comes: what the window has grown by is free again."""
        budget.give_back(self.limit - INITIAL_LIMIT)
        self.limit = INITIAL_LIMIT

    @property
    def offer(self) -> int:
        """What could be offered from `next` on, bytes."""
        room, most = self.limit - self.ready_bytes, UNSCALED_MAX << self.shift
        if 0 <= room <= most:
            return room
        return most if room > 0 else 0

    def is_worth_telling(self) -> bool:
        """Whether the window has opened so far that the other side should be told at once, before it has to wait."""
        grown = self.next + self.offer - self.edge
        is_much = grown >= 2 * self.segment and (grown >= self.edge - self.next or grown >= self.limit // 4)
        return is_much and self.fin is None

    def window(self) -> int:
        """What is offered with the segment that leaves now, as it is written into it."""
        edge = self.next + self.offer
        grown = edge - self.edge
        if grown >= self.segment or grown >= self.limit // 2:
            self.edge = edge
        window = (self.edge - self.next) >> self.shift
        if window > UNSCALED_MAX:
            return UNSCALED_MAX
        return window
