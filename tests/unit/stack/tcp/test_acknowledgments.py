"""When acknowledgments leave, and what comes of data in any order (RFC 9293 sections 3.8.6.3, 3.10.7.4; RFC 2018)."""

from __future__ import annotations

from random import Random

import pytest

from tests.unit.stack.tcp.script import Script, pattern
from weft.stack.tcp.states import State


def test_3_8_6_3_must_40_acknowledgments_wait_40_ms(script: Script) -> None:
    script.accepted()
    script.inject("P.", seq=1, ack=1, data=b"a")
    script.advance_quietly(39)
    script.inject("P.", seq=2, ack=1, data=b"b")
    script.expect(".", seq=1, ack=3, after=1)
    script.advance_quietly(10_000)


def test_3_8_6_3_shld_18_acknowledgment_rides_on_data(script: Script) -> None:
    script.accepted()
    script.inject("P.", seq=1, ack=1, data=b"question")
    script.advance_quietly(10)
    script.send(b"answer")
    script.expect("P.", seq=1, ack=9, data=b"answer")
    script.inject(".", seq=9, ack=7)
    script.advance_quietly(10_000)


def test_3_8_6_3_shld_19_every_second_segment_is_acknowledged(script: Script) -> None:
    script.accepted()
    for number in range(4):
        script.inject(".", seq=1 + 2000 * number, ack=1, data=1000)
        script.inject(".", seq=1001 + 2000 * number, ack=1, data=1000)
        script.expect(".", seq=1, ack=2001 + 2000 * number)
    script.inject(".", seq=8001, ack=1, data=1000)
    script.inject(".", seq=9001, ack=1, data=999)
    script.inject(".", seq=10_000, ack=1, data=1)
    script.expect(".", seq=1, ack=10_001)


def test_3_8_6_3_largest_segment_that_came_is_taken_for_a_full_one(script: Script) -> None:
    script.accepted()
    # Of a peer that says nothing yet, 536 bytes are.
    script.inject(".", seq=1, ack=1, data=500)
    script.inject(".", seq=501, ack=1, data=571)
    script.expect(".", seq=1, ack=1072, after=40)
    script.inject(".", seq=1072, ack=1, data=571)
    script.inject(".", seq=1643, ack=1, data=570)
    script.expect(".", seq=1, ack=2213, after=40)
    # What is larger than any segment was super without saying so.
    script.inject(".", seq=2213, ack=1, data=20_000)
    script.inject(".", seq=22_213, ack=1, data=12_767)
    script.expect(".", seq=1, ack=34_980, after=40)
    script.inject(".", seq=34_980, ack=1, data=20_000)
    script.inject(".", seq=54_980, ack=1, data=12_768)
    script.expect(".", seq=1, ack=67_748)


def test_3_8_6_3_super_segment_is_many_segments(script: Script) -> None:
    script.accepted()
    script.inject("P.", seq=1, ack=1, data=2000, segment=1000)
    script.expect(".", seq=1, ack=2001)


def test_3_10_7_4_must_58_must_59_what_comes_together_is_acknowledged_together(script: Script) -> None:
    script.accepted()
    for number in range(10):
        script.deliver(script.packet(".", seq=1 + 1000 * number, ack=1, data=1000))
    script.flush()
    script.expect(".", seq=1, ack=10_001)
    for number in (12, 11, 10):
        script.deliver(script.packet(".", seq=1 + 1000 * number, ack=1, data=1000))
    script.flush()
    script.expect(".", seq=1, ack=13_001)


def test_3_10_7_4_shld_31_what_comes_behind_a_hole_is_kept(script: Script) -> None:
    script.accepted()
    script.inject(".", seq=1001, ack=1, data=1000)
    script.expect(".", seq=1, ack=1)
    script.inject(".", seq=3001, ack=1, data=1000)
    script.expect(".", seq=1, ack=1)
    # Nothing for the user yet.
    assert script.events() == []
    assert script.receive() == b""
    script.inject(".", seq=1, ack=1, data=1000)
    script.expect(".", seq=1, ack=2001)
    # There is a hole still: at once.
    script.inject(".", seq=2001, ack=1, data=500)
    script.expect(".", seq=1, ack=2501)
    script.inject(".", seq=2501, ack=1, data=500)
    script.expect(".", seq=1, ack=4001)
    assert script.receive() == pattern(4000, 1)
    script.inject(".", seq=4001, ack=1, data=500)
    script.expect(".", seq=1, ack=4501, after=40)


def test_3_10_7_4_what_came_before_is_acknowledged_at_once(script: Script) -> None:
    script.accepted()
    script.inject(".", seq=1, ack=1, data=1000)
    script.expect(".", seq=1, ack=1001, after=40)
    script.inject(".", seq=1, ack=1, data=1000)
    script.expect(".", seq=1, ack=1001)
    assert script.drops("tcp: outside of the window") == 1
    # Half of it is new.
    script.inject(".", seq=501, ack=1, data=1000)
    script.expect(".", seq=1, ack=1501, after=40)
    assert script.receive() == pattern(1500, 1)


@pytest.mark.parametrize("seq", [1 + 65535, 70_000 + 262_144, 1 << 31, -5])
def test_3_4_data_outside_of_the_window_is_answered_only(script: Script, seq: int) -> None:
    script.accepted()
    script.connection.receiver.edge = script.connection.receiver.next + 65535
    script.inject("P.", seq=seq, ack=1, data=b"xxxx")
    script.expect(".", seq=1, ack=1)
    assert script.connection.readable_bytes == 0
    assert script.connection.receiver.blocks == []
    assert script.drops("tcp: outside of the window") == 1


def test_3_4_data_that_goes_past_the_window_is_cut(script: Script) -> None:
    script.accepted()
    script.connection.receiver.limit = 65_535
    script.inject(".", seq=1, ack=1, data=60_000)
    script.expect(".", seq=1, ack=60_001)
    script.inject("FP.", seq=60_001, ack=1, data=6000)
    script.expect(".", seq=1, ack=65_536, window=0)
    assert script.connection.readable_bytes == 65_535
    assert script.state is State.ESTABLISHED


@pytest.mark.parametrize("seed", range(5))
def test_data_in_any_order_with_overlaps_is_put_together(script: Script, seed: int) -> None:
    script.accepted(sack=True)
    random = Random(seed)
    total = 20_000
    whole = pattern(total, 1)
    pieces = [(at, min(at + random.randrange(1, 1500), total)) for at in range(0, total, 700)]
    pieces += [(random.randrange(total - 1), total) for _ in range(3)]
    random.shuffle(pieces)
    for start, end in [*pieces, (0, 1000), *((at, min(at + 1000, total)) for at in range(0, total, 1000))]:
        script.inject(".", seq=1 + start, ack=1, data=whole[start:end])
        script.take_all()
    assert script.receive() == whole
    script.take_all()
    assert script.connection.receiver.blocks == []


def test_3_10_7_4_first_copy_of_a_byte_counts(script: Script) -> None:
    """What a second copy says can't replace what was acknowledged selectively."""
    script.accepted(sack=True)
    script.inject(".", seq=4, ack=1, data=b"def")
    script.expect(".", seq=1, ack=1, blocks=((4, 7),))
    script.inject(".", seq=2, ack=1, data=b"bXXXXg")
    script.expect(".", seq=1, ack=1, blocks=((2, 8),))
    script.inject(".", seq=1, ack=1, data=b"aYYY")
    script.expect(".", seq=1, ack=8, blocks=())
    assert script.receive() == b"abXdefg"


# Which blocks are told.


def test_rfc_2018_4_blocks_tell_the_newest_first(script: Script) -> None:
    script.accepted(sack=True)
    script.inject(".", seq=1001, ack=1, data=1000)
    script.expect(".", seq=1, ack=1, blocks=((1001, 2001),))
    script.inject(".", seq=3001, ack=1, data=1000)
    script.expect(".", seq=1, ack=1, blocks=((3001, 4001), (1001, 2001)))
    script.inject(".", seq=5001, ack=1, data=1000)
    script.expect(".", seq=1, ack=1, blocks=((5001, 6001), (3001, 4001), (1001, 2001)))
    script.inject(".", seq=2001, ack=1, data=1000)
    script.expect(".", seq=1, ack=1, blocks=((1001, 4001), (5001, 6001)))
    script.inject(".", seq=7001, ack=1, data=1000)
    script.expect(".", seq=1, ack=1, blocks=((7001, 8001), (1001, 4001), (5001, 6001)))
    script.inject(".", seq=9001, ack=1, data=1000)
    script.expect(".", seq=1, ack=1, blocks=((9001, 10_001), (7001, 8001), (1001, 4001), (5001, 6001)))
    script.inject(".", seq=11_001, ack=1, data=1000)
    script.expect(".", seq=1, ack=1, blocks=((11_001, 12_001), (9001, 10_001), (7001, 8001), (1001, 4001)))
    script.inject(".", seq=1, ack=1, data=1000)
    script.expect(".", seq=1, ack=4001, blocks=((11_001, 12_001), (9001, 10_001), (7001, 8001)))


def test_rfc_2018_3_three_blocks_beside_timestamps(script: Script) -> None:
    script.accepted(sack=True, ts=100)
    for number in range(4):
        script.inject(".", seq=1001 + 2000 * number, ack=1, data=1000, ts=(100, 0))
        script.sent.rotate(-1)
        last = script.sent.pop()
    assert len(last.options.blocks) == 3
    assert last.options.timestamps is not None


def test_rfc_2018_2_no_blocks_for_a_peer_that_does_not_know_them(script: Script) -> None:
    script.accepted()
    script.inject(".", seq=1001, ack=1, data=1000)
    script.expect(".", seq=1, ack=1, blocks=())


def test_blocks_ride_on_data(script: Script) -> None:
    script.accepted(sack=True)
    script.inject(".", seq=11, ack=1, data=b"x")
    script.expect(".", seq=1, ack=1, blocks=((11, 12),))
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc", blocks=((11, 12),))


def test_pieces_behind_holes_are_bounded(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.stack.tcp.receiver.MAX_PIECES", 3)
    script.accepted(sack=True)
    for at in (3, 5, 7, 9):
        script.inject(".", seq=at, ack=1, data=b"x")
        script.take_all()
    assert (9, 10) not in [tuple(each) for each in script.connection.receiver.blocks]
    # What fills the hole is taken all the same.
    script.inject(".", seq=1, ack=1, data=b"ab")
    script.expect(".", seq=1, ack=4)
    assert script.receive() == b"abx"
