"""What is lost and sent again (RFC 5681 section 3.2; RFC 6582, 2018, 6675, 3042, 6937; RFC 8985 section 7)."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stack.tcp.script import MS, Script
from weft.stack.tcp.recovery import Phase, Recovery
from weft.stack.tcp.sender import Sender
from weft.stack.tcp.states import State


def flight(script: Script, size: int = 10_000, *, sack: bool = False) -> None:
    """So many bytes are on the way, as far as the window takes them."""
    script.accepted(sack=sack)
    script.connection.set_no_delay(True)
    script.send(size)
    script.expect("P.", seq=1, ack=1, length=size, segment=1000)


def phase(script: Script) -> Phase:
    return script.connection.sender.recovery.phase


def window(script: Script) -> int:
    return script.connection.sender.cubic.window


# Without selective acknowledgments: NewReno.


def test_rfc_5681_3_2_three_duplicates_send_the_first_segment_again(script: Script) -> None:
    flight(script)
    script.inject(".", seq=1, ack=1)
    script.inject(".", seq=1, ack=1)
    assert phase(script) is Phase.OPEN
    script.inject(".", seq=1, ack=1)
    script.expect(".", seq=1, ack=1, length=1000)
    assert phase(script) is Phase.RECOVERY
    assert script.connection.sender.cubic.threshold == 7000
    script.inject(".", seq=1, ack=10_001)
    assert phase(script) is Phase.OPEN
    script.advance_quietly(100_000)


@pytest.mark.parametrize("kind", ["data", "window", "fin", "nothing on the way"])
def test_rfc_5681_2_what_is_no_duplicate(script: Script, kind: str) -> None:
    if kind == "nothing on the way":
        script.accepted()
        for _ in range(5):
            script.inject(".", seq=1, ack=1)
        assert phase(script) is Phase.OPEN
        assert window(script) == 10_000
        return
    flight(script)
    for number in range(5):
        if kind == "data":
            script.inject("P.", seq=1 + 10 * number, ack=1, data=10)
        elif kind == "window":
            script.inject(".", seq=1, ack=1, window=60_000 - number)
        else:
            script.inject("F.", seq=100, ack=1)
        script.take_all()
    assert phase(script) is Phase.OPEN


def test_rfc_5681_3_2_each_further_duplicate_lets_new_data_leave(script: Script) -> None:
    flight(script)
    script.send(20_000)
    for _ in range(3):
        script.inject(".", seq=1, ack=1)
    script.expect(".", seq=1, ack=1, length=1000)
    # 11 segments less 3 were on the way, and the window is 7.
    script.inject(".", seq=1, ack=1)
    script.inject(".", seq=1, ack=1)
    script.inject(".", seq=1, ack=1)
    # A run of three, for one costs as much as the other.
    script.expect(".", seq=10_001, ack=1, length=3000)
    for _ in range(3):
        script.inject(".", seq=1, ack=1)
    script.expect(".", seq=13_001, ack=1, length=3000)


def test_rfc_6582_3_2_partial_acknowledgment_sends_the_next_hole(script: Script) -> None:
    flight(script)
    for _ in range(3):
        script.inject(".", seq=1, ack=1)
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=3001)
    script.expect(".", seq=3001, ack=1, length=1000)
    script.inject(".", seq=1, ack=7001)
    script.expect(".", seq=7001, ack=1, length=1000)
    assert phase(script) is Phase.RECOVERY
    script.inject(".", seq=1, ack=10_001)
    assert phase(script) is Phase.OPEN
    # min(threshold, max(in flight, initial window) + segment)
    assert window(script) == 7000


def test_rfc_6582_3_2_duplicates_below_the_recovery_point_begin_nothing(script: Script) -> None:
    """After a time-out what comes back may be answers to copies."""
    flight(script)
    script.expect(".", seq=1, ack=1, length=1000, after=200)
    for _ in range(5):
        script.inject(".", seq=1, ack=1)
    assert phase(script) is Phase.LOSS
    script.inject(".", seq=1, ack=10_001)
    assert phase(script) is Phase.OPEN


def test_rfc_5681_3_1_time_out_begins_anew_with_one_segment(script: Script) -> None:
    flight(script)
    script.expect(".", seq=1, ack=1, length=1000, after=200)
    assert (phase(script), window(script)) == (Phase.LOSS, 1000)
    assert script.connection.sender.cubic.threshold == 7000
    script.expect(".", seq=1, ack=1, length=1000, after=400)
    assert script.connection.sender.cubic.threshold == 7000
    script.inject(".", seq=1, ack=1001)
    script.expect(".", seq=1001, ack=1, length=2000, segment=1000)
    script.inject(".", seq=1, ack=3001)
    script.expect(".", seq=3001, ack=1, length=4000)
    script.inject(".", seq=1, ack=7001)
    script.expect("P.", seq=7001, ack=1, length=3000)
    script.inject(".", seq=1, ack=10_001)
    assert phase(script) is Phase.OPEN


def test_time_out_during_recovery_forgets_it(script: Script) -> None:
    flight(script)
    for _ in range(3):
        script.inject(".", seq=1, ack=1)
    script.expect(".", seq=1, ack=1, length=1000)
    script.expect(".", seq=1, ack=1, length=1000, after=200)
    assert (phase(script), window(script)) == (Phase.LOSS, 1000)


def test_rfc_3042_small_windows_send_new_data_for_duplicates(script: Script) -> None:
    script.accepted()
    script.connection.set_no_delay(True)
    script.connection.sender.cubic.window = 3000
    script.send(9000)
    script.expect(".", seq=1, ack=1, length=3000, segment=1000)
    script.inject(".", seq=1, ack=1)
    script.expect(".", seq=3001, ack=1, length=1000)
    script.inject(".", seq=1, ack=1)
    script.expect(".", seq=4001, ack=1, length=1000)
    script.inject(".", seq=1, ack=1)
    script.expect(".", seq=1, ack=1, length=1000)


def test_fin_is_recovered_as_data_is(script: Script) -> None:
    flight(script, 3000)
    script.shutdown()
    script.expect("F.", seq=3001, ack=1)
    script.inject(".", seq=1, ack=2001)
    script.expect("P.", seq=2001, ack=1, length=1000, after=200)
    script.inject(".", seq=1, ack=3001)
    script.expect("F.", seq=3001, ack=1)
    script.inject(".", seq=1, ack=3002)
    assert script.state is State.FIN_WAIT_2


def test_rfc_6582_3_2_end_of_a_recovery_lets_no_burst_leave(script: Script) -> None:
    script.accepted()
    script.connection.sender.cubic.window = 50_000
    script.send(50_000)
    script.take_all()
    for _ in range(3):
        script.inject(".", seq=1, ack=1)
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=50_001)
    assert (phase(script), window(script)) == (Phase.OPEN, 11_000)


def test_rfc_6582_3_2_partial_acknowledgment_of_less_than_a_segment(script: Script) -> None:
    flight(script)
    for _ in range(3):
        script.inject(".", seq=1, ack=1)
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=501)
    script.expect(".", seq=501, ack=1, length=1000)
    script.inject(".", seq=1, ack=10_001)
    assert phase(script) is Phase.OPEN


# With them.


def test_rfc_6675_5_three_segments_behind_a_hole_make_it_lost(script: Script) -> None:
    flight(script, sack=True)
    script.inject(".", seq=1, ack=1, blocks=((1001, 2001),))
    script.inject(".", seq=1, ack=1, blocks=((1001, 3001),))
    assert phase(script) is Phase.OPEN
    script.inject(".", seq=1, ack=1, blocks=((1001, 4001),))
    script.expect(".", seq=1, ack=1, length=1000)
    assert phase(script) is Phase.RECOVERY
    assert script.connection.sender.cubic.threshold == 7000
    script.inject(".", seq=1, ack=10_001)
    assert phase(script) is Phase.OPEN


def test_rfc_6675_5_one_acknowledgment_may_tell_enough(script: Script) -> None:
    flight(script, sack=True)
    script.inject(".", seq=1, ack=1, blocks=((1001, 6001),))
    script.expect(".", seq=1, ack=1, length=1000)
    # There is room for more, and nothing new.
    script.expect("P.", seq=9001, ack=1, length=1000)


def test_rfc_6675_4_three_pieces_make_what_is_before_lost(script: Script) -> None:
    flight(script, sack=True)
    script.inject(".", seq=1, ack=1, blocks=((5001, 5002), (3001, 3002)))
    script.inject(".", seq=1, ack=1, blocks=((7001, 7002), (5001, 5002), (3001, 3002)))
    (sent, *_) = script.take_all()
    assert (sent.seq, sent.data[:1]) == (1, b"\0")


def test_rfc_6675_5_1_several_holes_are_filled_in_order(script: Script) -> None:
    flight(script, sack=True)
    script.inject(".", seq=1, ack=1, blocks=((1001, 2001), (3001, 4001)))
    # In all, three segments: before the last of them both holes count.
    script.inject(".", seq=1, ack=1, blocks=((5001, 8001), (3001, 4001), (1001, 2001)))
    sent = [(each.seq, each.length) for each in script.take_all()]
    assert sent[0] == (1, 1000)
    script.inject(".", seq=1, ack=2001, blocks=((5001, 8001), (3001, 4001)))
    sent += [(each.seq, each.length) for each in script.take_all()]
    script.inject(".", seq=1, ack=4001, blocks=((5001, 10_001),))
    sent += [(each.seq, each.length) for each in script.take_all()]
    assert sent[:3] == [(1, 1000), (2001, 1000), (4001, 1000)]
    script.inject(".", seq=1, ack=10_001)
    assert phase(script) is Phase.OPEN


def test_rfc_6675_new_data_leaves_when_nothing_lost_is_left(script: Script) -> None:
    flight(script, sack=True)
    script.send(20_000)
    script.inject(".", seq=1, ack=1, blocks=((1001, 4001),))
    script.expect(".", seq=1, ack=1, length=1000)
    sent = []
    for end in range(5001, 11_001, 1000):
        script.inject(".", seq=1, ack=1, blocks=((1001, end),))
        sent += [(each.seq, each.length) for each in script.take_all()]
    # In proportion: seven tenths of what is delivered, and none of it twice.
    assert sent == [(10_001, 3000), (13_001, 3000)]


def test_rfc_6675_4_rule_4_last_segment_is_sent_once_more_when_there_is_nothing_else(script: Script) -> None:
    flight(script, sack=True)
    script.inject(".", seq=1, ack=1, blocks=((1001, 4001),))
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=1, blocks=((1001, 5001),))
    script.events()
    script.expect("P.", seq=9001, ack=1, length=1000)
    # Once, and it is nothing new that left.
    script.connection.queue_to_send()
    script.flush()
    assert script.events() == []
    script.inject(".", seq=1, ack=1, blocks=((1001, 6001),))
    script.inject(".", seq=1, ack=1, blocks=((1001, 7001),))
    script.inject(".", seq=1, ack=1, blocks=((1001, 10_001),))


def test_rfc_2018_8_time_out_trusts_blocks_no_more_than_the_acknowledgment_does(script: Script) -> None:
    """What is covered by blocks is not sent again, until the other side shows that it has thrown it away."""
    flight(script, sack=True)
    script.inject(".", seq=1, ack=1, blocks=((1001, 3001),))
    # The tail is probed for first.
    script.advance(2.001)
    script.expect("P.", seq=9001, ack=1, length=1000)
    script.advance(200)
    (sent,) = script.take_all()
    assert (sent.seq, sent.length) == (1, 1000)
    # It acknowledges less than it said it had (reneging): the rest comes again.
    script.inject(".", seq=1, ack=1001)
    (sent,) = script.take_all()
    assert sent.seq == 1001
    assert not script.connection.sender.recovery.scoreboard


@pytest.mark.parametrize(
    "block", [(0, 1000), (1, 2), (10_000, 10_002), (5000, 5000), (6000, 5000), (1 << 31, (1 << 31) + 5), (-10, -5)]
)
def test_rfc_2018_blocks_that_make_no_sense_are_nothing(script: Script, block: tuple[int, int]) -> None:
    flight(script, sack=True)
    for _ in range(5):
        script.inject(".", seq=1, ack=1, blocks=(block,))
    assert not script.connection.sender.recovery.scoreboard
    assert phase(script) is Phase.OPEN


def test_blocks_of_a_peer_that_did_not_agree_are_nothing(script: Script) -> None:
    flight(script)
    script.inject(".", seq=1, ack=1, blocks=((1001, 9001),))
    assert not script.connection.sender.recovery.scoreboard


def test_retransmission_that_is_lost_is_noticed(script: Script) -> None:
    flight(script, sack=True)
    script.send(20_000)
    script.inject(".", seq=1, ack=1, blocks=((1001, 4001),))
    script.expect(".", seq=1, ack=1, length=1000)
    again = []
    for end in range(5001, 16_001, 1000):
        end = min(end, script.connection.sender.nxt - script.connection.sender.una + 1)
        script.inject(".", seq=1, ack=1, blocks=((1001, end),))
        again += [end for each in script.take_all() if each.seq == 1]
    # Three segments that left after it have arrived.
    assert again == [13_001]


def test_rfc_8985_7_tail_is_probed_with_the_last_segment(script: Script) -> None:
    flight(script, 3000, sack=True)
    script.advance(1.999)
    script.expect_nothing()
    script.advance(0.002)
    script.expect("P.", seq=2001, ack=1, length=1000)
    assert phase(script) is Phase.OPEN
    assert window(script) == 10_000
    script.inject(".", seq=1, ack=1, blocks=((2001, 3001),))
    script.advance(200)
    script.expect(".", seq=1, ack=1, length=1000)
    assert phase(script) is Phase.LOSS


@pytest.mark.parametrize(("size", "wait"), [(2000, 602), (1000, 802), (10, 802), (1001, 602)])
def test_rfc_8985_7_2_tail_is_probed_after_two_round_trips(script: Script, size: int, wait: int) -> None:
    """And a single segment 200 ms later, for its acknowledgment may wait."""
    script.connect()
    script.expect("S", seq=0)
    script.advance_quietly(300)
    script.inject("S.", seq=0, ack=1, mss=1000, sack=True)
    script.expect(".", seq=1, ack=1)
    script.connection.set_no_delay(True)
    script.send(size)
    script.expect("P.", seq=1, ack=1, length=size)
    last = max(0, size - 1000)
    script.expect("P.", seq=1 + last, ack=1, length=size - last, after=wait)
    # Then the timer, all of it.
    script.advance_quietly(899)
    script.advance(1)
    assert script.take_all()[0].seq == 1
    assert phase(script) is Phase.LOSS


def test_rfc_8985_7_3_probe_that_is_answered_is_followed_by_another(script: Script) -> None:
    flight(script, 3000, sack=True)
    script.advance(2.001)
    script.expect("P.", seq=2001, ack=1, length=1000)
    script.inject(".", seq=1, ack=1001)
    script.advance(2.001)
    script.expect("P.", seq=2001, ack=1, length=1000)


def test_rfc_8985_7_or_with_new_data_if_there_is_any(script: Script) -> None:
    script.accepted(sack=True)
    script.connection.set_no_delay(True)
    script.send(12_000)
    script.expect(".", seq=1, ack=1, length=10_000)
    script.advance(2.001)
    script.expect(".", seq=10_001, ack=1, length=1000)
    assert script.connection.unacknowledged_bytes == 11_000
    assert script.connection.unsent_bytes == 1000


def test_rfc_8985_7_not_with_data_that_the_window_does_not_take(script: Script) -> None:
    script.accepted(sack=True, window=3000)
    script.send(5000)
    script.expect(".", seq=1, ack=1, length=3000, segment=1000)
    script.advance(2.001)
    script.expect(".", seq=2001, ack=1, length=1000)
    script.inject(".", seq=1, ack=3001, window=500)
    assert script.connection.unacknowledged_bytes == 0
    # A probe of the window, no earlier than 200 ms.
    script.advance_quietly(199)


def test_rfc_8985_7_with_as_much_as_the_window_takes(script: Script) -> None:
    script.accepted(sack=True, window=3500)
    script.send(5000)
    script.expect(".", seq=1, ack=1, length=3000, segment=1000)
    script.advance(2.001)
    script.expect(".", seq=3001, ack=1, length=500)


def test_rfc_6937_holes_are_filled_faster_while_that_goes_well(script: Script) -> None:
    """A partial acknowledgment that shows no further loss lets a segment more leave than it says has arrived."""
    flight(script, sack=True)
    script.inject(".", seq=1, ack=1, blocks=((6001, 10_001),))
    script.expect(".", seq=1, ack=1, length=4000, segment=1000)
    script.inject(".", seq=1, ack=1001, blocks=((6001, 10_001),))
    script.expect(".", seq=4001, ack=1, length=2000, segment=1000)


def test_rfc_6937_no_faster_than_what_arrives_otherwise(script: Script) -> None:
    flight(script, sack=True)
    script.inject(".", seq=1, ack=1, blocks=((6001, 9001),))
    script.expect(".", seq=1, ack=1, length=3000, segment=1000)
    script.inject(".", seq=1, ack=1, blocks=((6001, 10_001),))
    script.expect(".", seq=3001, ack=1, length=1000)


def test_rfc_8985_7_single_segment_waits_for_a_late_acknowledgment(script: Script) -> None:
    script.accepted(sack=True)
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    # No earlier than the time-out.
    script.expect("P.", seq=1, ack=1, data=b"abc", after=200)


def test_rfc_8985_7_not_without_selective_acknowledgments(script: Script) -> None:
    flight(script, 3000)
    script.expect(".", seq=1, ack=1, length=1000, after=200)


def test_peer_that_acknowledges_every_byte_by_itself_costs_little(script: Script) -> None:
    flight(script, sack=True)
    for at in range(3, 9000, 2):
        script.deliver(script.packet(".", seq=1, ack=1, blocks=((at, at + 1),)))
    script.flush()
    assert len(script.connection.sender.recovery.scoreboard._starts) == 256
    script.take_all()
    script.inject(".", seq=1, ack=10_001)
    script.take_all()
    assert phase(script) is Phase.OPEN


# The pipe.


def test_pipe_is_what_was_sent_and_neither_arrived_nor_is_lost() -> None:
    recovery = Recovery()
    recovery.selective = True
    assert recovery.pipe(0, 10_000, 1000) == 10_000
    recovery.note_blocks([(1000, 3000)], 0, 10_000, 0)
    assert recovery.pipe(0, 10_000, 1000) == 8000
    recovery.note_blocks([(5000, 6000)], 0, 10_000, 0)
    assert recovery.detect(0, 10_000, 1000, 3)
    # 0 to 1000 is lost; 3000 to 5000 is not, with one segment behind it.
    assert recovery.pipe(0, 10_000, 1000) == 6000
    assert recovery.next_lost(0) == (0, 1000)
    recovery.handle_resent(0, 1000, 10_000)
    assert recovery.pipe(0, 10_000, 1000) == 7000
    assert recovery.next_lost(0) is None
    assert recovery.next_doubtful(0, 1500) == (3000, 4500)
    recovery.note_blocks([(6000, 8000)], 0, 10_000, 0)
    assert not recovery.detect(0, 10_000, 1000, 3)
    assert recovery.next_lost(0) == (3000, 5000)
    assert recovery.pipe(0, 10_000, 1000) == 3000
    recovery.handle_resent(3000, 5000, 10_000)
    assert recovery.pipe(0, 10_000, 1000) == 5000


def test_pipe_without_blocks_counts_duplicates() -> None:
    recovery = Recovery()
    for _ in range(3):
        assert not recovery.detect(0, 10_000, 1000, 3)
        recovery.handle_duplicate()
    assert recovery.pipe(0, 10_000, 1000) == 7000
    assert recovery.detect(0, 10_000, 1000, 3)
    assert recovery.pipe(0, 10_000, 1000) == 6000
    recovery.handle_resent(0, 1000, 10_000)
    assert recovery.pipe(0, 10_000, 1000) == 7000
    for _ in range(20):
        recovery.handle_duplicate()
    assert recovery.pipe(0, 10_000, 1000) == 0


def test_too_big_is_lost_but_no_phase() -> None:
    recovery = Recovery()
    recovery.handle_too_big(0, 5000)
    assert recovery.phase is Phase.OPEN
    assert recovery.next_lost(0) == (0, 5000)
    recovery.handle_resent(0, 3000, 5000)
    assert recovery.next_lost(0) == (3000, 5000)
    assert not recovery.is_quiet
    recovery.handle_acknowledged(5000, 5000, 500)
    assert recovery.is_quiet


@pytest.mark.parametrize(("room", "leaves"), [(999, 0), (1000, 1000), (1999, 1000), (2000, 1000)])
def test_rfc_6675_5_further_holes_need_room_for_a_segment(script: Script, room: int, leaves: int) -> None:
    flight(script, sack=True)
    script.inject(".", seq=1, ack=1, blocks=((7001, 10_001), (3001, 4001), (1001, 2001)))
    first, *_ = script.take_all()
    assert (first.seq, first.length) == (1, 1000)
    sender = script.connection.sender
    # What has left again since is as if it had not.
    sender.recovery._resent_to = sender.una + 1000
    sender.cubic.window = sender.recovery.pipe(sender.una, sender.nxt, 1000) + room
    script.connection.queue_to_send()
    script.flush()
    sent = script.take_all()
    assert [(each.seq, each.length) for each in sent][:1] == ([(2001, leaves)] if leaves else [])


def test_rfc_5681_3_2_a_single_byte_is_recovered_too(script: Script) -> None:
    script.accepted()
    script.send(b"x")
    script.expect("P.", seq=1, ack=1, data=b"x")
    for _ in range(3):
        script.inject(".", seq=1, ack=1)
    script.expect("P.", seq=1, ack=1, data=b"x")


def test_rfc_6582_3_2_partial_acknowledgment_of_all_but_a_little(script: Script) -> None:
    flight(script, 3000)
    script.connection.set_no_delay(True)
    script.send(b"tail")
    script.expect("P.", seq=3001, ack=1, data=b"tail")
    for _ in range(3):
        script.inject(".", seq=1, ack=1)
    script.expect(".", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=3001)
    script.expect("P.", seq=3001, ack=1, data=b"tail")


def test_fin_alone_is_recovered_too(script: Script) -> None:
    script.accepted()
    script.shutdown()
    script.expect("F.", seq=1, ack=1)
    for _ in range(3):
        script.inject(".", seq=1, ack=1)
    script.expect("F.", seq=1, ack=1)


def test_rfc_6675_5_first_hole_needs_no_room(script: Script) -> None:
    flight(script, sack=True)
    script.inject(".", seq=1, ack=1, blocks=((7001, 10_001), (3001, 4001), (1001, 2001)))
    script.take_all()
    sender = script.connection.sender
    sender.recovery._resent_to = sender.una
    sender.cubic.window = 1
    script.connection.queue_to_send()
    script.flush()
    script.expect(".", seq=1, ack=1, length=1000)


def test_time_out_forgets_how_late_segments_were(script: Script) -> None:
    flight(script)
    reordering = script.connection.sender.reordering
    reordering.note_late(20_000, 1000)
    assert reordering.segments > 3
    script.expect(".", seq=1, ack=1, length=1000, after=200)
    assert reordering.segments == 3


def test_new_data_that_leaves_with_a_retransmission_is_measured(script: Script) -> None:
    flight(script, 2000)
    script.expect(".", seq=1, ack=1, length=1000, after=200)
    script.send(1000)
    script.inject(".", seq=1, ack=1001)
    script.expect(".", seq=1001, ack=1, length=1000)
    script.expect("P.", seq=2001, ack=1, length=1000)
    script.advance_quietly(30)
    script.inject(".", seq=1, ack=3001)
    assert script.connection.sender.round_trip.smoothed_ns == 1 + ((30_000_000 - 1) >> 3)


def test_what_left_before_a_retransmission_is_not_measured(script: Script) -> None:
    flight(script, sack=True)
    script.advance_quietly(0.5)
    script.inject(".", seq=1, ack=1, blocks=((1001, 4001),))
    script.expect(".", seq=1, ack=1, length=1000)
    script.advance_quietly(1)
    script.inject(".", seq=1, ack=10_001)
    assert script.connection.sender.round_trip.smoothed_ns == 1


def test_how_late_a_byte_came_is_counted_from_the_furthest() -> None:
    recovery = Recovery()
    assert recovery.note_blocks([(3000, 4000)], 0, 10_000, 0) == 0
    assert recovery.note_blocks([(1000, 2000)], 0, 10_000, 0) == 3000
    # What was there already is not late, nor is what was sent again.
    assert recovery.note_blocks([(1000, 2000)], 0, 10_000, 0) == 0
    assert recovery.note_blocks([(2000, 3000)], 0, 10_000, 2500) == 1500
    assert recovery.note_blocks([(5000, 6000)], 0, 10_000, 0) == 0
    assert recovery.note_blocks([(4000, 5000)], 0, 10_000, 5000) == 0


def test_recovery_in_vain_forgets_what_it_sent_again() -> None:
    recovery = Recovery()
    recovery.selective = True
    recovery.note_blocks([(1000, 5000)], 0, 10_000, 0)
    assert recovery.detect(0, 10_000, 1000, 3)
    recovery.handle_resent(0, 1000, 10_000)
    recovery.handle_in_vain(0)
    assert recovery.phase is Phase.OPEN
    assert recovery.next_lost(0) is None
    # Segments that come much later do not make it lost again.
    recovery.note_blocks([(10_000, 14_000)], 0, 20_000, 1000)
    recovery._look_for_lost_again(0, 1000, 3)
    assert recovery.next_lost(0) is None


def test_pipe_has_what_was_doubtful_and_left_again_twice() -> None:
    recovery = Recovery()
    recovery.selective = True
    recovery.note_blocks([(1000, 3000), (5000, 6000)], 0, 10_000, 0)
    assert recovery.detect(0, 10_000, 1000, 3)
    recovery.handle_resent(0, 1000, 10_000)
    assert recovery.pipe(0, 10_000, 1000) == 7000
    recovery.handle_resent(3000, 4500, 10_000)
    assert recovery.pipe(0, 10_000, 1000) == 8500
    # No more than was ever sent.
    recovery.handle_resent(6000, 9000, 10_000)
    assert recovery.pipe(0, 8000, 1000) == 1000 + 2 * 2000 + 2 * 2000


def test_rfc_6582_3_2_partial_acknowledgment_takes_what_it_covers_off_the_duplicates() -> None:
    recovery = Recovery()
    for _ in range(5):
        recovery.handle_duplicate()
    assert recovery.detect(0, 10_000, 1000, 3)
    recovery.handle_resent(0, 1000, 10_000)
    # Of three segments the first was sent again, so two of the duplicates were for the others.
    assert not recovery.handle_acknowledged(3000, 3000, 1000)
    assert recovery.pipe(3000, 10_000, 1000) == 6000 - 3000
    recovery.handle_resent(3000, 4000, 10_000)
    assert recovery.pipe(3000, 10_000, 1000) == 7000 - 3000
    # Less than a segment takes nothing off, and more than there were takes all.
    assert not recovery.handle_acknowledged(3500, 500, 1000)
    assert recovery.pipe(3500, 10_000, 1000) == 5500 - 3000
    assert not recovery.handle_acknowledged(9500, 6000, 1000)
    assert recovery.pipe(9500, 10_000, 1000) == 0
    assert recovery.handle_acknowledged(10_000, 500, 1000)
    assert recovery.pipe(10_000, 12_000, 1000) == 2000


def test_duplicates_after_a_time_out_count_for_nothing() -> None:
    recovery = Recovery()
    recovery.handle_duplicate()
    recovery.handle_timeout(0, 10_000)
    assert recovery.pipe(0, 10_000, 1000) == 0
    recovery.handle_resent(0, 1000, 10_000)
    for _ in range(4):
        recovery.handle_duplicate()
    assert recovery.pipe(0, 10_000, 1000) == 1000
    assert not recovery.detect(0, 10_000, 1000, 3)
    assert recovery.next_lost(0) == (1000, 10_000)


@pytest.mark.parametrize("sent_since", [2999, 3000])
def test_what_was_sent_again_is_lost_again_when_three_later_segments_have_arrived(sent_since: int) -> None:
    recovery = Recovery()
    recovery.selective = True
    recovery.note_blocks([(1000, 5000)], 0, 10_000, 0)
    assert recovery.detect(0, 10_000, 1000, 3)
    recovery.handle_resent(0, 1000, 10_000)
    recovery.note_blocks([(5000, 10_000 + sent_since)], 0, 20_000, 1000)
    assert not recovery.detect(0, 20_000, 1000, 3)
    is_lost = sent_since == 3000
    assert recovery.next_lost(0) == ((0, 1000) if is_lost else None)
    missing = 20_000 - 10_000 - sent_since
    assert recovery.pipe(0, 20_000, 1000) == missing + (0 if is_lost else 1000)
    if is_lost:
        # Half of it leaves once more.
        recovery.handle_resent(0, 500, 20_000)
        assert recovery.next_lost(0) == (500, 1000)
        assert recovery.pipe(0, 20_000, 1000) == missing + 500


def test_what_was_acknowledged_is_not_lost_again() -> None:
    recovery = Recovery()
    recovery.selective = True
    recovery.note_blocks([(2000, 6000), (7000, 8000)], 0, 10_000, 0)
    assert recovery.detect(0, 10_000, 1000, 3)
    recovery.handle_resent(0, 1000, 10_000)
    recovery.handle_resent(1000, 2000, 10_000)
    recovery.note_blocks([(10_000, 13_000)], 1000, 20_000, 2000)
    recovery.handle_acknowledged(1000, 1000, 1000)
    recovery.detect(1000, 20_000, 1000, 3)
    # The first has arrived; the second has not; the third counts now.
    assert recovery.next_lost(1000) == (1000, 2000)
    recovery.handle_resent(1000, 2000, 20_000)
    assert recovery.next_lost(1000) == (6000, 7000)
    recovery.handle_acknowledged(6500, 5500, 1000)
    assert recovery.next_lost(6500) == (6500, 7000)


def test_rescue_is_the_last_segment_and_only_one() -> None:
    recovery = Recovery()
    recovery.selective = True
    assert recovery.take_rescue(0, 1000) is None
    recovery.note_blocks([(1000, 5000)], 0, 10_000, 0)
    assert recovery.detect(0, 10_000, 1000, 3)
    assert recovery.take_rescue(0, 1000) == (9000, 10_000)
    assert recovery.take_rescue(0, 1000) is None
    # The next phase has one again, of what is not acknowledged.
    assert recovery.handle_acknowledged(10_000, 10_000, 1000)
    recovery.note_blocks([(10_500, 15_000)], 10_000, 15_500, 0)
    assert recovery.detect(10_000, 15_500, 1000, 3)
    assert recovery.take_rescue(10_000, 1000) == (15_000, 15_500)


def test_doubtful_is_a_segment_below_what_has_arrived() -> None:
    recovery = Recovery()
    recovery.selective = True
    recovery.note_blocks([(1000, 5000), (5400, 6000)], 0, 10_000, 0)
    assert recovery.next_doubtful(0, 1000) is None
    assert recovery.detect(0, 10_000, 1000, 3)
    recovery.handle_resent(0, 1000, 10_000)
    assert recovery.next_doubtful(0, 1000) == (5000, 5400)
    recovery.handle_resent(5000, 5400, 10_000)
    assert recovery.next_doubtful(0, 1000) is None
    recovery.scoreboard.clear()
    assert recovery.next_doubtful(0, 1000) is None


def test_losses_that_are_noticed_again_are_bounded() -> None:
    recovery = Recovery()
    for number in range(1030):
        recovery.handle_resent(number, number + 1, 5000)
    assert len(recovery._resent) == 1024


def test_writer_that_waits_is_not_told_of_probes(script: Script) -> None:
    flight(script, 3000, sack=True)
    script.connection.awaits_room = True
    script.events()
    script.advance(2.001)
    script.expect("P.", seq=2001, ack=1, length=1000)
    assert script.events() == []


def test_several_that_are_lost_again_leave_in_order() -> None:
    recovery = Recovery()
    recovery.selective = True
    recovery.note_blocks([(1000, 2000), (3000, 7000)], 0, 10_000, 0)
    assert recovery.detect(0, 10_000, 1000, 3)
    recovery.handle_resent(0, 1000, 10_000)
    recovery.handle_resent(2000, 3000, 10_000)
    recovery.note_blocks([(7000, 14_000)], 0, 20_000, 3000)
    assert not recovery.detect(0, 20_000, 1000, 3)
    assert recovery.next_lost(0) == (0, 1000)
    assert recovery.pipe(0, 20_000, 1000) == 6000
    recovery.handle_resent(0, 1000, 20_000)
    assert recovery.next_lost(0) == (2000, 3000)
    recovery.handle_resent(2000, 2400, 20_000)
    assert recovery.next_lost(0) == (2400, 3000)
    # What comes of it is not lost.
    recovery.note_blocks([(2400, 2600)], 0, 20_000, 3000)
    assert recovery.next_lost(0) == (2600, 3000)
    recovery.handle_resent(2600, 3000, 20_000)
    assert recovery.next_lost(0) is None


def test_run_that_is_sent_again_is_of_whole_segments(script: Script) -> None:
    flight(script, sack=True)
    sender = script.connection.sender
    gaps = {}
    for room in (999, 1000, 1500, 2000, 2500, 3000):
        gaps[room] = sender._resend((sender.una, sender.una + 2500), room, 1000, script.now).end - sender.una
    # A gap that fits is sent whole; else segments, one at least.
    assert gaps == {999: 1000, 1000: 1000, 1500: 1000, 2000: 2000, 2500: 2500, 3000: 2500}


def test_quiet_is_when_nothing_is_missing() -> None:
    recovery = Recovery()
    recovery.selective = True
    assert recovery.is_quiet
    recovery.note_blocks([(1000, 2000)], 0, 10_000, 0)
    assert not recovery.is_quiet
    recovery.handle_acknowledged(3000, 3000, 1000)
    assert recovery.is_quiet
    recovery.handle_timeout(3000, 10_000)
    assert not recovery.is_quiet
    recovery.handle_in_vain(3000)
    assert recovery.is_quiet


HAPPENINGS = st.sampled_from(["acknowledged", "blocks", "duplicate", "timeout", "in vain", "too big", "resent"])


@given(st.booleans(), st.lists(st.tuples(HAPPENINGS, st.integers(0, 9), st.integers(1, 9)), max_size=20))
def test_quiet_follows_from_the_rest(selective: bool, happenings: list[tuple[str, int, int]]) -> None:
    recovery, una, nxt = Recovery(), 0, 10_000
    recovery.selective = selective
    for what, at, size in happenings:
        start, end = una + 1000 * at, min(una + 1000 * (at + size), nxt)
        if what == "acknowledged" and una < start <= nxt:
            acknowledged, una, nxt = start - una, start, nxt + 2000
            recovery.handle_acknowledged(una, acknowledged, 1000)
        elif what == "blocks" and selective:
            recovery.note_blocks([(start, end)], una, nxt, 0)
        elif what == "duplicate":
            recovery.handle_duplicate()
        elif what == "timeout":
            recovery.handle_timeout(una, nxt)
        elif what == "in vain":
            recovery.handle_in_vain(una)
        elif what == "too big":
            recovery.handle_too_big(una, nxt)
        elif what == "resent" and (lost := recovery.next_lost(una)) is not None:
            recovery.handle_resent(*lost, nxt)
        if what in {"acknowledged", "blocks", "duplicate"}:
            recovery.detect(una, nxt, 1000, 3)
        is_open = recovery.phase is Phase.OPEN
        assert recovery.is_quiet is (is_open and not recovery.scoreboard and recovery._lost_below <= una)


@given(
    st.booleans(), st.booleans(), st.lists(st.tuples(st.integers(1, 40), st.integers(1, 99)), min_size=1, max_size=9)
)
def test_what_is_acknowledged_while_nothing_is_missing_takes_a_short_way_to_the_same(
    selective: bool, was_lost: bool, rounds: list[tuple[int, int]]
) -> None:
    now, sender = 1, Sender(0, 1000)
    sender.set_window(1 << 20)
    sender.recovery.selective = selective
    sender.buffer.append(bytes(200_000))
    sender.handle_syn_sent(now)
    sender.handle_acknowledgment(1, (), now)
    for segments, share in rounds:
        now += 20 * MS
        while sender.next_run(now, 1000) is not None:
            pass
        if was_lost and sender.recovery.is_quiet:
            sender.handle_timeout()
            while sender.next_run(now, 1000) is not None:
                pass
        general = deepcopy(sender)
        # Some of a round, or all; as an iterator, of which nobody can tell beforehand that it is empty.
        acknowledgment = sender.una + max(1, min(1000 * segments, sender.in_flight * share // 99))
        if acknowledgment > sender.nxt:
            break
        sender.handle_acknowledgment(acknowledgment, (), now + 10 * MS, echo_ns=9 * MS)
        general.handle_acknowledgment(acknowledgment, iter(()), now + 10 * MS, echo_ns=9 * MS)
        assert everything(sender) == everything(general)


def everything(part: object) -> object:
    """All that is known, as plain values."""
    if isinstance(part, list | tuple):
        return [everything(each) for each in part]
    if not hasattr(part, "__slots__"):
        return part
    return {name: everything(getattr(part, name)) for name in part.__slots__}


def test_rfc_6582_3_2_duplicates_of_what_was_sent_before_the_last_recovery_begin_none() -> None:
    recovery = Recovery()
    for _ in range(3):
        recovery.handle_duplicate()
    assert recovery.detect(0, 10_000, 1000, 3)
    recovery.handle_timeout(0, 10_000)
    assert recovery.handle_acknowledged(10_000, 10_000, 1000)
    for una, begins in ((9_999, False), (10_000, True)):
        recovery._duplicates = 3
        assert recovery.detect(una, 15_000, 1000, 3) is begins


def test_tail_is_probed_with_no_more_than_the_last_segment(script: Script) -> None:
    script.accepted(sack=True)
    sender = script.connection.sender
    script.connection.set_no_delay(True)
    script.send(2300)
    script.expect("P.", seq=1, ack=1, length=2300)
    script.advance(2.001)
    script.expect("P.", seq=1301, ack=1, length=1000)
    # It was asked already.
    assert sender.take_tail_probe(script.now) is None
    script.inject(".", seq=1, ack=2301)
    assert sender.take_tail_probe(script.now) is None
    script.send(300)
    script.expect("P.", seq=2301, ack=1, length=300)
    script.advance(201)
    script.expect("P.", seq=2301, ack=1, length=300)


def test_late_segment_of_a_recovery_without_timestamps_changes_nothing(script: Script) -> None:
    flight(script, sack=True)
    sender = script.connection.sender
    script.inject(".", seq=1, ack=1, blocks=((1001, 5001),))
    script.take_all()
    script.inject(".", seq=1, ack=5001)
    script.take_all()
    assert (sender.reordering.segments, sender.cubic.threshold) == (3, 7000)


def test_late_segment_before_any_recovery_raises_the_threshold(script: Script) -> None:
    flight(script, sack=True)
    sender = script.connection.sender
    script.inject(".", seq=1, ack=1, blocks=((1001, 3001),))
    script.inject(".", seq=1, ack=3001)
    assert phase(script) is Phase.OPEN
    # A byte came when one was there that is three segments behind it.
    assert sender.reordering.segments == 4
    assert sender.cubic.window == 10_000
