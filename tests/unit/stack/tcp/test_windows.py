"""Windows: what is offered, what may be sent, probes (RFC 9293 sections 3.7.4, 3.8.6; RFC 7323 section 2)."""

from __future__ import annotations

import pytest

from tests.unit.stack.tcp.script import Script
from weft.stack.failure import Failure
from weft.stack.tcp.states import State
from weft.stack.tcp.tcp import WINDOWS_BYTES


def test_3_8_6_shld_14_offered_edge_never_moves_back(script: Script) -> None:
    script.accepted()
    edge = 1 + 65535
    at = 1
    for _ in range(70):
        script.inject(".", seq=at, ack=1, data=1000)
        at += 1000
        script.advance(40)
        sent = script.take_all()[-1]
        assert sent.ack + sent.window >= edge
        edge = sent.ack + sent.window
    assert edge == 65536 + at - 1


def test_3_8_6_2_2_window_closes_when_nobody_takes(script: Script) -> None:
    """256 KiB are kept, of which 65,535 bytes are offered at a time."""
    script.accepted()
    at, window = 1, 65535
    while window:
        size = min(window, 16_000)
        script.inject("P.", seq=at, ack=1, data=size)
        at += size
        script.advance(40)
        window = script.take_all()[-1].window
    # The last step would have been less than a segment.
    assert 256 * 1024 - 16_000 < script.connection.readable_bytes <= 256 * 1024
    script.inject("P.", seq=at, ack=1, data=b"x")
    script.expect(".", seq=1, ack=at, window=0)
    assert script.connection.readable_bytes == at - 1


def closed_window(script: Script) -> int:
    """The next sequence number of the peer, whom we offer nothing any more."""
    script.accepted()
    script.connection.receiver.limit = 65_535
    script.inject("P.", seq=1, ack=1, data=40_000)
    script.expect(".", seq=1, ack=40_001, window=25_535)
    script.inject("P.", seq=40_001, ack=1, data=25_535)
    script.expect(".", seq=1, ack=65_536, window=0, after=40)
    return 65_536


def test_3_8_6_2_2_must_39_window_opens_in_steps_of_a_segment(script: Script) -> None:
    script.accepted()
    # The largest segment that came is taken for a full one.
    script.inject("P.", seq=1, ack=1, data=1000)
    script.inject("P.", seq=1001, ack=1, data=1000)
    script.expect(".", seq=1, ack=2001, window=65535)
    receiver = script.connection.receiver
    receiver.limit = 2000 + 65_535
    for number in range(32):
        script.inject("P.", seq=2001 + 2000 * number, ack=1, data=2000, segment=1000)
        script.expect(".", seq=1, ack=4001 + 2000 * number, window=65535 - 2000 * (number + 1))
    script.inject("P.", seq=66_001, ack=1, data=1535, segment=1000)
    script.expect(".", seq=1, ack=67_536, window=0, after=40)
    # Less than a segment: the window stays shut.
    script.receive(999)
    script.inject(".", seq=67_535, ack=1, data=b"?")
    script.expect(".", seq=1, ack=67_536, window=0)
    # A segment: those who ask are told.
    script.receive(1)
    script.inject(".", seq=67_535, ack=1, data=b"?")
    script.expect(".", seq=1, ack=67_536, window=1000)
    # Two more: the peer is told at once.
    script.receive(1999)
    script.receive(1)
    script.expect(".", seq=1, ack=67_536, window=3000)


def test_3_8_6_2_2_half_the_buffer_is_enough_if_that_is_less_than_a_segment(script: Script) -> None:
    at = closed_window(script)
    receiver = script.connection.receiver
    receiver.limit = 20_000
    receiver.ready_bytes = 20_000
    script.connection.owe_ack()
    script.flush()
    script.expect(".", seq=1, ack=at, window=0)
    receiver.ready_bytes = 10_001
    script.connection.owe_ack()
    script.flush()
    script.expect(".", seq=1, ack=at, window=0)
    receiver.ready_bytes = 10_000
    script.connection.owe_ack()
    script.flush()
    script.expect(".", seq=1, ack=at, window=10_000)


def test_window_opens_for_a_reader_before_the_peer_has_to_wait(script: Script) -> None:
    script.accepted()
    for taken in range(9):
        script.inject("P.", seq=1 + 20_000 * taken, ack=1, data=20_000, segment=1000)
        script.expect(".", seq=1, ack=1 + 20_000 * (taken + 1), window=65535)
    # All that may be offered is; so nothing is told when the user takes something.
    assert script.receive(100_000)


def test_window_grows_with_what_the_user_takes(script: Script) -> None:
    script.accepted(ws=7)
    receiver = script.connection.receiver
    assert receiver.limit == 256 * 1024
    # In a round trip, 100 ms for want of a better guess, 200,000 bytes are taken.
    receive_in_rounds(script, 200_000)
    assert 3.9 * 200_000 < receiver.limit <= 4 * 200_000
    # What it has beyond the first is the host's again when nothing more comes.
    script.abort()
    script.take_all()
    assert script.host.tcp.budget.left == WINDOWS_BYTES


def test_window_does_not_grow_if_the_user_takes_little(script: Script) -> None:
    script.accepted(ws=7)
    receive_in_rounds(script, 60_000)
    assert script.connection.receiver.limit == 256 * 1024


def receive_in_rounds(script: Script, size: int) -> None:
    at = 1
    for _ in range(8):
        for _ in range(10):
            script.inject("P.", seq=at, ack=1, data=size // 10, segment=1000)
            script.take_all()
            at += size // 10
            script.connection.receive()
            script.flush()
            script.take_all()
        script.advance(101)
        script.take_all()


def test_3_8_6_must_34_peer_that_shrinks_the_window(script: Script) -> None:
    script.accepted(window=5000)
    script.send(8000)
    script.expect(".", seq=1, ack=1, length=5000, segment=1000)
    script.inject(".", seq=1, ack=1001, window=2000)
    assert script.connection.unacknowledged_bytes == 4000
    # The usable window is negative now: nothing leaves, and nothing breaks.
    script.inject(".", seq=1, ack=3001, window=0)
    script.inject(".", seq=1, ack=5001, window=0)
    script.inject(".", seq=1, ack=5001, window=5000)
    script.expect("P.", seq=5001, ack=1, length=3000)


def test_3_8_6_shld_16_what_is_within_a_smaller_window_is_sent_again(script: Script) -> None:
    script.accepted(window=3000)
    script.send(3000)
    script.expect("P.", seq=1, ack=1, length=3000, segment=1000)
    script.inject(".", seq=1, ack=1, window=1000)
    script.expect(".", seq=1, ack=1, length=1000, after=200)
    assert script.state is State.ESTABLISHED


def test_3_8_6_1_must_36_closed_window_is_probed(script: Script) -> None:
    """MUST-35, SHLD-29 and SHLD-30 too: after a time-out first, then after twice as long each time, up to a minute."""
    script.accepted(window=1000)
    script.send(3000)
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=1001, window=0)
    wait = 200
    for _ in range(8):
        script.expect(".", seq=1001, ack=1, length=1, after=wait)
        script.inject(".", seq=1, ack=1001, window=0)
        wait *= 2
    script.expect(".", seq=1001, ack=1, length=1, after=51_200)
    script.expect(".", seq=1001, ack=1, length=1, after=60_000)
    script.expect(".", seq=1001, ack=1, length=1, after=60_000)
    script.inject(".", seq=1, ack=1001, window=3000)
    script.expect("P.", seq=1001, ack=1, length=2000, segment=1000)


def test_3_8_6_1_probe_that_is_taken_goes_on_behind_it(script: Script) -> None:
    script.accepted(window=1000)
    script.send(3000)
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=1001, window=0)
    script.expect(".", seq=1001, ack=1, length=1, after=200)
    script.inject(".", seq=1, ack=1002, window=0)
    script.expect(".", seq=1002, ack=1, length=1, after=400)
    script.inject(".", seq=1, ack=1003, window=3000)
    script.expect(".", seq=1003, ack=1, length=1000)
    script.inject(".", seq=1, ack=2003, window=3000)
    script.expect("P.", seq=2003, ack=1, length=998)


def test_3_8_6_1_must_37_connection_stays_as_long_as_probes_are_answered(script: Script) -> None:
    script.accepted(window=1000)
    script.send(3000)
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=1001, window=0)
    for _ in range(40):
        script.advance(60_000)
        assert script.take_all()
        script.inject(".", seq=1, ack=1001, window=0)
    assert script.state is State.ESTABLISHED


def test_closed_connection_is_not_kept_for_a_peer_that_never_opens_its_window(script: Script) -> None:
    connection = script.accepted(window=1000)
    script.send(3000)
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=1001, window=0)
    script.close()
    minutes = 0
    while not connection.is_closed:
        minutes += 1
        script.advance(60_000)
        script.take_all()
        script.inject(".", seq=1, ack=1001, window=0)
        script.take_all()
    assert connection.failure is Failure.TIMED_OUT
    assert 5 < minutes < 15


def test_3_8_6_1_probes_that_nobody_answers_end_the_connection(script: Script) -> None:
    script.accepted(window=1000)
    script.send(3000)
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=1001, window=0)
    wait = 200
    for _ in range(15):
        script.expect(".", seq=1001, ack=1, length=1, after=min(wait, 60_000))
        wait *= 2
    script.advance_quietly(59_999)
    assert not script.connection.is_closed
    script.advance_quietly(1)
    assert script.failure is Failure.TIMED_OUT


def test_3_8_6_1_fin_alone_is_probed_with(script: Script) -> None:
    script.accepted(window=1000)
    script.send(1000)
    script.expect("P.", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=1001, window=0)
    script.shutdown()
    script.expect("F.", seq=1001, ack=1, after=200)
    script.inject(".", seq=1, ack=1002, window=0)
    assert script.state is State.FIN_WAIT_2
    script.advance_quietly(100_000)


def test_3_8_6_1_closed_from_the_handshake_on(script: Script) -> None:
    script.accepted(window=0)
    script.send(10)
    script.expect(".", seq=1, ack=1, length=1, after=200)
    script.inject(".", seq=1, ack=1, window=100)
    script.expect("P.", seq=1, ack=1, length=10)


def test_3_4_must_66_reset_counts_when_the_window_is_closed(script: Script) -> None:
    at = closed_window(script)
    script.inject("R", seq=at)
    assert script.failure is Failure.RESET


def test_3_4_must_66_urgent_pointer_counts_when_the_window_is_closed(script: Script) -> None:
    at = closed_window(script)
    script.events()
    script.inject("U.", seq=at, ack=1, data=b"x", urgent=1)
    script.expect(".", seq=1, ack=at, window=0)
    assert script.events() == [script.connection]
    assert script.connection.is_urgent


def test_3_4_acknowledgment_counts_when_the_window_is_closed(script: Script) -> None:
    at = closed_window(script)
    script.send(b"abc")
    script.expect("P.", seq=1, ack=at, data=b"abc")
    script.inject("P.", seq=at, ack=4, data=b"x")
    script.expect(".", seq=4, ack=at, window=0)
    assert script.connection.unacknowledged_bytes == 0


def test_3_4_closed_window_takes_no_fin_that_lies_behind_data(script: Script) -> None:
    at = closed_window(script)
    script.inject("FP.", seq=at, ack=1, data=b"x")
    script.expect(".", seq=1, ack=at, window=0)
    assert script.state is State.ESTABLISHED


def test_3_10_7_4_old_window_does_not_replace_a_newer_one(script: Script) -> None:
    script.accepted(window=5000)
    script.inject("P.", seq=11, ack=1, data=b"x", window=3000)
    script.expect(".", seq=1, ack=1)
    assert script.connection.sender.window == 3000
    # Older by its sequence number.
    script.inject("P.", seq=1, ack=1, data=10, window=9000)
    script.expect(".", seq=1, ack=12)
    assert script.connection.sender.window == 3000
    script.send(b"abc")
    script.expect("P.", seq=1, ack=12, data=b"abc")
    script.inject(".", seq=12, ack=4, window=2000)
    # Older by its acknowledgment number.
    script.inject(".", seq=12, ack=1, window=9000)
    assert script.connection.sender.window == 2000
    script.inject(".", seq=12, ack=4, window=2500)
    assert script.connection.sender.window == 2500


# What may be sent (the silly window of the sender, and Nagle).


def test_3_8_6_2_1_must_38_small_windows_are_not_worth_a_segment(script: Script) -> None:
    script.accepted(window=4000)
    script.send(4000)
    script.expect("P.", seq=1, ack=1, length=4000, segment=1000)
    script.send(4000)
    script.inject(".", seq=1, ack=1001, window=3999)
    script.inject(".", seq=1, ack=4001, window=999)
    # Less than a segment, and less than half of what there ever was: a probe takes it in the end.
    script.expect(".", seq=4001, ack=1, length=999, after=200)


def test_3_8_6_2_1_half_the_largest_window_is_worth_one(script: Script) -> None:
    script.accepted(window=900)
    script.send(2000)
    script.expect(".", seq=1, ack=1, length=900)
    script.inject(".", seq=1, ack=901, window=449)
    script.inject(".", seq=1, ack=901, window=450)
    script.expect(".", seq=901, ack=1, length=450)


def test_3_8_6_2_1_all_that_is_left_may_be_small(script: Script) -> None:
    script.accepted(window=4000)
    script.send(10)
    script.expect("P.", seq=1, ack=1, length=10)


def test_3_7_4_shld_7_small_segments_wait_for_an_acknowledgment(script: Script) -> None:
    script.accepted()
    script.send(b"a")
    script.expect("P.", seq=1, ack=1, data=b"a")
    script.send(b"b")
    script.send(b"c")
    script.inject(".", seq=1, ack=2)
    script.expect("P.", seq=2, ack=1, data=b"bc")


def test_3_7_4_full_segments_do_not_wait(script: Script) -> None:
    script.accepted()
    script.send(b"a")
    script.expect("P.", seq=1, ack=1, data=b"a")
    script.send(999)
    script.send(1)
    script.expect("P.", seq=2, ack=1, length=1000)
    script.send(2500)
    script.expect(".", seq=1002, ack=1, length=2000, segment=1000)
    script.inject(".", seq=1, ack=3002)
    script.expect("P.", seq=3002, ack=1, length=500)


def test_3_7_4_rest_of_a_large_write_waits(script: Script) -> None:
    script.accepted()
    script.send(2500)
    script.expect(".", seq=1, ack=1, length=2000, segment=1000)
    script.inject(".", seq=1, ack=2001)
    script.expect("P.", seq=2001, ack=1, length=500)


def test_3_7_4_last_data_does_not_wait_if_the_user_closes(script: Script) -> None:
    script.accepted()
    script.send(b"a")
    script.expect("P.", seq=1, ack=1, data=b"a")
    script.send(b"b")
    script.shutdown()
    script.expect("FP.", seq=2, ack=1, data=b"b")


def test_3_7_4_must_17_nagle_may_be_switched_off(script: Script) -> None:
    script.accepted()
    script.send(b"a")
    script.expect("P.", seq=1, ack=1, data=b"a")
    script.send(b"b")
    script.connection.set_no_delay(True)
    script.flush()
    script.expect("P.", seq=2, ack=1, data=b"b")
    script.send(b"c")
    script.expect("P.", seq=3, ack=1, data=b"c")
    script.send(1500)
    script.expect("P.", seq=4, ack=1, length=1500, segment=1000)
    script.connection.set_no_delay(False)
    script.send(b"d")
    script.inject(".", seq=1, ack=1504)
    script.expect("P.", seq=1504, ack=1, data=b"d")


# Super-segments.


def test_super_segments_are_at_most_64_000_bytes_with_headers(script: Script) -> None:
    script.accepted(ws=7)
    script.connection.sender.cubic.window = 200_000
    script.inject(".", seq=1, ack=1, window=2000)
    script.send(200_000)
    for number in range(3):
        sent = script.expect(".", seq=1 + 63_000 * number, ack=1, length=63_000, segment=1000)
        assert len(sent.packet) <= 64_000
    script.expect("P.", seq=189_001, ack=1, length=11_000, segment=1000)


def test_small_segments_make_no_super_segments(script: Script) -> None:
    script.accepted(mss=255)
    script.send(600)
    script.expect(".", seq=1, ack=1, length=255, segment=0)
    script.expect(".", seq=256, ack=1, length=255, segment=0)
    script.inject(".", seq=1, ack=511)
    script.expect("P.", seq=511, ack=1, length=90)


def test_segments_of_256_bytes_do(script: Script) -> None:
    script.accepted(mss=256)
    script.send(768)
    script.expect("P.", seq=1, ack=1, length=768, segment=256)


def test_super_segment_is_taken_whole(script: Script) -> None:
    script.accepted()
    script.inject("P.", seq=1, ack=1, data=30_500, segment=1000)
    script.expect(".", seq=1, ack=30_501)
    assert len(script.receive()) == 30_500


@pytest.mark.parametrize("window", [1500, 2500])
def test_super_segment_of_a_small_window_is_of_whole_segments(script: Script, window: int) -> None:
    script.accepted(window=window)
    script.send(5000)
    whole = window // 1000 * 1000
    script.expect(".", seq=1, ack=1, length=whole, segment=1000 if whole > 1000 else 0)
    script.inject(".", seq=1, ack=1 + whole, window=10_000)
    script.expect("P.", seq=1 + whole, ack=1, length=5000 - whole)


def test_3_8_6_1_an_answer_begins_the_count_of_probes_anew(script: Script) -> None:
    script.accepted(window=1000)
    script.connection.give_up_retries = 3
    script.send(3000)
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=1001, window=0)
    for wait in (200, 400):
        script.expect(".", seq=1001, ack=1, length=1, after=wait)
    script.inject(".", seq=1, ack=1001, window=0)
    # Three more, and then the end.
    for wait in (800, 1600, 3200):
        script.expect(".", seq=1001, ack=1, length=1, after=wait)
    script.advance_quietly(6399)
    assert not script.connection.is_closed
    script.advance_quietly(1)
    assert script.failure is Failure.TIMED_OUT


def test_3_8_6_1_each_closed_window_is_probed_after_a_time_out(script: Script) -> None:
    """However long the last one was shut: data that leaves ends the waiting."""
    script.accepted(window=4000)
    script.send(4000)
    script.expect("P.", seq=1, ack=1, length=4000)
    script.send(4000)
    script.advance_quietly(10)
    script.inject(".", seq=1, ack=4001, window=999)
    script.expect(".", seq=4001, ack=1, length=999, after=200)
    script.advance_quietly(10)
    script.inject(".", seq=1, ack=5000, window=0)
    wait = script.connection.sender.round_trip.timeout_ns / 1_000_000
    assert wait < 390
    script.expect(".", seq=5000, ack=1, length=1, after=wait)


def test_window_that_opens_stops_the_probes(script: Script) -> None:
    script.accepted(window=1000)
    script.send(1000)
    script.expect("P.", seq=1, ack=1, length=1000)
    script.send(10)
    script.inject(".", seq=1, ack=1001, window=0)
    script.inject(".", seq=1, ack=1001, window=1000)
    script.expect("P.", seq=1001, ack=1, length=10)
    script.inject(".", seq=1, ack=1011, window=1000)
    script.advance_quietly(100_000)


def test_window_that_was_told_twice_lets_nothing_leave(script: Script) -> None:
    script.accepted(window=1000)
    script.send(3000)
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=1, window=2000)
    script.expect(".", seq=1001, ack=1, length=1000)
    script.inject(".", seq=1, ack=1, window=3000)
    script.expect("P.", seq=2001, ack=1, length=1000)


@pytest.mark.parametrize(("cwnd", "leaves"), [(901, True), (900, True), (899, False)])
def test_3_8_6_2_1_small_window_of_the_peer_is_used_but_not_a_small_one_of_ours(
    script: Script, cwnd: int, *, leaves: bool
) -> None:
    """What congestion leaves less than a segment of is not worth one: an acknowledgment will open it."""
    script.accepted(window=900)
    script.connection.sender.cubic.window = cwnd
    script.send(2000)
    assert [each.length for each in script.take_all()] == ([900] if leaves else [])


@pytest.mark.parametrize(
    ("cwnd", "round_trip_ms", "run"),
    [
        (100_000, 2, 63_000),
        (100_000, 2.1, 63_000),
        (100_000, 5, 40_000),
        (100_000, 100, 8000),
        (1_010_000, 100, 20_000),
    ],
)
def test_run_is_what_leaves_in_two_milliseconds_or_eight_segments(
    script: Script, cwnd: int, round_trip_ms: float, run: int
) -> None:
    script.accepted(ws=7)
    sender = script.connection.sender
    sender.cubic.window = cwnd
    sender.round_trip.least_ns = sender.round_trip.smoothed_ns = int(round_trip_ms * 1_000_000)
    script.inject(".", seq=1, ack=1, window=8000)
    script.send(90_000)
    lengths = [each.length for each in script.take_all()]
    assert set(lengths[:-1]) == {run}
    assert sum(lengths) == 90_000


def test_segments_larger_than_a_super_segment_leave_by_themselves() -> None:
    with Script(mtu=65_535) as script:
        script.accepted(mss=65_000)
        script.connection.sender.cubic.window = 200_000
        script.send(64_999)
        script.expect("P.", seq=1, ack=1, length=64_999, segment=0)


def test_rfc_5681_window_that_was_just_filled_does_not_grow(script: Script) -> None:
    script.accepted()
    script.send(10_000)
    script.expect("P.", seq=1, ack=1, length=10_000)
    script.inject(".", seq=1, ack=10_001)
    assert script.connection.sender.cubic.window == 10_000
    # One byte more waits: so it was too small.
    script.send(10_001)
    script.expect(".", seq=10_001, ack=1, length=10_000)
    script.inject(".", seq=1, ack=20_001)
    script.expect("P.", seq=20_001, ack=1, length=1)
    assert script.connection.sender.cubic.window == 20_000


def test_rfc_5681_window_of_the_peer_that_was_filled_lets_ours_not_grow(script: Script) -> None:
    script.accepted(window=10_000)
    script.send(20_000)
    script.expect(".", seq=1, ack=1, length=10_000)
    script.inject(".", seq=1, ack=10_001, window=10_000)
    assert script.connection.sender.cubic.window == 10_000
    script.expect("P.", seq=10_001, ack=1, length=10_000)


def test_user_learns_that_nothing_is_unsent_behind_a_fin(script: Script) -> None:
    connection = script.connect()
    script.expect("S", seq=0)
    connection.send(b"abc")
    assert connection.unsent_bytes == 3
    script.inject("S.", seq=0, ack=1, mss=1000)
    script.expect("P.", seq=1, ack=1, data=b"abc")
    assert connection.unsent_bytes == 0
    script.shutdown()
    script.expect("F.", seq=4, ack=1)
    assert (connection.unsent_bytes, connection.unacknowledged_bytes) == (0, 4)


@pytest.mark.parametrize("window", [0, 1, 2, 999])
def test_3_8_6_1_probe_counts_as_sent_as_far_as_the_window_takes_it(script: Script, window: int) -> None:
    script.accepted(window=4000)
    script.send(4000)
    script.expect("P.", seq=1, ack=1, length=4000)
    script.advance_quietly(10)
    script.inject(".", seq=1, ack=4001, window=window)
    script.send(3000)
    script.expect(".", seq=4001, ack=1, length=max(1, window), after=200)
    assert script.connection.unacknowledged_bytes == window
    assert script.connection.unsent_bytes == 3000 - window
    if window:
        # It is on the way, so it is waited for as data is.
        script.expect(".", seq=4001, ack=1, length=window, after=400)
    else:
        script.expect(".", seq=4001, ack=1, length=1, after=400)


def test_3_8_6_1_probe_is_no_larger_than_a_segment_or_what_is_left(script: Script) -> None:
    script.accepted(window=0, mss=500)
    script.send(3)
    sender = script.connection.sender
    sender.window = 2
    script.expect(".", seq=1, ack=1, length=2, after=200)
    script.inject(".", seq=1, ack=3, window=0)
    sender.window = 5
    assert sender.probe(script.now).end - sender.una == 1
    sender.buffer.append(bytes(2000))
    sender.window = 1000
    assert sender.probe(script.now).end - sender.una == 500


def test_3_8_6_1_answer_to_a_probe_measures_nothing(script: Script) -> None:
    """Nobody knows which of them it answers."""
    script.accepted(window=1000)
    script.send(3000)
    script.expect(".", seq=1, ack=1, length=1000)
    script.advance_quietly(10)
    script.inject(".", seq=1, ack=1001, window=0)
    trip = script.connection.sender.round_trip
    before = trip.smoothed_ns
    script.expect(".", seq=1001, ack=1, length=1, after=200)
    script.advance_quietly(100)
    script.inject(".", seq=1, ack=1002, window=0)
    assert trip.smoothed_ns == before


def test_3_8_6_1_probe_is_no_pause(script: Script) -> None:
    script.accepted(window=10_000)
    cubic = script.connection.sender.cubic
    script.send(20_000)
    script.expect(".", seq=1, ack=1, length=10_000)
    script.advance_quietly(10)
    script.inject(".", seq=1, ack=10_001, window=0)
    cubic.window = 50_000
    script.expect(".", seq=10_001, ack=1, length=1, after=200)
    script.expect(".", seq=10_001, ack=1, length=1, after=400)
    script.inject(".", seq=1, ack=10_001, window=20_000)
    script.expect("P.", seq=10_001, ack=1, length=10_000)
    assert cubic.window == 50_000


def test_3_8_6_1_probe_waits_from_the_last_word_of_the_peer(script: Script) -> None:
    script.accepted(window=4000)
    script.send(8000)
    script.expect(".", seq=1, ack=1, length=4000)
    script.advance_quietly(10)
    script.inject(".", seq=1, ack=4001, window=0)
    script.advance_quietly(150)
    # It has opened, by too little to be worth a segment.
    script.inject(".", seq=1, ack=4001, window=500)
    script.expect(".", seq=4001, ack=1, length=500, after=200)
