"""Put the pieces of bursts together again.

Rules of the file:
- Nothing is known about a piece but its header until the whole burst is opened: anyone who saw an index can forge one.
  So memory is charged with `total` at the first piece and bounded per peer and per node, and what was never proven
  shares one place.
- One `Joiner` belongs to one peer, whatever its keypairs and endpoints; all of a node draw on one `Budget`.
- The joiner never opens anything: a whole burst goes to the caller, who counts good and bad tags.

A burst is given up 250 ms after its last piece, 2 s after its first, or when room is needed, oldest first.

Most bursts lie whole and in order in one GRO buffer; those take `whole_in_buffer` and no state at all.

Source: wire.md section 4, "Joining".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from weft.burst.header import (
    BURST_PREFIX,
    MAX_PIECES,
    MAX_TOTAL_BYTES,
    MIN_PIECE_BYTES,
    PIECE_HEADER,
    PIECE_HEADER_BYTES,
    PIECE_SUFFIXES,
    PREFIX_BYTES,
    TAG_BYTES,
    PieceHeader,
    piece_size,
)
from weft.burst.size import LossMeter

MAX_BURSTS_PER_PEER = 8
MAX_BYTES_PER_PEER = 512 * 1024
MAX_BYTES_PER_NODE = 16 * 1024 * 1024
QUIET_NS = 250_000_000
LIFETIME_NS = 2_000_000_000

_NUMBERS = bytes(range(256))


class Whole(NamedTuple):
    """A burst whose pieces are all there; not opened yet."""

    receiver_index: int
    counter: int
    prefix: bytes
    """header[0:18], the associated data."""
    sealed: bytes | bytearray | memoryview
    """Ciphertext and tag; a view of what was received where they lie in one piece."""
    pieces: int
    met_congestion: bool = False
    """Whether a router marked any of the pieces (CE)."""


class Budget:
    """The bytes that all unfinished bursts of a node may hold, and who holds them.

    When they are used up, whoever holds most gives up its oldest: many that hoard can't take the place of one that
    does not.
    """

    __slots__ = ("_held", "free")

    def __init__(self, limit: int = MAX_BYTES_PER_NODE) -> None:
        self.free = limit
        self._held: dict[Joiner, int] = {}

    def take(self, joiner: Joiner, length: int) -> None:
        """Count bytes as held."""
        self.free -= length
        self._held[joiner] = self._held.get(joiner, 0) + length

    def give_back(self, joiner: Joiner, length: int) -> None:
        """Count bytes as free."""
        self.free += length
        self._held[joiner] -= length
        if not self._held[joiner]:
            del self._held[joiner]

    def make_room(self, length: int) -> bool:
        """Free so many bytes; False only if they are more than there are in all."""
        while self.free < length and self._held:
            max(self._held, key=self._held.__getitem__).give_up_oldest()
        return self.free >= length


class _Unfinished:
    """One burst that lacks pieces."""

    __slots__ = (
        "buffer", "count", "first_at", "got", "last_at", "met_congestion", "next_number", "prefix", "present",
        "proven", "size", "source",
    )  # fmt: skip

    def __init__(self, prefix: bytes, source: Hashable, total: int, count: int, proven: bool, now: int) -> None:
        self.prefix = prefix
        self.source = source
        self.count = count
        self.buffer = bytearray(total)
        self.present = 0
        self.got = 0
        self.size = 0
        self.next_number = 0
        self.met_congestion = False
        self.proven = proven
        self.first_at = self.last_at = now


_Key = tuple[int, int, Hashable, int, int]


class Joiner:
    """The unfinished bursts of one peer.

    Attributes:
        drops: pieces that were dropped, by reason.
    """

    def __init__(self, budget: Budget, meter: LossMeter, drops: Counter[str]) -> None:
        """Begin without bursts.

        Args:
            budget: of the node.
            meter: counts the bursts that came from a proven endpoint and were given up.
            drops: counts pieces that were dropped, by reason.
        """
        self._budget = budget
        self._meter = meter
        self._bursts: dict[_Key, _Unfinished] = {}
        self._bytes = 0
        self._latest: _Unfinished | None = None
        self.drops = drops

    def receive_following(
        self,
        buffer: memoryview,
        start: int,
        end: int,
        segment: int,
        source: Hashable,
        now: int,
        *,
        met_congestion: bool = False,
    ) -> tuple[Whole | None, int]:
        """Put the pieces into their places that carry on the burst which the last one belonged to: nearly all do.

        Args:
            buffer: datagrams that came together.
            start: of the next one.
            end: of the last one.
            segment: bytes of each datagram but the last.
            source: endpoint that they came from.
            now: monotonic ns.
            met_congestion: whether a router marked the datagrams (CE).

        Returns:
            (the burst if these were its last missing pieces, where the first datagram begins that is none of them).
        """
        burst = self._latest
        if burst is None or source != burst.source or buffer[start : start + PREFIX_BYTES] != burst.prefix:
            return None, start
        number, last = burst.next_number, burst.count - 1
        full = min(last - number, (end - start) // segment) if segment == burst.size + PIECE_HEADER_BYTES else 0
        stop = start + full * segment
        last_length = len(burst.buffer) - last * burst.size + PIECE_HEADER_BYTES
        count = full
        if number + full == last and min(segment, end - stop) == last_length:
            count, stop = full + 1, stop + last_length
        count, stop = self._count_following(burst, buffer, start, stop, segment, count)
        if not count or burst.present >> number & ((1 << count) - 1):
            return None, start
        run = buffer[start:stop]
        data = run[PIECE_HEADER_BYTES:] if count == 1 else b"".join(_pieces_in(segment, count)(run))
        burst.met_congestion |= met_congestion
        return self._put(burst, number, count, data, now), stop

    def receive(
        self,
        header: PieceHeader,
        datagram: memoryview,
        source: Hashable,
        now: int,
        *,
        proven: bool,
        met_congestion: bool = False,
    ) -> Whole | None:
        """Put one piece into its place.

        Args:
            header: of this datagram, as `decode_piece_header` gave it; its counter is fresh in the replay window.
            datagram: the whole datagram; not kept.
            source: endpoint that it came from.
            now: monotonic ns.
            proven: whether that endpoint is known to be the peer's, and the counter may be one that it has come to.
            met_congestion: whether a router marked the datagram (CE).

        Returns:
            The burst if this was its last missing piece. It is forgotten here, whatever its tag says.
        """
        index, counter, total, number, count = header
        key = (index, counter, source, total, count)
        burst = self._bursts.get(key)
        if burst is None:
            if not self._make_room(total, proven=proven):
                self.drops["join: no room"] += 1
                return None
            prefix = bytes(datagram[:PREFIX_BYTES])
            burst = self._bursts[key] = _Unfinished(prefix, source, total, count, proven, now)
            self._bytes += total
            self._budget.take(self, total)
        piece = datagram[PIECE_HEADER_BYTES:]
        size = piece_size(total, number, count, len(piece))
        if burst.size not in {0, size}:
            self.drops["join: other size"] += 1
            return None
        burst.size = size
        burst.met_congestion |= met_congestion
        if burst.present >> number & 1:
            self.drops["join: twice"] += 1
            return None
        return self._put(burst, number, 1, piece, now)

    @staticmethod
    def _count_following(
        burst: _Unfinished, buffer: memoryview, start: int, stop: int, segment: int, count: int
    ) -> tuple[int, int]:
        """How many of `count` datagrams have the headers that have to follow, and where these end."""
        suffixes = PIECE_SUFFIXES[burst.count][burst.next_number + 1 :][:count]
        wanted = burst.prefix.join((b"", *suffixes))
        headers = [buffer[at : at + PIECE_HEADER_BYTES] for at in range(start, stop, segment)]
        if b"".join(headers) == wanted:
            return count, stop
        for number, header in enumerate(headers):
            if header != wanted[number * PIECE_HEADER_BYTES : (number + 1) * PIECE_HEADER_BYTES]:
                return number, start + number * segment
        return count, stop

    def _put(self, burst: _Unfinished, number: int, count: int, pieces: bytes | memoryview, now: int) -> Whole | None:
        """Put pieces that follow each other into their places, none of which is there yet."""
        start = number * burst.size
        burst.buffer[start : start + len(pieces)] = pieces
        burst.present |= ((1 << count) - 1) << number
        burst.got += count
        burst.last_at = now
        burst.next_number = number + count
        if burst.got < burst.count:
            # Nothing follows the last piece.
            self._latest = burst if burst.next_number < burst.count else None
            return None
        _, index, counter, total = BURST_PREFIX.unpack(burst.prefix)
        self._forget((index, counter, burst.source, total, burst.count), burst)
        return Whole(index, counter, burst.prefix, burst.buffer, burst.count, burst.met_congestion)

    def handle_timer(self, now: int) -> None:
        """Give up what is overdue."""
        for key, burst in list(self._bursts.items()):
            if self._deadline(burst) <= now:
                self._give_up(key, burst)

    def next_timer(self) -> int | None:
        """When the next burst is overdue, monotonic ns."""
        return min((self._deadline(burst) for burst in self._bursts.values()), default=None)

    def close(self) -> None:
        """Give all memory back."""
        for key, burst in list(self._bursts.items()):
            self._forget(key, burst)

    @property
    def unfinished(self) -> int:
        """How many bursts lack pieces now."""
        return len(self._bursts)

    @staticmethod
    def _deadline(burst: _Unfinished) -> int:
        return min(burst.last_at + QUIET_NS, burst.first_at + LIFETIME_NS)

    def _make_room(self, total: int, *, proven: bool) -> bool:
        """Free a place for a burst of `total` bytes, at the cost of older ones; False where even that gives none.

        What was not proven may only take the place of what was not proven.
        """
        if not proven:
            for key, burst in list(self._bursts.items()):
                if not burst.proven:
                    self._give_up(key, burst)
        while self._bursts and (len(self._bursts) >= MAX_BURSTS_PER_PEER or self._bytes + total > MAX_BYTES_PER_PEER):
            if not proven:
                return False
            self.give_up_oldest()
        return self._budget.make_room(total) if proven else total <= self._budget.free

    def give_up_oldest(self) -> None:
        """Give up the burst that began first."""
        oldest = next(iter(self._bursts))
        self._give_up(oldest, self._bursts[oldest])

    def _give_up(self, key: _Key, burst: _Unfinished) -> None:
        self._forget(key, burst)
        if burst.proven:
            self._meter.give_up(burst.got, key[4] - burst.got)

    def _forget(self, key: _Key, burst: _Unfinished) -> None:
        del self._bursts[key]
        if burst is self._latest:
            self._latest = None
        self._bytes -= len(burst.buffer)
        self._budget.give_back(self, len(burst.buffer))


def whole_in_buffer(buffer: memoryview, start: int, end: int, segment: int) -> Whole | None:
    """The burst that begins at `start` of a GRO buffer, if all its pieces follow there in order.

    A guess that its tag confirms: only the numbers and the low bytes of the counters are compared, the other fields of
    the later headers are not. Where the tag is bad the caller takes the pieces one by one.

    Args:
        buffer: what one receive call gave.
        start: of the first piece, at a datagram's beginning.
        end: of what was received.
        segment: bytes of each datagram but the last.

    Returns:
        The burst, or None where the pieces have to go through a `Joiner`. It took
        `len(sealed) + 20 * pieces` bytes of the buffer.
    """
    length = end - start
    if length <= PIECE_HEADER_BYTES:
        return None
    _, index, counter, total, number, count = PIECE_HEADER.unpack_from(buffer, start)
    taken = total + PIECE_HEADER_BYTES * count
    if number or count > MAX_PIECES or not TAG_BYTES <= total <= MAX_TOTAL_BYTES:
        return None
    if taken != min(segment * count, length):
        return None
    burst = buffer[start : start + taken]
    prefix = burst[:PREFIX_BYTES].tobytes()
    if count == 1:
        return Whole(index, counter, prefix, burst[PIECE_HEADER_BYTES:], 1)
    size = segment - PIECE_HEADER_BYTES
    if size < MIN_PIECE_BYTES or -(-total // size) != count:
        return None
    if burst[18::segment] != _NUMBERS[:count] or burst[8::segment] != prefix[8:9] * count:
        return None
    return Whole(index, counter, prefix, b"".join(_pieces_in(segment, count)(burst)), count)


@lru_cache(64)
def _pieces_in(segment: int, count: int) -> Callable[[memoryview], tuple[memoryview, ...]]:
    """What takes pieces, two or more, out of the buffer that they fill to its end; made once, for all are alike."""
    starts = range(0, segment * count, segment)
    return itemgetter(*[slice(start + PIECE_HEADER_BYTES, start + segment) for start in starts])
