"""The way to a peer: what may go to an endpoint that nobody answered from yet."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weft.burst.size import LossReport
from weft.paths.path import Path

HERE = ("192.0.2.1", 1312)
THERE = ("198.51.100.7", 4000)


def moved(*, proven: bool = False, can_probe: bool = True) -> Path:
    path = Path(can_probe=can_probe)
    path.move(HERE, is_ipv6=False, ceiling=1500, proven=proven)
    return path


@pytest.mark.parametrize("can_probe", [True, False])
def test_without_an_endpoint_nothing_may_be_sent(can_probe: bool) -> None:
    path = Path(can_probe=can_probe)
    assert path.endpoint is None
    assert not path.may_send(1)
    path.handle_received(0)
    assert not path.may_send(1)


def test_to_a_new_endpoint_go_three_times_the_bytes_that_came_from_it() -> None:
    path = moved()
    assert not path.may_send(1)
    path.handle_received(100)
    assert path.may_send(200)
    assert not path.may_send(101)
    assert path.may_send(100)
    assert not path.may_send(1)
    path.handle_received(40)
    assert path.may_send(120)
    assert not path.may_send(1)


STEPS = st.lists(
    st.tuples(st.sampled_from(["received", "send", "move", "back"]), st.integers(0, 1500)), min_size=1, max_size=60
)


@given(STEPS)
@example([("received", 100), ("move", 0), ("send", 1)])
def test_an_unproven_endpoint_never_gets_more_than_three_times_what_it_sent(steps: list[tuple[str, int]]) -> None:
    path = moved()
    came = sent = 0
    for name, length in steps:
        if name == "received":
            path.handle_received(length)
            came += length
        elif name == "send":
            may = path.may_send(length)
            assert may is (sent + length <= 3 * came)
            sent += length if may else 0
        else:
            path.move(THERE if name == "move" else HERE, is_ipv6=False, ceiling=1500, proven=False)
            came = sent = 0
        assert sent <= 3 * came
        assert not path.is_proven


def test_a_proven_endpoint_has_no_bound() -> None:
    path = moved()
    path.prove()
    assert path.is_proven
    assert all(path.may_send(65_507) for _ in range(1000))


def test_a_configured_endpoint_is_proven_at_once() -> None:
    path = moved(proven=True)
    assert path.is_proven
    assert path.may_send(65_507)


def test_a_stock_peer_that_can_not_be_probed_counts_as_proven() -> None:
    path = moved(can_probe=False)
    assert path.is_proven
    assert path.may_send(65_507)


def test_what_was_proven_does_not_move_with_the_peer() -> None:
    path = moved(proven=True)
    path.move(THERE, is_ipv6=False, ceiling=1500, proven=False)
    assert path.endpoint == THERE
    assert not path.is_proven
    assert not path.may_send(1)
    path.move(HERE, is_ipv6=False, ceiling=1500, proven=False)
    assert not path.is_proven, "the old endpoint may be somebody else's by now"
    assert not path.may_send(1)


def test_bytes_from_a_proven_endpoint_are_no_allowance_for_the_next() -> None:
    path = moved(proven=True)
    path.handle_received(10**6)
    path.move(THERE, is_ipv6=False, ceiling=1500, proven=False)
    assert not path.may_send(1)
    path.handle_received(10)
    assert path.may_send(30)
    assert not path.may_send(1)


def test_what_was_measured_belongs_to_the_old_endpoint() -> None:
    path = moved(proven=True)
    path.mtu.start(0)
    path.mtu.handle_answered(1500, 0)
    path.size.receive_report(LossReport(0, 0, 0, 0, 0, 0), 0)
    path.size.datagrams_sent += 10_000
    path.size.receive_report(LossReport(5000, 0, 0, 0, 0, 0), 0)
    path.handle_rtt(5)
    path.tx_bytes += 7
    path.handle_received(9)
    assert (path.mtu.mtu, path.size.pieces, path.rtt_ns) == (1500, 1, 5)
    path.move(THERE, is_ipv6=True, ceiling=9000, proven=True)
    assert (path.mtu.mtu, path.mtu.ceiling, path.size.pieces, path.rtt_ns) == (1280, 9000, 64, None)
    assert (path.tx_bytes, path.rx_bytes) == (7, 9), "these are of the peer"


def test_a_fixed_size_stays_over_a_move() -> None:
    path = Path(can_probe=True, fixed_pieces=3)
    path.move(HERE, is_ipv6=False, ceiling=1500, proven=True)
    assert path.size.pieces == 3


@pytest.mark.parametrize(
    ("is_ipv6", "mtu", "piece"), [(False, 1280, 1232), (True, 1280, 1212), (False, 1500, 1452), (True, 1500, 1432)]
)
def test_pieces_are_those_of_the_wire_format(is_ipv6: bool, mtu: int, piece: int) -> None:
    path = Path(can_probe=True)
    path.move(HERE, is_ipv6=is_ipv6, ceiling=1500, proven=True)
    path.mtu.start(0)
    if mtu > 1280:
        path.mtu.handle_answered(mtu, 0)
    assert path.datagram_bytes - 20 == piece


def test_a_new_path_knows_nothing() -> None:
    path = Path(can_probe=True)
    assert (path.endpoint, path.is_proven, path.rtt_ns) == (None, False, None)
    assert (path.mtu.mtu, path.size.pieces, path.tx_bytes, path.rx_bytes) == (1280, 64, 0, 0)
    assert path.datagram_bytes == 1252


def test_a_round_trip_counts_an_eighth() -> None:
    path = moved(proven=True)
    path.handle_rtt(800)
    path.handle_rtt(1600)
    assert path.rtt_ns == 900


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=50))
def test_the_round_trip_is_smoothed_and_stays_between_the_extremes(samples: list[int]) -> None:
    path = moved(proven=True)
    for sample in samples:
        path.handle_rtt(sample)
    assert path.rtt_ns is not None
    assert min(samples) - 8 <= path.rtt_ns <= max(samples)
    assert len(samples) > 1 or path.rtt_ns == samples[0]
