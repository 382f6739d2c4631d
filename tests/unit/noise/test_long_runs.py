"""Two tunnels for hours of virtual time: sessions follow each other, whatever the link and the clocks do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.noise.pair import MILLISECOND_NS, Link, Node, Pair
from weft.noise.timers import (
    NEW_HANDSHAKE_TIME_NS,
    REKEY_AFTER_TIME_NS,
    REKEY_TIMEOUT_JITTER_NS,
    REKEY_TIMEOUT_NS,
    SECOND_NS,
)
from weft.noise.tunnel import Tunnel

HOUR = 3600
RETRY_NS = REKEY_TIMEOUT_NS + REKEY_TIMEOUT_JITTER_NS
WALL_STEPS = (-86_400, 3_600, -1, 10 * 86_400, -400 * 86_400)


def talk(pair: Pair, senders: tuple[Node, ...], seconds: float, *, each_ns: int = SECOND_NS) -> int:
    """Traffic from some nodes at a steady pace; how many packets each sent."""
    count = int(seconds * SECOND_NS // each_ns)
    for number in range(count):
        for node in senders:
            node.send(f"{node.name}{pair.now}.{number}".encode())
        pair.run(each_ns)
    return count


def is_handled(node: Node, now: int) -> bool:
    """A session is there, or an initiation went within the time of a retry (and the second between two packets)."""
    return node.tunnel.is_up(now) or now - node.initiations_at[-1] <= RETRY_NS + SECOND_NS


@pytest.mark.parametrize(("loss", "longest_gap_s"), [(0.0, 0), (0.1, 6), (0.3, 30)])
def test_with_traffic_each_second_there_is_always_a_session_or_a_handshake(loss: float, longest_gap_s: int) -> None:
    pair = Pair(3, Link(loss, doubled=0.1, delay_ns=(5 * MILLISECOND_NS, 900 * MILLISECOND_NS)))
    gap = longest = 0
    talk(pair, pair.nodes, 30)
    for second in range(3 * HOUR):
        if second % 997 == 0:
            for node in pair.nodes:
                node.wall_offset_ns += WALL_STEPS[second // 997 % len(WALL_STEPS)] * SECOND_NS
        talk(pair, pair.nodes, 1)
        for node in pair.nodes:
            assert is_handled(node, pair.now)
        gap = 0 if all(node.tunnel.is_up(pair.now) for node in pair.nodes) else gap + 1
        longest = max(longest, gap)
    assert longest <= longest_gap_s
    assert pair.a.sent_types[1] + pair.b.sent_types[1] >= 3 * HOUR // 125


@pytest.mark.parametrize("senders", ["a", "b", "ab"])
@pytest.mark.parametrize("both_begin", [False, True])
@pytest.mark.parametrize("delay_ms", [(0, 0), (20, 20), (1, 120)])
def test_without_loss_no_packet_is_lost_in_a_rekey(
    senders: str, *, both_begin: bool, delay_ms: tuple[int, int]
) -> None:
    pair = Pair(5, Link(delay_ns=(delay_ms[0] * MILLISECOND_NS, delay_ms[1] * MILLISECOND_NS), doubled=0.05))
    pair.a.initiate()
    if both_begin:
        pair.b.initiate()
    nodes = tuple(node for node in pair.nodes if node.name in senders)
    sent = talk(pair, nodes, 610, each_ns=40 * MILLISECOND_NS)
    pair.run(SECOND_NS)
    for node in nodes:
        assert len(set(node.other.received)) == sent
        assert len(node.other.received) == sent
    handshakes = pair.a.sent_types[2] + pair.b.sent_types[2]
    assert handshakes >= 4


@given(
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from([0.0, 0.05, 0.2]),
    doubled=st.sampled_from([0.0, 0.5]),
    delay_ms=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    steps_s=st.lists(st.tuples(st.integers(0, 1), st.integers(-(10**8), 10**8)), max_size=4),
)
def test_any_link_and_any_clock_keep_the_tunnel_going(
    seed: int, loss: float, doubled: float, delay_ms: tuple[int, int], steps_s: list[tuple[int, int]]
) -> None:
    low, high = sorted(delay_ms)
    pair = Pair(seed, Link(loss, doubled, (low * MILLISECOND_NS, high * MILLISECOND_NS)))
    for step in [(0, 0), *steps_s]:
        pair.nodes[step[0]].wall_offset_ns += step[1] * SECOND_NS
        for _ in range(14):
            talk(pair, pair.nodes, 10)
            assert all(is_handled(node, pair.now) for node in pair.nodes)
    for node in pair.nodes:
        assert len(node.received) == len(set(node.received))
        assert len(node.gate.keypairs) <= 5


@pytest.mark.parametrize("sender", ["a", "b"])
def test_after_a_dead_link_a_session_is_there_with_the_next_retry(sender: str) -> None:
    pair = Pair(7)
    pair.connect()
    node = getattr(pair, sender)
    talk(pair, (node,), 30)
    pair.link.loss = 1.0
    talk(pair, (node,), 400)
    assert not node.tunnel.is_up(pair.now)
    pair.link.loss = 0.0
    talk(pair, (node,), 7)
    assert node.tunnel.is_up(pair.now)
    received = len(node.other.received)
    talk(pair, (node,), 5)
    assert len(node.other.received) == received + 5


@pytest.mark.parametrize("forgetful", ["a", "b"])
def test_a_peer_that_lost_its_keys_is_found_out_after_15_s_without_an_answer(forgetful: str) -> None:
    pair = Pair(8)
    pair.connect()
    talk(pair, pair.nodes, 10)
    node = getattr(pair, forgetful)
    node.tunnel.close()
    node.tunnel = Tunnel(
        node.static,
        node.other.static.public,
        table=node.gate.table,
        random_bytes=pair.random.randbytes,
        preshared_key=bytes(range(32)),
        timestamp_floor=node.tunnel.last_timestamp_sent,
    )
    node.drain()
    talk(pair, (node.other,), NEW_HANDSHAKE_TIME_NS // SECOND_NS + 1)
    before = len(node.received)
    talk(pair, (node.other,), 5)
    assert len(node.received) >= before + 5


def test_silence_sends_nothing() -> None:
    pair = Pair(10)
    pair.connect()
    pair.run(3600 * SECOND_NS)
    assert pair.a.sent_types == {1: 1, 4: 1}
    assert pair.b.sent_types == {2: 1}
    assert not pair.a.gate.keypairs
    assert not pair.b.gate.keypairs


def test_a_persistent_keepalive_keeps_the_session_for_hours() -> None:
    pair = Pair(11, persistent_keepalive_ns=25 * SECOND_NS)
    pair.a.drain()
    for _ in range(2 * HOUR // 10):
        pair.run(10 * SECOND_NS)
        assert pair.a.tunnel.is_up(pair.now)
    assert pair.a.sent_types[1] == pytest.approx(2 * HOUR / (REKEY_AFTER_TIME_NS / SECOND_NS + 5), rel=0.2)
    assert pair.b.sent_types[4] == 0
