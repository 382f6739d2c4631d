"""The retransmission timer, and when to give up (RFC 9293 sections 3.8.1 to 3.8.3; RFC 6298)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stack.tcp.script import MS, Script
from weft.stack.failure import Failure
from weft.stack.tcp.round_trip import RoundTrip
from weft.stack.tcp.states import State

# The estimate.


def test_rfc_6298_2_1_first_wait_is_a_second() -> None:
    assert RoundTrip().timeout_ns == 1000 * MS


def test_rfc_6298_2_2_first_measurement() -> None:
    trip = RoundTrip()
    trip.measure(300 * MS)
    assert (trip.smoothed_ns, trip.variation_ns, trip.least_ns) == (300 * MS, 150 * MS, 300 * MS)
    assert trip.timeout_ns == 900 * MS


def test_rfc_6298_2_3_further_measurements() -> None:
    trip = RoundTrip()
    trip.measure(800 * MS)
    trip.measure(480 * MS)
    assert trip.variation_ns == (3 * 400 + 320) * MS // 4
    assert trip.smoothed_ns == (7 * 800 + 480) * MS // 8
    assert trip.timeout_ns == 760 * MS + 4 * 380 * MS
    assert trip.least_ns == 480 * MS
    trip.measure(1480 * MS)
    assert trip.variation_ns == (3 * 380 + 720) * MS // 4
    assert trip.smoothed_ns == (7 * 760 + 1480) * MS // 8
    assert trip.least_ns == 480 * MS


def test_rfc_6298_2_4_least_and_2_5_most() -> None:
    trip = RoundTrip()
    trip.measure(1 * MS)
    assert trip.timeout_ns == 200 * MS
    trip.measure(100_000 * MS)
    assert trip.timeout_ns == 60_000 * MS
    trip.back_off()
    assert trip.timeout_ns == 60_000 * MS


def test_rfc_6298_2_3_granularity_is_the_least_variation() -> None:
    trip = RoundTrip()
    for _ in range(100):
        trip.measure(500 * MS)
    assert trip.timeout_ns == 501 * MS


def test_rfc_6298_5_5_waits_double_until_a_measurement() -> None:
    trip = RoundTrip()
    trip.relax()
    assert trip.timeout_ns == 1000 * MS
    trip.measure(300 * MS)
    for number in range(1, 4):
        trip.back_off()
        assert trip.timeout_ns == 900 * MS << number
        assert trip.back_offs == number
    trip.relax()
    assert (trip.timeout_ns, trip.back_offs) == (900 * MS, 0)


def test_rfc_6298_5_7_after_a_lost_syn() -> None:
    trip = RoundTrip()
    trip.back_off()
    trip.handle_lost_syn()
    assert (trip.timeout_ns, trip.back_offs) == (3000 * MS, 0)
    trip.measure(300 * MS)
    trip.handle_lost_syn()
    assert trip.timeout_ns == 900 * MS


def test_measurement_of_nothing_counts() -> None:
    trip = RoundTrip()
    trip.measure(0)
    assert (trip.smoothed_ns, trip.variation_ns, trip.timeout_ns) == (1, 0, 200 * MS)


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=30))
def test_estimate_stays_between_what_was_measured(trips: list[int]) -> None:
    trip = RoundTrip()
    for each in trips:
        trip.measure(each)
        assert trip.timeout_ns >= min(trip.smoothed_ns, 60_000 * MS)
    assert min(trips) - 8 <= trip.smoothed_ns <= max(trips) + 8
    assert trip.least_ns in trips


# On the wire.


def slow_handshake(script: Script, ms: int = 300) -> None:
    """A connection of ours with a measured round trip."""
    script.connect()
    script.expect("S", seq=0)
    script.advance_quietly(ms)
    script.inject("S.", seq=0, ack=1, mss=1000)
    script.expect(".", seq=1, ack=1)


def test_3_8_1_must_18_wait_follows_the_round_trip(script: Script) -> None:
    slow_handshake(script)
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc", after=900)
    script.expect("P.", seq=1, ack=1, data=b"abc", after=1800)


def test_rfc_6298_3_last_of_what_is_acknowledged_is_measured(script: Script) -> None:
    slow_handshake(script)
    script.connection.set_no_delay(True)
    for number in range(3):
        script.send(b"abc")
        script.expect("P.", seq=1 + 3 * number, ack=1, data=b"abc")
        script.advance_quietly(10)
    script.advance_quietly(100)
    trip = script.connection.sender.round_trip
    # The first two left 130 and 120 ms ago.
    script.inject(".", seq=1, ack=7)
    assert trip.smoothed_ns == (7 * 300 + 120) * MS // 8
    script.inject(".", seq=1, ack=10)
    assert trip.smoothed_ns == ((7 * 300 + 120) * MS // 8) + (110 * MS - (7 * 300 + 120) * MS // 8 >> 3)


def test_3_8_1_must_18_karn_no_measurement_of_what_was_sent_twice(script: Script) -> None:
    slow_handshake(script)
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc", after=900)
    script.advance_quietly(5)
    script.inject(".", seq=1, ack=4)
    trip = script.connection.sender.round_trip
    assert (trip.smoothed_ns, trip.least_ns) == (300 * MS, 300 * MS)
    script.send(b"def")
    script.expect("P.", seq=4, ack=1, data=b"def")
    script.advance_quietly(100)
    script.inject(".", seq=1, ack=7)
    assert trip.smoothed_ns == 275 * MS


def test_rfc_6298_3_timestamps_measure_what_was_sent_twice(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0, ts=(0, 0))
    script.advance_quietly(300)
    script.inject("S.", seq=0, ack=1, mss=1000, ts=(50, 0))
    script.expect(".", seq=1, ack=1, ts=(300, 50))
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc", after=900, ts=(1200, 50))
    script.advance_quietly(100)
    # It answers the second copy.
    script.inject(".", seq=1, ack=4, ts=(51, 1200))
    assert script.connection.sender.round_trip.smoothed_ns == 275 * MS


def test_rfc_6298_3_late_answer_to_the_first_copy_measures_nothing(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0, ts=(0, 0))
    script.advance_quietly(300)
    script.inject("S.", seq=0, ack=1, mss=1000, ts=(50, 0))
    script.expect(".", seq=1, ack=1, ts=(300, 50))
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc", after=900)
    script.advance_quietly(100)
    script.inject(".", seq=1, ack=4, ts=(51, 300))
    assert script.connection.sender.round_trip.smoothed_ns == 300 * MS


def test_rfc_6298_5_3_acknowledgment_of_more_starts_the_timer_again(script: Script) -> None:
    script.accepted()
    script.send(2000)
    script.expect("P.", seq=1, ack=1, length=2000, segment=1000)
    script.advance_quietly(199)
    script.inject(".", seq=1, ack=1001)
    timeout = script.connection.sender.round_trip.timeout_ns / MS
    script.expect("P.", seq=1001, ack=1, length=1000, after=timeout)


def test_rfc_6298_5_3_acknowledgment_of_nothing_new_does_not(script: Script) -> None:
    script.accepted()
    script.send(2000)
    script.expect("P.", seq=1, ack=1, length=2000, segment=1000)
    script.advance_quietly(199)
    script.inject(".", seq=1, ack=1)
    script.expect(".", seq=1, ack=1, length=1000, after=1)


def test_rfc_6298_5_2_timer_stops_when_all_is_acknowledged(script: Script) -> None:
    script.accepted()
    script.send(2000)
    script.expect("P.", seq=1, ack=1, length=2000, segment=1000)
    script.inject(".", seq=1, ack=2001)
    script.advance_quietly(1_000_000)
    assert script.host.next_timer() is None


def test_rfc_6298_5_4_the_earliest_segment_is_sent_again(script: Script) -> None:
    script.accepted()
    script.send(5000)
    script.expect("P.", seq=1, ack=1, length=5000, segment=1000)
    # The window is one segment now (MUST-19).
    script.expect(".", seq=1, ack=1, length=1000, after=200)
    script.inject(".", seq=1, ack=1001)
    script.expect(".", seq=1001, ack=1, length=2000, segment=1000)
    script.inject(".", seq=1, ack=3001)
    script.expect("P.", seq=3001, ack=1, length=2000, segment=1000)
    script.inject(".", seq=1, ack=5001)
    script.advance_quietly(100_000)


def test_3_8_3_must_20_connection_is_given_up_after_fifteen_time_outs(script: Script) -> None:
    """More than 13 minutes: SHLD-11 asks for 100 s."""
    connection = script.accepted()
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    began, wait = script.now, 200
    for _ in range(15):
        script.expect("P.", seq=1, ack=1, data=b"abc", after=min(wait, 60_000))
        wait *= 2
    script.advance_quietly(59_999)
    assert not connection.is_closed
    script.events()
    script.advance_quietly(1)
    assert connection.failure is Failure.TIMED_OUT
    assert script.events() == [connection]
    assert script.now - began == (200 * 511 + 60_000 * 7) * MS


def test_3_8_3_must_21_user_may_say_when_to_give_up(script: Script) -> None:
    connection = script.accepted()
    connection.give_up_retries = 2
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc", after=200)
    script.expect("P.", seq=1, ack=1, data=b"abc", after=400)
    script.advance_quietly(799)
    assert not connection.is_closed
    script.advance_quietly(1)
    assert connection.failure is Failure.TIMED_OUT


def test_3_8_3_must_20_an_answer_begins_the_count_anew(script: Script) -> None:
    connection = script.accepted()
    connection.give_up_retries = 2
    script.send(2000)
    script.expect("P.", seq=1, ack=1, length=2000)
    script.expect(".", seq=1, ack=1, length=1000, after=200)
    script.expect(".", seq=1, ack=1, length=1000, after=400)
    script.inject(".", seq=1, ack=1001)
    script.expect("P.", seq=1001, ack=1, length=1000)
    script.expect("P.", seq=1001, ack=1, length=1000, after=200)
    script.expect("P.", seq=1001, ack=1, length=1000, after=400)
    script.inject(".", seq=1, ack=2001)
    assert not connection.is_closed


def test_3_8_3_must_22_must_23_syn_is_sent_again_for_three_minutes(script: Script) -> None:
    connection = script.connect()
    script.expect("S", seq=0)
    began, wait = script.now, 1000
    for _ in range(7):
        script.expect("S", seq=0, after=min(wait, 60_000))
        wait *= 2
    script.advance_quietly(59_999)
    assert script.state is State.SYN_SENT
    script.advance_quietly(1)
    assert connection.failure is Failure.TIMED_OUT
    assert script.now - began >= 180_000 * MS
    assert script.host.next_timer() is None


def test_answer_to_a_syn_is_sent_five_times_more(script: Script) -> None:
    listener = script.listen()
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    for number in range(5):
        script.expect("S.", seq=0, ack=1, after=1000 << number)
    script.advance_quietly(31_999)
    assert listener.half_open == 1
    script.advance_quietly(1)
    assert listener.half_open == 0
    assert script.host.tcp.connections == []


def test_rfc_6298_5_7_data_after_a_lost_syn_waits_three_seconds(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.expect("S", seq=0, after=1000)
    script.advance_quietly(100)
    script.inject("S.", seq=0, ack=1, mss=1000)
    script.expect(".", seq=1, ack=1)
    script.send(2000)
    # RFC 5681 section 3.1: a window of one segment.
    script.expect(".", seq=1, ack=1, length=1000)
    script.expect(".", seq=1, ack=1, length=1000, after=3000)


def test_rfc_6298_5_7_first_measurement_shortens_the_wait_at_once(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.expect("S", seq=0, after=1000)
    script.inject("S.", seq=0, ack=1, mss=1000)
    script.expect(".", seq=1, ack=1)
    script.connection.sender.cubic.window = 10_000
    for seq in (1, 1001):
        script.send(1000)
        script.expect("P.", seq=seq, ack=1, length=1000)
    script.advance_quietly(10)
    script.inject(".", seq=1, ack=1001)
    script.expect("P.", seq=1001, ack=1, length=1000, after=200)


def test_timers_of_many_connections_end_in_their_order(script: Script) -> None:
    script.listen()
    begun = {}
    for port in (5, 3, 4, 1, 2):
        script.inject("S", seq=0, port=port)
        script.expect("S.", seq=0, ack=1, port=port)
        begun[port] = script.now
        script.advance_quietly(10)
    for port in (5, 3, 4, 1, 2):
        assert script.host.next_timer() == begun[port] + 1000 * MS
        script.advance((begun[port] + 1000 * MS - script.now) / MS)
        script.expect("S.", seq=0, ack=1, port=port)


def test_timers_of_what_is_over_wake_nobody(script: Script) -> None:
    script.listen()
    for port in (1, 2, 3):
        script.inject("S", seq=0, port=port)
        script.expect("S.", seq=0, ack=1, port=port)
        script.advance_quietly(10)
    script.inject("R", seq=1, port=1)
    assert script.host.next_timer() == script.now + 980 * MS
    script.inject("R", seq=1, port=3)
    script.inject("R", seq=1, port=2)
    assert script.host.next_timer() is None


def test_rfc_5681_3_1_window_after_a_lost_syn_is_one_segment_of_the_peer(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.expect("S", seq=0, after=1000)
    script.inject("S.", seq=0, ack=1, mss=500)
    script.expect(".", seq=1, ack=1)
    script.send(3000)
    (sent,) = script.take_all()
    assert sent.length == 500


def test_3_8_1_only_what_is_missing_is_sent_again_and_data_may_be_packed_anew(script: Script) -> None:
    """MAY-4: the bytes count, not the segments in which they left."""
    script.accepted()
    script.connection.set_no_delay(True)
    for number in range(4):
        script.send(b"abcd")
        script.expect("P.", seq=1 + 4 * number, ack=1, data=b"abcd")
    script.inject(".", seq=1, ack=7)
    script.expect("P.", seq=7, ack=1, data=b"cdabcdabcd", after=200)


# Large segments that vanish (RFC 4821 section 7.7).


@pytest.mark.parametrize(("version", "mtu", "before", "after"), [(4, 1352, 1312, 536), (6, 1352, 1292, 1220)])
def test_rfc_4821_7_7_black_hole_is_suspected_after_two_time_outs(
    version: int, mtu: int, before: int, after: int
) -> None:
    with Script(version=version, mtu=mtu) as script:
        script.accepted(mss=1400)
        assert script.connection.maximum_segment == before
        script.send(2 * before)
        script.expect("P.", seq=1, ack=1, length=2 * before)
        script.expect(".", seq=1, ack=1, length=before, after=200)
        script.expect(".", seq=1, ack=1, length=before, after=400)
        script.expect(".", seq=1, ack=1, length=after, after=800)
        assert script.connection.maximum_segment == after
        script.expect(".", seq=1, ack=1, length=after, after=1600)
        script.inject(".", seq=1, ack=1 + after)
        assert {each.segment for each in script.take_all()} <= {0, after}


def test_rfc_5681_3_1_window_after_a_lost_answer_is_one_segment_too(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0, mss=1000)
    script.expect("S.", seq=0, ack=1)
    script.expect("S.", seq=0, ack=1, after=1000)
    script.inject(".", seq=1, ack=1)
    script.accept()
    script.send(3000)
    script.expect(".", seq=1, ack=1, length=1000)


def test_syn_that_was_sent_twice_measures_nothing(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.expect("S", seq=0, after=1000)
    script.advance_quietly(30)
    script.inject("S.", seq=0, ack=1, mss=1000)
    script.expect(".", seq=1, ack=1)
    assert script.connection.sender.round_trip.smoothed_ns == 0


def test_syn_that_was_sent_once_is_measured(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.advance_quietly(30)
    script.inject("S.", seq=0, ack=1, mss=1000)
    script.expect(".", seq=1, ack=1)
    assert script.connection.sender.round_trip.smoothed_ns == 30 * MS
