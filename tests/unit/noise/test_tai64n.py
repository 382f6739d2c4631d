"""Timestamps grow, whatever the clock does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weft.noise.tai64n import TIMESTAMP_BYTES, encode_timestamp, next_timestamp

WALL = st.integers(min_value=0, max_value=1 << 62)


def test_a_known_time_has_its_known_label() -> None:
    # 2000-01-01 00:00:00 UTC
    assert encode_timestamp(946_684_800 * 10**9).hex() == "40000000386d438a00000000"


def test_the_low_bits_of_the_nanoseconds_are_cleared() -> None:
    assert encode_timestamp(999_999_999)[8:] == (999_999_999 >> 24 << 24).to_bytes(4, "big")


@given(WALL, WALL)
def test_timestamps_sort_as_their_times(one: int, other: int) -> None:
    earlier, later = sorted((one, other))
    assert encode_timestamp(earlier) <= encode_timestamp(later)


@given(st.lists(WALL, min_size=2, max_size=20))
def test_timestamps_sent_always_grow(clock: list[int]) -> None:
    floor = bytes(TIMESTAMP_BYTES)
    for wall_ns in clock:
        timestamp = next_timestamp(wall_ns, floor)
        assert len(timestamp) == TIMESTAMP_BYTES
        assert timestamp > floor
        assert int.from_bytes(timestamp[8:], "big") < 10**9
        floor = timestamp


def test_after_the_last_nanosecond_of_a_second_comes_the_next_second() -> None:
    floor = encode_timestamp(5 * 10**9)[:8] + (999_999_999).to_bytes(4, "big")
    assert next_timestamp(0, floor) == encode_timestamp(6 * 10**9)


def test_a_clock_past_the_floor_is_followed() -> None:
    assert next_timestamp(10 * 10**9, encode_timestamp(9 * 10**9)) == encode_timestamp(10 * 10**9)
