import pytest

from tests.unit.testing.machines import RESEND_NS, Answerer, Broken, Caller, Echo
from weft.errors import UsageError
from weft.testing.clock import MS, S, VirtualClock
from weft.testing.driver import Stuck
from weft.testing.faults import Faults
from weft.testing.pair import LATENCY_NS, Pair


def test_call_over_clean_wires_is_answered_after_one_round_trip() -> None:
    caller = Caller()
    pair = Pair(caller, Answerer())
    start = pair.clock.now
    caller.call(start)
    pair.drive()
    assert pair.left.events == ["answered"]
    assert pair.right.events == [f"called at {start + LATENCY_NS}"]
    assert pair.clock.now == start + 2 * LATENCY_NS


def test_step_jumps_to_one_wake_up_at_a_time() -> None:
    caller = Caller()
    pair = Pair(caller, Answerer())
    start = pair.clock.now
    caller.call(start)
    assert pair.step()
    assert (pair.clock.now, pair.to_right.in_flight, pair.to_left.in_flight) == (start + LATENCY_NS, [], [b"ack"])
    assert pair.step()
    assert pair.clock.now == start + 2 * LATENCY_NS
    assert not pair.step()


def test_lost_first_call_is_repeated_by_the_timer() -> None:
    caller = Caller()
    pair = Pair(caller, Answerer())
    start = pair.clock.now
    pair.to_right.faults = Faults(loss=1)
    caller.call(start)
    pair.drive()
    assert pair.left.events == []
    pair.to_right.faults = Faults()
    pair.drive(lambda: bool(pair.left.events))
    assert pair.left.events == ["answered"]
    assert pair.clock.now == start + RESEND_NS + LATENCY_NS


def test_datagrams_taken_off_and_injected_arrive_as_changed() -> None:
    caller = Caller()
    pair = Pair(caller, Answerer())
    caller.call(pair.clock.now)
    pair.flush()
    assert pair.to_right.take() == [b"hello"]
    assert pair.quiet
    pair.to_right.inject(b"forged")
    pair.drive()
    assert pair.right.events == []
    pair.to_right.inject(b"hello")
    pair.to_right.inject(b"hello")
    pair.drive()
    assert len(pair.right.events) == 2
    assert list(pair.to_left.sent) == [b"ack", b"ack"]


def test_machines_that_answer_each_other_for_ever_are_stopped_with_the_trace() -> None:
    pair = Pair(Echo(), Echo())
    pair.to_left.inject(b"x")
    with pytest.raises(Stuck, match=r"livelock(.|\n)*left > right  1 bytes  delivered after 10\.000 ms"):
        pair.drive(steps=50)


def test_machine_whose_timer_stays_due_is_stopped() -> None:
    broken = Broken()
    pair = Pair(broken, Answerer())
    broken.handle_timer(pair.clock.now)
    with pytest.raises(Stuck, match="livelock"):
        pair.drive(lambda: False, steps=50)
    with pytest.raises(UsageError, match="livelock"):
        pair.advance(S)


def test_drive_with_nothing_left_to_happen_says_so() -> None:
    pair = Pair(Caller(), Answerer())
    with pytest.raises(Stuck, match="nothing is left"):
        pair.drive(lambda: False)


def test_drive_past_its_virtual_time_stops() -> None:
    caller = Caller()
    pair = Pair(caller, Answerer(), faults=Faults(loss=1))
    caller.call(pair.clock.now)
    start = pair.clock.now
    with pytest.raises(Stuck, match="within 1 s"):
        pair.drive(lambda: False, within_ns=S)
    assert pair.clock.now <= start + S


def test_advance_runs_every_timer_of_the_span() -> None:
    caller = Caller(tries=3)
    pair = Pair(caller, Answerer(), faults=Faults(loss=1))
    caller.call(pair.clock.now)
    pair.advance(10 * RESEND_NS)
    assert pair.left.events == ["gave up"]
    assert len(pair.to_right.sent) == 3


@pytest.mark.parametrize("seed", range(20))
def test_bad_wires_still_get_the_call_through_and_repeat_by_seed(seed: int) -> None:
    faults = Faults(latency_ns=30 * MS, jitter_ns=40 * MS, loss=0.4, reordering=0.3, duplication=0.3)
    traces = []
    for _ in range(2):
        caller = Caller()
        pair = Pair(caller, Answerer(), clock=VirtualClock(), faults=faults, seed=seed)
        caller.call(pair.clock.now)
        pair.drive(lambda pair=pair: bool(pair.left.events))
        traces.append(str(pair.trace))
    assert traces[0] == traces[1]
