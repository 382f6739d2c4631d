"""The replay window against a plain set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.noise.replay import WINDOW, ReplayWindow
from weft.noise.timers import REJECT_AFTER_MESSAGES


class Model:
    """All counters ever accepted, and the highest."""

    def __init__(self) -> None:
        self.accepted: set[int] = set()

    def is_fresh(self, counter: int) -> bool:
        highest = max(self.accepted, default=-1)
        return counter < REJECT_AFTER_MESSAGES and counter > highest - WINDOW and counter not in self.accepted


STEPS = st.one_of(
    st.integers(-5, 5),
    st.integers(-WINDOW - 2, WINDOW + 2),
    st.sampled_from([-WINDOW - 1, -WINDOW, -WINDOW + 1, 63, 64, 65, -63, -64, -65, WINDOW, WINDOW + 64, 8192, 10**6]),
)


@given(
    st.sampled_from([0, 63, 64, 10**6, REJECT_AFTER_MESSAGES - 90_000]),
    st.lists(st.tuples(STEPS, st.sampled_from([0, 0, 1, 2, 45, 63, 64, 65, 128, WINDOW + 70])), max_size=60),
)
def test_the_window_agrees_with_a_set(start: int, steps: list[tuple[int, int]]) -> None:
    window, model = ReplayWindow(), Model()
    counter = start
    for step, following in steps:
        if window.highest + following < REJECT_AFTER_MESSAGES:
            window.accept_next(following)
            model.accepted.update(range(window.highest - following + 1, window.highest + 1))
            assert window.highest == max(model.accepted, default=-1)
            for late in (0, 1, 64, following - 1, following, following + 1, WINDOW - 1, WINDOW):
                if window.highest - late >= 0:
                    assert window.is_fresh(window.highest - late) is model.is_fresh(window.highest - late)
        counter = max(counter + step, 0)
        fresh = model.is_fresh(counter)
        assert window.is_fresh(counter) is fresh
        assert window.accept(counter) is fresh
        if fresh:
            model.accepted.add(counter)
        counter = max(model.accepted, default=start) if step < 0 else counter


def test_every_counter_of_the_window_is_taken_once() -> None:
    window = ReplayWindow()
    top = 100_000
    assert window.accept(top)
    late = range(top - 1, top - WINDOW, -1)
    assert all(window.accept(counter) for counter in late)
    assert not any(window.accept(counter) for counter in late)


def test_the_window_holds_8128_counters() -> None:
    assert WINDOW == 8128
    window = ReplayWindow()
    assert window.accept(WINDOW)
    assert not window.is_fresh(0)
    assert window.accept(1)


def test_looking_changes_nothing() -> None:
    window = ReplayWindow()
    assert window.is_fresh(7)
    assert window.is_fresh(7)
    assert window.accept(7)
    assert not window.is_fresh(7)
    assert window.is_fresh(3)


def test_counters_beyond_reject_after_messages_are_never_fresh() -> None:
    window = ReplayWindow()
    assert not window.is_fresh(REJECT_AFTER_MESSAGES)
    assert not window.accept((1 << 64) - 1)
    assert window.accept(REJECT_AFTER_MESSAGES - 1)
    assert not window.accept(REJECT_AFTER_MESSAGES)


def test_a_jump_over_the_whole_window_forgets_what_was_before() -> None:
    window = ReplayWindow()
    for counter in range(200):
        assert window.accept(counter)
    assert window.accept(200 + 3 * WINDOW)
    assert not window.accept(199)
    assert window.accept(200 + 3 * WINDOW - 128)


@pytest.mark.parametrize("jump", [2, 3, 127, 128, 129, 1000])
def test_words_that_are_jumped_over_are_empty_when_the_ring_comes_round(jump: int) -> None:
    window = ReplayWindow()
    for counter in range(64 * 128):
        assert window.accept(counter)
    top = 64 * (127 + jump)
    assert window.accept(top)
    between = range(max(64 * 128, top - WINDOW + 1), top)
    assert all(window.accept(counter) for counter in between)
    assert not any(window.is_fresh(counter) for counter in between)
