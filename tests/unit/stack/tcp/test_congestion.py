"""How much may be on the way: CUBIC and slow start (RFC 9438, 5681, 6928, 9406)."""

from __future__ import annotations

import math

import pytest

from tests.unit.stack.tcp.script import MS, Script
from weft.stack.tcp.congestion import BETA, MAX_WINDOW, C, Cubic, initial_window
from weft.stack.tcp.reduction import Reduction
from weft.stack.tcp.slow_start import SlowStart

S = 1000 * MS
RTT = 100 * MS


@pytest.mark.parametrize(
    ("segment", "window"),
    [(100, 1000), (1000, 10_000), (1460, 14_600), (1461, 14_600), (5000, 14_600), (7300, 14_600), (8960, 17_920)],
)
def test_rfc_6928_2_initial_window(segment: int, window: int) -> None:
    assert initial_window(segment) == window
    assert Cubic(segment).window == window


def test_rfc_6928_first_flight(script: Script) -> None:
    script.accepted()
    script.send(30_000)
    script.expect(".", seq=1, ack=1, length=10_000, segment=1000)
    script.inject(".", seq=1, ack=10_001)
    # RFC 5681 section 3.1, slow start: twice as much.
    script.expect("P.", seq=10_001, ack=1, length=20_000, segment=1000)


def test_rfc_5681_3_1_slow_start_grows_by_what_was_acknowledged(script: Script) -> None:
    script.accepted()
    script.connection.set_no_delay(True)
    script.send(60_000)
    script.expect(".", seq=1, ack=1, length=10_000, segment=1000)
    script.inject(".", seq=1, ack=2001)
    assert script.connection.sender.cubic.window == 12_000
    script.expect(".", seq=10_001, ack=1, length=4000, segment=1000)
    script.inject(".", seq=1, ack=12_001)
    assert script.connection.sender.cubic.window == 22_000
    script.take_all()


def test_rfc_5681_window_that_is_not_used_does_not_grow(script: Script) -> None:
    script.accepted()
    for number in range(20):
        script.send(1000)
        script.expect("P.", seq=1 + 1000 * number, ack=1, length=1000)
        script.inject(".", seq=1, ack=1001 + 1000 * number)
    assert script.connection.sender.cubic.window == 10_000


def test_rfc_5681_4_1_window_of_an_idle_connection_is_the_initial_one(script: Script) -> None:
    script.accepted()
    cubic = script.connection.sender.cubic
    cubic.window = 50_000
    script.send(1000)
    script.expect("P.", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=1001)
    script.advance_quietly(200)
    script.send(1000)
    script.expect("P.", seq=1001, ack=1, length=1000)
    assert cubic.window == 50_000
    script.inject(".", seq=1, ack=2001)
    script.advance_quietly(201)
    script.send(30_000)
    script.expect(".", seq=2001, ack=1, length=10_000, segment=1000)
    assert cubic.window == 10_000
    cubic.window = 5000
    cubic.handle_idle()
    assert cubic.window == 5000


def after_loss(window: int = 100, segment: int = 1000) -> Cubic:
    """In congestion avoidance, after a loss with that many segments on the way."""
    cubic = Cubic(segment)
    cubic.window = window * segment
    cubic.handle_loss(cubic.window)
    return cubic


def test_rfc_9438_4_6_loss_leaves_seven_tenths() -> None:
    cubic = after_loss()
    assert cubic.window == cubic.threshold == 70_000
    cubic = after_loss(2)
    assert cubic.window == 2000
    # Only what was on the way counts: the window may have been larger.
    cubic = Cubic(1000)
    cubic.window = 100_000
    cubic.handle_loss(50_000)
    assert cubic.window == 35_000


def grow(cubic: Cubic, seconds: float, *, rtt: int = RTT, begin: int = S) -> list[tuple[float, float]]:
    """Time since the first acknowledgment, and the window in segments, of a sender that fills it."""
    seen: list[tuple[float, float]] = []
    now = begin
    while now - begin < seconds * S:
        window = cubic.window
        for _ in range(10):
            cubic.handle_acknowledged(window // 10, now, rtt)
            seen.append(((now - begin) / S, cubic.window / cubic.segment))
            now += rtt // 10
    return seen


def formula(t: float, w_max: float, w_begin: float) -> float:
    k = math.cbrt((w_max - w_begin) / C)
    return C * (t - k) ** 3 + w_max


@pytest.mark.parametrize("window", [100, 1000])
def test_rfc_9438_4_2_curve_is_that_of_the_formula(window: int) -> None:
    cubic = after_loss(window)
    k = math.cbrt(window * (1 - BETA) / C)
    for t, w in grow(cubic, 2 * k):
        expected = formula(t + 0.1, window, window * BETA)
        # It is approached within a round trip.
        assert expected * 0.96 - 1 <= w <= max(expected * 1.02, formula(t + 0.2, window, window * BETA)) + 2


def test_rfc_9438_4_2_plateau_is_where_the_loss_was() -> None:
    cubic = after_loss(1000)
    k = math.cbrt(1000 * (1 - BETA) / C)
    curve = dict(grow(cubic, k))
    assert abs(curve[max(curve)] - 1000) < 5
    half = min(curve, key=lambda t: abs(t - k / 2))
    # Concave: half of the time is worth seven eighths of the way.
    assert abs(curve[half] - (1000 - 300 / 8)) < 8


def test_rfc_9438_4_3_small_windows_grow_as_reno_does() -> None:
    cubic = after_loss(10)
    rounds = 0
    now = S
    before = cubic.window / 1000
    while cubic.window < 10_000:
        for _ in range(7):
            cubic.handle_acknowledged(1000, now, MS)
        now += MS
        rounds += 1
    # alpha = 3 (1 - 0.7) / (1 + 0.7) = 0.53 segments a round trip, to the window of the loss.
    assert before == 7
    assert 5 <= rounds <= 7
    window = cubic.window
    for _ in range(10):
        for _ in range(cubic.window // 1000):
            cubic.handle_acknowledged(1000, now, MS)
        now += MS
    # Then a segment each.
    assert 8.5 <= (cubic.window - window) / 1000 <= 10.5


def test_rfc_9438_4_4_target_is_at_most_half_as_much_again() -> None:
    cubic = after_loss(100)
    cubic.handle_acknowledged(1000, S, RTT)
    before = cubic.window
    # After a minute of silence the formula says tens of thousands.
    for _ in range(before // 1000):
        cubic.handle_acknowledged(1000, 61 * S, RTT)
    assert before * 1.3 < cubic.window <= before * 1.5


def test_rfc_9438_4_7_fast_convergence_yields_to_newcomers() -> None:
    cubic = after_loss(100)
    cubic.handle_loss(cubic.window)
    assert cubic.window == 49_000
    # W_max is now (1 + 0.7) / 2 of what there was.
    assert cubic._w_max == pytest.approx(70 * 0.85)
    cubic = after_loss(100)
    cubic.window = 120_000
    cubic.handle_loss(cubic.window)
    assert cubic._w_max == 120


def test_rfc_9438_4_2_without_a_loss_the_curve_is_that_of_the_formulas() -> None:
    # So slow a path that it is above what Reno would have.
    cubic, model = Cubic(1000), Formulas(500)
    cubic.window = cubic.threshold = 500_000
    now = S
    for _ in range(400):
        cubic.handle_acknowledged(20_000, now, S)
        model.acknowledge(20, now / S, 1)
        assert cubic.window == pytest.approx(1000 * model.cwnd, abs=3)
        model.cwnd = cubic.window / 1000
        now += 40 * MS
    assert cubic.window > 1_500_000


def test_rfc_9438_beyond_the_plateau_without_a_loss_the_curve_begins_where_the_window_is() -> None:
    cubic = Cubic(1000)
    cubic.window = cubic.threshold = 50_000
    for t, w in grow(cubic, 3):
        expected = 50 + C * (t + 0.1) ** 3
        assert w <= max(expected + 1, 50 + 10 * (t + 0.1) + 1)
        assert w >= expected * 0.9


def test_rfc_5681_3_1_time_out_leaves_one_segment_and_half_the_flight() -> None:
    cubic = Cubic(1000)
    cubic.window = 100_000
    cubic.handle_timeout(80_000, is_first=True)
    assert (cubic.window, cubic.threshold) == (1000, 56_000)
    cubic.handle_timeout(1000, is_first=False)
    assert (cubic.window, cubic.threshold) == (1000, 56_000)
    cubic.handle_acknowledged(3000, S, RTT)
    assert cubic.window == 4000
    cubic.handle_acknowledged(100_000, S, RTT)
    # No further than the threshold.
    assert cubic.window == 56_000


def test_window_is_bounded() -> None:
    cubic = Cubic(1000)
    for _ in range(40):
        cubic.handle_acknowledged(cubic.window, S, RTT)
    assert cubic.window == MAX_WINDOW


def test_other_segments_leave_the_window_in_bytes() -> None:
    cubic = after_loss(100)
    cubic.handle_segment_changed(500)
    assert cubic.window == 70_000
    assert cubic._w_max == 200
    for _t, w in grow(cubic, 0.2):
        assert w >= 140
    cubic.window = 100
    cubic.handle_segment_changed(900)
    assert cubic.window == 900


def test_rfc_6582_3_2_end_of_recovery_lets_no_burst_leave() -> None:
    cubic = after_loss(100)
    cubic.handle_recovered(30_000)
    assert cubic.window == 31_000
    # What an initial window may be is no burst.
    cubic = after_loss(100)
    cubic.handle_recovered(0)
    assert cubic.window == 11_000
    cubic = after_loss(100)
    cubic.handle_recovered(90_000)
    assert cubic.window == 70_000


# Slow start that ends before a loss (RFC 9406).


def rounds(start: SlowStart, trips: list[int], samples: int = 8) -> None:
    """Rounds with that round trip each, ms; the first begins at 0."""
    number = start._round_end
    for trip in trips:
        for _ in range(samples):
            start.handle_round_trip(trip * MS, number, number + 1000)

        number += 1000


def test_rfc_9406_4_2_round_trip_that_does_not_grow_changes_nothing() -> None:
    start = SlowStart()
    rounds(start, [100, 100, 101, 104, 107])
    assert start.divisor == 1
    assert not start.is_over


@pytest.mark.parametrize(
    ("before", "after", "grows"),
    [(100, 112, False), (100, 113, True), (16, 19, False), (16, 20, True), (400, 415, False), (400, 416, True)],
)
def test_rfc_9406_4_2_round_trip_that_grows_by_an_eighth(before: int, after: int, *, grows: bool) -> None:
    """At least 4 ms, at most 16."""
    start = SlowStart()
    rounds(start, [before, after])
    assert start.divisor == (4 if grows else 1)


@pytest.mark.parametrize(("before", "grown"), [(16, 4 * MS), (80, 10 * MS), (400, 16 * MS)])
def test_rfc_9406_4_2_a_nanosecond_less_is_none(before: int, grown: int) -> None:
    for longer, divisor in ((grown - 1, 1), (grown, 4)):
        start = SlowStart()
        for at, trip in ((0, before * MS), (1000, before * MS + longer)):
            for _ in range(4):
                start.handle_round_trip(trip, at, at + 1000)
        assert start.divisor == divisor


def test_rfc_9406_4_2_the_least_of_a_round_counts_and_four_samples_are_enough() -> None:
    start = SlowStart()
    rounds(start, [100, 100])
    end = start._round_end
    for trip in (150, 150, 150):
        start.handle_round_trip(trip * MS, end, end + 1000)
    assert start.divisor == 1
    start.handle_round_trip(101 * MS, end, end + 1000)
    assert start.divisor == 1
    start.handle_round_trip(150 * MS, end, end + 1000)
    assert start.divisor == 1


def test_rfc_9406_4_3_five_conservative_rounds_end_slow_start() -> None:
    start = SlowStart()
    rounds(start, [100, 150])
    assert start.divisor == 4
    rounds(start, [150, 150, 150, 150])
    assert not start.is_over
    rounds(start, [150])
    assert start.is_over


def test_rfc_9406_4_2_round_trip_that_shrinks_again_was_no_queue() -> None:
    start = SlowStart()
    rounds(start, [100, 150, 150])
    rounds(start, [149])
    assert start.divisor == 1
    assert not start.is_over
    rounds(start, [149, 149])
    assert start.divisor == 1
    rounds(start, [170])
    assert start.divisor == 4


def test_conservative_slow_start_grows_by_a_quarter_and_ends_where_it_is() -> None:
    cubic = Cubic(1000)
    at = 0
    for trip in (100, 150):
        for _ in range(8):
            cubic.handle_round_trip(trip * MS, at, at + 1000)
        at += 1000
    cubic.handle_acknowledged(4000, S, RTT)
    assert cubic.window == 11_000
    for _ in range(5):
        for _ in range(8):
            cubic.handle_round_trip(150 * MS, at, at + 1000)
        at += 1000
    cubic.handle_acknowledged(4000, S, RTT)
    assert cubic.window == cubic.threshold == 12_000
    cubic.handle_round_trip(500 * MS, at, at + 1000)
    cubic.handle_acknowledged(4000, S, RTT)
    assert cubic.window < 13_000


def test_slow_start_after_a_time_out_is_the_plain_one() -> None:
    cubic = Cubic(1000)
    cubic.handle_timeout(10_000, is_first=True)
    at = 0
    for trip in (100, 150, 200):
        for _ in range(8):
            cubic.handle_round_trip(trip * MS, at, at + 1000)
        at += 1000
    cubic.handle_acknowledged(4000, S, RTT)
    assert cubic.window == 5000


# The window during recovery (RFC 6937).


def test_rfc_6937_3_window_goes_down_in_proportion() -> None:
    reduction = Reduction(20_000)
    pipe, sent, windows = 17_000, 0, []
    # As much as is delivered leaves times 0.7, a segment at a time, as far as the pipe is above the threshold.
    for _ in range(10):
        pipe -= 1000
        window = reduction.window(1000, pipe, 14_000, 1000, goes_well=False)
        windows.append(window)
        size = (window - pipe) // 1000 * 1000 if window > pipe else 0
        size = min(size, 1000)
        if size:
            reduction.handle_sent(size)
            pipe += size
            sent += size
    assert windows[:4] == [17_000, 16_400, 16_100, 15_800]
    assert (sent, pipe) == (7000, 14_000)


def test_rfc_6937_3_1_below_the_threshold_it_grows_again() -> None:
    reduction = Reduction(20_000)
    reduction.handle_sent(1000)
    # Safe is conservative: what was delivered more than was sent.
    assert reduction.window(1000, 5000, 14_000, 1000, goes_well=False) == 5000
    assert reduction.window(2000, 5000, 14_000, 1000, goes_well=False) == 7000
    # Slow start: what this acknowledgment delivers, and a segment more.
    reduction.handle_sent(2000)
    assert reduction.window(2000, 5000, 14_000, 1000, goes_well=True) == 8000
    # Never past the threshold.
    assert reduction.window(50_000, 13_500, 14_000, 1000, goes_well=True) == 14_000


def test_rfc_6937_window_is_never_below_the_pipe() -> None:
    reduction = Reduction(20_000)
    reduction.handle_sent(5000)
    assert reduction.window(1000, 5000, 14_000, 1000, goes_well=False) == 5000
    assert reduction.window(1000, 18_000, 14_000, 1000, goes_well=False) == 18_000


def test_rfc_6937_first_retransmission_leaves_whatever_is_on_the_way() -> None:
    assert Reduction(20_000).window(0, 19_000, 14_000, 1000, goes_well=False) == 20_000
    assert Reduction(0).window(0, 10, 5, 1000, goes_well=False) == 1010


class Formulas:
    """Those of RFC 9438 sections 4.2 to 4.7, in segments and seconds, one after the other as they stand there."""

    def __init__(self, cwnd: float) -> None:
        self.cwnd = self.cwnd_prior = self.w_max = cwnd
        self.epoch: float | None = None

    def lose(self, flight: float) -> None:
        self.cwnd_prior = min(self.cwnd, flight)
        self.w_max = self.cwnd_prior * 0.85 if self.cwnd_prior < self.w_max else self.cwnd_prior
        self.cwnd = self.cwnd_prior * 0.7
        self.epoch = None

    def acknowledge(self, segments: float, now: float, rtt: float) -> None:
        if self.epoch is None:
            self.epoch, self.w_est = now, self.cwnd
            self.k = 0.0
            if self.cwnd < self.w_max:
                self.k = math.cbrt((self.w_max - self.cwnd) / 0.4)
            else:
                self.w_max = self.cwnd
        w_cubic = 0.4 * (now - self.epoch + rtt - self.k) ** 3 + self.w_max
        target = min(max(self.cwnd, w_cubic), 1.5 * self.cwnd)
        alpha = 3 * 0.3 / 1.7 if self.w_est < self.cwnd_prior else 1
        self.w_est += alpha * segments / self.cwnd
        self.cwnd = max(self.cwnd + (target - self.cwnd) * segments / self.cwnd, self.w_est)


@pytest.mark.parametrize(("window", "rtt"), [(12, 5), (40, 20), (300, 80), (3000, 200)])
def test_rfc_9438_4_each_step_is_that_of_the_formulas(window: int, rtt: int) -> None:
    cubic, model = after_loss(window), Formulas(window)
    model.lose(window)
    now = S
    for number in range(1, 2000):
        acknowledged = 500 + 700 * (number % 3)
        if number % 451 == 0:
            flight = cubic.window - 2500 * (number % 2)
            cubic.handle_loss(flight)
            model.lose(flight / 1000)
        cubic.handle_acknowledged(acknowledged, now, rtt * MS)
        model.acknowledge(acknowledged / 1000, now / S, rtt / 1000)
        assert cubic.window == pytest.approx(1000 * model.cwnd, abs=3)
        # Whole bytes are what is kept.
        model.cwnd = cubic.window / 1000
        now += rtt * MS // 7


@pytest.mark.parametrize("what", ["idle", "other segments", "time-out"])
def test_rfc_9438_4_2_time_begins_anew_after(what: str) -> None:
    """A pause counts for nothing: the curve goes on from where the window is."""
    cubic = after_loss(100)
    grow(cubic, 1)
    if what == "idle":
        cubic.handle_idle()
        cubic.threshold = cubic.window
    elif what == "other segments":
        cubic.handle_segment_changed(500)
    else:
        cubic.handle_timeout(cubic.window, is_first=True)
        cubic.threshold = cubic.window = 40_000
    before = cubic.window
    cubic.handle_acknowledged(1000, 100 * S, RTT)
    assert cubic.window - before < 500


def test_other_segments_are_the_unit_of_what_reno_would_have() -> None:
    """The window of before the loss is in segments; after it, it grows by a segment a round trip."""
    cubic = after_loss(10)
    cubic.handle_segment_changed(500)
    # 14 segments of 500 bytes now, of which there were 20.
    for number in range(30):
        before = cubic.window
        for _ in range(before // 500):
            cubic.handle_acknowledged(500, S + number * MS, MS)
        grown = (cubic.window - before) / 500
        if not 9_000 <= before <= 10_000:
            assert grown == pytest.approx(0.53 if before < 9_000 else 1, abs=0.08)


def test_loss_of_nothing_that_was_on_the_way_leaves_two_segments() -> None:
    cubic = Cubic(1000)
    cubic.handle_loss(0)
    assert cubic.window == cubic.threshold == 2000
    # What it was at the loss was next to nothing, so it grows at once as a new one does.
    assert cubic._w_max == pytest.approx(0.001)


def test_slow_start_without_a_threshold_may_take_a_large_acknowledgment_whole() -> None:
    cubic = Cubic(1000)
    cubic.handle_acknowledged(500_000, S, RTT)
    assert cubic.window == 510_000
    # A threshold below the window is none for slow start.
    cubic.threshold = cubic.window
    cubic.handle_acknowledged(1000, S, RTT)
    assert 510_000 < cubic.window < 511_000


def test_rfc_9406_4_3_conservative_rounds_are_counted_anew_after_it_was_no_queue() -> None:
    start = SlowStart()
    rounds(start, [100, 150, 150, 150, 149])
    assert start.divisor == 1
    rounds(start, [180])
    assert start.divisor == 4
    rounds(start, [180, 180, 180, 180])
    assert not start.is_over
    rounds(start, [180])
    assert start.is_over
