"""The pair drives the machines that it is for: WireGuard tunnels, through an adapter as every room may write one."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from weft.noise.gate import Gate
from weft.noise.primitives import StaticKey
from weft.noise.tunnel import Event, HandshakeFailed, KeypairReady, Tunnel
from weft.testing.clock import MS, S, VirtualClock
from weft.testing.faults import Faults
from weft.testing.pair import LATENCY_NS, Pair

SOURCE = bytes(6)
MAC2_BYTES = 16
"""At the end of a handshake message; read only under load."""
LEFT, RIGHT = (StaticKey(Random(seed).randbytes(32)) for seed in (1, 2))


class End:
    """Gate and tunnel of one node with one peer, in the form that `weft.testing.driver.Machine` asks for."""

    def __init__(self, static: StaticKey, peer: StaticKey, clock: VirtualClock, random: Random) -> None:
        self.clock = clock
        self.gate = Gate(static, tunnel_for=lambda public: self.tunnel, random_bytes=random.randbytes)
        self.tunnel = Tunnel(static, peer.public, table=self.gate.table, random_bytes=random.randbytes)

    def initiate(self) -> None:
        self.tunnel.initiate(self.clock.now, self.clock.wall_ns)

    def receive_datagram(self, data: bytes, now: int) -> None:
        self.gate.receive(data, None, SOURCE, now)

    def handle_timer(self, now: int) -> None:
        self.tunnel.handle_timer(now, self.clock.wall_ns)

    def datagrams_to_send(self) -> Sequence[bytes]:
        return [*self.tunnel.datagrams_to_send(), *(reply for reply, _ in self.gate.datagrams_to_send())]

    def next_event(self) -> Event | None:
        return self.tunnel.next_event()

    def next_timer(self) -> int | None:
        return self.tunnel.next_timer()


def tunnels(faults: Faults = Faults(latency_ns=LATENCY_NS), seed: int = 0) -> tuple[End, End, Pair[Event]]:  # noqa: B008
    clock, random = VirtualClock(), Random(seed)
    left, right = End(LEFT, RIGHT, clock, random), End(RIGHT, LEFT, clock, random)
    return left, right, Pair(left, right, clock=clock, faults=faults, seed=seed)


def test_handshake_takes_one_round_trip_and_two_messages() -> None:
    left, _, pair = tunnels()
    start = pair.clock.now
    left.initiate()
    pair.drive(lambda: KeypairReady(initiator=True) in pair.left.events)
    assert pair.clock.now == start + 2 * LATENCY_NS
    assert len(pair.to_right.sent[0]) == 148
    assert [len(data) for data in pair.to_left.sent] == [92]


@pytest.mark.parametrize("seed", range(10))
def test_handshake_over_bad_wires_comes_up_in_the_end(seed: int) -> None:
    faults = Faults(latency_ns=20 * MS, jitter_ns=30 * MS, loss=0.4, reordering=0.2, duplication=0.2)
    left, _, pair = tunnels(faults, seed)
    left.initiate()
    pair.drive(lambda: left.tunnel.is_up(pair.clock.now), within_ns=90 * S)
    assert left.tunnel.is_up(pair.clock.now)


def test_handshake_without_an_answer_is_given_up_after_ninety_seconds() -> None:
    left, right, pair = tunnels(Faults(loss=1))
    start = pair.clock.now
    left.initiate()
    pair.drive(lambda: HandshakeFailed() in pair.left.events)
    assert 85 * S < pair.clock.now - start < 100 * S
    assert not right.tunnel.is_up(pair.clock.now)


def test_initiation_changed_on_the_wire_is_counted_and_changes_nothing() -> None:
    left, right, pair = tunnels()
    left.initiate()
    pair.flush()
    (initiation,) = pair.to_right.take()
    positions = range(0, len(initiation) - MAC2_BYTES, 7)
    for position in positions:
        forged = bytearray(initiation)
        forged[position] ^= 1
        pair.to_right.inject(bytes(forged))
        pair.drive()
    assert not pair.to_left.sent
    assert sum(right.gate.drops.values()) == len(positions)
    pair.to_right.inject(initiation)
    pair.drive(lambda: left.tunnel.is_up(pair.clock.now))
