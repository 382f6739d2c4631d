"""Ranges that the other side has, against a set of numbers (RFC 2018 section 5; RFC 6675 sections 2 to 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.stack.tcp.scoreboard import MAX_RANGES, Scoreboard

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=12)


def filled(ranges: list[tuple[int, int]]) -> tuple[Scoreboard, set[int]]:
    board, model = Scoreboard(), set[int]()
    for start, length in ranges:
        new = set(range(start, start + length))
        assert board.add(start, start + length) is not (new <= model)
        model |= new
    return board, model


def runs(numbers: set[int]) -> list[tuple[int, int]]:
    """The ranges of consecutive numbers."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1] = found[-1][0], number + 1
        else:
            found.append((number, number + 1))
    return found


@given(RANGES, st.integers(0, 80), st.integers(0, 80))
def test_ranges_are_as_a_set_of_numbers(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    board, model = filled(ranges)
    assert bool(board) is bool(model)
    assert board.sacked == len(model)
    assert list(zip(board._starts, board._ends, strict=True)) == runs(model)
    if model:
        assert board.highest == max(model) + 1
    assert board.covers(start) is (start in model)
    assert board.missing(start, end) == len(set(range(start, end)) - model)
    missing = sorted(set(range(start, end)) - model)
    expected = None
    if missing:
        last = missing[0]
        while last + 1 in missing:
            last += 1
        expected = missing[0], last + 1
    assert board.gap(start, end) == expected


@given(RANGES, st.integers(0, 80))
def test_what_was_acknowledged_is_forgotten(ranges: list[tuple[int, int]], until: int) -> None:
    board, model = filled(ranges)
    board.advance(until)
    left = {number for number in model if number >= until}
    assert list(zip(board._starts, board._ends, strict=True)) == runs(left)
    assert board.sacked == len(left)


@given(RANGES, st.integers(1, 10))
def test_rfc_6675_4_lost_is_what_has_enough_behind_it(ranges: list[tuple[int, int]], segment: int) -> None:
    board, model = filled(ranges)
    lost = {
        number
        for number in set(range(80)) - model
        if len([run for run in runs(model) if run[0] > number]) >= 3
        or len([each for each in model if each > number]) > 2 * segment
    }
    below = board.lost_below(segment)
    assert {number for number in set(range(80)) - model if number < below} == lost


def test_nothing_is_lost_of_nothing() -> None:
    assert Scoreboard().lost_below(1) == 0


def test_cleared_board_is_as_new() -> None:
    board, _ = filled([(1, 2), (5, 3)])
    board.clear()
    assert not board
    assert board.sacked == 0
    assert board.missing(0, 10) == 10


def test_ranges_are_bounded() -> None:
    board = Scoreboard()
    for number in range(MAX_RANGES):
        assert board.add(3 * number, 3 * number + 1)
    assert not board.add(3 * MAX_RANGES, 3 * MAX_RANGES + 1)
    assert board.sacked == MAX_RANGES
    # What touches one that is there is noted all the same.
    assert board.add(1, 2)
    assert board.sacked == MAX_RANGES + 1


@pytest.mark.parametrize(("start", "end"), [(3, 3), (4, 3)])
def test_empty_span_misses_nothing(start: int, end: int) -> None:
    board, _ = filled([(0, 10)])
    assert board.missing(start, end) == 0
    assert board.gap(start, end) is None


# All boards of eight numbers.

EIGHT = range(8)
ALL_BOARDS = [{number for number in EIGHT if bits >> number & 1} for bits in range(256)]


def board_of(model: set[int]) -> Scoreboard:
    board = Scoreboard()
    # The last first, so that each range is put in front.
    for left, right in reversed(runs(model)):
        board.add(left, right)
    return board


def test_every_small_board_answers_as_a_set() -> None:
    for model in ALL_BOARDS:
        board = board_of(model)
        for start in range(9):
            assert board.covers(start) is (start in model)
            for end in range(9):
                missing = set(range(start, end)) - model
                assert board.missing(start, end) == len(missing)
                assert board.gap(start, end) == (runs(missing) or [None])[0]


@pytest.mark.parametrize("segment", [1, 2])
@pytest.mark.parametrize("threshold", [3, 4])
def test_rfc_6675_4_what_is_lost_of_every_small_board(segment: int, threshold: int) -> None:
    for model in ALL_BOARDS:
        lost = {
            number
            for number in set(EIGHT) - model
            if len([run for run in runs(model) if run[0] > number]) >= threshold
            or len([each for each in model if each > number]) > (threshold - 1) * segment
        }
        below = board_of(model).lost_below(segment, threshold)
        assert {number for number in set(EIGHT) - model if number < below} == lost


def test_every_range_joins_every_small_board() -> None:
    for model in ALL_BOARDS[::3]:
        for start in EIGHT:
            for end in range(start + 1, 9):
                board, new = board_of(model), set(range(start, end))
                assert board.add(start, end) is not (new <= model)
                assert list(zip(board._starts, board._ends, strict=True)) == runs(model | new)
                assert board.sacked == len(model | new)
                board.advance(start)
                assert board.sacked == len({each for each in model | new if each >= start})
