"""How long an answer takes, and so how long to wait for one.

    RTO = SRTT + max(G, 4 RTTVAR), doubled with each time-out until a new measurement

The least is that of Linux, 200 ms: the whole second of the RFC was meant for clocks that tick twice a second, and would
make each loss at the end of a reply as long.

Source: RFC 6298; RFC 7323 section 4 (weights where there are many samples a round trip are left as they are).
"""

from __future__ import annotations

from typing import Final

from weft.stack.tcp.timers import MS

INITIAL_NS: Final = 1000 * MS
AFTER_LOST_SYN_NS: Final = 3000 * MS
MIN_NS: Final = 200 * MS
MAX_NS: Final = 60_000 * MS
GRANULARITY_NS: Final = 1 * MS


class RoundTrip:
    """The estimate of one connection.

    Attributes:
        smoothed_ns: SRTT; 0 before the first measurement.
        least_ns: the shortest that was measured; 0 before the first.
        variation_ns: RTTVAR.
        timeout_ns: RTO.
        back_offs: time-outs since the last measurement.
    """

    __slots__ = ("back_offs", "least_ns", "smoothed_ns", "timeout_ns", "variation_ns")

    def __init__(self) -> None:
        self.smoothed_ns = 0
        self.least_ns = 0
        self.variation_ns = 0
        self.timeout_ns = INITIAL_NS
        self.back_offs = 0

    def measure(self, round_trip_ns: int) -> None:
        """Take a measurement; never one of a segment that was sent twice (Karn)."""
        if not self.least_ns or round_trip_ns < self.least_ns:
            self.least_ns = round_trip_ns
        if self.smoothed_ns:
            error = abs(self.smoothed_ns - round_trip_ns)
            self.variation_ns += (error - self.variation_ns) >> 2
            self.smoothed_ns += (round_trip_ns - self.smoothed_ns) >> 3
        else:
            self.smoothed_ns = max(1, round_trip_ns)
            self.variation_ns = round_trip_ns >> 1
        self.relax()

    def relax(self) -> None:
        """Wait as the estimate says again, if there is one, however often that was doubled."""
        if not self.smoothed_ns:
            return
        self.back_offs = 0
        wait = self.smoothed_ns + max(GRANULARITY_NS, 4 * self.variation_ns)
        self.timeout_ns = MIN_NS if wait < MIN_NS else min(wait, MAX_NS)

    def back_off(self) -> None:
        """A time-out: wait twice as long for the next."""
        self.back_offs += 1
        self.timeout_ns = min(2 * self.timeout_ns, MAX_NS)

    def handle_lost_syn(self) -> None:
        """The handshake needed a time-out: begin the data with a longer one (RFC 6298 section 5.7)."""
        if not self.smoothed_ns:
            self.timeout_ns = AFTER_LOST_SYN_NS
            self.back_offs = 0
