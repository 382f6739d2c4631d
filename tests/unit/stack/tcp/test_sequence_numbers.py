"""Sequence numbers: their wrap, initial ones, ports (RFC 9293 section 3.4; RFC 6528, 6056)."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stack.tcp.script import MS, Script, pattern
from weft.stack.endpoint import Endpoint
from weft.stack.tcp.sequence import MASK, unwrap


@given(st.integers(-(1 << 40), 1 << 70), st.integers(-(1 << 31), (1 << 31) - 1))
def test_3_4_number_nearby_is_found_from_its_lower_bits(near: int, distance: int) -> None:
    assert unwrap((near + distance) & MASK, near) == near + distance


def isn(script: Script, port: int = 0) -> int:
    """The initial sequence number of a new connection."""
    connection = script.host.tcp.connect(Endpoint(script.peer, 80), script.now, local=Endpoint(bytes(4), port))
    first = connection.sender.una
    connection.abort(script.now)
    return first


def test_3_4_1_must_8_initial_number_is_a_clock_of_4_microseconds(script: Script) -> None:
    first = isn(script, 1000)
    script.now += 4000
    assert isn(script, 1000) == (first + 1) & MASK
    script.now += 3999
    assert isn(script, 1000) == (first + 1) & MASK
    script.now += 1_000_000_001
    assert isn(script, 1000) == (first + 250_002) & MASK


def test_3_4_1_must_8_clock_goes_around(script: Script) -> None:
    first = isn(script, 1000)
    script.now += 4000 << 32
    assert isn(script, 1000) == first
    assert 0 <= first <= MASK


def test_3_4_1_must_9_initial_number_depends_on_both_ends_and_a_secret(script: Script) -> None:
    numbers = {isn(script, port) for port in range(1000, 1100)}
    assert len(numbers) == 100
    other = Script(seed=2)
    assert isn(other, 1000) != isn(script, 1000)
    again = Script(seed=1)
    assert isn(again, 1000) == isn(script, 1000)


def test_rfc_7323_5_4_timestamps_begin_elsewhere_for_each_pair_of_hosts_but_grow(script: Script) -> None:
    script.connect(1000)
    first = script.expect("S", seq=0).options.timestamps
    script.abort()
    script.advance_quietly(7)
    script.connect(1001)
    second = script.expect("S", seq=0).options.timestamps
    script.abort()
    assert first is not None
    assert second is not None
    # Only the ports differ, and those of the peer's side are the same.
    assert (second[0] - first[0]) & MASK == 7
    with Script(seed=2) as other:
        other.connect(1000)
        stranger = other.expect("S", seq=0).options.timestamps
        assert stranger is not None
        assert abs(stranger[0] - first[0]) > 1000


def test_rfc_7323_5_4_clock_of_timestamps_is_that_of_the_hosts_whatever_the_ports(script: Script) -> None:
    ports = [(1000, 80), (1000, 60_000), (60_000, 80)]
    connections = [
        script.host.tcp.connect(Endpoint(script.peer, remote), script.now, local=Endpoint(bytes(4), local))
        for local, remote in ports
    ]
    (offset,) = {each.offset for each in connections}
    assert offset


def test_rfc_6056_ports_cannot_be_guessed(script: Script) -> None:
    connections = [script.host.tcp.connect(Endpoint(script.peer, 80), script.now) for _ in range(500)]
    ports = [each.local.port for each in connections]
    assert len(set(ports)) == 500
    assert min(ports) >= 1024
    steps = Counter(after - before for before, after in pairwise(ports))
    assert max(steps.values()) < 10


def test_3_4_bytes_wrap_around_4_gib_in_both_directions() -> None:
    # Time is chosen so that our number is just below 2^32 too.
    probe = Script()
    base = isn(probe, 2000)
    now_ms = probe.now // MS
    ahead = ((MASK - 1500 - base) & MASK) * 4000
    with Script(now=now_ms) as script:
        script.now += ahead
        script.their_isn = MASK - 1000
        script.connect(2000)
        syn = script.expect("S", seq=0)
        assert int.from_bytes(syn.packet[24:28], "big") == MASK - 1500
        script.inject("S.", seq=0, ack=1, mss=1000)
        script.expect(".", seq=1, ack=1)
        sent, received = b"", b""
        for number in range(8):
            script.send(pattern(700, 700 * number))
            sent += script.expect("P.", seq=1 + 700 * number, ack=1 + 500 * number, length=700).data
            # Out of order, across the wrap.
            at = 1 + 500 * number
            script.inject("P.", seq=at + 250, ack=1 + 700 * (number + 1), data=pattern(250, at + 250))
            script.expect(".", seq=1 + 700 * (number + 1), ack=at)
            script.inject("P.", seq=at, ack=1 + 700 * (number + 1), data=pattern(250, at))
            script.expect(".", seq=1 + 700 * (number + 1), ack=at + 500)
            received += script.receive()
        assert sent == pattern(5600)
        assert received == pattern(4000, 1)
        assert script.connection.unacknowledged_bytes == 0


def test_3_4_more_than_4_gib_in_one_connection() -> None:
    """The numbers of a long connection, without moving its bytes: both sides jump near the end of the second round."""
    with Script() as script:
        script.accepted(ts=100)
        connection = script.connection
        jump = (1 << 32) * 2 - 2000
        sender, receiver = connection.sender, connection.receiver
        sender.una = sender.nxt = sender.highest = sender.una + jump
        sender.buffer.start = sender.buffer.end = sender.una
        receiver.next += jump
        receiver.edge += jump
        connection.told_to += jump
        connection.window_sequence += jump
        connection.window_acknowledgment += jump
        at = jump & MASK
        for _ in range(6):
            script.inject("P.", seq=(1 + at) & MASK, ack=(1 + at) & MASK, data=1000, ts=(100, 0))
            script.expect(".", seq=(1 + at) & MASK, ack=(1001 + at) & MASK, after=40)
            script.send(pattern(900))
            script.expect("P.", seq=(1 + at) & MASK, ack=(1001 + at) & MASK, data=pattern(900))
            script.inject(".", seq=(1001 + at) & MASK, ack=(901 + at) & MASK, ts=(100, 0))
            # Both sides go on by 1000: the peer did not ask for more.
            script.send(pattern(100))
            script.expect("P.", seq=(901 + at) & MASK, ack=(1001 + at) & MASK, data=pattern(100))
            script.inject(".", seq=(1001 + at) & MASK, ack=(1001 + at) & MASK, ts=(100, 0))
            assert len(script.receive()) == 1000
            at += 1000
        assert connection.receiver.next > 1 << 33
