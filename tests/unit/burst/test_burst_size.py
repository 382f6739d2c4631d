"""The size of bursts follows the loss: down at once, at rest while the loss is steady, up again soon.

Up to `report` this is about what the loss alone allows, however little the path delivers; the limit that the rate sets
follows at the end.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.burst.lossy_link import MS, SECOND, LossyLink
from weft.burst.size import BurstSize, LossReport

FAST, SLOW = 50_000, 500
SEEDS = range(3)


def clean_link(per_second: int, seed: int) -> LossyLink:
    link = LossyLink(per_second, seed)
    link.run(3)
    assert link.size.wanted == 64
    link.mark()
    return link


def close_changes(link: LossyLink, after_s: float) -> int:
    """How many changes follow another one within 10 s."""
    times = [at for at, _ in link.wanted if at > after_s]
    return sum(later - earlier < 10 for earlier, later in pairwise(times))


@pytest.mark.parametrize("per_second", [FAST, SLOW])
def test_without_loss_bursts_stay_whole(per_second: int) -> None:
    link = LossyLink(per_second)
    link.run(60)
    assert link.wanted == []
    assert link.size.loss == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("per_second", [FAST, SLOW])
def test_a_loss_that_costs_less_than_c_keeps_bursts_whole(per_second: int, seed: int) -> None:
    link = clean_link(per_second, seed)
    link.lose(1e-4)
    link.run(60)
    assert link.wanted == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("per_second", "loss", "settled_s", "rests_s"),
    [
        (FAST, 1e-3, 15, 60),
        (FAST, 5e-3, 10, 60),
        (FAST, 1e-2, 10, 40),
        (FAST, 5e-2, 3, 12),
        (SLOW, 5e-3, 120, 300),
        (SLOW, 1e-2, 60, 300),
        (SLOW, 5e-2, 20, 300),
    ],
)
def test_at_steady_loss_the_size_settles_near_c_over_p_and_rests(
    per_second: int, loss: float, settled_s: int, rests_s: int, seed: int
) -> None:
    link = clean_link(per_second, seed)
    link.lose(loss)
    link.run(settled_s + rests_s)
    pieces = link.size.wanted
    assert pieces == 1 or 0.03 <= pieces * loss <= 0.09
    assert pieces > 1 or loss > 0.025
    assert close_changes(link, settled_s) == 0
    assert abs(link.size.loss / loss - 1) < 0.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("loss", "least", "most"), [(1e-4, 64, 64), (1e-3, 40, 64), (5e-3, 7, 14), (1e-2, 4, 7), (5e-2, 1, 1)]
)
@pytest.mark.parametrize("before", [0, 2e-2])
def test_each_loss_has_its_size_from_above_and_from_below(
    loss: float, least: int, most: int, before: float, seed: int
) -> None:
    link = clean_link(FAST, seed)
    link.lose(before)
    link.run(5)
    link.lose(loss)
    link.run(15)
    assert least <= link.size.wanted <= most


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("loss", "within_s", "most"), [(5e-3, 1.0, 14), (1e-2, 1.0, 8), (5e-2, 1.0, 2), (2e-3, 2.0, 40)]
)
def test_the_size_goes_down_at_once_where_many_are_sent(loss: float, within_s: float, most: int, seed: int) -> None:
    link = clean_link(FAST, seed)
    link.lose(loss)
    link.run(within_s)
    assert link.size.wanted <= most


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("loss", "within_s", "most"), [(5e-3, 10, 32), (1e-2, 5, 16), (5e-2, 3, 4)])
def test_the_size_goes_down_soon_where_few_are_sent(loss: float, within_s: float, most: int, seed: int) -> None:
    link = clean_link(SLOW, seed)
    link.lose(loss)
    link.run(within_s)
    assert link.size.wanted <= most


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", [2e-3, 5e-3, 1e-2, 5e-2, 0.3])
def test_whole_bursts_are_back_5_s_after_the_loss_ended(loss: float, seed: int) -> None:
    link = clean_link(FAST, seed)
    link.lose(loss)
    link.run(8)
    assert link.size.wanted < 64
    link.lose(0)
    link.run(5)
    assert link.size.wanted == 64


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", [5e-3, 5e-2])
def test_where_few_are_sent_whole_bursts_come_back_as_evidence_grows(loss: float, seed: int) -> None:
    link = clean_link(SLOW, seed)
    link.lose(loss)
    link.run(60)
    link.lose(0)
    link.run(60)
    assert link.size.wanted >= 32


def test_one_lucky_second_does_not_bring_whole_bursts_back() -> None:
    """A few hundred datagrams without loss say little about one loss in a thousand."""
    link = clean_link(SLOW, 0)
    link.lose(5e-2)
    link.run(30)
    assert link.size.wanted == 1
    link.lose(0)
    link.run(1)
    assert link.size.wanted <= 8


def report(missing: int = 0, expected: int = 0, got: int = 0, opened: int = 0, given_up: int = 0) -> LossReport:
    return LossReport(missing, expected, got, opened, given_up, 0)


def after(size: BurstSize, now: int) -> int:
    """Run the timer if it is due, as the engine does; the pieces then."""
    due = size.next_timer()
    if due is not None and due <= now:
        size.handle_timer(now)
    return size.pieces


def test_no_report_within_1_s_of_the_first_burst_is_a_black_hole() -> None:
    size = BurstSize()
    assert size.handle_burst_sent(5 * SECOND)
    assert not size.handle_burst_sent(5 * SECOND + 1)
    assert size.next_timer() == 6 * SECOND
    assert after(size, 6 * SECOND - 1) == 64
    assert after(size, 6 * SECOND) == 1


def test_a_black_hole_is_tried_with_one_burst_after_10_s_doubling_to_10_min() -> None:
    size = BurstSize()
    now = 5 * SECOND
    waits = []
    for _ in range(9):
        assert size.pieces == 64
        size.handle_burst_sent(now)
        assert size.pieces == 1 or not waits, "a trial is one burst"
        now += SECOND
        assert after(size, now) == 1
        due = size.next_timer()
        assert due is not None
        waits.append((due - now) // SECOND)
        assert after(size, due - 1) == 1
        now = due
        after(size, now)
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_a_trial_burst_that_arrives_ends_the_black_hole() -> None:
    size = BurstSize()
    size.receive_report(report(), SECOND)
    size.handle_burst_sent(2 * SECOND)
    after(size, 3 * SECOND)
    after(size, 13 * SECOND)
    assert size.pieces == 64
    size.handle_burst_sent(14 * SECOND)
    assert size.pieces == 1
    size.receive_report(report(expected=64, got=64, opened=1), 14 * SECOND + 200 * MS)
    assert size.pieces == 64
    assert size.next_timer() is None
    size.handle_burst_sent(20 * SECOND)
    after(size, 21 * SECOND)
    assert size.next_timer() == 31 * SECOND, "the next black hole begins with 10 s"


def test_reports_of_type_4_messages_alone_do_not_end_a_black_hole() -> None:
    """What the receiver counts of single packets says nothing about bursts; it is there, and bursts are not."""
    size = BurstSize()
    size.handle_burst_sent(SECOND)
    after(size, 2 * SECOND)
    for tenth in range(21, 119):
        size.datagrams_sent += 5000
        size.receive_report(report(), tenth * 100 * MS)
        assert after(size, tenth * 100 * MS) == 1
    assert after(size, 12 * SECOND) == 64
    size.handle_burst_sent(12 * SECOND)
    size.receive_report(report(), 12 * SECOND + 200 * MS)
    assert size.pieces == 1
    after(size, 13 * SECOND)
    assert size.next_timer() == 33 * SECOND


def test_bursts_that_all_vanish_beside_type_4_messages_that_arrive_are_a_black_hole() -> None:
    size = BurstSize()
    size.receive_report(report(expected=640, got=640, opened=10), SECOND)
    now = 2 * SECOND
    while now < 4 * SECOND and size.pieces == 64:
        size.datagrams_sent += 10_000
        size.handle_burst_sent(now)
        size.receive_report(report(expected=640, got=640, opened=10), now + 50 * MS)
        now += 100 * MS
        after(size, now)
    assert size.pieces == 1
    assert now <= 3500 * MS


def test_one_lost_burst_between_single_packets_is_no_black_hole() -> None:
    size = BurstSize()
    size.receive_report(report(expected=64, got=64, opened=1), SECOND)
    for second in range(2, 20):
        size.handle_burst_sent(second * SECOND)
        arrived = 64 * (second // 2)
        size.receive_report(report(expected=64 + arrived, got=64 + arrived), second * SECOND + 100 * MS)
        assert after(size, second * SECOND + 900 * MS) == 64
    assert after(size, 60 * SECOND) == 64


def test_a_report_ends_the_watch() -> None:
    size = BurstSize()
    size.handle_burst_sent(SECOND)
    size.receive_report(report(expected=64, got=64, opened=1), SECOND + 200 * MS)
    assert size.next_timer() is None
    assert after(size, 60 * SECOND) == 64


def test_a_refusal_means_type_4_for_10_s_doubling_to_10_min() -> None:
    size = BurstSize()
    now = SECOND
    waits = []
    for _ in range(8):
        size.receive_refusal(now)
        assert size.pieces == 1
        due = size.next_timer()
        assert due is not None
        waits.append((due - now) // SECOND)
        size.receive_report(report(expected=64, got=64, opened=1), due - 2)
        assert after(size, due - 1) == 1
        assert after(size, due) == 64
        assert size.next_timer() is None
        now = due + SECOND
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600]


@pytest.mark.parametrize(("asked", "pieces"), [(0, 1), (1, 1), (7, 7), (64, 64), (65, 64)])
def test_a_fixed_size_is_changed_by_nothing(asked: int, pieces: int) -> None:
    size = BurstSize(fixed=asked)
    assert size.pieces == pieces
    size.receive_report(report(), SECOND)
    size.datagrams_sent += 100_000
    size.receive_report(report(missing=50_000), 2 * SECOND)
    assert size.pieces == pieces
    size.receive_refusal(2 * SECOND)
    size.handle_burst_sent(2 * SECOND)
    after(size, 3 * SECOND)
    assert size.pieces == pieces
    for step in range(10):
        size.datagrams_sent += 10
        size.receive_report(report(missing=50_000), 4 * SECOND + step * 200 * MS)
        assert size.pieces == pieces


def test_a_receiver_that_started_anew_is_no_loss() -> None:
    size = BurstSize()
    size.receive_report(report(5, 64_000, 63_900, 900, 9), SECOND)
    size.datagrams_sent += 100_000
    size.receive_report(report(0, 640, 640, 10), 2 * SECOND)
    assert (size.pieces, size.loss) == (64, 0)
    size.datagrams_sent += 100_000
    size.receive_report(report(0, 100_000, 99_000, 900, 9), 3 * SECOND)
    assert size.pieces == 5
    assert 0.008 < size.loss < 0.012


def test_gaps_that_close_later_are_no_loss() -> None:
    """Datagrams that overtake each other look lost until they come."""
    size = BurstSize()
    size.receive_report(report(), SECOND)
    for step in range(2, 100):
        size.datagrams_sent += 1000
        size.receive_report(report(missing=3 if step % 2 else 0), step * SECOND)
    assert size.pieces == 64
    assert size.loss < 1e-4


@pytest.mark.parametrize("per_second", [500, 850, 1400])
def test_slow_path_has_bursts_of_2_or_3_datagrams(per_second: int) -> None:
    link = LossyLink(per_second)
    link.run(1)
    link.mark()
    assert link.size.pieces in (2, 3)
    link.run(60)
    assert {pieces for _, pieces in link.sizes} <= {2, 3}
    assert link.size.wanted == 64


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", [0, 1e-3, 5e-3, 1e-2, 5e-2])
def test_path_of_more_than_64_datagrams_in_2_ms_is_limited_by_its_loss_alone(loss: float, seed: int) -> None:
    link = LossyLink(FAST, seed)
    link.lose(loss)
    link.run(20)
    assert link.sizes == link.wanted
    assert link.size.pieces == link.size.wanted


def test_lost_datagrams_are_not_delivered() -> None:
    """The queue of a slow path drops what is too much for it."""
    size = BurstSize()
    size.receive_report(report(), SECOND)
    size.datagrams_sent += 10_000
    size.receive_report(report(missing=9700), SECOND + 200 * MS)
    assert size.pieces == 1
    for step in range(2, 100):
        size.datagrams_sent += 300
        size.receive_report(report(missing=9700), SECOND + step * 200 * MS)
    assert size.pieces == 3


def test_flow_that_starts_has_longer_bursts_with_each_report() -> None:
    link = LossyLink(500)
    link.run(5)
    pieces = [link.size.pieces]
    for _ in range(8):
        link.per_second *= 2
        link.run(0.45)
        pieces.append(link.size.pieces)
        assert link.size.pieces >= min(64, 0.95 * link.per_second * 0.002)
    assert pieces == sorted(pieces)
    assert (pieces[0], pieces[-1]) == (2, 64)


def test_flow_that_becomes_slow_has_short_bursts_within_3_s() -> None:
    link = LossyLink(FAST)
    link.run(5)
    assert link.size.pieces == 64
    link.per_second = 500
    link.run(3)
    assert link.size.pieces == 2


def test_after_a_pause_the_first_burst_ends_the_limit_and_the_third_report_sets_it() -> None:
    link = LossyLink(1000)
    link.run(5)
    link.per_second = 0
    link.run(10)
    assert link.size.pieces == 2
    link.per_second = 1000
    link.mark()
    link.run(0.01)
    assert link.size.pieces == 64
    link.run(0.6)
    assert [pieces for _, pieces in link.sizes] == [64, 2]


def test_messages_a_second_apart_limit_nothing() -> None:
    size = BurstSize()
    for second in range(1, 30):
        size.datagrams_sent += 1
        size.receive_report(report(), second * SECOND)
        assert size.pieces == 64


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", [5e-3, 1e-2])
@pytest.mark.parametrize("lull_per_second", [5, 20, 1000])
def test_rate_that_comes_and_goes_leaves_alone_a_size_that_the_loss_limits(
    lull_per_second: int, loss: float, seed: int
) -> None:
    link = clean_link(FAST, seed)
    link.lose(loss)
    link.run(10)
    for step in range(25):
        link.per_second = FAST if step % 2 else lull_per_second
        link.run(1 + step % 3 / 5)
    changes = [at for at, _ in link.sizes if at > 10]
    assert all(later - earlier >= 10 for earlier, later in pairwise(changes))
    assert link.size.pieces == link.size.wanted < 20


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("per_second", [FAST, 850])
def test_loss_leads_to_single_packets_whatever_the_rate(per_second: int, seed: int) -> None:
    link = LossyLink(per_second, seed)
    link.lose(5e-2)
    link.run(30)
    link.mark()
    link.run(15)
    assert link.size.pieces == 1
    assert link.sizes == []


def test_type_4_messages_measure_the_rate_for_the_bursts_after_them() -> None:
    size = BurstSize()
    size.receive_refusal(SECOND)
    for step in range(51):
        size.datagrams_sent += 300
        size.receive_report(report(), SECOND + step * 200 * MS)
        assert size.pieces == (3 if step == 50 else 1)


def test_limit_holds_in_a_black_hole_and_its_trial_is_a_burst() -> None:
    size = BurstSize()
    size.handle_burst_sent(SECOND)
    after(size, 2 * SECOND)
    for step in range(50):
        size.datagrams_sent += 20
        size.receive_report(report(), 2 * SECOND + step * 200 * MS)
        assert size.pieces == 1
    assert after(size, 12 * SECOND) == 2
    size.handle_burst_sent(12 * SECOND)
    assert size.pieces == 1
    size.receive_report(report(expected=2, got=2, opened=1), 12 * SECOND + 200 * MS)
    assert size.pieces == 2
    assert size.next_timer() is None


def test_receiver_that_started_anew_leaves_the_limit() -> None:
    size = BurstSize()
    for step in range(20):
        size.datagrams_sent += 300
        got = 300 * step if step < 10 else 300 * (step - 10)
        size.receive_report(report(expected=got, got=got), SECOND + step * 200 * MS)
        assert size.pieces == (3 if step > 1 else 64)


def test_timer_never_shortens_bursts_because_of_the_rate() -> None:
    """Shorter bursts after a timer are taken for a path that swallows them."""
    size = BurstSize()
    size.receive_report(report(), SECOND)
    for step, delivered in enumerate((3000, 100, 100), 1):
        size.datagrams_sent += delivered
        size.receive_report(report(), SECOND + step * 200 * MS)
    pieces = []
    for tenth in range(60):
        size.handle_timer(1600 * MS + tenth * 100 * MS)
        pieces.append(size.pieces)
    assert pieces == [30] * 7 + [64] * 53


COUNTS = st.one_of(st.integers(0, 100), st.integers(0, 2**62), st.just(2**62))
EVENTS = st.one_of(
    st.tuples(st.just("report"), st.tuples(*[COUNTS] * 6)),
    st.tuples(st.just("sent"), st.integers(0, 10**6)),
    st.tuples(st.just("burst"), st.none()),
    st.tuples(st.just("refusal"), st.none()),
    st.tuples(st.just("time"), st.integers(0, 20 * SECOND)),
)


@given(st.lists(EVENTS, max_size=60))
def test_whatever_a_peer_reports_the_size_stays_between_1_and_64(events: list[tuple[str, object]]) -> None:
    size = BurstSize()
    now = SECOND
    for name, value in events:
        if name == "report":
            assert isinstance(value, tuple)
            size.receive_report(LossReport(*value), now)
        elif name == "sent":
            assert isinstance(value, int)
            size.datagrams_sent += value
        elif name == "burst":
            size.handle_burst_sent(now)
        elif name == "refusal":
            size.receive_refusal(now)
        else:
            assert isinstance(value, int)
            now += value
            after(size, now)
        assert 1 <= size.pieces <= 64
        assert 0 <= size.loss <= 1
        due = size.next_timer()
        assert due is None or name != "time" or due > now


@given(COUNTS, COUNTS)
def test_a_hostile_report_does_not_hold_bursts_down_for_long(first: int, second: int) -> None:
    size = BurstSize()
    size.receive_report(LossReport(first, first, first, 0, 0, 0), SECOND)
    size.datagrams_sent += 10_000
    size.receive_report(LossReport(second, max(first, second), first, 0, 0, 0), 2 * SECOND)
    base = max(first, second)
    for step in range(50):
        size.datagrams_sent += 10_000
        now = 3 * SECOND + step * 200 * MS
        size.receive_report(LossReport(second, base, first, 0, 0, 0), now)
    assert size.pieces == 64
