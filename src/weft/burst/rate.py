"""How many datagrams of a burst a path delivers in 2 ms, as far as the reports of the other side tell.

The pieces of a burst leave in one system call, and whatever else takes that way waits behind them. So a burst is no
longer than what the path delivers in 2 ms: 64 pieces from about 350 Mbit/s on, 2 on a link of 10 Mbit/s.

    sample      datagrams sent between two reports and not lost / the time between the reports
    rate        the largest sample of 2 s; it rises with the next report and does not follow each lull
    unknown     before two samples, or when no report came for three report intervals: then nothing limits. Two,
                because a flow may have begun in the middle of the first

A sender with little to say measures itself and not the path. Its bursts are shorter than they need to be, which costs
little where little is sent.

Source: wire.md section 4, "What is packed".
"""

from __future__ import annotations

from collections import deque
from typing import Final

from weft.burst.header import MAX_PIECES

DELIVERY_NS: Final = 2_000_000
"""A burst may hold up a path for so long."""
LEAST_PIECES: Final = 2
"""That many are allowed however slow the path is."""
MEMORY_NS: Final = 2_000_000_000
STEADY_NS: Final = 600_000_000
"""Three report intervals; after a longer pause nobody knows what the path delivers now."""
SHORTEST_SAMPLE_NS: Final = 100_000_000
"""Half a report interval. Reports that were held up come at once, and one burst between them is no rate."""


class DeliveryRate:
    """What one path delivers. The sender's side; it has no timer."""

    __slots__ = ("_delivered", "_limit", "_samples", "_since")

    def __init__(self) -> None:
        self._since: int | None = None
        self._delivered = 0
        self._samples: deque[tuple[int, float]] = deque(maxlen=MEMORY_NS // SHORTEST_SAMPLE_NS + 1)
        self._limit = MAX_PIECES

    def start(self, now: int) -> None:
        """A report came that can't be compared with the one before; what is known of the path stays."""
        self._forget_if_stale(now)
        self._since = now
        self._delivered = 0

    def add(self, delivered: int, now: int) -> None:
        """A report came.

        Args:
            delivered: datagrams sent since the report before that were not lost; negative if more losses than
                datagrams came to light.
            now: monotonic ns.
        """
        self._forget_if_stale(now)
        if self._since is None:
            self._since = now
            return
        self._delivered += delivered
        if now - self._since < SHORTEST_SAMPLE_NS:
            return
        samples = self._samples
        samples.append((now, self._delivered / (now - self._since)))
        while now - samples[0][0] > MEMORY_NS:
            samples.popleft()
        if len(samples) > 1:
            rate = max(rate for _, rate in samples)
            self._limit = max(LEAST_PIECES, min(int(rate * DELIVERY_NS), MAX_PIECES))
        self.start(now)

    def limit(self, now: int) -> int:
        """How many datagrams a burst may have: 2 to 64, and 64 where the rate is unknown."""
        self._forget_if_stale(now)
        return self._limit

    def _forget_if_stale(self, now: int) -> None:
        if self._since is not None and now - self._since > STEADY_NS:
            self._since = None
            self._delivered = 0
            self._samples.clear()
            self._limit = MAX_PIECES
