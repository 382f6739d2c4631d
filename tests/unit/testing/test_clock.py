import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import UsageError
from weft.testing.clock import MS, S, VirtualClock


def test_advance_past_callbacks_runs_them_in_order_at_their_times() -> None:
    clock = VirtualClock(now=0)
    ran: list[tuple[str, int]] = []
    clock.call_later(20 * MS, lambda: ran.append(("late", clock.now)))
    clock.call_later(10 * MS, lambda: ran.append(("early", clock.now)))
    clock.call_later(10 * MS, lambda: ran.append(("early too", clock.now)))
    clock.call_later(50 * MS, lambda: ran.append(("never", clock.now)))
    clock.advance(30 * MS)
    assert ran == [("early", 10 * MS), ("early too", 10 * MS), ("late", 20 * MS)]
    assert clock.now == 30 * MS


def test_callback_that_schedules_another_in_the_span_runs_both() -> None:
    clock = VirtualClock(now=0)
    times: list[int] = []

    def again() -> None:
        times.append(clock.now)
        clock.call_later(10, again)

    clock.call_later(10, again)
    clock.advance(35)
    assert times == [10, 20, 30]


def test_wall_clock_stepped_back_leaves_monotonic_time_and_timers_alone() -> None:
    clock = VirtualClock(now=5, wall_ns=1_000 * S)
    timer = clock.call_later(S, lambda: None)
    clock.step_wall(-900 * S)
    assert (clock.now, clock.wall_ns, timer.waiting) == (5, 100 * S, True)
    clock.advance(S)
    assert (clock.now, clock.wall_ns, timer.waiting) == (S + 5, 101 * S, False)


def test_cancelled_timer_never_runs() -> None:
    clock = VirtualClock()
    ran: list[int] = []
    clock.call_later(1, lambda: ran.append(1)).cancel()
    assert clock.next_at() is None
    assert not clock.run_next()
    clock.advance(S)
    assert ran == []


def test_timer_for_a_time_that_passed_runs_at_the_next_move() -> None:
    clock = VirtualClock(now=100)
    ran: list[int] = []
    clock.call_at(50, lambda: ran.append(clock.now))
    assert ran == []
    clock.advance(0)
    assert ran == [100]


def test_time_asked_to_run_backwards_refuses() -> None:
    clock = VirtualClock(now=10)
    with pytest.raises(UsageError, match="back"):
        clock.advance_to(9)


def test_callbacks_that_never_let_time_move_are_called_a_livelock() -> None:
    clock = VirtualClock()

    def again() -> None:
        clock.call_later(0, again)

    again()
    with pytest.raises(UsageError, match="livelock"):
        clock.advance(1)


def test_timers_set_anew_many_times_do_not_pile_up() -> None:
    clock = VirtualClock()
    timer = clock.call_later(S, lambda: None)
    for _ in range(10_000):
        timer.cancel()
        timer = clock.call_later(S, lambda: None)
    assert len(clock._heap) < 200
    assert clock.next_at() == timer.at


@given(st.lists(st.integers(0, 1_000), max_size=200))
def test_any_schedule_runs_sorted_and_stable(delays: list[int]) -> None:
    clock = VirtualClock(now=0)
    ran: list[tuple[int, int]] = []
    for number, delay in enumerate(delays):
        clock.call_later(delay, lambda item=(delay, number): ran.append(item))
    clock.advance(1_000)
    assert ran == sorted((delay, number) for number, delay in enumerate(delays))
