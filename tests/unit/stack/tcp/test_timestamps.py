"""Timestamps, PAWS (RFC 7323 sections 3 to 5)."""

from __future__ import annotations

import pytest

from tests.unit.stack.tcp.script import Script
from weft.stack.failure import Failure
from weft.stack.tcp.states import State

DAY = 86_400_000


def test_rfc_7323_3_2_ours_count_milliseconds_and_theirs_are_echoed(script: Script) -> None:
    script.accepted(ts=1000)
    script.advance_quietly(17)
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc", ts=(17, 1000))


def test_rfc_7323_4_3_echo_is_that_of_the_segment_that_the_acknowledgment_answers(script: Script) -> None:
    script.accepted(ts=1000)
    # Two segments, one acknowledgment: it echoes the first (delayed acknowledgments).
    script.inject(".", seq=1, ack=1, data=1000, ts=(1001, 0))
    script.inject(".", seq=1001, ack=1, data=1000, ts=(1002, 0))
    script.expect(".", seq=1, ack=2001, ts=(0, 1001))
    # A hole: it echoes the last that advanced the window.
    script.inject(".", seq=3001, ack=1, data=1000, ts=(1005, 0))
    script.expect(".", seq=1, ack=2001, ts=(0, 1001))
    # What fills it is echoed.
    script.inject(".", seq=2001, ack=1, data=1000, ts=(1004, 0))
    script.expect(".", seq=1, ack=4001, ts=(0, 1004))


@pytest.mark.parametrize("older", [999, 0, 1000 - (1 << 31) + (1 << 32)])
def test_rfc_7323_5_3_older_timestamp_is_an_old_copy(script: Script, older: int) -> None:
    script.accepted(ts=1000)
    script.inject("P.", seq=1, ack=1, data=b"old", ts=(older, 0))
    script.expect(".", seq=1, ack=1, ts=(0, 1000))
    assert script.connection.readable_bytes == 0
    assert script.drops("tcp: old timestamp") == 1


@pytest.mark.parametrize("newer", [1000, 1001, 999 + (1 << 31)])
def test_rfc_7323_5_3_same_or_newer_timestamp_is_none(script: Script, newer: int) -> None:
    script.accepted(ts=1000)
    script.inject("P.", seq=1, ack=1, data=b"new", ts=(newer, 0))
    script.expect(".", seq=1, ack=4, ts=(40, newer), after=40)
    assert script.receive() == b"new"


def test_rfc_7323_5_3_timestamps_wrap(script: Script) -> None:
    script.accepted(ts=0xFFFF_FFFF)
    script.inject("P.", seq=1, ack=1, data=b"new", ts=(3, 0))
    script.expect(".", seq=1, ack=4, ts=(40, 3), after=40)


def test_rfc_7323_3_2_segment_without_timestamp_is_dropped(script: Script) -> None:
    script.accepted(ts=1000)
    script.inject("P.", seq=1, ack=1, data=b"evil")
    assert script.connection.readable_bytes == 0
    assert script.drops("tcp: old timestamp") == 1


def test_rfc_7323_3_2_reset_without_timestamp_counts(script: Script) -> None:
    script.accepted(ts=1000)
    script.inject("R", seq=1)
    assert script.failure is Failure.RESET


def test_rfc_7323_5_2_reset_with_an_old_timestamp_counts(script: Script) -> None:
    script.accepted(ts=1000)
    script.inject("R", seq=1, ts=(1, 0))
    assert script.failure is Failure.RESET


def test_rfc_7323_5_5_what_was_not_renewed_for_24_days_says_nothing(script: Script) -> None:
    script.accepted(ts=1000)
    script.advance_quietly(24 * DAY - 1)
    script.inject("P.", seq=1, ack=1, data=b"old", ts=(1, 0))
    script.expect(".", seq=1, ack=1)
    script.advance_quietly(1)
    script.inject("P.", seq=1, ack=1, data=b"new", ts=(1, 0))
    script.expect(".", seq=1, ack=4, after=40)


def test_rfc_7323_3_2_timestamps_that_the_peer_did_not_agree_to_are_not_looked_at(script: Script) -> None:
    script.accepted()
    script.inject("P.", seq=1, ack=1, data=b"abc", ts=(5, 0))
    script.inject("P.", seq=4, ack=1, data=b"def", ts=(1, 0))
    script.advance(40)
    assert script.sent.popleft().options.timestamps is None
    assert script.receive() == b"abcdef"


def test_rfc_7323_4_3_what_is_out_of_the_window_is_not_echoed(script: Script) -> None:
    script.accepted(ts=1000)
    script.inject("P.", seq=-500, ack=1, data=b"x", ts=(2000, 0))
    script.expect(".", seq=1, ack=1, ts=(0, 1000))


def test_rfc_7323_4_1_round_trip_is_measured_by_the_echo_when_sending_times_are_not_known(script: Script) -> None:
    script.accepted(ts=1000)
    trip = script.connection.sender.round_trip
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc", after=200)
    script.advance_quietly(80)
    before = trip.smoothed_ns
    script.inject(".", seq=1, ack=4, ts=(1001, 200))
    assert trip.smoothed_ns == before + (80_000_000 - before >> 3)


@pytest.mark.parametrize("echo", [-1, 201, 1 << 31])
def test_rfc_7323_4_1_echo_of_what_was_never_said_measures_nothing(script: Script, echo: int) -> None:
    script.accepted(ts=1000)
    trip = script.connection.sender.round_trip
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc", after=200)
    before = trip.smoothed_ns
    script.inject(".", seq=1, ack=4, ts=(1001, echo & 0xFFFFFFFF))
    assert trip.smoothed_ns == before
    assert script.state is State.ESTABLISHED


def test_rfc_7323_4_1_echo_counts_whatever_their_own_clock_says(script: Script) -> None:
    script.accepted(ts=0)
    trip = script.connection.sender.round_trip
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc", after=200)
    script.advance_quietly(80)
    before = trip.smoothed_ns
    script.inject(".", seq=1, ack=4, ts=(0, 200))
    assert trip.smoothed_ns == before + (80_000_000 - before >> 3)


def test_rfc_7323_3_2_echo_of_zero_is_none(script: Script) -> None:
    """It is that of a peer that has nothing to echo."""
    script.accepted(ts=1000)
    connection = script.connection
    trip = connection.sender.round_trip
    # Our clock says 300 now, so that an echo of 0 would be a round trip of 300 ms.
    connection.offset = 300 - script.now // 1_000_000
    script._flows[script.peer_port].timestamp = 0
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc", ts=(300, 1000))
    script.expect("P.", seq=1, ack=1, data=b"abc", after=200)
    connection.sender._resent_at = 0
    before = trip.smoothed_ns
    script.inject(".", seq=1, ack=4, ts=(1001, 0))
    assert trip.smoothed_ns == before
