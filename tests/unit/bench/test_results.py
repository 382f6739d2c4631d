import math

import pytest
from bench.results import Name, Results, percentile
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)])
def test_percentile_of_one_to_a_hundred_is_that_number(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_percentile_of_nothing_raises() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.integers(0, 100))
def test_percentile_of_any_values_covers_its_share_and_no_smaller_value_does(
    values: list[float], hundredths: int
) -> None:
    result = percentile(values, hundredths / 100)
    needed = math.ceil(hundredths * len(values) / 100)
    assert sum(value <= result for value in values) >= needed
    assert sum(value < result for value in values) < max(needed, 1)


def test_names_come_once_and_in_order() -> None:
    results = Results()
    for name in ("a.plain.x", "b.single.x", "a.plain.y", "a.plain.x"):
        results.add(Name(*name.split(".")), 1.0)
    assert (results.names(0), results.names(1), results.names(2)) == (["a", "b"], ["plain", "single"], ["x", "y"])


def test_median_of_what_was_not_measured_is_none() -> None:
    assert Results().median(Name("a", "b", "c")) is None
