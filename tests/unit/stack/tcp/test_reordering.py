"""When segments that come late are no loss."""

from __future__ import annotations

import pytest

from tests.unit.stack.tcp.script import Script
from weft.stack.tcp.congestion import Cubic
from weft.stack.tcp.recovery import Phase
from weft.stack.tcp.reordering import MOST_SEGMENTS, Reordering
from weft.stack.tcp.timers import MS


@pytest.mark.parametrize(
    ("distance", "in_flight", "threshold"),
    [(0, 100_000, 3), (1000, 100_000, 3), (9000, 100_000, 10), (9000, 8000, 6), (9000, 2000, 3), (10**6, 10**7, 300)],
)
def test_threshold_is_what_was_seen_but_never_more_than_may_come(distance: int, in_flight: int, threshold: int) -> None:
    reordering = Reordering()
    reordering.note_late(distance, 1000)
    assert reordering.threshold(in_flight, 1000) == threshold


def test_threshold_does_not_shrink_but_by_a_time_out() -> None:
    reordering = Reordering()
    reordering.note_late(10**9, 1000)
    reordering.note_late(5000, 1000)
    assert reordering.segments == MOST_SEGMENTS
    reordering.handle_timeout()
    assert reordering.segments == 3


@pytest.mark.parametrize(("echoed_ms", "is_undone"), [(9, True), (10, False), (11, False), (None, False)])
def test_rfc_3522_echo_of_an_earlier_time_than_that_of_the_retransmission(
    echoed_ms: int | None, is_undone: bool
) -> None:
    reordering, before = Reordering(), Cubic(1000).state
    reordering.begin(before)
    reordering.handle_resent(10 * MS)
    reordering.handle_resent(50 * MS)
    assert (reordering.take_undo(echoed_ms) is before) is is_undone
    # Only the first acknowledgment says it.
    assert reordering.take_undo(0) is None


def test_each_recovery_has_a_retransmission_of_its_own() -> None:
    reordering, before = Reordering(), Cubic(1000).state
    reordering.begin(before)
    reordering.handle_resent(10 * MS)
    reordering.begin(before)
    # Nothing was sent again yet, so what comes is what was sent first, whatever it echoes.
    assert reordering.take_undo(None) is before
    reordering.begin(before)
    reordering.handle_resent(30 * MS)
    assert reordering.take_undo(20) is before


def test_time_out_undoes_nothing_any_more() -> None:
    reordering = Reordering()
    reordering.begin(Cubic(1000).state)
    reordering.handle_timeout()
    assert reordering.take_undo(0) is None


def test_rfc_4015_undone_loss_leaves_the_window_as_it_was() -> None:
    cubic = Cubic(1000)
    cubic.window = 100_000
    before = cubic.state
    cubic.handle_loss(100_000)
    assert cubic.window == 70_000
    cubic.undo_loss(before)
    assert cubic.state == before


@pytest.mark.parametrize(("echo", "is_late"), [(10, True), (15, False)])
def test_segment_that_comes_late_undoes_the_recovery_and_raises_the_threshold(
    script: Script, echo: int, is_late: bool
) -> None:
    script.accepted(sack=True, ts=100)
    sender = script.connection.sender
    sender.cubic.window = 20_000
    sender.round_trip.measure(50 * MS)
    script.advance(10)
    script.send(20_000)
    script.take_all()
    script.advance(5)
    script.inject(".", seq=1, ack=1, blocks=((989, 5929),), ts=(101, 10))
    assert sender.recovery.phase is Phase.RECOVERY
    script.take_all()
    script.advance(2)
    script.inject(".", seq=1, ack=5929, ts=(102, echo))
    script.take_all()
    assert (sender.recovery.phase is Phase.OPEN and sender.cubic.threshold > 20_000) is is_late
    assert (sender.reordering.segments > 3) is is_late
