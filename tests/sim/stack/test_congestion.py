"""Congestion control of the stack at a bottleneck, in virtual time: fairness, use of the path, recovery, the curve."""

from __future__ import annotations

import pytest

from tests.sim.stack.bottleneck import MBIT, MS, Flow, Road, jain
from weft.stack.tcp.congestion import BETA, C
from weft.testing import S

BDP_BYTES = 250_000
"""Of 50 Mbit/s and 40 ms."""


def road(**changes: float) -> Road:
    return Road(**{"rate_bps": 50 * MBIT, "round_trip_ns": 40 * MS, "queue_bytes": BDP_BYTES, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def after_2_s() -> Road:
    """One flow, which others go on with from a copy."""
    path = road()
    path.flow()
    path.run(2 * S)
    return path


@pytest.fixture(scope="module")
def after_3_s(after_2_s: Road) -> Road:
    path = after_2_s.copy()
    path.run(1 * S)
    return path


def test_copy_of_a_road_goes_on_as_the_road_does() -> None:
    path = road(loss=0.01)
    path.flow()
    path.run(500 * MS)
    copy = path.copy()
    for each in (path, copy):
        each.run(500 * MS)
    assert copy.flows[0].samples == path.flows[0].samples
    assert copy.wire.to_left.in_flight == path.wire.to_left.in_flight != []


def test_one_flow_uses_a_path_with_a_queue_of_one_bdp(after_2_s: Road) -> None:
    path = after_2_s.copy()
    (flow,) = path.flows
    assert path.share(1 * S) > 0.85
    path.run(8 * S)
    # Of 1352 bytes that pass, 1280 are payload.
    assert path.share(8 * S) > 0.90
    assert flow.timeouts == 0


def test_shallow_queue_still_lets_most_of_the_path_be_used() -> None:
    path = road(queue_bytes=BDP_BYTES // 5)
    flow = path.flow()
    path.run(10 * S)
    assert path.share(8 * S) > 0.75
    assert flow.timeouts == 0


def test_two_flows_that_begin_together_share_fairly() -> None:
    path = road(rate_bps=20 * MBIT, queue_bytes=100_000)
    flows = [path.flow(), path.flow()]
    path.run(15 * S)
    assert jain(path.arrived(10 * S, flows)) > 0.9
    assert path.share(10 * S) > 0.85


def test_newcomer_gets_its_share_of_who_was_there_before() -> None:
    path = road(rate_bps=20 * MBIT, queue_bytes=100_000)
    first = path.flow()
    path.run(5 * S)
    second = path.flow()
    path.run(20 * S)
    assert jain(path.arrived(10 * S, [first, second])) > 0.9
    assert path.share(10 * S) > 0.85
    assert first.timeouts == second.timeouts == 0


def test_many_flows_share_fairly_and_use_the_path() -> None:
    path = road(rate_bps=20 * MBIT, queue_bytes=100_000)
    flows = [path.flow() for _ in range(8)]
    path.run(15 * S)
    assert jain(path.arrived(10 * S, flows)) > 0.8
    assert path.share(10 * S) > 0.85


@pytest.mark.parametrize("count", [1, 2, 3, 10, 50, 100])
def test_losses_in_one_window_are_made_good_without_a_time_out(after_3_s: Road, count: int) -> None:
    path = after_3_s.copy()
    (flow,) = path.flows
    before = flow.window_at(path.now)
    path.lose(count)
    path.run(1 * S)
    assert flow.timeouts == 0
    # It yields once, however many were lost.
    assert min(sample.window for sample in flow.samples[-100:]) > 0.55 * before * flow.connection.sender.segment
    assert path.share(1 * S) > 0.7


def test_loss_of_what_was_sent_again_is_made_good_without_a_time_out(after_3_s: Road) -> None:
    path = after_3_s.copy()
    (flow,) = path.flows
    lost = 0
    sequence = None

    def loses(packet: bytes) -> bool:
        nonlocal lost, sequence
        if len(packet) < 500 or lost == 3:
            return False
        if sequence in {None, packet[44:48]}:
            sequence = packet[44:48]
            lost += 1
            return True
        return False

    path.wire.to_right.loses = loses
    path.run(1 * S)
    assert lost == 3
    assert flow.timeouts == 0


@pytest.mark.parametrize(("loss", "least"), [(0.001, 8 * MBIT), (0.01, 2 * MBIT), (0.05, 0.5 * MBIT)])
def test_random_loss_costs_no_more_than_it_must(loss: float, least: float) -> None:
    """What Reno would reach at least: MSS / RTT * sqrt(3 / 2 p), less a third; time-outs are rare where it is light."""
    path = road(loss=loss, seed=1)
    flow = path.flow()
    path.run(20 * S)
    assert path.share(20 * S) * path.rate_bps > least
    if loss < 0.05:
        assert flow.timeouts <= 1


@pytest.mark.parametrize("held_back_ns", [1 * MS, 3 * MS, 8 * MS])
def test_packets_that_overtake_each_other_cost_little(held_back_ns: int) -> None:
    path = road(reordering=0.1, held_back_ns=held_back_ns, queue_bytes=2 * BDP_BYTES)
    flow = path.flow()
    path.run(8 * S)
    assert path.share(6 * S) > 0.85
    assert flow.timeouts == 0
    assert flow.connection.sender.reordering.segments > 3


def test_packets_that_overtake_each_other_do_not_hide_a_loss() -> None:
    path = road(reordering=0.1, held_back_ns=3 * MS, queue_bytes=2 * BDP_BYTES)
    flow = path.flow()
    path.run(3 * S)
    before = flow.window_at(path.now)
    path.lose(3)
    path.run(1 * S)
    assert flow.timeouts == 0
    assert flow.window_at(path.now) < 0.95 * before


def test_window_that_the_reader_limits_does_not_fall_to_nothing_after_a_loss() -> None:
    path = road(queue_bytes=4_000_000)
    flow = path.flow()
    path.run(3 * S)
    path.lose(1)
    path.run(400 * MS)
    assert min(sample.window for sample in flow.samples[-40:]) >= 10 * flow.connection.sender.segment


def test_rfc_9438_4_2_window_after_a_loss_follows_the_cubic_curve() -> None:
    flow, lost_at, flight = after_one_loss()
    k = (flight * (1 - BETA) / C) ** (1 / 3)
    compared = 0
    for sample in flow.samples:
        # Of its epoch, which begins with the first acknowledgment after the recovery.
        t = (sample.at - lost_at) / S
        if not 1.0 < t < 11:
            continue
        expected = C * (t - k) ** 3 + flight
        assert sample.window / flow.connection.sender.segment == pytest.approx(expected, rel=0.06), f"after {t} s"
        compared += 1
    assert compared > 900


def after_one_loss() -> tuple[Flow, int, float]:
    """A flow on a long, wide path, of which one packet was lost: when, and how many segments were on the way."""
    path = Road(rate_bps=1000 * MBIT, round_trip_ns=100 * MS, queue_bytes=20_000_000)
    flow = path.flow()
    sender = flow.connection.sender
    sender.cubic.threshold = 300 * sender.segment
    path.run(3 * S)
    path.lose(1)
    lost_at, flight = path.now, sender.in_flight / sender.segment
    path.run(12 * S)
    return flow, lost_at, flight
