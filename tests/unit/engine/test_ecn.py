"""ECN across the tunnel: RFC 6040 for type 4, and wire.md section 4 for bursts."""

from __future__ import annotations

import pytest

from tests.unit.engine import forge, packets
from tests.unit.engine.pair import Call, Datagram, Net, Node

NOT_ECT, ECT_1, ECT_0, CE = range(4)


def joined(net: Net) -> tuple[Node, Node]:
    alice, bob = net.node("alice"), net.node("bob")
    net.connect(alice, bob)
    alice.socket.calls.clear()
    return alice, bob


def packet(alice: Node, bob: Node, ecn: int, *, size: int = 100, number: int = 0) -> bytes:
    return packets.udp(alice.address, bob.address, bytes(size), ecn=ecn, ports=(1000 + number, 7))


def ecn_of(each: bytes) -> int:
    return each[1] >> 4 & 3 if each[0] >> 4 == 6 else each[1] & 3


def bursts(alice: Node) -> list[Call]:
    return [call for call in alice.socket.calls if call.datagrams[0][0] == 5]


@pytest.mark.parametrize("ecn", [NOT_ECT, ECT_1, ECT_0, CE])
def test_type_4_carries_the_ecn_of_its_packet_outside(ecn: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        alice.tun.program_sends(packet(alice, bob, ecn))
        net.run(0.001)
        assert alice.socket.calls[0].ecn == ecn
        net.run(0.01)
        assert [ecn_of(each) for each in bob.tun.received] == [ecn]


"""RFC 6040 section 4.2, figure 4: what leaves by what is inside (rows) and outside (columns); None is dropped."""
FIGURE_4 = {
    NOT_ECT: (NOT_ECT, NOT_ECT, NOT_ECT, None),
    ECT_0: (ECT_0, ECT_1, ECT_0, CE),
    ECT_1: (ECT_1, ECT_1, ECT_1, CE),
    CE: (CE, CE, CE, CE),
}


@pytest.mark.parametrize("inside", FIGURE_4)
@pytest.mark.parametrize("outside", range(4))
@pytest.mark.parametrize("version", [4, 6])
def test_ecn_of_a_packet_that_came_as_type_4_follows_rfc_6040(version: int, inside: int, outside: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        sent = packet(alice, bob, inside)
        if version == 4:
            from ipaddress import ip_network

            bob.session.contacts.routes.insert(ip_network("10.99.0.1/32"), bob.peer(alice))
            sent = packets.tcp(bytes((10, 99, 0, 1)), bytes((10, 99, 0, 2)), b"x", ecn=inside, identification=77)
        forge.deliver(net, forge.data(alice, bob, sent, ecn=outside))
        expected = FIGURE_4[inside][outside]
        assert [ecn_of(each) for each in bob.tun.received] == ([] if expected is None else [expected])
        assert all(map(packets.is_sound, bob.tun.received))
        assert bob.drops.total() == (expected is None)


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ([ECT_0], ECT_0),
        ([ECT_0, ECT_0], ECT_0),
        ([ECT_0, NOT_ECT], NOT_ECT),
        ([NOT_ECT, ECT_0], NOT_ECT),
        ([ECT_0, ECT_0, NOT_ECT, ECT_0], NOT_ECT),
        ([ECT_0, CE], ECT_0),
        ([NOT_ECT, NOT_ECT], NOT_ECT),
    ],
)
def test_burst_is_ect_outside_only_if_all_its_records_are(inside: list[int], outside: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        size = 3000 if len(inside) == 1 else 100
        for number, ecn in enumerate(inside):
            alice.tun.program_sends(packet(alice, bob, ecn, size=size, number=number))
        net.run(0.01)
        (burst,) = bursts(alice)
        assert burst.ecn == outside
        assert [ecn_of(each) for each in bob.tun.received] == inside


@pytest.mark.parametrize("ecn", [NOT_ECT, ECT_0])
@pytest.mark.parametrize("size", [5000, 60_000])
def test_super_packet_is_ect_outside_if_it_is_inside(ecn: int, size: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        sent = packets.tcp(alice.address, bob.address, bytes(size), ecn=ecn)
        alice.tun.program_sends(sent, segment=1000)
        net.run(0.01)
        assert {burst.ecn for burst in bursts(alice)} == {ecn}
        assert bob.tun.received == packets.segments(sent, 1000)


def marked(datagrams: list[Datagram], *numbers: int) -> list[Datagram]:
    return [each._replace(ecn=CE) if number in numbers else each for number, each in enumerate(datagrams)]


@pytest.mark.parametrize("gro", [True, False])
@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize("backwards", [False, True])
def test_congestion_that_any_piece_met_marks_every_ect_record(gro: bool, number: int, backwards: bool) -> None:
    with Net() as net:
        alice, bob = joined(net)
        bob.socket.gro = gro
        each = [
            packet(alice, bob, ecn, size=1000, number=at) for at, ecn in enumerate([ECT_0, NOT_ECT, ECT_1, CE, ECT_0])
        ]
        datagrams = forge.records(alice, bob, *map(forge.record, each), ecn=ECT_0)
        assert len(datagrams) == 4 or number < 4
        datagrams = marked(datagrams, min(number, len(datagrams) - 1))
        forge.deliver(net, *(reversed(datagrams) if backwards else datagrams))
        assert [ecn_of(one) for one in bob.tun.received] == [CE, NOT_ECT, CE, CE, CE]
        assert all(map(packets.is_sound, bob.tun.received))


def test_congestion_that_one_burst_met_marks_no_other() -> None:
    with Net() as net:
        alice, bob = joined(net)
        first, second = (
            forge.records(alice, bob, forge.record(packet(alice, bob, ECT_0, size=3000, number=number)), ecn=ECT_0)
            for number in (1, 2)
        )
        mixed = [each for pair in zip(marked(first, 0, 1, 2), second, strict=True) for each in pair]
        forge.deliver(net, *mixed)
        found = {int.from_bytes(each[40:42], "big") - 1000: ecn_of(each) for each in bob.tun.received}
        assert found == {1: CE, 2: ECT_0}


def test_marked_super_packet_is_marked_in_all_its_segments() -> None:
    with Net() as net:
        alice, bob = joined(net)
        net.faults.marks = lambda datagram: True
        sent = packets.tcp(alice.address, bob.address, bytes(30_000), ecn=ECT_0)
        alice.tun.program_sends(sent, segment=1000)
        net.run(0.01)
        assert {ecn_of(each) for each in bob.tun.received} == {CE}
        assert all(map(packets.is_sound, bob.tun.received))
        assert len(bob.tun.received) == 30


def test_single_packets_of_one_flow_with_different_marks_are_not_merged() -> None:
    with Net() as net:
        alice, bob = joined(net)
        alice.peer(bob).path.size.fixed = 1
        alice.peer(bob).path.size.pieces = 1
        net.faults.marks = lambda datagram: len(net.wire) % 3 == 0
        sent = packets.tcp(alice.address, bob.address, bytes(9000), ecn=ECT_0)
        alice.tun.program_sends(sent, segment=1000)
        net.run(0.01)
        marks = [ecn_of(each) for each in bob.tun.received]
        assert len(marks) == 9
        assert 2 <= marks.count(CE) <= 4
        assert all(map(packets.is_sound, bob.tun.received))


def test_dscp_of_packets_stays_inside() -> None:
    with Net() as net:
        alice, bob = joined(net)
        sent = packets.udp(alice.address, bob.address, b"x", dscp=46, ecn=ECT_0)
        alice.tun.program_sends(sent)
        net.run(0.01)
        assert alice.socket.calls[0].ecn == ECT_0
        assert bob.tun.received == [sent]
