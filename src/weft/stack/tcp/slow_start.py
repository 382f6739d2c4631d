"""When slow start ends before anything is lost: when the round trip grows, because a queue does.

    slow start      the window doubles; if the shortest round trip of a round is longer than that of the last one by an
                    eighth (4 to 16 ms), the next phase begins
    conservative    the window grows by a quarter of that; if the round trip shrinks again, it was no queue; after five
                    rounds slow start is over

A round ends when what was sent at its beginning is acknowledged.

Source: RFC 9406 section 4.2 (HyStart++). A round may have fewer than eight samples here, for one acknowledgment answers
up to 49 segments: `SAMPLES` is 4.
"""

from __future__ import annotations

from typing import Final

MIN_THRESHOLD_NS: Final = 4_000_000
MAX_THRESHOLD_NS: Final = 16_000_000
THRESHOLD_SHARE: Final = 8
SAMPLES: Final = 4
GROWTH_DIVISOR: Final = 4
CONSERVATIVE_ROUNDS: Final = 5
_NEVER: Final = 1 << 62


class SlowStart:
    """The slow start of one connection.

    Attributes:
        divisor: by which growth is divided.
        is_over: whether it should end.
    """

    __slots__ = ("_baseline", "_least", "_least_before", "_round_end", "_rounds", "_samples", "divisor", "is_over")

    def __init__(self) -> None:
        self.divisor = 1
        self.is_over = False
        self._round_end = self._samples = self._rounds = 0
        self._least = self._least_before = _NEVER
        self._baseline = _NEVER

    def handle_round_trip(self, round_trip_ns: int, una: int, nxt: int) -> None:
        """Take a measurement.

        Args:
            round_trip_ns: of what was acknowledged just now.
            una: the first byte that is not acknowledged.
            nxt: behind the last that was sent.
        """
        if una >= self._round_end:
            self._round_end = nxt
            self._least_before, self._least = self._least, _NEVER
            self._samples = 0
            if self.divisor > 1:
                self._rounds += 1
                self.is_over = self._rounds >= CONSERVATIVE_ROUNDS
        self._least = min(self._least, round_trip_ns)
        self._samples += 1
        if self._samples < SAMPLES or self._least_before == _NEVER:
            return
        if self.divisor > 1:
            if self._least < self._baseline:
                self.divisor = 1
                self._baseline = _NEVER
        elif self._least >= self._least_before + _threshold(self._least_before):
            self.divisor = GROWTH_DIVISOR
            self._baseline = self._least
            self._rounds = 0


def _threshold(round_trip_ns: int) -> int:
    return max(MIN_THRESHOLD_NS, min(round_trip_ns // THRESHOLD_SHARE, MAX_THRESHOLD_NS))
