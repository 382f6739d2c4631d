"""Limits of rates, against counting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weft.noise.timers import MILLISECOND_NS, SECOND_NS
from weft.rates import Rate, SourceRates

START_NS = 500 * SECOND_NS


def test_a_burst_fits_and_then_the_rate_holds() -> None:
    rate = Rate(20, burst=5)
    assert [rate.allows(START_NS) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not rate.allows(START_NS + 49 * MILLISECOND_NS)
    assert rate.allows(START_NS + 50 * MILLISECOND_NS)
    assert not rate.allows(START_NS + 50 * MILLISECOND_NS)


@given(st.lists(st.integers(0, 200 * MILLISECOND_NS), max_size=200))
def test_in_any_second_at_most_rate_and_burst_fit(steps: list[int]) -> None:
    rate = Rate(20, burst=5)
    now, allowed = START_NS, []
    for step in steps:
        now += step
        if rate.allows(now):
            allowed.append(now)
    for begin in allowed:
        assert sum(begin <= at < begin + SECOND_NS for at in allowed) <= 25


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 700 * MILLISECOND_NS)), max_size=200))
def test_each_source_has_the_rate_of_its_own(steps: list[tuple[str, int]]) -> None:
    sources = SourceRates(20, burst=5, capacity=10)
    alone = {"a": Rate(20, burst=5), "b": Rate(20, burst=5)}
    now = START_NS
    for source, step in steps:
        now += step
        assert sources.allows(source, now) is alone[source].allows(now)


def test_sources_beyond_the_capacity_are_refused_until_the_table_turns() -> None:
    sources = SourceRates(20, burst=5, capacity=2)
    assert sources.allows("a", START_NS)
    assert sources.allows("b", START_NS)
    assert not sources.allows("c", START_NS)
    assert sources.allows("a", START_NS)
    assert sources.allows("c", START_NS + SECOND_NS)


def test_a_debt_outlives_the_turn_of_the_table() -> None:
    sources = SourceRates(20, burst=5, capacity=10)
    assert sources.allows("b", START_NS)
    late = START_NS + SECOND_NS - 1
    assert [sources.allows("a", late) for _ in range(5)] == [True] * 5
    assert not sources.allows("a", late + 1)
