"""What a path delivers in 2 ms limits bursts: it rises with the next report, falls late, is forgotten in a pause."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.burst.rate import MEMORY_NS, SHORTEST_SAMPLE_NS, STEADY_NS, DeliveryRate
from weft.burst.size import REPORT_INTERVAL_NS

MS = 1_000_000
SECOND = 1000 * MS


class Reports:
    """Reports that come every 200 ms unless told otherwise; two came already, and told of nothing delivered."""

    def __init__(self) -> None:
        self.rate = DeliveryRate()
        self.now = 1000 * SECOND
        self.rate.start(self.now)
        assert self.come(0) == 64

    def come(self, per_second: float, after_ns: int = REPORT_INTERVAL_NS) -> int:
        """One report after so long, of a path that delivered so much; the limit then."""
        self.now += after_ns
        self.rate.add(round(per_second * after_ns / SECOND), self.now)
        return self.rate.limit(self.now)


def test_figures_are_those_of_the_reports() -> None:
    assert STEADY_NS == 3 * REPORT_INTERVAL_NS
    assert SHORTEST_SAMPLE_NS == REPORT_INTERVAL_NS / 2


def test_before_the_third_report_nothing_limits() -> None:
    rate = DeliveryRate()
    limits = [rate.limit(SECOND)]
    for step in range(4):
        rate.add(10, SECOND + step * 200 * MS)
        limits.append(rate.limit(SECOND + step * 200 * MS))
    assert limits == [64, 64, 64, 2, 2]


def test_flow_that_begins_in_the_middle_of_the_first_sample_is_not_limited() -> None:
    rate = DeliveryRate()
    for step, delivered in enumerate((0, 500, 10_000, 10_000)):
        rate.add(delivered, SECOND + step * 200 * MS)
        assert rate.limit(SECOND + step * 200 * MS) == 64


@pytest.mark.parametrize(
    ("per_second", "limit"),
    [(0, 2), (5, 2), (850, 2), (1500, 3), (8500, 17), (31_500, 63), (32_000, 64), (200_000, 64)],
)
def test_steady_path_allows_what_it_delivers_in_2_ms_but_2_and_at_most_64(per_second: int, limit: int) -> None:
    reports = Reports()
    assert {reports.come(per_second) for _ in range(50)} == {limit}


def test_limit_rises_with_the_next_report() -> None:
    reports = Reports()
    for _ in range(20):
        reports.come(1000)
    assert reports.come(10_000) == 20
    assert reports.come(40_000) == 64


def test_lull_of_less_than_2_s_changes_nothing_and_a_longer_one_does() -> None:
    reports = Reports()
    reports.come(10_000)
    assert {reports.come(100) for _ in range(MEMORY_NS // REPORT_INTERVAL_NS)} == {20}
    assert reports.come(100) == 2


@pytest.mark.parametrize("asked", [False, True])
def test_after_a_pause_nothing_limits_until_the_third_report(asked: bool) -> None:
    reports = Reports()
    reports.come(1000)
    at = reports.now
    assert reports.rate.limit(at + STEADY_NS) == 2
    if asked:
        assert reports.rate.limit(at + STEADY_NS + 1) == 64
    assert reports.come(1000, STEADY_NS + 1) == 64
    assert reports.come(1000) == 64
    assert reports.come(2000) == 4


def test_what_was_measured_before_a_pause_is_forgotten() -> None:
    reports = Reports()
    reports.come(30_000)
    reports.come(0, STEADY_NS + 1)
    reports.come(1000)
    assert reports.come(1000) == 2


def test_single_reports_that_were_lost_change_nothing() -> None:
    reports = Reports()
    reports.come(5000)
    assert {reports.come(5000, step * REPORT_INTERVAL_NS) for step in (2, 1, 3, 2, 1, 1, 3)} == {10}


def test_reports_that_were_held_up_and_come_together_are_no_rate() -> None:
    """Between two reports that are 1 ms apart one burst may have left, and that is not 64,000 a second."""
    reports = Reports()
    reports.come(1000)
    reports.now += 350 * MS
    reports.rate.add(350, reports.now)
    for _ in range(3):
        reports.now += MS
        reports.rate.add(20, reports.now)
    assert reports.rate.limit(reports.now) == 2
    reports.now += 247 * MS
    reports.rate.add(190, reports.now)
    assert reports.rate.limit(reports.now) == 2


def test_report_that_cannot_be_compared_begins_a_sample_and_leaves_the_limit() -> None:
    reports = Reports()
    reports.come(1500)
    reports.now += REPORT_INTERVAL_NS
    reports.rate.start(reports.now)
    assert reports.rate.limit(reports.now) == 3
    assert reports.come(1500) == 3


def test_losses_that_come_to_light_late_leave_the_least() -> None:
    reports = Reports()
    assert reports.come(-1000) == 2


@given(st.lists(st.tuples(st.integers(-(2**64), 2**64), st.integers(0, 3 * SECOND), st.booleans()), max_size=60))
def test_whatever_is_reported_the_limit_stays_between_2_and_64(steps: list[tuple[int, int, bool]]) -> None:
    rate = DeliveryRate()
    now = SECOND
    for delivered, passed, comparable in steps:
        now += passed
        if comparable:
            rate.add(delivered, now)
        else:
            rate.start(now)
        assert 2 <= rate.limit(now) <= 64
        assert rate.limit(now + STEADY_NS + 1) == 64
