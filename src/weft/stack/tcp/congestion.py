"""How much may be on the way: CUBIC.

    slow start              below `threshold`: as much more as was acknowledged (or less, `slow_start.py`)
    congestion avoidance    W(t) = C (t - K)^3 + W_max, with K = cbrt((W_max - W_at_loss) / C), and never less than what
                            Reno would have
    loss                    W_max = W, or less if W had not reached the last one (fast convergence); W *= 0.7

Windows are in bytes, but for W of the formula, which is in segments. Only what was in use grows: a sender that has not
filled its window learns nothing from its acknowledgments.

Source: RFC 9438; RFC 5681 sections 3.1 and 4.1; RFC 6928 (initial window).
Not done here: ECN; what is lost (recovery.py), the window while that is sent again (reduction.py).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from weft.stack.tcp.slow_start import SlowStart

C: Final = 0.4
BETA: Final = 0.7
RENO_ALPHA: Final = 3 * (1 - BETA) / (1 + BETA)
S_NS: Final = 1_000_000_000

INITIAL_SEGMENTS: Final = 10
INITIAL_BYTES: Final = 14_600
MIN_SEGMENTS: Final = 2
MAX_WINDOW: Final = 1 << 30


def initial_window(segment: int) -> int:
    """What may be sent before anything is known, bytes (RFC 6928 section 2)."""
    return min(INITIAL_SEGMENTS * segment, max(2 * segment, INITIAL_BYTES))


class CubicState(NamedTuple):
    """What a loss changes."""

    window: int
    threshold: int
    w_max: float
    w_before: float
    epoch_at: int
    k: float
    origin: float
    reno: float
    slow_start: SlowStart | None


class Cubic:
    """The congestion window of one connection.

    Attributes:
        window: bytes that may be on the way.
        threshold: where slow start ends, bytes.
        segment: bytes of a full segment.
    """

    __slots__ = (
        "_epoch_at",
        "_k",
        "_origin",
        "_reno",
        "_slow_start",
        "_w_before",
        "_w_max",
        "segment",
        "threshold",
        "window",
    )

    def __init__(self, segment: int) -> None:
        self.segment = segment
        self.window = initial_window(segment)
        self.threshold = MAX_WINDOW
        self._slow_start: SlowStart | None = SlowStart()
        self._w_max = 0.0
        self._w_before = 0.0
        self._epoch_at = 0
        self._k = self._origin = self._reno = 0.0

    def handle_segment_changed(self, segment: int) -> None:
        """Full segments have another size, because the path has another MTU; the window in bytes stays."""
        self._w_max *= self.segment / segment
        self._w_before *= self.segment / segment
        self._epoch_at = 0
        self.segment = segment
        self.window = max(self.window, segment)

    def handle_peer_known(self, segment: int, *, has_lost: bool) -> None:
        """The handshake says how large segments may be: the initial window is of those, or one if a SYN was lost."""
        self.window = segment if has_lost else initial_window(segment)

    def handle_acknowledged(self, acknowledged: int, now: int, round_trip_ns: int) -> None:
        """Grow, because the window was full and so many bytes of it arrived."""
        if self.window < self.threshold:
            self._grow_slowly(acknowledged)
            return
        segment = self.segment
        window = self.window / segment
        segments = acknowledged / segment
        if not self._epoch_at:
            self._begin_epoch(window, now)
        at = (now - self._epoch_at + round_trip_ns) / S_NS
        target = self._origin + C * (at - self._k) ** 3
        target = min(max(target, window), 1.5 * window)
        # Once the estimate has the window of before the loss, it grows as Reno does.
        alpha = RENO_ALPHA if self._reno < self._w_before else 1.0
        self._reno += alpha * segments / window
        grown = window + (target - window) * segments / window
        self.window = min(int(max(grown, self._reno) * segment), MAX_WINDOW)

    def _grow_slowly(self, acknowledged: int) -> None:
        """Slow start; once the threshold is known, a large acknowledgment does not lead past it."""
        start = self._slow_start
        grown = self.window + acknowledged // (start.divisor if start is not None else 1)
        self.window = min(grown, max(self.threshold, self.window), MAX_WINDOW)
        if start is not None and start.is_over:
            self.threshold = self.window
            self._slow_start = None

    def handle_round_trip(self, round_trip_ns: int, una: int, nxt: int) -> None:
        """Take a measurement; see `SlowStart.handle_round_trip`."""
        if self._slow_start is not None:
            self._slow_start.handle_round_trip(round_trip_ns, una, nxt)

    def handle_loss(self, in_flight: int) -> None:
        """Something was lost, for the first time in this window.

        Args:
            in_flight: bytes on the way, of which the new window is a share: the window may have been larger.
        """
        window = min(self.window, max(in_flight, 1)) / self.segment
        self._w_before = window
        # One that yields before it reached where it was has to share with a newcomer.
        self._w_max = window * (1 + BETA) / 2 if window < self._w_max else window
        self._epoch_at = 0
        self._slow_start = None
        self.threshold = max(int(window * BETA * self.segment), MIN_SEGMENTS * self.segment)
        self.window = self.threshold

    @property
    def state(self) -> CubicState:
        """What the next loss changes."""
        return CubicState(
            self.window,
            self.threshold,
            self._w_max,
            self._w_before,
            self._epoch_at,
            self._k,
            self._origin,
            self._reno,
            self._slow_start,
        )

    def undo_loss(self, before: CubicState) -> None:
        """Nothing was lost after all (RFC 4015 section 3.2)."""
        self.window, self.threshold, self._w_max, self._w_before = before[:4]
        self._epoch_at, self._k, self._origin, self._reno, self._slow_start = before[4:]

    def handle_recovered(self, in_flight: int) -> None:
        """What was lost has arrived; what was held back must not leave all at once (RFC 6582 section 3.2, step 3).

        As much as after a pause may, though: where the window of the other side was full, nothing is on the way now.
        """
        self.window = min(self.threshold, max(in_flight, initial_window(self.segment)) + self.segment)

    def handle_timeout(self, in_flight: int, *, is_first: bool) -> None:
        """Nothing came back: begin anew with one segment.

        Args:
            in_flight: bytes that were on the way.
            is_first: of the time-outs for these bytes; later ones leave the threshold.
        """
        if is_first:
            self.handle_loss(in_flight)
        self.window = self.segment

    def handle_idle(self) -> None:
        """Nothing was sent for so long that what was known of the path is old."""
        self.window = min(self.window, initial_window(self.segment))
        self._epoch_at = 0

    def _begin_epoch(self, window: float, now: int) -> None:
        self._epoch_at = now
        self._reno = window
        if window < self._w_max:
            self._k = ((self._w_max - window) / C) ** (1 / 3)
            self._origin = self._w_max
        else:
            self._k = 0.0
            self._origin = window
