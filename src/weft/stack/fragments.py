"""Fragments that have arrived, put together again, within bounds.

A datagram whose fragments overlap, or contradict each other about where it ends, is spoiled: what is there of it is
thrown away, and so is what comes until its time is over. A fragment that comes twice with the same bytes is no overlap.

    bound                              what gives way
    fragments of a datagram            the datagram is spoiled
    bytes and datagrams of a source    the source's oldest datagram
    bytes and datagrams in all         the oldest datagram of the source that holds most

One `Fragments` serves one version of IP. Bytes are counted with what Python needs for each fragment.

Source: RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722, RFC 8900; RFC 1858 (overlaps in IPv4).
Not done here: what a single fragment must be like, and answers (`arrivals`); the congestion that a router marked on
fragments other than the first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Final, NamedTuple

LIFETIME_V4_NS: Final = 30_000_000_000
LIFETIME_V6_NS: Final = 60_000_000_000
MAX_FRAGMENTS: Final = 128
"""As many as a datagram of 64 KiB has where the MTU is the least that is believed."""
MAX_DATAGRAMS: Final = 512
MAX_DATAGRAMS_PER_SOURCE: Final = 32
MAX_BYTES: Final = 4 * 1024 * 1024
MAX_BYTES_PER_SOURCE: Final = 512 * 1024
FRAGMENT_OVERHEAD_BYTES: Final = 192


class Fragment(NamedTuple):
    """One that has arrived."""

    source: bytes
    key: Hashable
    """What the fragments of one datagram have in common."""
    offset: int
    """Of its data in the datagram, in bytes."""
    more: bool
    """Whether it is not the last."""
    data: memoryview
    """Not empty; a multiple of 8 bytes unless it is the last."""
    packet: memoryview
    """The whole packet that it came in."""
    head: bytes
    """What the datagram will begin with, if this is the first fragment."""


class Whole(NamedTuple):
    """A datagram all of whose fragments are there."""

    head: bytes
    """Of the first fragment."""
    payload: bytes


class _Datagram:
    """One that lacks fragments."""

    __slots__ = ("cost", "deadline", "first", "got", "head", "is_spoiled", "pieces", "source", "starts", "total")

    def __init__(self, source: bytes, deadline: int) -> None:
        self.source = source
        self.deadline = deadline
        self.starts: list[int] = []
        self.pieces: dict[int, bytes] = {}
        self.got = 0
        self.cost = 0
        self.total: int | None = None
        self.head = self.first = b""
        self.is_spoiled = False


class Fragments:
    """The datagrams of one version of IP that lack fragments."""

    def __init__(self, lifetime_ns: int, drops: Counter[str]) -> None:
        """Begin without any.

        Args:
            lifetime_ns: how long the fragments of a datagram may take after the first that comes.
            drops: counts what is dropped, by reason.
        """
        self._lifetime_ns = lifetime_ns
        self._drops = drops
        self._datagrams: OrderedDict[Hashable, _Datagram] = OrderedDict()
        """The oldest first."""
        self._bytes = 0
        self._bytes_of: Counter[bytes] = Counter()
        self._datagrams_of: Counter[bytes] = Counter()

    def receive(self, fragment: Fragment, now: int) -> Whole | None:
        """Put a fragment into its place.

        Args:
            fragment: its buffers are the caller's again afterwards.
            now: monotonic ns.

        Returns:
            The datagram, if that was its last missing fragment.
        """
        datagram = self._datagrams.get(fragment.key)
        if datagram is not None and datagram.deadline <= now:
            # Its time is over, though nobody has looked yet.
            self._forget(fragment.key, datagram)
            datagram = None
        if datagram is None:
            datagram = self._datagrams[fragment.key] = _Datagram(fragment.source, now + self._lifetime_ns)
            self._datagrams_of[fragment.source] += 1
        if datagram.is_spoiled:
            self._drops["ip: fragment of a spoiled datagram"] += 1
            return None
        offset, data = fragment.offset, bytes(fragment.data)
        at = bisect_right(datagram.starts, offset)
        if datagram.pieces.get(offset) == data:
            self._drops["ip: fragment twice"] += 1
            return None
        fault = self._fault(datagram, fragment, at)
        if fault is not None:
            self._spoil(datagram, fault)
            return None
        datagram.starts.insert(at, offset)
        datagram.pieces[offset] = data
        datagram.got += len(data)
        self._charge(datagram, len(data) + FRAGMENT_OVERHEAD_BYTES)
        if not fragment.more:
            datagram.total = offset + len(data)
        if offset == 0:
            datagram.head = fragment.head
            datagram.first = bytes(fragment.packet)
            self._charge(datagram, len(datagram.first))
        if datagram.got == datagram.total:
            self._forget(fragment.key, datagram)
            return Whole(datagram.head, b"".join([datagram.pieces[start] for start in datagram.starts]))
        self._keep_bounds(datagram)
        return None

    def expire(self, now: int) -> list[bytes]:
        """Forget the datagrams whose time is over.

        Returns:
            The packets that their first fragments came in, as far as those came: their senders are told.
        """
        firsts = []
        while self._datagrams:
            key, datagram = next(iter(self._datagrams.items()))
            if datagram.deadline > now:
                break
            self._forget(key, datagram)
            if not datagram.is_spoiled:
                self._drops["ip: fragments that never came"] += 1
                if datagram.first:
                    firsts.append(datagram.first)
        return firsts

    def next_timer(self) -> int | None:
        """When `expire` next has something to do, monotonic ns."""
        return next(iter(self._datagrams.values())).deadline if self._datagrams else None

    @staticmethod
    def _fault(datagram: _Datagram, fragment: Fragment, at: int) -> str | None:
        """Why a fragment spoils its datagram; `at` is its place among those that are there."""
        starts, pieces, offset = datagram.starts, datagram.pieces, fragment.offset
        end = offset + len(fragment.data)
        if at and starts[at - 1] + len(pieces[starts[at - 1]]) > offset:
            return "ip: overlapping fragments"
        if at < len(starts) and end > starts[at]:
            return "ip: overlapping fragments"
        if datagram.total is not None and (end > datagram.total or not fragment.more):
            return "ip: fragments beyond the last"
        if not fragment.more and at < len(starts):
            return "ip: fragments beyond the last"
        return "ip: too many fragments" if len(starts) == MAX_FRAGMENTS else None

    def _spoil(self, datagram: _Datagram, fault: str) -> None:
        self._drops[fault] += 1
        datagram.is_spoiled = True
        datagram.head = datagram.first = b""
        datagram.pieces.clear()
        datagram.starts.clear()
        self._charge(datagram, -datagram.cost)

    def _charge(self, datagram: _Datagram, cost: int) -> None:
        datagram.cost += cost
        self._bytes += cost
        self._bytes_of[datagram.source] += cost

    def _keep_bounds(self, newest: _Datagram) -> None:
        source = newest.source
        while self._bytes_of[source] > MAX_BYTES_PER_SOURCE or self._datagrams_of[source] > MAX_DATAGRAMS_PER_SOURCE:
            self._give_up_oldest_of(source)
        while self._bytes > MAX_BYTES or len(self._datagrams) > MAX_DATAGRAMS:
            self._give_up_oldest_of(max(self._bytes_of, key=self._bytes_of.__getitem__))

    def _give_up_oldest_of(self, source: bytes) -> None:
        key, datagram = next(item for item in self._datagrams.items() if item[1].source == source)
        self._forget(key, datagram)
        self._drops["ip: no room for fragments"] += 1

    def _forget(self, key: Hashable, datagram: _Datagram) -> None:
        del self._datagrams[key]
        self._charge(datagram, -datagram.cost)
        source = datagram.source
        self._datagrams_of[source] -= 1
        if not self._datagrams_of[source]:
            del self._datagrams_of[source], self._bytes_of[source]
