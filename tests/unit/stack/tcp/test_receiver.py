"""The receiving half alone, against plain strings and sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stack.tcp.script import MS, pattern
from weft.stack.tcp.budget import Budget
from weft.stack.tcp.receiver import (
    INITIAL_LIMIT,
    INITIAL_ROUND_TRIP_NS,
    LEAST_SEGMENT,
    MOST_SEGMENT,
    UNSCALED_MAX,
    Receiver,
)

WHOLE = pattern(60)
PIECES = st.lists(st.tuples(st.integers(0, 70), st.integers(1, 20)), max_size=20)


@given(PIECES, st.integers(0, 60), st.none() | st.integers(0, 60))
def test_pieces_in_any_order(pieces: list[tuple[int, int]], edge: int, fin: int | None) -> None:
    base = 1000
    receiver = Receiver(base)
    receiver.edge = base + edge
    have, taken = set[int](), b""
    if fin is not None:
        receiver.receive_fin(base + fin)
        if fin > edge:
            fin = None
    end = edge if fin is None else fin
    for start, length in pieces:
        data = bytes((base + number) % 251 for number in range(start, start + length))
        before, had_holes = receiver.next, bool(receiver._starts)
        passed = fin is not None and before == base + fin + 1
        in_order = receiver.receive(base + start, memoryview(data))
        new = set(range(start, min(start + length, end))) - set(range(before - base))
        have |= new
        expected_next = 0
        while expected_next in have:
            expected_next += 1
        is_over = fin is not None and expected_next == fin
        assert receiver.next == base + expected_next + is_over
        assert receiver.has_fin is is_over
        assert in_order is (bool(new) and not had_holes and base + start <= before and not passed)
        behind = {number for number in have if number > expected_next}
        assert bool(receiver._starts) is bool(behind)
        for left, right in receiver.blocks:
            assert set(range(left - base, right - base)) <= behind
            assert right - base not in behind
            assert left - base - 1 not in behind
        assert len(receiver.blocks) == len(set(receiver.blocks)) <= 4
        taken += b"".join(receiver.take(None))
        assert receiver.ready_bytes == 0
    assert taken == bytes((base + number) % 251 for number in range(len(taken)))


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=9), st.lists(st.none() | st.integers(0, 20), max_size=9))
def test_user_takes_in_any_portions(chunks: list[bytes], limits: list[int | None]) -> None:
    receiver, whole = Receiver(0), b"".join(chunks)
    receiver.edge = 1000
    for chunk in chunks:
        receiver.receive(receiver.next, memoryview(chunk))
    for limit in limits:
        portion = receiver.take(limit)
        size = len(whole) if limit is None else min(limit, len(whole))
        assert b"".join(portion) == whole[:size]
        assert all(portion)
        whole = whole[size:]
        assert receiver.ready_bytes == len(whole)


@pytest.mark.parametrize(
    ("start", "length", "window", "acceptable"),
    [
        # Table 6.
        (100, 0, 0, True),
        (99, 0, 0, False),
        (101, 0, 0, False),
        (100, 0, 50, True),
        (149, 0, 50, True),
        (150, 0, 50, False),
        (99, 0, 50, False),
        (100, 1, 0, False),
        (99, 1, 50, False),
        (99, 2, 50, True),
        (100, 1, 50, True),
        (149, 1, 50, True),
        (149, 9, 50, True),
        (150, 1, 50, False),
        # More lenient than the table, as Linux is: what lies within is taken.
        (90, 100, 50, True),
        (90, 10, 50, False),
        (90, 11, 50, True),
        (90, 100, 0, True),
        (90, 10, 0, False),
    ],
)
def test_3_10_7_4_table_6(start: int, length: int, window: int, *, acceptable: bool) -> None:
    receiver = Receiver(100)
    receiver.edge = 100 + window
    assert receiver.is_acceptable(start, length) is acceptable


def test_size_of_a_full_segment() -> None:
    receiver = Receiver(0)
    assert receiver.segment == LEAST_SEGMENT
    receiver.note_segment(100)
    assert receiver.segment == LEAST_SEGMENT
    receiver.note_segment(1000)
    receiver.note_segment(900)
    assert receiver.segment == 1000
    receiver.note_segment(60_000)
    assert receiver.segment == MOST_SEGMENT


def test_window_of_what_is_kept() -> None:
    receiver = Receiver(0)
    receiver.edge = 65_535
    assert receiver.offer == UNSCALED_MAX
    receiver.shift = 8
    assert receiver.offer == INITIAL_LIMIT
    receiver.receive(0, memoryview(bytes(60_000)))
    assert receiver.offer == INITIAL_LIMIT - 60_000
    assert receiver.window() == (INITIAL_LIMIT - 60_000) >> 8
    assert receiver.edge == INITIAL_LIMIT
    receiver.limit = 1000
    assert receiver.offer == 0
    # What was offered stays offered.
    assert receiver.window() == (INITIAL_LIMIT - 60_000) >> 8


def test_window_is_at_most_what_the_field_takes() -> None:
    receiver = Receiver(0)
    receiver.edge = 100_000
    receiver.limit = 8 << 20
    assert receiver.window() == UNSCALED_MAX


def test_when_a_window_that_opens_is_worth_telling() -> None:
    receiver = Receiver(0)
    receiver.segment = 1000
    receiver.edge = 10_000
    receiver.limit = 11_000
    # Two segments more than was offered, or a quarter of all, is worth it where little is left of that.
    assert not receiver.is_worth_telling()
    receiver.receive(0, memoryview(bytes(8_000)))
    assert receiver.offer == 3000
    assert not receiver.is_worth_telling()
    receiver.take(999)
    assert not receiver.is_worth_telling()
    receiver.take(1)
    assert receiver.next + receiver.offer - receiver.edge == 2000
    assert receiver.is_worth_telling()
    receiver.receive_fin(8000)
    assert not receiver.is_worth_telling()


def test_a_quarter_of_the_limit_is_worth_telling() -> None:
    receiver = Receiver(0)
    receiver.shift = 8
    receiver.segment = 1000
    receiver.edge = 80_000
    receiver.limit = 80_000 + 19_999
    assert not receiver.is_worth_telling()
    receiver.limit = 107_000
    assert receiver.is_worth_telling()
    receiver.limit = 106_000
    assert not receiver.is_worth_telling()


def test_window_grows_with_what_is_taken_in_a_round_trip() -> None:
    receiver = Receiver(0)
    receiver.shift = 8
    receiver.edge = 1 << 30

    def take(size: int) -> None:
        receiver.receive(receiver.next, memoryview(bytes(size)))
        receiver.take(None)

    now = 1000 * MS
    receiver.adapt(now, 20 * MS, Budget(1 << 30))
    take(100_000)
    receiver.adapt(now + 20 * MS - 1, 20 * MS, Budget(1 << 30))
    assert receiver.limit == INITIAL_LIMIT
    receiver.adapt(now + 20 * MS, 20 * MS, Budget(1 << 30))
    assert receiver.limit == 400_000
    # It does not shrink, and begins to count anew.
    take(10_000)
    receiver.adapt(now + 40 * MS, 20 * MS, Budget(1 << 30))
    assert receiver.limit == 400_000
    take(3_000_000)
    receiver.adapt(now + 60 * MS, 20 * MS, Budget(1 << 30))
    # 8 MiB are the most.
    assert receiver.limit == 8 << 20


def test_first_round_says_nothing() -> None:
    receiver = Receiver(0)
    receiver.edge = 1 << 30
    receiver.receive(0, memoryview(bytes(1_000_000)))
    receiver.take(None)
    receiver.adapt(1000 * MS, 20 * MS, Budget(1 << 30))
    assert receiver.limit == INITIAL_LIMIT


@pytest.mark.parametrize(("round_trip", "wait"), [(0, INITIAL_ROUND_TRIP_NS), (1, 1 * MS), (5 * MS, 5 * MS)])
def test_rounds_are_as_long_as_a_round_trip(round_trip: int, wait: int) -> None:
    receiver = Receiver(0)
    receiver.edge = 1 << 30
    receiver.adapt(1000 * MS, round_trip, Budget(1 << 30))
    receiver.receive(0, memoryview(bytes(100_000)))
    receiver.take(None)
    receiver.adapt(1000 * MS + wait - 1, round_trip, Budget(1 << 30))
    assert receiver.limit == INITIAL_LIMIT
    receiver.adapt(1000 * MS + wait, round_trip, Budget(1 << 30))
    assert receiver.limit == 400_000


def test_long_round_counts_for_as_much_of_it_as_a_round_trip_is() -> None:
    receiver = Receiver(0)
    receiver.edge = 1 << 30
    receiver.adapt(1000 * MS, 10 * MS, Budget(1 << 30))
    receiver.receive(0, memoryview(bytes(1_000_000)))
    receiver.take(None)
    receiver.adapt(1100 * MS, 10 * MS, Budget(1 << 30))
    assert receiver.limit == 400_000


def test_windows_grow_no_further_than_the_budget_of_the_host_allows() -> None:
    budget = Budget(300_000)
    receivers = [Receiver(0), Receiver(0), Receiver(0)]
    for receiver in receivers:
        receiver.edge = 1 << 30
        receiver.adapt(1000 * MS, 20 * MS, budget)
        receiver.receive(0, memoryview(bytes(115_536)))
        receiver.take(None)
        receiver.adapt(1020 * MS, 20 * MS, budget)
    assert [receiver.limit - INITIAL_LIMIT for receiver in receivers] == [200_000, 100_000, 0]
    assert budget.left == 0
    receivers[0].give_back(budget)
    assert (budget.left, receivers[0].limit) == (200_000, INITIAL_LIMIT)


@pytest.mark.parametrize(("at", "taken"), [(9, None), (10, 10), (20, 20), (21, None)])
def test_fin_is_within_the_window(at: int, taken: int | None) -> None:
    receiver = Receiver(10)
    receiver.edge = 20
    receiver.receive_fin(at)
    assert receiver.fin == taken
    assert receiver.has_fin is (at == 10)
    if at == 10:
        assert (receiver.next, receiver.edge) == (11, 20)


def test_fin_at_the_edge_moves_it() -> None:
    receiver = Receiver(10)
    receiver.receive_fin(10)
    assert (receiver.next, receiver.edge) == (11, 11)


def test_first_fin_counts() -> None:
    receiver = Receiver(10)
    receiver.edge = 20
    receiver.receive_fin(15)
    receiver.receive_fin(12)
    assert receiver.fin == 15


def test_what_ends_forgets_its_holes() -> None:
    receiver = Receiver(0)
    receiver.edge = 20
    receiver.receive(5, memoryview(b"abc"))
    assert receiver._starts
    receiver.forget_holes()
    assert not receiver._starts
    assert receiver.blocks == []


def test_user_that_takes_chunks_to_their_ends_gets_no_empty_ones() -> None:
    receiver = Receiver(0)
    receiver.edge = 100
    for chunk in (b"abc", b"de", b"f"):
        receiver.receive(receiver.next, memoryview(chunk))
    assert receiver.take(3) == [b"abc"]
    assert receiver.take(1) == [b"d"]
    assert receiver.take(2) == [b"e", b"f"]
    assert receiver.take(None) == []
